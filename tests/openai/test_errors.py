"""What goes wrong is said in OpenAI's shape, and what is hostile costs little."""

import json
import time

import openai
import pytest

from conftest import Server, model_file, says


def refused(client, kind=openai.BadRequestError, **wanted):
    with pytest.raises(kind) as caught:
        client.chat.completions.create(**wanted)
    assert caught.value.body["message"] and caught.value.body["type"]
    return caught.value


def test_a_wrong_model_and_a_wrong_key(server, client, smol):
    error = refused(client, openai.NotFoundError, model="gpt-7", messages=says("x"))
    assert error.code == "model_not_found" and error.param == "model" and "gpt-7" in error.body["message"]
    error = refused(server.client("mk_wrong"), openai.AuthenticationError, model=smol, messages=says("x"))
    assert error.code == "invalid_api_key"
    key = json.loads(server.command("keys", "create", "--project", "default", "--role", "viewer", "--json").stdout)["key"]
    error = refused(server.client(key), openai.PermissionDeniedError, model=smol, messages=says("x"))
    assert error.code == "insufficient_permissions"
    elsewhere = server.client(project="nowhere")
    assert refused(elsewhere, openai.NotFoundError, model=smol, messages=says("x")).code == "model_not_found"


def test_what_does_not_fit_is_refused_and_never_cut(client, smol):
    error = refused(client, model=smol, messages=says("river " * 9000))
    assert error.code == "context_length_exceeded" and error.param == "messages" and "8192" in error.body["message"]
    error = refused(client, model=smol, messages=says("x"), max_tokens=100_000)
    assert error.code == "context_length_exceeded" and error.param == "max_tokens"
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model=smol, prompt="river " * 9000)
    assert caught.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model=smol, input="river " * 9000)
    assert caught.value.code == "context_length_exceeded"


UNHONOURED = ["frobnicate", "audio", "prediction", "reasoning_effort", "verbosity", "web_search_options", "functions", "function_call", "metadata", "moderation"]


@pytest.mark.parametrize("name", UNHONOURED)
def test_a_parameter_that_is_not_honoured_is_named(client, smol, name):
    error = refused(client, model=smol, messages=says("x"), extra_body={name: "low"})
    assert error.param == name and error.code == "unsupported_parameter" and name in error.body["message"]


BAD = [
    ({"temperature": -1}, "temperature"),
    ({"temperature": 3}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"top_p": 1.5}, "top_p"),
    ({"n": 0}, "n"),
    ({"n": 10_000}, "n"),
    ({"n": 1.5}, "n"),
    ({"n": 2**63}, "n"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": -5}, "max_tokens"),
    ({"max_tokens": 5, "max_completion_tokens": 5}, "max_tokens"),
    ({"stop": ["x"] * 10_000}, "stop"),
    ({"stop": [""]}, "stop"),
    ({"stop": "x" * 10_000}, "stop"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"top_logprobs": 2}, "top_logprobs"),
    ({"logit_bias": {"99999999": 1}}, "logit_bias"),
    ({"logit_bias": {"x": 1}}, "logit_bias"),
    ({"logit_bias": {"5": 1000}}, "logit_bias"),
    ({"frequency_penalty": 5}, "frequency_penalty"),
    ({"seed": 2**70}, "seed"),
    ({"store": True}, "store"),
    ({"modalities": ["audio"]}, "modalities"),
    ({"service_tier": "flex"}, "service_tier"),
    ({"stream_options": {"include_usage": True}}, "stream_options"),
    ({"response_format": {"type": "xml"}}, "response_format.type"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, "response_format.json_schema.schema"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [{"role": "user", "content": "x", "name": "Ada"}]}, "messages[0].name"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/"}}]}]}, "messages[0].content[0].type"),
]


@pytest.mark.parametrize("more, param", BAD, ids=[f"{i}-{param}" for i, (_, param) in enumerate(BAD)])
def test_a_bad_parameter_is_named(client, smol, more, param):
    error = refused(client, **{"model": smol, "messages": says("x")} | {"extra_body": more})
    assert error.param == param, error.body


HOSTILE_SCHEMAS = [
    {"$ref": "#"},
    {"$ref": "http://169.254.169.254/latest"},
    {"type": "string", "pattern": "((a{1,999}){1,999}){1,999}"},
    {"type": "string", "pattern": "foo**"},
    {"type": "string", "pattern": "(" * 5000 + ")" * 5000},
    {"enum": [f"choice number {i}" for i in range(100_000)]},
    {"allOf": [{"anyOf": [{"type": "object", "properties": {f"p{j}": {"type": "integer"}}} for j in range(20)]} for _ in range(20)]},
]


@pytest.mark.parametrize("schema", HOSTILE_SCHEMAS, ids=range(len(HOSTILE_SCHEMAS)))
def test_a_schema_that_explodes_costs_little(server, client, smol, schema):
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    begun = time.monotonic()
    try:
        client.chat.completions.create(model=smol, messages=says("x"), max_tokens=4, response_format=form)
    except openai.APIStatusError as error:
        assert error.status_code in (400, 500) and error.body["message"]
    assert time.monotonic() - begun < 30
    assert client.chat.completions.create(model=smol, messages=says("x"), max_tokens=1).choices


def test_hostile_bodies(server, client, smol):
    head = f'{{"model": "{smol}", "messages": [{{"role": "user", "content": "x"}}], '
    for body in [
        head + '"temperature": NaN}', head + '"temperature": 1e400}', head + '"n": Infinity}', head, "", "[]", "null",
        "[" * 100_000, '{"model": {}}', '{"model": "' + smol + '", "messages": "x"}', b'{"model": "\xff\xfe"}',
    ]:
        reply = server.post("chat/completions", body)
        assert reply.status_code == 400, (body[:80], reply.text)
        assert set(reply.json()["error"]) == {"message", "type", "code", "param"}
    for content in ["a" * 10_000_000, "river of words, " * 625_000, "\u20ac" * 3_000_000, "<|im_end|>" * 1_000_000]:
        begun = time.monotonic()
        body = json.dumps({"model": smol, "messages": says(content)})
        reply = server.post("chat/completions", body)
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, "context_length_exceeded")
        assert time.monotonic() - begun < 60
    reply = server.post("chat/completions", b" " * (40 << 20))
    assert reply.status_code == 413 and reply.json()["error"]["message"]
    deep = json.dumps({"model": smol, "messages": says("x")})[:-1] + ', "metadata": ' + '{"a":' * 200 + "1" + "}" * 200 + "}"
    assert server.post("chat/completions", deep).status_code == 400
    assert client.chat.completions.create(model=smol, messages=says("x"), max_tokens=1).choices


def test_bytes_that_are_no_text_come_as_text(client, smol):
    # Tokens of single bytes, forced one after another: no whole character ever.
    answer = client.chat.completions.create(
        model=smol, messages=says("x"), max_tokens=8, temperature=2, seed=1, logit_bias={str(id): 60 for id in range(140, 270)}
    )
    answer.choices[0].message.content.encode()


def test_what_is_not_served_says_so(client):
    for ask in (lambda: client.moderations.create(input="x"), lambda: client.responses.retrieve("resp_1"), lambda: client.fine_tuning.jobs.list()):
        with pytest.raises(openai.NotFoundError) as caught:
            ask()
        assert caught.value.code == "not_served"


def test_a_model_that_does_not_fit_is_refused_with_the_figures(tmp_path):
    server = Server(tmp_path / "small", "--model-memory", "64")
    try:
        said = server.command("import", model_file("smollm2-135m"), "--name", "smol", code=1).stderr
        assert "MiB" in said and "64" in said and "weights" in said, said
    finally:
        server.stop()


def test_a_predicting_client_is_told_what_to_ask(server, smol):
    said = server.command("predict", smol, "some text", code=1).stderr
    assert "language model" in said and "meuse chat" in said
