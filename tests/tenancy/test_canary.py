"""What clients send, and what they are answered, is nowhere but where they put it."""

import json
import pathlib
import sys
import time

import grpc
import pytest
import requests

from conftest import ANSWER_SECONDS, LOCATION, Server, model_file

sys.path.append(str(pathlib.Path(__file__).resolve().parents[1] / "embeddings"))
import tiny  # noqa: E402

CANARY = "kestrel7b1f0c9a"
KSERVE = "/inference.GRPCInferenceService/ModelInfer"
VERTEX = "/google.cloud.aiplatform.v1.PredictionService/Predict"


def field(number: int, value: str | bytes) -> bytes:
    """A short text, or message, as a field of a message of protocol buffers."""
    value = value.encode() if isinstance(value, str) else value
    assert len(value) < 128
    return bytes([number << 3 | 2, len(value)]) + value


def infer_message(model: str) -> bytes:
    tensor = field(1, "text") + field(2, "BYTES") + field(3, b"\x01") + field(5, field(8, CANARY))
    return field(1, model) + field(3, CANARY) + field(5, tensor)


def predict_message(endpoint: str) -> bytes:
    return field(1, f"projects/default/locations/{LOCATION}/endpoints/{endpoint}") + field(2, field(3, CANARY))


def ended_batch(server: Server, lines: list[str], endpoint: str) -> dict:
    """A batch of these lines, once there is nothing left to do."""
    files = {"purpose": (None, "batch"), "file": ("lines.jsonl", "\n".join(lines))}
    put = server.call("POST", "/v1/files", files=files)
    assert put.status_code == 200, put.text
    file = put.json()["id"]
    wanted = {"input_file_id": file, "endpoint": endpoint, "completion_window": "24h"}
    batch = server.call("POST", "/v1/batches", body=wanted).json()
    until = time.monotonic() + ANSWER_SECONDS
    while batch["status"] in ("validating", "in_progress", "finalizing") and time.monotonic() < until:
        time.sleep(0.1)
        batch = server.call("GET", f"/v1/batches/{batch['id']}").json()
    return batch


def test_nothing_that_was_sent_is_found_on_disk_in_logs_or_metrics(tmp_path):
    server = Server(tmp_path / "data")
    topics = server.train(tmp_path, "topics")
    smol = server.serves(model_file("smollm2-135m"), "smol")
    minilm = server.serves(model_file("minilm").parent, "minilm")
    judge = server.serves(tiny.write(tmp_path / "judge"), "judge")
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
        server.call("POST", "/v1/messages", key, {"model": smol, "max_tokens": 4, "stream": True, "messages": says}),
        server.call("POST", "/v1/messages/count_tokens", key, {"model": smol, "messages": says}),
        server.call("POST", "/v1/embeddings", key, {"model": minilm, "input": [CANARY, f"a {CANARY}"]}),
        server.call("POST", f"{parent}/endpoints/{minilm}:predict", key, {"instances": [{"content": CANARY}]}),
        server.call("POST", "/v1/rerank", key, {
            "model": judge, "query": CANARY, "documents": [CANARY, f"a {CANARY}"], "return_documents": True}),
        server.call("POST", "/api/embed", key, {"model": minilm, "input": CANARY}),
        server.call("POST", "/api/generate", key, {
            "model": smol, "prompt": CANARY, "system": CANARY, "stream": False, "options": {"num_predict": 4}}),
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
        server.call("POST", "/v1/messages", key, {"model": smol, "max_tokens": CANARY, "messages": says}),
        server.call("POST", "/api/chat", key, {"model": CANARY, "messages": says, CANARY: CANARY}),
        server.call("POST", "/v1/embeddings", key, {"model": minilm, "input": [f"{CANARY} " * 600]}),
        server.call("POST", "/v1/rerank", key, {"model": judge, "query": f"{CANARY} " * 600, "documents": [CANARY]}),
        server.call("GET", f"/{CANARY}?{CANARY}={CANARY}", key),
        server.call("GET", f"/v1/models/{CANARY}?{CANARY}", key),
        server.call("POST", f"/v2/models/{topics}/infer", key, {
            "inputs": [{"name": CANARY, "shape": [1], "datatype": CANARY, "data": [CANARY]}]}),
        server.call("POST", "/admin/v1/keys", key, {"project": CANARY, "role": CANARY}),
        server.call("POST", f"{parent}/endpoints", None, {"displayName": 1, "description": CANARY}),
    ]
    for answer in refused:
        assert 400 <= answer.status_code < 500, answer.text

    # The same over gRPC, answered and refused.
    with grpc.insecure_channel(server.url.removeprefix("http://")) as channel:
        def procedure(name: str, message: bytes, **metadata):
            metadata = {"authorization": f"Bearer {key}"} | metadata
            return channel.unary_unary(name)(message, metadata=list(metadata.items()), timeout=ANSWER_SECONDS)

        assert procedure(KSERVE, infer_message(topics)) and procedure(VERTEX, predict_message(topics))
        for name, message, metadata in [
            (KSERVE, infer_message(CANARY), {}),
            (VERTEX, predict_message(CANARY), {}),
            (KSERVE, CANARY.encode(), {}),
            (VERTEX, predict_message(topics), {"authorization": f"Bearer {CANARY}", "x-anything": CANARY}),
            (f"/{CANARY}/{CANARY}", CANARY.encode(), {}),
        ]:
            with pytest.raises(grpc.RpcError):
                procedure(name, message, **metadata)

    # Requests that nobody waits for: what was put into files stays there, and so do the answers.
    def line(url: str, body: dict) -> str:
        return json.dumps({"custom_id": "one", "method": "POST", "url": url, "body": body})

    chat = {"model": smol, "messages": says, "max_tokens": 4}
    for url, body in [("/v1/chat/completions", chat), ("/v1/embeddings", {"model": minilm, "input": CANARY})]:
        batch = ended_batch(server, [line(url, body)], url)
        assert batch["status"] == "completed" and batch["request_counts"]["completed"] == 1, batch
    faulty = ended_batch(server, [line("/v1/chat/completions", chat)[:-1] + CANARY], "/v1/chat/completions")
    assert faulty["status"] == "failed", faulty

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
    own = {"buckets", "files"}
    kept = [path for path in server.data.rglob("*") if path.is_file() and not own & {*path.relative_to(server.data).parts[:1]}]
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
