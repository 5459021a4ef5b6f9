"""The real tritonclient over HTTP and gRPC: what is served, what it takes, what it answers."""

import numpy as np
import pytest
import tritonclient.http
from tritonclient.utils import InferenceServerException

from conftest import Client
from models import CLASSES, FEATURES

ROWS = np.random.default_rng(3).normal(size=(5, FEATURES)).astype(np.float32)
TEXTS = np.array([["simmer the onion with butter"], ["the rook and the pawn"]], dtype=object)
SIZES = np.array([[1], [2]], dtype=np.float32)


def plain(metadata) -> dict:
    """Metadata in the same words from both transports."""
    if isinstance(metadata, dict):
        return metadata
    tensors = lambda all: [{"name": t.name, "datatype": t.datatype, "shape": list(t.shape)} for t in all]
    return {
        "name": metadata.name, "versions": list(metadata.versions), "platform": metadata.platform,
        "inputs": tensors(metadata.inputs), "outputs": tensors(metadata.outputs),
    }


def shapes(tensors) -> dict:
    return {t["name"]: (t["datatype"], [int(n) for n in t["shape"]]) for t in tensors}


def test_health_and_server(client, mlp):
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("mlp") and client.is_model_ready("mlp", "1")
    assert not client.is_model_ready("mlp", "9") and not client.is_model_ready("absent")
    metadata = client.get_server_metadata()
    name, extensions = (metadata["name"], metadata["extensions"]) if isinstance(metadata, dict) else (metadata.name, metadata.extensions)
    assert name == "meuse" and "binary_tensor_data" in extensions


def test_metadata(client, mlp, several, topics):
    metadata = plain(client.get_model_metadata("mlp"))
    assert (metadata["name"], metadata["versions"]) == ("mlp", ["1"])
    assert shapes(metadata["inputs"]) == {"x": ("FP32", [-1, FEATURES])}
    assert shapes(metadata["outputs"]) == {"scores": ("FP32", [-1, CLASSES])}
    metadata = plain(client.get_model_metadata("topics"))
    assert shapes(metadata["inputs"]) == {"text": ("BYTES", [-1, 1]), "size": ("FP32", [-1, 1])}
    assert shapes(metadata["outputs"]) == {"label": ("BYTES", [-1]), "scores": ("FP32", [-1, CLASSES])}
    metadata = plain(client.get_model_metadata("several", "1"))
    assert shapes(metadata["inputs"])["ids"] == ("INT32", [-1])
    with pytest.raises(InferenceServerException, match="absent"):
        client.get_model_metadata("absent")


def test_scores_are_the_labels(server, topics):
    outputs = server.get("/v2/models/topics").json()["outputs"]
    labels = {o["name"]: o.get("parameters", {}).get("labels") for o in outputs}
    assert sorted(labels["scores"]) == ["chess", "cooking", "sailing"] and labels["label"] is None


def test_a_network_answers_as_onnxruntime(client, mlp):
    answer = client.infer_arrays("mlp", {"x": ROWS}, request_id="seven")
    np.testing.assert_allclose(answer.as_numpy("scores"), mlp.run(x=ROWS)["scores"], rtol=1e-4)
    reply = answer.get_response()
    told = reply if isinstance(reply, dict) else {"id": reply.id, "model_version": reply.model_version}
    assert (told["id"], told["model_version"]) == ("seven", "1")


def test_several_inputs_and_outputs_in_any_order(client, several):
    ids = np.array([3, 0, 9], dtype=np.int64)
    x = ROWS[:3]
    expected = several.run(ids=ids, x=x)
    answer = client.infer_arrays("several", {"x": x, "ids": ids})
    np.testing.assert_allclose(answer.as_numpy("sum"), expected["sum"], rtol=1e-4)
    np.testing.assert_array_equal(answer.as_numpy("best"), expected["best"])
    wanted = [client.module.InferRequestedOutput("best")]
    answer = client.infer_arrays("several", {"ids": ids.astype(np.int32), "x": x.astype(np.float64)}, outputs=wanted)
    np.testing.assert_array_equal(answer.as_numpy("best"), expected["best"])
    assert answer.as_numpy("sum") is None


def test_halves_are_taken(client, mlp):
    half = ROWS.astype(np.float16)
    answer = client.infer_arrays("mlp", {"x": half})
    np.testing.assert_allclose(answer.as_numpy("scores"), mlp.run(x=half.astype(np.float32))["scores"], rtol=1e-4)


def test_a_network_without_rows(client, rowless):
    x = np.arange(6, dtype=np.float32)
    answer = client.infer_arrays("rowless", {"x": x}).as_numpy("y")
    np.testing.assert_array_equal(answer, rowless.run(x=x)["y"])


def test_a_trained_classifier_takes_columns(client, topics):
    answer = client.infer_arrays("topics", {"text": TEXTS, "size": SIZES})
    assert answer.as_numpy("label").tolist() == [b"cooking", b"chess"]
    scores = answer.as_numpy("scores")
    assert scores.shape == (2, CLASSES)
    np.testing.assert_allclose(scores.sum(axis=1), 1, rtol=1e-5)
    flat = client.infer_arrays("topics", {"size": SIZES[:, 0].astype(np.int64), "text": TEXTS[:, 0]})
    np.testing.assert_array_equal(flat.as_numpy("scores"), scores)


def test_the_transports_give_the_same_bits(server, topics, mlp):
    both = [Client(module, server) for module in (tritonclient.http, tritonclient.grpc)]
    for model, arrays in (("mlp", {"x": ROWS}), ("topics", {"text": TEXTS, "size": SIZES})):
        first, second = (each.infer_arrays(model, arrays).as_numpy("scores") for each in both)
        np.testing.assert_array_equal(first, second)
    path = "/v1/projects/default/locations/us-central1/endpoints/topics:predict"
    vertex = server.post(path, {"instances": [["simmer the onion with butter", 1], ["the rook and the pawn", 2]]}).json()
    told = [p["scores"] for p in vertex["predictions"]]
    np.testing.assert_array_equal(np.array(told, dtype=np.float32), both[1].infer_arrays("topics", {"text": TEXTS, "size": SIZES}).as_numpy("scores"))


def test_classification(client, topics, mlp):
    wanted = [client.module.InferRequestedOutput("scores", class_count=2)]
    answer = client.infer_arrays("topics", {"text": TEXTS, "size": SIZES}, outputs=wanted).as_numpy("scores")
    assert answer.shape == (2, 2)
    score, place, label = answer[0][0].decode().split(":")
    assert label == "cooking" and float(score) > float(answer[0][1].decode().split(":")[0]) and place.isdigit()
    answer = client.infer_arrays("mlp", {"x": ROWS[:1]}, outputs=wanted).as_numpy("scores")
    assert answer[0][0].decode().split(":")[1] == str(mlp.run(x=ROWS[:1])["scores"].argmax())


def test_json_without_binary(server, mlp):
    client = Client(tritonclient.http, server)
    tensor = tritonclient.http.InferInput("x", [5, FEATURES], "FP32")
    tensor.set_data_from_numpy(ROWS, binary_data=False)
    wanted = [tritonclient.http.InferRequestedOutput("scores", binary_data=False)]
    answer = client.infer("mlp", [tensor], outputs=wanted)
    np.testing.assert_allclose(answer.as_numpy("scores"), mlp.run(x=ROWS)["scores"], rtol=1e-4)
    body = {"inputs": [{"name": "x", "shape": [1, FEATURES], "datatype": "FP32", "data": [ROWS[0].tolist()]}]}
    told = server.post("/v2/models/mlp/versions/1/infer", body).json()
    assert told["outputs"][0]["shape"] == [1, CLASSES] and len(told["outputs"][0]["data"]) == CLASSES


def test_typed_contents_over_grpc(channel, server, mlp):
    from tritonclient.grpc import service_pb2, service_pb2_grpc

    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    request = service_pb2.ModelInferRequest(model_name="mlp")
    tensor = request.inputs.add(name="x", datatype="FP32", shape=[1, FEATURES])
    tensor.contents.fp32_contents.extend(ROWS[0].tolist())
    answer = stub.ModelInfer(request, metadata=list(server.headers.items()), timeout=30)
    scores = np.frombuffer(answer.raw_output_contents[0], dtype=np.float32)
    np.testing.assert_allclose(scores, mlp.run(x=ROWS[:1])["scores"][0], rtol=1e-4)


def test_versions(client, server, tmp_path):
    from models import mlp as make

    name = f"versions-{client.module.__name__.rsplit('.')[-1]}"
    for seed in (1, 2):
        (tmp_path / str(seed)).mkdir()
        server.command("import", make(tmp_path / str(seed) / "model.onnx", seed), "--name", name)
    server.command("deploy", f"{name}@1")
    server.command("deploy", f"{name}@2", "--traffic", "0")
    assert plain(client.get_model_metadata(name))["versions"] == ["1", "2"]
    default, first, second = (client.infer_arrays(name, {"x": ROWS}, version=v).as_numpy("scores") for v in ("", "1", "2"))
    np.testing.assert_array_equal(default, first)
    assert not np.allclose(first, second)
    with pytest.raises(InferenceServerException, match="version 3"):
        client.infer_arrays(name, {"x": ROWS}, version="3")


def index(client) -> dict:
    listed = client.get_model_repository_index()
    models = listed if isinstance(listed, list) else [{"name": m.name, "state": m.state, "reason": m.reason} for m in listed.models]
    return {m["name"]: m["state"] for m in models}


def test_repository(client, server, tmp_path):
    from models import mlp as make

    name = f"repository-{client.module.__name__.rsplit('.')[-1]}"
    server.command("import", make(tmp_path / "model.onnx"), "--name", name)
    assert index(client)[name] == "UNAVAILABLE"
    for _ in range(2):
        client.load_model(name)
    assert index(client)[name] == "READY"
    assert client.infer_arrays(name, {"x": ROWS}).as_numpy("scores").shape == (5, CLASSES)
    client.unload_model(name)
    assert index(client)[name] == "UNAVAILABLE" and not client.is_model_ready(name)
    server.command("deploy", name, "--endpoint", f"{name}-elsewhere")
    with pytest.raises(InferenceServerException, match=f"served by the endpoint `{name}-elsewhere`"):
        client.unload_model(name)
    with pytest.raises(InferenceServerException, match="no model `absent`"):
        client.load_model("absent")
    with pytest.raises(InferenceServerException, match="config"):
        client.load_model(name, config="{}")


def test_shared_memory_is_refused_by_name(client):
    with pytest.raises(InferenceServerException, match="shared memory is not offered"):
        client.register_system_shared_memory("region", "/key", 16)
    with pytest.raises(InferenceServerException, match="shared memory is not offered"):
        client.get_cuda_shared_memory_status()
    tensor = client.module.InferInput("x", [1, FEATURES], "FP32")
    tensor.set_shared_memory("region", 16)
    with pytest.raises(InferenceServerException, match="shared memory is not offered"):
        client.infer("mlp", [tensor])


def test_what_is_not_served_is_named(client, mlp):
    with pytest.raises(InferenceServerException, match="ModelStatistics|stats"):
        client.get_inference_statistics("mlp")
    with pytest.raises(InferenceServerException, match="sequence_"):
        client.infer_arrays("mlp", {"x": ROWS}, sequence_id=7)


def test_keys(client, server, mlp):
    wrong = Client(client.module, server, "mk_wrong")
    assert wrong.is_server_live()
    for ask in (lambda: wrong.get_model_metadata("mlp"), lambda: wrong.infer_arrays("mlp", {"x": ROWS})):
        with pytest.raises(InferenceServerException, match="key is not valid"):
            ask()
    viewer = Client(client.module, server, server.new_key("viewer"))
    assert viewer.is_model_ready("mlp")
    with pytest.raises(InferenceServerException, match="role does not allow"):
        viewer.infer_arrays("mlp", {"x": ROWS})
    with pytest.raises(InferenceServerException, match="role does not allow"):
        viewer.unload_model("mlp")
