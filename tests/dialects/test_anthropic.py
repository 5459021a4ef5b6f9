"""Anthropic's messages with the real library."""

import json

import anthropic
import pytest

from conftest import ANSWER_SECONDS

GRAVITY = [{"role": "user", "content": "What is gravity? Answer in one sentence."}]
# The library has no arguments for what its own newest models do not take; the protocol does.
GREEDY = {"temperature": 0}
WEATHER = {
    "name": "get_weather",
    "description": "The weather in a city now.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "unit": {"enum": ["celsius", "fahrenheit"]}},
        "required": ["city", "unit"],
        "additionalProperties": False,
    },
}
ASKED = [{"role": "user", "content": "What is the weather in Paris, in celsius?"}]


def client_of(server, key: str | None = None, **options) -> anthropic.Anthropic:
    options = {"max_retries": 0, "timeout": ANSWER_SECONDS, "api_key": key or server.key} | options
    return anthropic.Anthropic(base_url=server.url, **options)


@pytest.fixture(scope="module")
def client(server) -> anthropic.Anthropic:
    return client_of(server)


def wanted(model, **more) -> dict:
    return {"model": model, "messages": GRAVITY, "max_tokens": 40, "extra_body": GREEDY} | more


def comparable(message) -> dict:
    """A message but for the names that differ from reply to reply, and for what was found computed."""
    found = message.model_dump(exclude={"id"})
    for block in found["content"]:
        block.pop("id", None)
        block.pop("parsed_output", None)
    usage = found.pop("usage")
    return found | {"input": usage["input_tokens"] + usage["cache_read_input_tokens"], "output": usage["output_tokens"]}


def test_an_answer_is_whole_and_what_a_chat_completion_says(client, chat, smol):
    raw = client.messages.with_raw_response.create(**wanted(smol))
    message = raw.parse()
    same = chat.chat.completions.create(model=smol, messages=GRAVITY, temperature=0, max_tokens=40)
    assert message.type == "message" and message.role == "assistant" and message.model == smol
    assert message.id.startswith("msg_") and raw.headers["request-id"] == raw.request_id == message._request_id
    [block] = message.content
    assert block.type == "text" and block.text == same.choices[0].message.content
    assert message.stop_reason == {"stop": "end_turn", "length": "max_tokens"}[same.choices[0].finish_reason]
    assert message.stop_sequence is None
    usage = message.usage
    assert usage.input_tokens + usage.cache_read_input_tokens == same.usage.prompt_tokens
    assert usage.output_tokens == same.usage.completion_tokens


def test_a_stream_says_what_the_whole_says(client, smol):
    whole = client.messages.create(**wanted(smol))
    with client.messages.stream(**wanted(smol)) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == whole.content[0].text
    assert comparable(final) == comparable(whole)
    kinds = [event.type for event in client.messages.create(**wanted(smol), stream=True)]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert set(kinds[2:-3]) == {"content_block_delta"}


def test_a_stream_begins_with_a_ping_and_names_its_events(server, smol):
    body = wanted(smol, stream=True) | GREEDY
    del body["extra_body"]
    reply = server.post("v1/messages", body)
    assert reply.headers["content-type"].startswith("text/event-stream")
    events = [block.split("\n") for block in reply.text.split("\n\n") if block]
    for name, data in events:
        assert name == "event: " + json.loads(data.removeprefix("data: "))["type"]
    assert events[1][0] == "event: ping"


def test_a_prefix_that_was_computed_is_counted_apart(client, smol):
    long = [{"role": "user", "content": [{"type": "text", "text": "Tell me of the Meuse. " * 30, "cache_control": {"type": "ephemeral"}}]}]
    first = client.messages.create(**wanted(smol, messages=long, max_tokens=1)).usage
    again = client.messages.create(**wanted(smol, messages=long, max_tokens=1)).usage
    assert again.cache_read_input_tokens > again.input_tokens > 0
    assert again.input_tokens + again.cache_read_input_tokens == first.input_tokens + first.cache_read_input_tokens


def test_tokens_are_counted_as_they_are_read(client, smol, qwen):
    conversation = {"system": "Be brief.", "messages": GRAVITY}
    for model, more in [(smol, {}), (qwen, {"tools": [WEATHER]})]:
        counted = client.messages.count_tokens(model=model, **conversation, **more).input_tokens
        usage = client.messages.create(model=model, max_tokens=1, **conversation, **more).usage
        assert counted == usage.input_tokens + usage.cache_read_input_tokens
    assert counted > client.messages.count_tokens(model=qwen, **conversation).input_tokens


def test_messages_in_all_their_forms(client, chat, smol):
    texts = [{"type": "text", "text": "The capital of "}, {"type": "text", "text": "France?"}]
    conversation = [
        {"role": "user", "content": texts},
        {"role": "assistant", "content": [{"type": "text", "text": "Paris"}]},
        {"role": "user", "content": "And of Italy?"},
        {"role": "user", "content": "In one word."},
    ]
    system = [{"type": "text", "text": "Answer with "}, {"type": "text", "text": "one word.", "cache_control": {"type": "ephemeral"}}]
    message = client.messages.create(
        **wanted(smol, system=system, messages=conversation, max_tokens=5, metadata={"user_id": "ada"}, service_tier="auto")
    )
    turns = [
        {"role": "system", "content": "Answer with one word."},
        {"role": "user", "content": "The capital of France?"},
        {"role": "assistant", "content": "Paris"},
        {"role": "user", "content": "And of Italy?\nIn one word."},
    ]
    same = chat.chat.completions.create(model=smol, messages=turns, temperature=0, max_tokens=5)
    assert message.content[0].text == same.choices[0].message.content
    assert message.usage.input_tokens + message.usage.cache_read_input_tokens == same.usage.prompt_tokens


def test_an_answer_ends_where_it_should(client, smol):
    counting = [{"role": "user", "content": "Count from one to ten, with commas."}]
    free = client.messages.create(**wanted(smol, messages=counting, max_tokens=30)).content[0].text
    stop = free[8:12]
    stopped = client.messages.create(**wanted(smol, messages=counting, max_tokens=30, stop_sequences=["never said", stop]))
    assert stopped.content[0].text == free[: free.index(stop)]
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", stop)
    with client.messages.stream(**wanted(smol, messages=counting, max_tokens=30, stop_sequences=[stop])) as stream:
        assert comparable(stream.get_final_message()) == comparable(stopped)
    short = client.messages.create(**wanted(smol, messages=counting, max_tokens=3))
    assert short.stop_reason == "max_tokens" and short.usage.output_tokens == 3


def test_sampling_is_honoured(client, chat, smol):
    river = [{"role": "user", "content": "Invent a name for a river."}]
    drawn = {
        client.messages.create(model=smol, messages=river, max_tokens=12, extra_body={"temperature": 1.0}).content[0].text
        for _ in range(5)
    }
    assert len(drawn) > 1
    only = client.messages.create(model=smol, messages=river, max_tokens=12, extra_body={"temperature": 1.0, "top_k": 1})
    least = client.messages.create(model=smol, messages=river, max_tokens=12, extra_body={"temperature": 1.0, "top_p": 0.0})
    greedy = client.messages.create(**wanted(smol, messages=river, max_tokens=12))
    assert only.content == least.content == greedy.content


def test_answers_keep_a_form(client, smol):
    schema = {
        "type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
        "required": ["name", "age"], "additionalProperties": False,
    }
    asked = [{"role": "user", "content": "Describe a person named Ada, 36 years old, as JSON."}]
    form = {"format": {"type": "json_schema", "schema": schema}}
    message = client.messages.create(**wanted(smol, messages=asked, max_tokens=120, output_config=form))
    assert message.stop_reason == "end_turn"
    person = json.loads(message.content[0].text)
    assert set(person) == {"name", "age"} and isinstance(person["age"], int)


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "get_weather"}], ids=["any", "tool"])
def test_a_call_that_must_come_comes(client, qwen, choice):
    asked = wanted(qwen, messages=ASKED, tools=[WEATHER], tool_choice=choice | {"disable_parallel_tool_use": True}, max_tokens=200)
    message = client.messages.create(**asked)
    assert message.stop_reason == "tool_use"
    [call] = message.content
    assert call.type == "tool_use" and call.id.startswith("toolu_") and call.name == "get_weather"
    assert set(call.input) == {"city", "unit"} and call.input["unit"] in ("celsius", "fahrenheit")
    with client.messages.stream(**asked) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    assert "input_json" in kinds and comparable(final) == comparable(message)


def test_the_model_chooses(client, qwen):
    message = client.messages.create(**wanted(qwen, messages=ASKED, tools=[WEATHER], tool_choice={"type": "auto"}, max_tokens=200))
    # A small model may answer in words; what looks like a call must not remain in them.
    calls = [block for block in message.content if block.type == "tool_use"]
    assert (message.stop_reason == "tool_use") == bool(calls)
    assert all("<tool_call>" not in block.text for block in message.content if block.type == "text")
    silent = client.messages.create(**wanted(qwen, messages=ASKED, tools=[WEATHER], tool_choice={"type": "none"}))
    untold = client.messages.create(**wanted(qwen, messages=ASKED))
    assert comparable(silent) == comparable(untold)


def test_a_result_goes_back(client, chat, qwen):
    forced = {"type": "tool", "name": "get_weather"}
    first = client.messages.create(**wanted(qwen, messages=ASKED, tools=[WEATHER], tool_choice=forced, max_tokens=200))
    [call] = first.content
    result = '{"degrees": 31, "sky": "clear"}'

    def answer(**block):
        turn = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id} | block]}
        made = {"role": "assistant", "content": first.content}
        return client.messages.create(**wanted(qwen, messages=[*ASKED, made, turn], tools=[WEATHER], max_tokens=60))

    answered = answer(content=result)
    assert "31" in answered.content[0].text
    assert comparable(answer(content=[{"type": "text", "text": result}])) == comparable(answered)
    failed = answer(content="the station is closed", is_error=True)
    same = answer(content="Error: the station is closed")
    assert comparable(failed) == comparable(same)


def test_models_are_listed(client, chat, smol, qwen):
    listed = {model.id: model for model in client.models.list()}
    assert {smol, qwen} <= set(listed)
    one = client.models.retrieve(smol)
    assert one == listed[smol] and one.type == "model" and one.display_name == smol
    assert one.created_at.timestamp() == chat.models.retrieve(smol).created
    assert one.max_input_tokens == 8192
    first = client.models.list(limit=1)
    assert first.has_more and len(first.data) == 1
    assert [model.id for model in client.models.list(limit=1)] == list(listed)
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("nothing")


def refused(kind, ask, **more):
    with pytest.raises(kind) as caught:
        ask(**more)
    error = caught.value
    assert error.body["type"] == "error" and error.body["error"]["message"] and error.body["request_id"] == error.request_id
    return error


def test_a_wrong_model_and_a_wrong_key(server, client, smol):
    error = refused(anthropic.NotFoundError, client.messages.create, **wanted("claude-9"))
    assert error.type == "not_found_error" and "claude-9" in error.api_message
    for wrong in (client_of(server, "mk_wrong"), client_of(server, None, api_key=None, auth_token="mk_wrong")):
        error = refused(anthropic.AuthenticationError, wrong.messages.create, **wanted(smol))
        assert error.type == "authentication_error"
    viewer = client_of(server, server.new_key("viewer"))
    error = refused(anthropic.PermissionDeniedError, viewer.messages.create, **wanted(smol))
    assert error.type == "permission_error"
    stranger = client_of(server, server.new_key("invoker", "elsewhere"))
    refused(anthropic.NotFoundError, stranger.messages.create, **wanted(smol))


def test_a_key_comes_in_either_header(server, smol):
    key = server.new_key("invoker")
    either = [client_of(server, key), client_of(server, None, api_key=None, auth_token=key)]
    plain = {"model": smol, "messages": GRAVITY, "max_tokens": 2}
    for client in either:
        assert client.messages.create(**plain).content
    import requests

    reply = requests.post(f"{server.url}/v1/messages", json=plain, headers={"x-api-key": key}, timeout=60)
    assert reply.status_code == 200, reply.text


BAD = [
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": 100_000}, "max_tokens"),
    ({"temperature": 2}, "temperature"),
    ({"top_p": -1}, "top_p"),
    ({"top_k": -1}, "top_k"),
    ({"stop_sequences": [""]}, "stop_sequences"),
    ({"messages": []}, "messages"),
    ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "messages[0].content"),
    ({"messages": [*GRAVITY, {"role": "assistant", "content": "It is"}]}, "messages"),
    ({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "http://x/"}}]}]}, "image"),
    ({"messages": [{"role": "user", "content": [{"type": "document", "source": {"type": "text", "data": "x"}}]}]}, "document"),
    ({"messages": [{"role": "assistant", "content": [{"type": "thinking", "thinking": "x", "signature": "x"}]}]}, "thinking"),
    ({"system": 5}, "system"),
    ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking"),
    ({"output_config": {"effort": "low"}}, "output_config.effort"),
    ({"service_tier": "fast"}, "service_tier"),
    ({"container": "x"}, "container"),
    ({"frobnicate": 1}, "frobnicate"),
    ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
    ({"tools": [WEATHER]}, "tools"),
    ({"tools": [{"name": "a b", "input_schema": {}}]}, "tools[0].name"),
    ({"tools": [{"name": "f"}]}, "tools[0].input_schema"),
    ({"tool_choice": {"type": "tool", "name": "get_lost"}}, "tool_choice"),
]


@pytest.mark.parametrize("more, named", BAD, ids=[f"{i}-{named}" for i, (_, named) in enumerate(BAD)])
def test_what_is_not_honoured_is_named(client, smol, more, named):
    asked = {"model": smol, "messages": GRAVITY, "max_tokens": 5, "extra_body": more}
    error = refused(anthropic.BadRequestError, client.messages.create, **asked)
    assert error.type == "invalid_request_error" and named in error.api_message


def test_what_does_not_fit_is_refused_and_never_cut(client, smol):
    long = [{"role": "user", "content": "river " * 9000}]
    error = refused(anthropic.BadRequestError, client.messages.create, **wanted(smol, messages=long))
    assert "8192" in error.api_message
    error = refused(anthropic.APIStatusError, client.messages.create, **wanted(smol, messages=[{"role": "user", "content": " " * (40 << 20)}]))
    assert error.status_code == 413 and error.body["error"]["type"] == "request_too_large"


def test_what_is_not_served_says_so(client):
    refused(anthropic.NotFoundError, client.messages.batches.list)


def test_hostile_bodies(server, client, smol):
    head = f'{{"model": "{smol}", "max_tokens": 4, "messages": [{{"role": "user", "content": '
    for body in [
        head + '"x"}], "temperature": NaN}', head + "{}}]}", head, "", "[]", "null", "[" * 100_000,
        head + '[{"type": "tool_result", "tool_use_id": "x", "content": ' * 60 + '"x"' + "}]" * 60 + "}]}",
    ]:
        reply = server.post("v1/messages", body)
        assert reply.status_code == 400, (body[:80], reply.text)
        assert set(reply.json()) == {"type", "error", "request_id"}
    assert client.messages.create(**wanted(smol, max_tokens=1)).content


def test_who_leaves_is_not_answered_further(server, client, smol):
    story = [{"role": "user", "content": "Write the numbers from one to a thousand, in words."}]
    stream = client.messages.create(model=smol, messages=story, max_tokens=4000, stream=True)
    for _, _ in zip(range(5), stream):
        pass
    assert server.running(smol) >= 1
    stream.close()
    assert server.is_soon_idle(smol)
