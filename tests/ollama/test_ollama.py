"""The `ollama` library, unmodified: chats, texts, models, what stays in memory, and how the server says no."""

import hashlib
import json
import time

import ollama
import pytest
import requests

from conftest import Server, model_file

QUESTION = [{"role": "user", "content": "Name three colours."}]
SHORT = {"num_predict": 4, "seed": 1}


def test_a_chat_is_answered_whole_and_in_pieces(client, smol):
    whole = client.chat(smol, QUESTION, options=SHORT)
    assert whole.done and whole.done_reason == "length" and whole.message.role == "assistant"
    assert whole.eval_count == 4 and whole.prompt_eval_count > 5
    assert 0 < whole.prompt_eval_duration + whole.eval_duration <= whole.total_duration < 10**12
    pieces = list(client.chat(smol, QUESTION, options=SHORT, stream=True))
    assert "".join(piece.message.content for piece in pieces) == whole.message.content
    assert [piece.done for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert len(pieces) > 2 and pieces[-1].eval_count == 4


def test_a_text_is_completed(client, smol):
    whole = client.generate(smol, "Name three colours.", options=SHORT)
    # The template makes a conversation of it.
    assert whole.response == client.chat(smol, QUESTION, options=SHORT).message.content
    told = client.generate(smol, "Name three colours.", system="You are a parrot.", options=SHORT)
    assert told.prompt_eval_count != whole.prompt_eval_count
    raw = client.generate(smol, "Once upon a time", raw=True, options=SHORT | {"temperature": 0})
    assert raw.response and raw.prompt_eval_count < whole.prompt_eval_count
    pieces = list(client.generate(smol, "Once upon a time", raw=True, options=SHORT | {"temperature": 0}, stream=True))
    assert "".join(piece.response for piece in pieces) == raw.response


def test_lines_are_json(server, smol):
    reply = server.post("generate", {"model": smol, "prompt": "Hello", "options": SHORT})
    assert reply.headers["content-type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in reply.text.splitlines()]
    assert all(line["model"] == smol and line["created_at"] for line in lines)
    assert lines[-1]["done_reason"] == "length"


def test_the_address_answers_whoever_looks_whether_it_is_there(server):
    """Ollama's programs look before they send their key; nothing is told but that it runs."""
    head, page = requests.head(server.url, timeout=10), requests.get(server.url, timeout=10)
    assert (head.status_code, head.content) == (200, b"")
    assert (page.status_code, page.text) == (200, "Meuse is running\n")


def test_options_change_the_answer(client, smol):
    ask = lambda **options: client.chat(smol, QUESTION, options={"num_predict": 24, **options}).message.content
    assert ask(seed=1) == ask(seed=1) != ask(seed=2)
    assert ask(temperature=0) == ask(temperature=0, seed=7)
    assert ask(top_k=1, seed=3) == ask(temperature=0)
    assert ask(temperature=0, repeat_penalty=1.8) != ask(temperature=0)
    stopped = client.chat(smol, QUESTION, options={"temperature": 0, "stop": [ask(temperature=0)[5:9]]})
    assert stopped.done_reason == "stop" and ask(temperature=0).startswith(stopped.message.content)


def test_a_form_is_kept(client, smol):
    schema = {
        "type": "object", "properties": {"colour": {"enum": ["red", "blue"]}, "count": {"type": "integer"}},
        "required": ["colour", "count"], "additionalProperties": False,
    }
    answer = client.chat(smol, QUESTION, format=schema, options={"seed": 1, "num_predict": 200})
    assert json.loads(answer.message.content)["colour"] in ("red", "blue")
    answer = client.generate(smol, "A JSON object, please.", format="json", options={"seed": 1, "num_predict": 300})
    if answer.done_reason == "stop":
        assert isinstance(json.loads(answer.response), dict)


def test_tools_are_called(client, qwen):
    def weather(city: str) -> str:
        """The weather in a city.

        Args:
            city: the city's name
        """

    question = [{"role": "user", "content": "What is the weather in Paris? Use the tool."}]
    answer = client.chat(qwen, question, tools=[weather], options={"temperature": 0, "num_predict": 100})
    call, = answer.message.tool_calls
    assert call.function.name == "weather" and "Paris" in call.function.arguments["city"]
    conversation = question + [answer.message, {"role": "tool", "tool_name": "weather", "content": "22 degrees"}]
    told = client.chat(qwen, conversation, tools=[weather], options={"temperature": 0, "num_predict": 60})
    assert "22" in told.message.content


def test_what_there_is_is_listed_and_described(server, client, smol):
    listed = {model.model: model for model in client.list().models}
    found = listed["smol:latest"]
    assert found.size > 50_000_000 and len(found.digest) == 64
    assert found.details.family == "llama" and found.details.quantization_level == "Q4_1"
    assert found.details.parameter_size == "134.5M"
    shown = client.show("smol:latest")
    assert "completion" in shown.capabilities and shown.modelinfo["general.architecture"] == "llama"
    assert shown.modelinfo["llama.context_length"] > 1000 and "<|im_start|>" in shown.template
    assert client.chat("smol:latest", QUESTION, options=SHORT).model == "smol:latest"
    headers = {"authorization": f"Bearer {server.key}"}
    assert requests.get(f"{server.url}/api/version", headers=headers, timeout=10).json()["version"]


def test_texts_are_embedded(server, client, encoder, smol):
    answer = client.embed(encoder, ["A cat.", "A kitten.", "The stock exchange."])
    cat, kitten, stocks = answer.embeddings
    assert len(cat) == 384 and answer.prompt_eval_count > 9 and answer.total_duration > 0
    near = lambda a, b: sum(x * y for x, y in zip(a, b))
    assert near(cat, kitten) > 0.6 > near(cat, stocks)
    # The same text alone has the same vector, at either address.
    assert list(client.embed(f"{encoder}:latest", "A cat.").embeddings[0]) == list(cat)
    assert list(client.embeddings(encoder, "A cat.").embedding) == list(cat)
    assert len(client.embed(encoder, "A cat.", dimensions=64).embeddings[0]) == 64
    for refused, part in (
        ({"model": encoder, "input": "word " * 2000}, "input"),
        ({"model": encoder, "input": []}, "input"),
        ({"model": encoder, "input": [1]}, "input"),
        ({"model": encoder, "input": "x", "keep_alive": "5m"}, "keep_alive"),
        ({"model": encoder, "input": "x", "options": {"num_ctx": 9}}, "options"),
        ({"model": smol, "input": "x"}, "encoder"),
    ):
        reply = server.post("embed", refused)
        assert reply.status_code == 400 and part in reply.json()["error"], reply.text
    assert server.post("embed", {"model": encoder, "input": "word " * 2000, "truncate": True}).status_code == 200


def test_a_model_stays_in_memory_as_asked(client, smol):
    loaded = lambda: {model.model: model for model in client.ps().models}

    def wait(wanted: bool):
        until = time.monotonic() + 30
        while ("smol:latest" in loaded()) != wanted:
            assert time.monotonic() < until
            time.sleep(0.1)

    client.chat(smol, QUESTION, options=SHORT)
    assert loaded()["smol:latest"].context_length > 1000
    assert client.generate(smol, "", keep_alive=0).done_reason == "unload"
    wait(False)
    assert client.generate(smol, "").done_reason == "load"
    assert loaded()["smol:latest"].expires_at.year == 9999
    before = client.chat(smol, QUESTION, options=SHORT, keep_alive="1s")
    wait(False)
    again = client.chat(smol, QUESTION, options=SHORT, keep_alive="10m")
    assert again.message.content == before.message.content and again.load_duration > 10**6
    left = loaded()["smol:latest"].expires_at.timestamp() - time.time()
    assert 500 < left < 610
    client.chat(smol, QUESTION, options=SHORT, keep_alive=-1)
    assert loaded()["smol:latest"].expires_at.year == 9999


@pytest.mark.parametrize("path, body, part", [
    ("chat", {"messages": QUESTION, "options": {"num_gpu": 1}}, "options.num_gpu"),
    ("chat", {"messages": QUESTION, "options": {"num_ctx": 10**8}}, "options.num_ctx"),
    ("chat", {"messages": QUESTION, "options": {"temperature": 9}}, "options.temperature"),
    ("chat", {"messages": QUESTION, "options": {"num_predict": 0}}, "num_predict"),
    ("chat", {"messages": QUESTION, "options": {"num_predict": 10**6}}, "context has"),
    ("chat", {"messages": QUESTION, "keep_alive": "soon"}, "keep_alive"),
    ("chat", {"messages": QUESTION, "format": "xml"}, "format"),
    ("chat", {"messages": QUESTION, "colour": 1}, "colour"),
    ("chat", {"messages": [{"role": "user", "content": "x", "images": ["aGk="]}]}, "images"),
    ("chat", {"messages": [{"role": "nobody", "content": "x"}]}, "role"),
    ("chat", {"messages": 3}, "messages"),
    ("generate", {"prompt": "x", "suffix": "y"}, "suffix"),
    ("generate", {"prompt": "x", "template": "y"}, "template"),
    ("generate", {"prompt": "x", "raw": True, "system": "y"}, "system"),
    ("generate", {"prompt": "x" * 10**6}, "context"),
])
def test_what_is_not_honoured_is_refused_by_name(server, smol, path, body, part):
    reply = server.post(path, {"model": smol} | body)
    assert reply.status_code == 400 and part in reply.json()["error"], reply.text
    assert list(reply.json()) == ["error"]


def test_errors_have_the_protocols_shape(server, client, smol):
    with pytest.raises(ollama.ResponseError, match="unknown") as caught:
        client.chat("unknown", QUESTION)
    assert caught.value.status_code == 404
    with pytest.raises(ollama.ResponseError) as caught:
        server.client("no-key").chat(smol, QUESTION)
    assert caught.value.status_code == 401
    for broken in ("{", "[]", '"x"'):
        headers = {"authorization": f"Bearer {server.key}"}
        reply = requests.post(f"{server.url}/api/chat", data=broken, headers=headers, timeout=30)
        assert reply.status_code == 400 and "error" in reply.json()
    reply = server.post("push", {"model": smol})
    assert reply.status_code == 501 and "/api/push" in reply.json()["error"]


def test_whoever_looks_or_asks_changes_nothing(server, smol):
    for role in ("viewer", "invoker"):
        key = server.new_key(role)
        client = server.client(key)
        assert client.list().models
        for attempt in (lambda: client.pull("smollm2-135m"), lambda: client.delete(smol)):
            with pytest.raises(ollama.ResponseError) as caught:
                attempt()
            assert caught.value.status_code == 403
    viewer = server.new_key("viewer")
    with pytest.raises(ollama.ResponseError) as caught:
        server.client(viewer).chat(smol, QUESTION)
    assert caught.value.status_code == 403


def test_a_model_is_pulled_asked_and_deleted(tmp_path):
    server = Server(tmp_path / "data")
    try:
        client = server.client()
        # From a bucket, so that nothing outside is needed.
        content = model_file("smollm2-135m").read_bytes()
        headers = {"authorization": f"Bearer {server.key}"}
        put = lambda path, **how: requests.post(server.url + path, headers=headers, timeout=60, **how).raise_for_status()
        put("/storage/v1/b?project=default", json={"name": "models"})
        put("/upload/storage/v1/b/models/o?uploadType=media&name=m.gguf", data=content)
        entry = [
            "[[model]]", 'name = "ours"', 'file = "m.gguf"', f'sha256 = "{digest(content)}"', f"bytes = {len(content)}",
            'licence = "Apache-2.0"', 'runtime = "gguf"', 'good_for = "tests"', 'sources = ["gs://models/m.gguf"]',
        ]
        (server.data / "catalog.toml").write_text("\n".join(entry))
        told = [progress.status for progress in client.pull("ours", stream=True)]
        assert told[0] == "pulling manifest" and told[-1] == "success"
        assert client.chat("ours", QUESTION, options=SHORT).message.content
        assert client.pull("ours:latest").status == "success"
        client.delete("ours")
        assert client.list().models == []
        with pytest.raises(ollama.ResponseError) as caught:
            client.delete("ours")
        assert caught.value.status_code == 404
        with pytest.raises(ollama.ResponseError):
            client.pull("no/such/model")
    finally:
        server.stop()


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
