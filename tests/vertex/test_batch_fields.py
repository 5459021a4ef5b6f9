"""Batches in which the model sees some fields of a row, and another one names it."""

import csv
import io
import json
import time

import numpy as np
import pytest

from models import linear_onnx, linear_scores

LOCAL_IMAGE = "gcr.io/cloud-aiplatform/prediction/sklearn-cpu.1-0:latest"
NAMES = ["a", "b", "c", "d"]


@pytest.fixture(scope="module")
def model(aip, bucket, tmp_path_factory):
    """A network of four numbers, and rows with an id and a note beside them."""
    home = linear_onnx(tmp_path_factory.mktemp("fields") / "one")
    made = aip.Model.upload(
        display_name="fields", artifact_uri=str(home), serving_container_image_uri=LOCAL_IMAGE
    )
    x = np.random.default_rng(9).normal(size=(50, len(NAMES))).round(3)
    rows = [{"id": f"r{i}", **dict(zip(NAMES, row)), "note": f"n {i}"} for i, row in enumerate(x.tolist())]
    text = io.StringIO()
    writer = csv.DictWriter(text, ["id", *NAMES, "note"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    bucket.blob("fields.csv").upload_from_string(text.getvalue())
    lines = [json.dumps({"note": row["note"], **{name: row[name] for name in ("d", "c", "id", "b", "a")}}) for row in rows]
    bucket.blob("fields.jsonl").upload_from_string("\n".join([*lines, '{"id": "short"}']) + "\n")
    return made.resource_name, x


def batch(server, bucket, model, instance, source, out):
    """The finished job, and its output: rows of JSON, or of CSV by column."""
    parent = model.split("/models/")[0]
    body = {
        "displayName": "fields", "model": model, "instanceConfig": instance,
        "inputConfig": {"instancesFormat": source, "gcsSource": {"uris": [f"gs://{bucket.name}/fields.{source}"]}},
        "outputConfig": {"predictionsFormat": out, "gcsDestination": {"outputUriPrefix": f"gs://{bucket.name}/out"}},
    }
    made = server.call("POST", f"/v1/{parent}/batchPredictionJobs", json=body)
    assert made.status_code == 200, made.text
    job, deadline = made.json(), time.monotonic() + 60
    while job["state"] not in ("JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
        job = server.call("GET", f"/v1/{job['name']}").json()
    assert {name: value for name, value in job["instanceConfig"].items() if value} == instance
    rows = []
    if job["state"] == "JOB_STATE_SUCCEEDED":
        prefix = job["outputInfo"]["gcsOutputDirectory"].split("/", 3)[3]
        for blob in sorted(bucket.list_blobs(prefix=prefix + "/prediction.results"), key=lambda blob: blob.name):
            text = blob.download_as_text()
            rows += list(csv.DictReader(io.StringIO(text))) if out == "csv" else map(json.loads, text.splitlines())
    return job, rows


def numbers(rows) -> np.ndarray:
    if "prediction" in rows[0]:
        return np.array([row["prediction"] for row in rows])
    return np.array([[float(value) for name, value in row.items() if name.startswith("prediction_")] for row in rows])


@pytest.mark.parametrize("out", ["csv", "jsonl"])
def test_a_table_with_a_key(server, bucket, model, out):
    name, x = model
    instance = {"keyField": "id", "includedFields": NAMES}
    job, rows = batch(server, bucket, name, instance, "csv", out)
    assert job["completionStats"]["successfulCount"] == "50"
    assert [row["key"] for row in rows] == [f"r{i}" for i in range(50)]
    assert not {"instance", "id", "a", "note"} & set(rows[0])
    np.testing.assert_allclose(numbers(rows), linear_scores(x), rtol=1e-5)


def test_excluded_columns_stay_in_the_output(server, bucket, model):
    name, x = model
    job, rows = batch(server, bucket, name, {"excludedFields": ["note", "id"]}, "csv", "csv")
    assert [(row["id"], row["note"]) for row in rows] == [(f"r{i}", f"n {i}") for i in range(50)]
    np.testing.assert_allclose(numbers(rows), linear_scores(x), rtol=1e-5)


def test_objects_become_arrays_in_the_order_asked_for(server, bucket, model):
    name, x = model
    instance = {"instanceType": "array", "includedFields": NAMES, "keyField": "id"}
    job, rows = batch(server, bucket, name, instance, "jsonl", "jsonl")
    assert (job["completionStats"]["successfulCount"], job["completionStats"]["failedCount"]) == ("50", "1")
    assert "`a` is missing" in job["partialFailures"][0]["message"]
    assert [row["key"] for row in rows] == [f"r{i}" for i in range(50)]
    np.testing.assert_allclose(numbers(rows), linear_scores(x), rtol=1e-5)
    job, rows = batch(server, bucket, name, instance, "jsonl", "csv")
    assert [row["key"] for row in rows] == [f"r{i}" for i in range(50)]


def test_the_command_line(server, bucket, model, tmp_path):
    name, x = model
    server.command(
        "batch", name.rsplit("/", 1)[1], "--input", f"gs://{bucket.name}/fields.csv", "--output", tmp_path / "out",
        "--key-column", "id", "--exclude", "note", "--project", "demo",
    )
    (found,) = (tmp_path / "out").glob("prediction.results*")
    rows = list(csv.DictReader(found.open()))
    assert [row["key"] for row in rows] == [f"r{i}" for i in range(50)]
    np.testing.assert_allclose(numbers(rows), linear_scores(x), rtol=1e-5)


@pytest.mark.parametrize("instance, words", [
    ({"keyField": "code"}, "no column `code`"),
    ({"includedFields": ["a", "z"]}, "no column `z`"),
    ({"includedFields": ["a"], "excludedFields": ["b"]}, "exclude each other"),
    ({"keyField": "id", "excludedFields": ["id"]}, "twice"),
    ({"instanceType": "tensor"}, "instanceType"),
    ({"instanceType": "object", "keyField": "id"}, "instanceType"),
])
def test_what_does_not_fit_is_refused(server, bucket, model, instance, words):
    try:
        job, _ = batch(server, bucket, model[0], instance, "csv", "csv")
    except AssertionError as refusal:
        assert words in str(refusal), refusal
        return
    assert job["state"] == "JOB_STATE_FAILED" and words in job["error"]["message"], job
