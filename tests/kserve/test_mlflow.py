"""MLflow's scoring call: tables and tensors in JSON, CSV, and what it says when it cannot."""

import numpy as np
import pytest

from models import FEATURES

ROWS = np.random.default_rng(6).normal(size=(3, FEATURES)).astype(np.float32)
TABLE = {"columns": ["text", "size"], "data": [["simmer the onion with butter", 1], ["the rook and the pawn", 2]]}


def ok(reply):
    assert reply.status_code == 200, reply.text
    return reply.json()["predictions"]


def refused(reply, status: int = 400) -> dict:
    assert reply.status_code == status, reply.text
    assert set(reply.json()) == {"error_code", "message"}
    return reply.json()


def test_tables_by_column(server, topics):
    records = [dict(zip(TABLE["columns"], row)) for row in TABLE["data"]]
    split = {"index": [0, 1]} | TABLE
    bodies = [
        {"dataframe_split": split},
        {"dataframe_split": {"columns": ["size", "text"], "data": [row[::-1] for row in TABLE["data"]]}, "params": {}},
        {"dataframe_records": records},
        {"instances": records},
        {"inputs": {"text": [row[0] for row in TABLE["data"]], "size": [1, 2]}},
    ]
    answers = [ok(server.post("/mlflow/topics/invocations", body)) for body in bodies]
    assert [row["label"] for row in answers[0]] == ["cooking", "chess"]
    assert all(answer == answers[0] for answer in answers)
    csv = "size,text\n" + "".join(f'{size},"{text}"\n' for text, size in TABLE["data"])
    for path in ("/mlflow/topics/invocations", "/endpoints/topics/invocations"):
        assert ok(server.post(path, csv, headers={"content-type": "text/csv; charset=utf-8"})) == answers[0]


def test_tables_of_numbers_are_a_network_s_rows(server, mlp):
    expected = mlp.run(x=ROWS)["scores"]
    columns = ["a", "b", "c", "d"]
    csv = "a,b,c,d\n" + "".join(",".join(map(str, row)) + "\n" for row in ROWS)
    for body, headers in [
        ({"dataframe_split": {"columns": columns, "data": ROWS.tolist()}}, {}),
        ({"dataframe_records": [dict(zip(columns, row)) for row in ROWS.tolist()]}, {}),
        ({"instances": ROWS.tolist()}, {}),
        ({"inputs": {"x": ROWS.tolist()}}, {}),
        (csv, {"content-type": "text/csv"}),
    ]:
        np.testing.assert_allclose(ok(server.post("/mlflow/mlp/invocations", body, headers=headers)), expected, rtol=1e-4)


def test_health_and_version(server, mlp):
    assert server.get("/mlflow/mlp/ping").status_code == 200 and server.get("/ping").status_code == 200
    assert server.get("/mlflow/mlp/version").text.startswith("meuse ") and server.get("/version").status_code == 200
    assert refused(server.get("/mlflow/absent/ping"), 404)["error_code"] == "RESOURCE_DOES_NOT_EXIST"


def test_without_a_name_one_model_must_be_meant(server, mlp, topics):
    said = refused(server.post("/invocations", {"instances": ROWS.tolist()}), 404)
    assert "/mlflow/NAME/invocations" in said["message"]


@pytest.mark.parametrize("body, named", [
    ({}, "exactly one"),
    ({"instances": [1], "inputs": [1]}, "exactly one"),
    ({"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}}, "2 cells for 1 columns"),
    ({"dataframe_split": {"columns": ["a"], "data": [[1]]}}, "[1]"),
    ({"dataframe_records": [1]}, "record 0"),
    ({"instances": ROWS.tolist(), "params": {"top_k": 1}}, "params.top_k"),
    ({"instances": ROWS.tolist(), "messages": []}, "messages"),
    ("{", "not JSON"),
])
def test_bad_requests(server, mlp, body, named):
    said = refused(server.post("/mlflow/mlp/invocations", body))
    assert said["error_code"] == "BAD_REQUEST" and named in said["message"]


@pytest.mark.parametrize("csv, named", [
    ("", "empty"),
    ("a,b,c,d\n", "no rows"),
    ("a,b,c,d\n1,2,3,x\n", "column `d`"),
    ("a,b,c,d\n1,2,3\n", "row 0"),
    ("a,a\n1,2\n", "both named `a`"),
])
def test_bad_tables(server, mlp, csv, named):
    said = refused(server.post("/mlflow/mlp/invocations", csv, headers={"content-type": "text/csv"}))
    assert named in said["message"]


def test_other_types_and_keys(server, mlp):
    said = refused(server.post("/mlflow/mlp/invocations", b"x", headers={"content-type": "application/parquet"}), 415)
    assert "text/csv" in said["message"]
    refused(server.post("/mlflow/mlp/invocations", {}, headers={"authorization": "Bearer mk_wrong"}), 401)
