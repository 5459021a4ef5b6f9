"""Explanation by the nearest examples: of a text encoder's vectors, and of an output of a network, exactly."""

import json

import numpy
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from conftest import Server
from served import model_file

PLACE = "projects/default/locations/us-central1"
TEXTS = {
    "bee": "a small striped insect that makes honey",
    "wasp": "a striped insect that stings",
    "meuse": "a river that rises in France and ends in the Netherlands",
    "rhine": "a river that flows from Switzerland to the North Sea",
    "oak": "a large tree that bears acorns",
}


def write(path, examples):
    path.write_text("".join(json.dumps(example) + "\n" for example in examples))
    return path


def explain(server, name, instances, count=None):
    body = {"instances": instances}
    if count is not None:
        body["explanationSpecOverride"] = {"examplesOverride": {"neighborCount": count}}
    return server.post(f"{PLACE}/endpoints/{name}:explain", body)


def neighbors(reply) -> list[list[tuple[str, float]]]:
    assert reply.status_code == 200, reply.text
    return [
        # What is zero is left out.
        [(near["neighborId"], near.get("neighborDistance", 0)) for near in explanation["neighbors"]]
        for explanation in reply.json()["explanations"]
    ]


@pytest.fixture(scope="module")
def texts(server, tmp_path_factory) -> str:
    examples = write(tmp_path_factory.mktemp("examples") / "texts.jsonl", [{"id": id, "content": text} for id, text in TEXTS.items()])
    server.command("import", model_file("minilm").parent, "--name", "near-texts", "--examples", examples)
    server.command("deploy", "near-texts")
    return "near-texts"


def test_texts(server, client, texts):
    asked = ["which bug gives us honey?", "a stream in Belgium"]
    found = neighbors(explain(server, texts, asked, count=3))
    vectors = numpy.array([item.embedding for item in client.embeddings.create(model=texts, input=[*asked, *TEXTS.values()]).data])
    distances = numpy.linalg.norm(vectors[:2, None] - vectors[None, 2:], axis=2)
    for near, row in zip(found, distances):
        order = numpy.argsort(row)[:3]
        assert [id for id, _ in near] == [list(TEXTS)[place] for place in order]
        assert [distance for _, distance in near] == pytest.approx(row[order], abs=1e-5)
    # As many as there are, where the request does not say.
    assert len(neighbors(explain(server, texts, asked[:1]))[0]) == len(TEXTS)
    said = server.command("explain", texts, asked[0], "--nearest", "2").stdout.split()
    assert said[2] == "bee" and len(said) == 6, said


def network(path):
    """Of four numbers a vector of three and a score."""
    weights = numpy.random.default_rng(1).normal(size=(4, 3)).astype("f4")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["embedding"]),
        helper.make_node("ReduceSum", ["embedding", "axes"], ["score"], keepdims=1),
    ]
    graph = helper.make_graph(
        nodes, "near",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", width]) for name, width in (("score", 1), ("embedding", 3))],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(numpy.array([1]), "axes")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return weights


def upload(server, tmp_path, examples, model_id="near-network", **specification):
    """The operation of a version with examples, which lie in a bucket."""
    weights = network(tmp_path / "model.onnx")
    server.command("import", tmp_path / "model.onnx", "--name", "near-plain")
    plain = server.ask("GET", f"/v1/{PLACE}/models?filter=display_name=near-plain").json()["models"][0]
    uri = plain["artifactUri"]
    folder = uri.rsplit("/", 1)[0]
    bucket, prefix = folder.removeprefix("gs://").split("/", 1) if "/" in folder.removeprefix("gs://") else (folder[5:], "")
    name = f"{prefix}/examples.jsonl".lstrip("/")
    text = "".join(json.dumps(example) + "\n" for example in examples)
    put = server.ask("POST", f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={name}", data=text.encode())
    assert put.status_code == 200, put.text
    wanted = {"exampleGcsSource": {"dataFormat": "JSONL", "gcsSource": {"uris": [f"gs://{bucket}/{name}"]}}, "neighborCount": 4}
    spec = {"parameters": {"examples": wanted | specification}, "metadata": {"inputs": {}, "outputs": {"v": {"outputTensorName": "embedding"}}}}
    body = {"model": {"displayName": "near-network", "artifactUri": uri, "explanationSpec": spec}, "modelId": model_id}
    made = server.post(f"{PLACE}/models:upload", body)
    if made.status_code != 200:
        return weights, made.json()
    return weights, server.post(f"{made.json()['name']}:wait", {"timeout": "60s"}).json()


def test_an_output_of_a_network(server, tmp_path):
    rows = numpy.random.default_rng(2).normal(size=(700, 4)).round(3)
    weights, done = upload(server, tmp_path, [{"id": f"r{i}", "x": row} for i, row in enumerate(rows.tolist())])
    assert "response" in done, done
    server.command("deploy", "near-network")
    asked = numpy.random.default_rng(3).normal(size=(5, 4)).round(3)
    reply = explain(server, "near-network", asked.tolist())
    found = neighbors(reply)
    distances = numpy.linalg.norm((asked.astype("f4") @ weights)[:, None] - (rows.astype("f4") @ weights)[None], axis=2)
    for near, row in zip(found, distances):
        order = numpy.argsort(row)[:4]
        assert [id for id, _ in near] == [f"r{place}" for place in order]
        assert [distance for _, distance in near] == pytest.approx(row[order], abs=1e-4)
    assert len(reply.json()["predictions"]) == 5
    kept = server.ask("GET", f"/v1/{PLACE}/models/near-network").json()["explanationSpec"]
    assert kept["parameters"]["examples"]["neighborCount"] == 4


def test_they_outlive_a_restart(tmp_path):
    server = Server(tmp_path / "data")
    _, done = upload(server, tmp_path, [{"id": f"r{i}", "x": [i, 1, 2, 3]} for i in range(9)])
    assert "response" in done, done
    server.command("deploy", "near-network")
    before = neighbors(explain(server, "near-network", [[4, 1, 2, 3]]))
    assert before[0][0] == ("r4", 0)
    assert server.stop() == 0
    server.start()
    assert neighbors(explain(server, "near-network", [[4, 1, 2, 3]])) == before
    assert server.stop() == 0


@pytest.mark.parametrize("examples, specification, words", [
    ([{"id": "a", "x": [1, 2]}], {}, "row 0"),
    ([{"id": "a" * 300, "x": [1, 2, 3, 4]}], {}, "256 bytes"),
    ([], {}, "no examples"),
    ([{"x": [1, 2, 3, 4]}], {"neighborCount": 5000}, "neighborCount"),
    ([{"x": [1, 2, 3, 4]}], {"nearestNeighborSearchConfig": {"algorithm": "tree"}}, "nearestNeighborSearchConfig"),
])
def test_examples_that_do_not_fit_are_refused(server, tmp_path, examples, specification, words):
    _, refused = upload(server, tmp_path, examples, "near-refused", **specification)
    assert "error" in refused and words in json.dumps(refused["error"]), refused


def test_models_without_examples_say_so(server, minilm):
    refusal = explain(server, minilm, ["a"], count=2)
    assert refusal.status_code == 400 and "without examples" in refusal.text, refusal.text
