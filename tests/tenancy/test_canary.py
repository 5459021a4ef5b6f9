"""What clients send, and what they are answered, is nowhere but where they put it."""

import json

import requests

from conftest import LOCATION, Server, model_file

CANARY = "kestrel7b1f0c9a"


def test_nothing_that_was_sent_is_found_on_disk_in_logs_or_metrics(tmp_path):
    server = Server(tmp_path / "data")
    topics = server.train(tmp_path, "topics")
    smol = server.serves(model_file("smollm2-135m"), "smol")
    key = server.new_key("invoker")
    parent = f"/v1/projects/default/locations/{LOCATION}"
    says = [{"role": "user", "content": CANARY}]

    # Prompts and instances, answered, in every protocol.
    answered = [
        server.predict(topics, key, [f"{CANARY} a heron"]),
        server.call("POST", f"{parent}/endpoints/{topics}:explain", key, {"instances": [f"{CANARY} heron"]}),
        server.call("POST", f"{parent}/endpoints/{topics}:rawPredict", key, {"instances": [CANARY]}),
        server.call("POST", f"/v1/models/{topics}:predict", key, {"instances": [CANARY]}),
        server.call("POST", f"/mlflow/{topics}/invocations", key, {"instances": [CANARY]}, headers={"content-type": "application/json"}),
        server.call("POST", f"/v2/models/{topics}/infer", key, {
            "id": CANARY, "inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [CANARY]}]}),
        server.chat(smol, f"Say {CANARY}.", key),
        server.chat(smol, f"Say {CANARY}.", key, stream=True, user=CANARY),
        server.call("POST", "/v1/completions", key, {"model": smol, "prompt": CANARY, "max_tokens": 4}),
        server.call("POST", "/v1/responses", key, {"model": smol, "input": CANARY, "max_output_tokens": 4}),
        server.call("POST", "/v1/messages", key, {"model": smol, "max_tokens": 4, "system": CANARY, "messages": says}),
        server.call("POST", "/api/chat", key, {"model": smol, "messages": says, "stream": False, "options": {"num_predict": 4}}),
        server.call("POST", f"{parent}/endpoints/{smol}:generateContent", key, {
            "contents": [{"role": "user", "parts": [{"text": CANARY}]}], "generationConfig": {"maxOutputTokens": 4}}),
    ]
    for answer in answered:
        assert answer.status_code == 200, answer.text

    # Requests that fail, each for another reason.
    refused = [
        server.call("POST", f"{parent}/endpoints/{topics}:predict", key, f'{{"instances": ["{CANARY}"'),
        server.call("POST", f"{parent}/endpoints/{topics}:predict", key, {"instances": [{CANARY: CANARY}]}),
        server.call("POST", f"{parent}/endpoints/{topics}:predict", key, {CANARY: 1}),
        server.call("POST", f"{parent}/endpoints/{CANARY}:predict", key, {"instances": [CANARY]}),
        server.chat(CANARY, "x", key),
        server.chat(smol, CANARY, key, max_tokens=CANARY),
        server.chat(smol, "x", key, response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "string", "pattern": f"[{CANARY}"}}}),
        server.chat(smol, "x", key, **{CANARY: 1}),
        server.call("POST", "/v1/chat/completions", key, CANARY),
        server.call("GET", f"/{CANARY}?{CANARY}={CANARY}", key),
        server.call("GET", f"/v1/models/{CANARY}?{CANARY}", key),
        server.call("POST", f"/v2/models/{topics}/infer", key, {
            "inputs": [{"name": CANARY, "shape": [1], "datatype": CANARY, "data": [CANARY]}]}),
        server.call("POST", "/admin/v1/keys", key, {"project": CANARY, "role": CANARY}),
        server.call("POST", f"{parent}/endpoints", None, {"displayName": 1, "description": CANARY}),
    ]
    for answer in refused:
        assert 400 <= answer.status_code < 500, answer.text

    # Headers, wrong credentials among them.
    for header in ("x-api-key", "x-goog-api-key", "authorization", "cookie", "user-agent", "referer", "x-anything", "x-request-id",
                   "openai-project", "traceparent", "origin"):
        for value in (CANARY, f"Bearer {CANARY}", f"Bearer mk_0123456789abcdef_{CANARY}"):
            server.bare("GET", "/v1/models", {header: value})
    server.bare("GET", f"/v1/models?key={CANARY}")

    # A table whose rows fail, in a job: the job keeps reasons, not rows.
    server.call("POST", "/storage/v1/b?project=default", body={"name": "canary-input"})
    rows = "\n".join(json.dumps(row) for row in ({"other": CANARY}, {"text": "a wren"}, [CANARY], CANARY))
    put = server.call("POST", "/upload/storage/v1/b/canary-input/o?uploadType=media&name=rows.jsonl", body=rows.encode())
    assert put.status_code == 200
    server.command("batch", topics, "--input", "gs://canary-input/rows.jsonl", "--output", "gs://canary-output/x", code=1)
    server.call("POST", "/storage/v1/b?project=default", body={"name": "canary-output"})
    server.command("batch", topics, "--input", "gs://canary-input/rows.jsonl", "--output", "gs://canary-output/x")
    jobs = server.command("jobs", "--json").stdout

    metrics = server.metrics()
    assert "meuse_replies_total" in metrics and CANARY not in metrics and CANARY not in jobs
    assert CANARY not in server.command("audit", "export").stdout
    assert server.stop() == 0
    assert CANARY not in server.stderr()
    kept = [path for path in server.data.rglob("*") if path.is_file() and "buckets" not in path.parts]
    assert len(kept) > 5
    for path in kept:
        assert CANARY.encode() not in path.read_bytes(), path


def test_a_killed_server_leaves_nothing_of_what_it_was_answering(tmp_path):
    server = Server(tmp_path / "data")
    smol = server.serves(model_file("smollm2-135m"), "smol")
    answer = server.chat(smol, f"Repeat for ever: {CANARY}", stream=True, max_tokens=2000)
    next(answer.iter_content(64))
    server.kill()
    try:
        answer.close()
    except requests.RequestException:
        pass
    assert CANARY not in server.stderr()
    for path in server.data.rglob("*"):
        assert not path.is_file() or CANARY.encode() not in path.read_bytes(), path
