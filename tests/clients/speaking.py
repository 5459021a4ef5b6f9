"""The clients, each asked the same way: a model's name and arrays by input give arrays by output."""

import base64

import numpy as np
import tritonclient.grpc
import tritonclient.http
from google.cloud import aiplatform
from google.oauth2.credentials import Credentials
from tritonclient.utils import np_to_triton_dtype

from kinds import Arrays, Kind
from served import ANSWER_SECONDS


def triton(module):
    """tritonclient, with tensors in binary."""

    def ask(server, kind: Kind) -> Arrays:
        options = {"network_timeout": ANSWER_SECONDS} if module is tritonclient.http else {}
        client = module.InferenceServerClient(server.host, **options)
        inputs = []
        for name, array in kind.inputs.items():
            tensor = module.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
            tensor.set_data_from_numpy(array)
            inputs.append(tensor)
        wanted = [module.InferRequestedOutput(name) for name in kind.expected]
        key = {"authorization": f"Bearer {server.key}"}
        answer = client.infer(kind.name, inputs, outputs=wanted, model_version="1", headers=key)
        told = {name: answer.as_numpy(name) for name in kind.expected}
        client.close()
        return {name: array.astype(str) if array.dtype == object else array for name, array in told.items()}

    return ask


def plain(value):
    """A value as JSON has it; bytes in TensorFlow Serving's and Vertex' form."""
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()}
    return [plain(item) for item in value] if isinstance(value, (list, np.ndarray)) else value


def rows(kind: Kind) -> list:
    """One value a row; of several inputs, an object."""
    columns = {name: [plain(row) for row in array.tolist()] for name, array in kind.inputs.items()}
    # Of a column of single values, these.
    columns = {
        name: [row[0] for row in column] if kind.inputs[name].shape[1:] == (1,) else column for name, column in columns.items()
    }
    if len(columns) == 1:
        return next(iter(columns.values()))
    return [dict(zip(columns, row)) for row in zip(*columns.values())]


def columns(answers: list, kind: Kind) -> Arrays:
    """Rows of answers as arrays by output."""
    if len(kind.expected) == 1:
        return {name: np.array(answers) for name in kind.expected}
    assert all(set(answer) == set(kind.expected) for answer in answers), answers
    return {name: np.array([answer[name] for answer in answers]) for name in kind.expected}


def tensorflow_rows(place: str):
    """TensorFlow Serving's REST call with a row an instance, to a version or a label."""

    def ask(server, kind: Kind) -> Arrays:
        body = {"signature_name": "serving_default", "instances": rows(kind)}
        return columns(server.post(f"/v1/models/{kind.name}{place}:predict", body)["predictions"], kind)

    return ask


def tensorflow_columns(server, kind: Kind) -> Arrays:
    """The same with a column an input."""
    inputs = {name: plain(array.tolist()) for name, array in kind.inputs.items()}
    told = server.post(f"/v1/models/{kind.name}:predict", {"inputs": inputs})["outputs"]
    if len(kind.expected) == 1:
        return {name: np.array(told) for name in kind.expected}
    return {name: np.array(column) for name, column in told.items()}


def vertex(transport: str):
    """google-cloud-aiplatform; its gRPC insists on TLS."""

    def ask(server, kind: Kind) -> Arrays:
        address = server.url if transport == "rest" else f"localhost:{server.port}"
        aiplatform.init(
            project="default", location="us-central1", api_endpoint=address, api_transport=transport,
            credentials=Credentials(token=server.key),
        )
        endpoint = aiplatform.Endpoint(kind.name)
        answer = endpoint.predict(rows(kind), timeout=ANSWER_SECONDS)
        assert answer.model_version_id == "1" and answer.model_resource_name.endswith(f"/models/{kind.name}")
        return columns([classified(told, kind) for told in answer.predictions], kind)

    return ask


def classified(told, kind: Kind):
    """Vertex' words for a classifier's answer as those of the others."""
    if kind.classes is None:
        return told
    if "displayNames" in told:
        confidence = dict(zip(told["displayNames"], told["confidences"], strict=True))
        answer = told["displayNames"][0], [confidence[label] for label in kind.classes]
    else:
        assert told["classes"] == kind.classes
        answer = told["label"], told["scores"]
    return dict(zip(kind.expected, answer, strict=True))


CLIENTS = {
    "tritonclient-http": triton(tritonclient.http),
    "tritonclient-grpc": triton(tritonclient.grpc),
    "tensorflow-rows": tensorflow_rows(""),
    "tensorflow-version": tensorflow_rows("/versions/1"),
    "tensorflow-label": tensorflow_rows("/labels/default"),
    "tensorflow-columns": tensorflow_columns,
    "vertex-rest": vertex("rest"),
    "vertex-grpc": vertex("grpc"),
}
