"""TensorFlow Serving's REST shapes: rows, columns, examples, status and metadata."""

import base64
import json

import numpy as np
import pytest

from models import CLASSES, FEATURES

ROWS = np.random.default_rng(5).normal(size=(4, FEATURES)).astype(np.float32)
ONION = {"text": "simmer the onion with butter", "size": 1}
ROOK = {"text": "the rook and the pawn", "size": 2}


def ok(reply):
    assert reply.status_code == 200, reply.text
    return reply.json()


def refused(reply, status: int = 400) -> str:
    assert reply.status_code == status, reply.text
    assert set(reply.json()) == {"error"}
    return reply.json()["error"]


def test_rows_and_columns(server, mlp):
    expected = mlp.run(x=ROWS)["scores"]
    rows = ROWS.tolist()
    for instances in (rows, [{"x": row} for row in rows]):
        told = ok(server.post("/v1/models/mlp:predict", {"signature_name": "serving_default", "instances": instances}))
        np.testing.assert_allclose(told["predictions"], expected, rtol=1e-4)
    for inputs in (rows, {"x": rows}):
        told = ok(server.post("/v1/models/mlp/versions/1:predict", {"inputs": inputs}))
        np.testing.assert_allclose(told["outputs"], expected, rtol=1e-4)


def test_several_outputs_are_an_object(server, several):
    ids, x = [3, 0], ROWS[:2]
    expected = several.run(ids=np.array(ids, dtype=np.int64), x=x)
    columns = ok(server.post("/v1/models/several:predict", {"inputs": {"ids": ids, "x": x.tolist()}}))["outputs"]
    np.testing.assert_allclose(columns["sum"], expected["sum"], rtol=1e-4)
    assert columns["best"] == expected["best"].tolist()
    rows = [{"ids": i, "x": row} for i, row in zip(ids, x.tolist())]
    told = ok(server.post("/v1/models/several:predict", {"instances": rows}))["predictions"]
    assert [row["best"] for row in told] == columns["best"] and told[1]["sum"] == columns["sum"][1]


def test_a_trained_classifier(server, topics):
    told = ok(server.post("/v1/models/topics:predict", {"instances": [ONION, ROOK]}))["predictions"]
    assert [row["label"] for row in told] == ["cooking", "chess"] and len(told[0]["scores"]) == CLASSES
    encoded = {"text": {"b64": base64.b64encode(ONION["text"].encode()).decode()}, "size": [1]}
    assert ok(server.post("/v1/models/topics:predict", {"instances": [encoded]}))["predictions"][0] == told[0]
    columns = {"text": [[ONION["text"]], [ROOK["text"]]], "size": [1, 2]}
    told_columns = ok(server.post("/v1/models/topics:predict", {"inputs": columns}))["outputs"]
    assert told_columns == {"label": [r["label"] for r in told], "scores": [r["scores"] for r in told]}


def test_classify_and_regress(server, topics, rowless):
    body = {"context": {"size": 1}, "examples": [{"text": [ONION["text"]]}, {"text": ROOK["text"]}]}
    told = ok(server.post("/v1/models/topics:classify", body))["result"]
    best = [max(classes, key=lambda c: c[1])[0] for classes in told]
    assert best == ["cooking", "chess"] and abs(sum(score for _, score in told[0]) - 1) < 1e-5
    assert "`:predict`" in refused(server.post("/v1/models/topics:regress", body))


def test_regress_answers_numbers(server, tmp_path):
    lines = ["a,b,target"] + [f"{i % 10},{i % 7},{2 * (i % 10) - (i % 7)}" for i in range(200)]
    (tmp_path / "numbers.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "numbers.yaml").write_text(
        "label: target\nfeatures: [{numeric: [a, b]}]\nlayers: [{dense: 1}]\nloss: mean_squared_error\n"
        "optimizer: {adam: {learning_rate: 0.05}}\nepochs: 30\nseed: 1\n"
    )
    server.command("train", tmp_path / "numbers.csv", "--name", "numbers", "--spec", tmp_path / "numbers.yaml")
    server.command("deploy", "numbers")
    told = ok(server.post("/v1/models/numbers:regress", {"examples": [{"a": 5, "b": 1}, {"a": [1.0], "b": 6}]}))["result"]
    np.testing.assert_allclose(told, [9, -4], atol=0.5)
    assert "`:predict`" in refused(server.post("/v1/models/numbers:classify", {"examples": [{"a": 5, "b": 1}]}))


def test_what_is_no_number_has_a_token(server, mlp, several):
    text = '{"instances": [[NaN, 0, 0, 0], [1, 2, 3, 4]]}'
    reply = server.post("/v1/models/mlp:predict", text)
    assert reply.status_code == 200 and "NaN" in reply.text
    told = json.loads(reply.text)["predictions"]
    np.testing.assert_allclose(told, mlp.run(x=np.array([[np.nan, 0, 0, 0], [1, 2, 3, 4]], dtype=np.float32))["scores"], rtol=1e-4)
    reply = server.post("/v1/models/several:predict", '{"inputs": {"ids": [1], "x": [[Infinity, -Infinity, 0, 0]]}}')
    assert "[[Infinity,-Infinity," in reply.text, reply.text


def test_status(server, mlp, topics):
    available = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    merged = ok(server.get("/v1/models/mlp"))
    assert merged["model_version_status"] == [available]
    assert (merged["id"], merged["object"], merged["ready"]) == ("mlp", "model", True)
    assert ok(server.get("/v1/models/mlp/versions/1")) == {"model_version_status": [available]}
    assert ok(server.get("/v1/models/mlp/labels/default")) == {"model_version_status": [available]}
    assert "version 7" in refused(server.get("/v1/models/mlp/versions/7"), 404)
    assert "absent" in refused(server.get("/v1/models/mlp/labels/absent"), 404)


def test_labels_follow_their_versions(server, tmp_path):
    from models import mlp as make

    for seed in (1, 2):
        (tmp_path / str(seed)).mkdir()
        server.command("import", make(tmp_path / str(seed) / "model.onnx", seed), "--name", "labelled")
    server.command("deploy", "labelled@1")
    server.command("deploy", "labelled@2", "--traffic", "0")
    model = ok(server.get("/v1/projects/default/locations/us-central1/models"))["models"]
    name = next(m["name"] for m in model if m["displayName"] == "labelled")

    def move(version: int, *aliases: str):
        ok(server.post(f"/v1/{name}@{version}:mergeVersionAliases", {"versionAliases": list(aliases)}))

    ask = lambda place: ok(server.post(f"/v1/models/labelled{place}:predict", {"instances": ROWS.tolist()}))["predictions"]
    first, second = ask("/versions/1"), ask("/versions/2")
    move(1, "stable")
    assert ask("/labels/stable") == first != second
    move(2, "stable")
    assert ask("/labels/stable") == second
    assert ok(server.get("/v1/models/labelled/labels/stable"))["model_version_status"][0]["version"] == "2"


def test_metadata(server, topics):
    told = ok(server.get("/v1/models/topics/metadata"))
    assert told["model_spec"] == {"name": "topics", "signature_name": "", "version": "1"}
    signature = told["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert signature["inputs"]["text"]["dtype"] == "DT_STRING" and signature["inputs"]["size"]["dtype"] == "DT_FLOAT"
    dims = signature["outputs"]["scores"]["tensor_shape"]["dim"]
    assert [dim["size"] for dim in dims] == ["-1", str(CLASSES)]


@pytest.mark.parametrize("body, named", [
    ({}, "exactly one"),
    ({"instances": [[1, 2, 3, 4]], "inputs": [[1, 2, 3, 4]]}, "exactly one"),
    ({"instances": [[1, 2, 3]]}, "instance 0"),
    ({"instances": []}, "no instances"),
    ({"instances": [[1, 2, 3, 4]], "signature_name": "other"}, "other"),
    ({"instances": [[1, 2, 3, 4]], "frobnicate": 1}, "frobnicate"),
    ({"inputs": {"y": [[1, 2, 3, 4]]}}, "`y`"),
    ({"inputs": {"x": 1}}, "`x`"),
    ({"instances": [{"b64": "!"}]}, "base64"),
    ({"instances": [{"x": "a"}]}, "instance 0"),
    ('{"instances": [[1, 2, 3, 1e999]]}', "not JSON"),
    ('{"instances": [NaNaN]}', "not JSON"),
    ('{"instances": ' + "[" * 100_000, "not JSON"),
    ("", "not JSON"),
])
def test_bad_requests(server, mlp, body, named):
    assert named in refused(server.post("/v1/models/mlp:predict", body))


def test_keys_and_names(server, mlp):
    wrong = {"authorization": "Bearer mk_wrong"}
    assert "key is not valid" in refused(server.post("/v1/models/mlp:predict", {"instances": [[1, 2, 3, 4]]}, headers=wrong), 401)
    assert "absent" in refused(server.post("/v1/models/absent:predict", {"instances": [[1]]}), 404)
    assert server.get("/v1/models/absent").status_code == 404
