"""Google's batch prediction over a language model: rows as Gemini's batches have them."""

import json
import time

import requests

from conftest import BATCH_SECONDS, MODEL

PARENT = "projects/default/locations/us-central1"


def call(server, method: str, path: str, **options) -> requests.Response:
    headers = {"authorization": f"Bearer {server.key}"}
    reply = requests.request(method, server.url + path, headers=headers, timeout=60, **options)
    assert reply.status_code == 200, (method, path, reply.status_code, reply.text[:500])
    return reply


def read(server, name: str) -> list[dict]:
    quoted = requests.utils.quote(name, safe="")
    content = call(server, "GET", f"/download/storage/v1/b/rows/o/{quoted}?alt=media").text
    return [json.loads(line) for line in content.splitlines()]


def test_rows_are_answered_as_generate_content(server):
    says = lambda text, **more: {"contents": [{"role": "user", "parts": [{"text": text}]}]} | more
    config = {"generationConfig": {"maxOutputTokens": 4, "temperature": 0}}
    asked = [says(f"What comes after {n}?", **config) for n in range(5)]
    rows = [{"request": request} for request in asked] + [{"request": says("x", frobnicate=1)}, {"prompt": "x"}]
    content = "".join(json.dumps(row) + "\n" for row in rows) + "no json\n"
    call(server, "POST", "/storage/v1/b?project=default", json={"name": "rows"})
    call(server, "POST", "/upload/storage/v1/b/rows/o?uploadType=media&name=in.jsonl", data=content.encode())
    models = call(server, "GET", f"/v1/{PARENT}/models").json()["models"]
    endpoints = call(server, "GET", f"/v1/{PARENT}/endpoints").json()["endpoints"]
    body = {
        "displayName": "answers", "model": next(m["name"] for m in models if m["displayName"] == MODEL),
        "inputConfig": {"instancesFormat": "jsonl", "gcsSource": {"uris": ["gs://rows/in.jsonl"]}},
        "outputConfig": {"predictionsFormat": "jsonl", "gcsDestination": {"outputUriPrefix": "gs://rows/out"}},
    }
    job = call(server, "POST", f"/v1/{PARENT}/batchPredictionJobs", json=body).json()
    deadline = time.monotonic() + BATCH_SECONDS
    while not str(job["state"]).endswith(("SUCCEEDED", "FAILED")):
        assert time.monotonic() < deadline, job
        time.sleep(0.2)
        job = call(server, "GET", f"/v1/{job['name']}").json()
    assert job["state"] == "JOB_STATE_SUCCEEDED", job
    assert job["completionStats"] == {"successfulCount": "5", "failedCount": "3"}
    names = [item["name"] for item in call(server, "GET", "/storage/v1/b/rows/o?prefix=out/").json()["items"]]
    answers = read(server, next(name for name in names if "prediction.results-" in name))
    assert [answer["request"] for answer in answers] == asked and not any(answer["status"] for answer in answers)
    online = call(server, "POST", f"/v1/{endpoints[0]['name']}:generateContent", json=asked[3]).json()
    assert answers[3]["response"]["candidates"] == online["candidates"]
    failed = read(server, next(name for name in names if "prediction.errors_stats" in name))
    assert len(failed) == 3 and "frobnicate" in failed[0]["status"]
