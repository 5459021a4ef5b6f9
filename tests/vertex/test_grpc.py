"""The same procedures by gRPC, the library's usual transport, here without TLS: values and errors are those of REST."""

import json

import grpc
import numpy as np
import pytest
import requests
from google.api import httpbody_pb2
from google.api_core import exceptions
from google.cloud.aiplatform_v1.types import RawPredictRequest, StreamingPredictRequest, StreamRawPredictRequest, Tensor
from google.protobuf import field_mask_pb2, json_format, struct_pb2

from conftest import PARENT
from models import linear_onnx, linear_scores

IMAGE = "us-docker.pkg.dev/vertex-ai/prediction/sklearn-cpu.1-3:latest"
ROWS = [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.2, -0.4, 0.6, 0.8]]
SECONDS = 60


class Key(grpc.UnaryUnaryClientInterceptor):
    """Sends a key, which the library itself does over TLS only."""

    def __init__(self, key: str):
        self.key = key

    def intercept_unary_unary(self, go_on, details, request):
        metadata = [*(details.metadata or []), ("authorization", f"Bearer {self.key}")]
        return go_on(details._replace(metadata=metadata), request)


@pytest.fixture(scope="module")
def by_grpc(server, aip):
    """The generated gRPC clients, by the name of their service."""
    channel = grpc.insecure_channel(server.url.removeprefix("http://"))

    def client(service: str, key: str | None = None):
        kind = getattr(aip.gapic, f"{service}ServiceClient")
        with_key = grpc.intercept_channel(channel, Key(key or server.key))
        return kind(transport=kind.get_transport_class("grpc")(channel=with_key))

    yield client
    channel.close()


@pytest.fixture(scope="module")
def model(by_grpc, storage, tmp_path_factory) -> str:
    """A model uploaded by gRPC: the operation is waited for by gRPC, too."""
    file = linear_onnx(tmp_path_factory.mktemp("grpc")) / "model.onnx"
    storage.bucket("staging").blob("grpc/model.onnx").upload_from_filename(file)
    wanted = {
        "display_name": "by grpc", "artifact_uri": "gs://staging/grpc", "labels": {"team": "search"},
        "container_spec": {"image_uri": IMAGE},
    }
    operation = by_grpc("Model").upload_model(parent=PARENT, model=wanted, timeout=SECONDS)
    return operation.result(timeout=SECONDS).model


@pytest.fixture(scope="module")
def endpoint(by_grpc, model) -> str:
    client = by_grpc("Endpoint")
    made = client.create_endpoint(parent=PARENT, endpoint={"display_name": "by grpc"}).result(timeout=SECONDS)
    deployed = {
        "model": model, "display_name": "v1", "dedicated_resources": {"min_replica_count": 1},
        "system_labels": {"meuse-concurrency": "2", "owner": "Google"},
    }
    client.deploy_model(endpoint=made.name, deployed_model=deployed, traffic_split={"0": 100}).result(timeout=SECONDS)
    return made.name


def test_what_one_transport_makes_the_other_sees(by_grpc, gapic, model):
    ours, theirs = by_grpc("Model").get_model(name=model), gapic("Model").get_model(name=model)
    assert ours == theirs and ours.display_name == "by grpc" and dict(ours.labels) == {"team": "search"}
    listed = [found.name for found in by_grpc("Model").list_models(parent=PARENT)]
    assert model in listed and listed == [found.name for found in gapic("Model").list_models(parent=PARENT)]
    mask = field_mask_pb2.FieldMask(paths=["description"])
    changed = by_grpc("Model").update_model(model={"name": model, "description": "changed"}, update_mask=mask)
    assert changed.description == "changed" == gapic("Model").get_model(name=model).description


def test_a_bound_on_what_is_computed_at_once_is_read_back(by_grpc, gapic, endpoint):
    for client in (by_grpc, gapic):
        [deployed] = client("Endpoint").get_endpoint(name=endpoint).deployed_models
        assert dict(deployed.system_labels) == {"meuse-concurrency": "2"}


def test_predictions_are_the_models(by_grpc, endpoint, model):
    instances = [json_format.ParseDict(row, struct_pb2.Value()) for row in ROWS]
    reply = by_grpc("Prediction").predict(endpoint=endpoint, instances=instances, timeout=SECONDS)
    assert np.allclose([list(row) for row in reply.predictions], linear_scores(ROWS), rtol=1e-5)
    assert reply.deployed_model_id and reply.model == model


def test_errors_are_grpcs(by_grpc, server, endpoint, model):
    missing = model.rsplit("/", 1)[0] + "/999"
    with pytest.raises(exceptions.NotFound, match="999"):
        by_grpc("Model").get_model(name=missing)
    with pytest.raises(exceptions.InvalidArgument):
        by_grpc("Model").get_model(name="nonsense")
    with pytest.raises(exceptions.InvalidArgument, match="instance 1"):
        instances = [json_format.ParseDict(row, struct_pb2.Value()) for row in (ROWS[0], ["a"] * 4)]
        by_grpc("Prediction").predict(endpoint=endpoint, instances=instances)
    for strange in [f"{endpoint}/../../x", "projects/p/locations/l/endpoints/1?x=1", f"{endpoint}:explain", ""]:
        with pytest.raises((exceptions.InvalidArgument, exceptions.NotFound, exceptions.PermissionDenied)):
            by_grpc("Prediction").predict(endpoint=strange, instances=instances[:1])
    with pytest.raises(exceptions.Unauthenticated):
        by_grpc("Model", "mk_0_0").get_model(name=model)
    with pytest.raises(exceptions.MethodNotImplemented):
        by_grpc("Job").create_custom_job(parent=PARENT, custom_job={"display_name": "x"})


def test_a_key_reaches_its_project_and_what_its_role_grants(by_grpc, server, endpoint, model):
    def key(role: str, project: str) -> str:
        reply = server.call("POST", "/admin/v1/keys", json={"project": project, "role": role})
        assert reply.status_code == 200, reply.text
        return reply.json()["key"]

    viewer, stranger = key("viewer", "demo"), key("admin", "elsewhere")
    assert by_grpc("Model", viewer).get_model(name=model).name == model
    instances = [json_format.ParseDict(ROWS[0], struct_pb2.Value())]
    with pytest.raises(exceptions.PermissionDenied):
        by_grpc("Prediction", viewer).predict(endpoint=endpoint, instances=instances)
    for call in [
        lambda: by_grpc("Model", stranger).get_model(name=model),
        lambda: by_grpc("Model", stranger).list_models(parent=PARENT),
        lambda: by_grpc("Model", stranger).update_model(model={"name": model}, update_mask="description"),
        lambda: by_grpc("Prediction", stranger).predict(endpoint=endpoint, instances=instances),
    ]:
        with pytest.raises(exceptions.PermissionDenied):
            call()


class StreamKey(grpc.UnaryStreamClientInterceptor):
    """As [`Key`], where one message after the other comes back."""

    def __init__(self, key: str):
        self.key = key

    def intercept_unary_stream(self, go_on, details, request):
        metadata = [*(details.metadata or []), ("authorization", f"Bearer {self.key}")]
        return go_on(details._replace(metadata=metadata), request)


@pytest.fixture(scope="module")
def streaming(server, aip):
    """The generated gRPC client for predictions, of which several come back."""
    channel = grpc.insecure_channel(server.url.removeprefix("http://"))
    with_key = grpc.intercept_channel(channel, Key(server.key), StreamKey(server.key))
    kind = aip.gapic.PredictionServiceClient
    yield kind(transport=kind.get_transport_class("grpc")(channel=with_key))
    channel.close()


def body(rows) -> httpbody_pb2.HttpBody:
    return httpbody_pb2.HttpBody(content_type="application/json", data=json.dumps({"instances": rows}).encode())


def test_raw_predictions(streaming, endpoint):
    reply = streaming.raw_predict(endpoint=endpoint, http_body=body(ROWS), timeout=SECONDS)
    assert reply.content_type == "application/json"
    assert np.allclose(json.loads(reply.data)["predictions"], linear_scores(ROWS), rtol=1e-5)
    with pytest.raises(exceptions.InvalidArgument, match="instances"):
        streaming.raw_predict(endpoint=endpoint, http_body={"data": b"{}"}, timeout=SECONDS)
    with pytest.raises(exceptions.NotFound):
        streaming.raw_predict(endpoint=f"{PARENT}/endpoints/nobody", http_body=body(ROWS), timeout=SECONDS)


def test_raw_replies_say_who_made_them(server, endpoint):
    """In the head, as over HTTP: the message has no place for it."""
    key = {"authorization": f"Bearer {server.key}"}
    answer = requests.post(f"{server.url}/v1/{endpoint}:rawPredict", headers=key, json={"instances": ROWS}, timeout=SECONDS)
    named = lambda pairs: {name.lower(): value for name, value in pairs if name.lower().startswith("x-vertex-ai-")}  # noqa: E731
    said = named(answer.headers.items())
    assert set(said) == {"x-vertex-ai-deployed-model-id", "x-vertex-ai-model", "x-vertex-ai-model-version-id"}
    with grpc.insecure_channel(server.url.removeprefix("http://")) as channel:
        for kind, ask in ((RawPredictRequest, channel.unary_unary), (StreamRawPredictRequest, channel.unary_stream)):
            name = kind.__name__.removesuffix("Request")
            procedure = ask(f"/google.cloud.aiplatform.v1.PredictionService/{name}", request_serializer=kind.serialize)
            asked = kind(endpoint=endpoint, http_body=body(ROWS))
            call = procedure.future if kind is RawPredictRequest else procedure
            assert named(call(asked, metadata=list(key.items()), timeout=SECONDS).initial_metadata()) == said, name


def test_streamed_raw_predictions(streaming, endpoint):
    rows = ROWS * 200
    request = StreamRawPredictRequest(endpoint=endpoint, http_body=body(rows))
    pieces = list(streaming.stream_raw_predict(request=request, timeout=SECONDS))
    assert len(pieces) > 1
    told = [json.loads(line) for piece in pieces for line in piece.data.splitlines()]
    assert np.allclose(told, linear_scores(rows), rtol=1e-5)
    with pytest.raises(exceptions.InvalidArgument, match="instances"):
        list(streaming.stream_raw_predict(request=StreamRawPredictRequest(endpoint=endpoint), timeout=SECONDS))


def test_a_stream_that_fails_on_its_way_says_so(streaming, endpoint):
    request = StreamRawPredictRequest(endpoint=endpoint, http_body=body(ROWS * 200 + [["no number"] * 4]))
    pieces, told = [], streaming.stream_raw_predict(request=request, timeout=SECONDS)
    with pytest.raises(exceptions.InvalidArgument, match="found a string"):
        for piece in told:
            pieces.append(piece)
    assert pieces


def tensors(rows) -> list[Tensor]:
    return [Tensor(dtype=Tensor.DataType.DOUBLE, shape=[len(row)], double_val=row) for row in rows]


@pytest.mark.parametrize("transport", ["grpc", "rest"])
def test_streamed_predictions_of_tensors(streaming, gapic, endpoint, transport):
    client = {"grpc": streaming, "rest": gapic("Prediction")}[transport]
    rows = ROWS * 200
    request = StreamingPredictRequest(endpoint=endpoint, inputs=tensors(rows))
    replies = list(client.server_streaming_predict(request=request, timeout=SECONDS))
    assert len(replies) > 1
    outputs = [output for reply in replies for output in reply.outputs]
    assert all(output.dtype == Tensor.DataType.DOUBLE and list(output.shape) == [len(output.double_val)] for output in outputs)
    assert np.allclose([list(output.double_val) for output in outputs], linear_scores(rows), rtol=1e-5)


def test_tensors_that_are_no_instances_are_refused(streaming, endpoint):
    def ask(**fields):
        return list(streaming.server_streaming_predict(request=StreamingPredictRequest(endpoint=endpoint, **fields), timeout=SECONDS))

    with pytest.raises(exceptions.InvalidArgument, match="inputs"):
        ask()
    with pytest.raises(exceptions.InvalidArgument, match="shape"):
        ask(inputs=[Tensor(shape=[9], double_val=[1.0])])
    with pytest.raises(exceptions.InvalidArgument, match="one type"):
        ask(inputs=[Tensor(double_val=[1.0], int_val=[1])])
    with pytest.raises(exceptions.MethodNotImplemented, match="tensorVal"):
        ask(inputs=[Tensor(tensor_val=b"1234")])
    with pytest.raises(exceptions.MethodNotImplemented, match="parameters"):
        ask(inputs=tensors(ROWS), parameters=Tensor(int_val=[1]))
