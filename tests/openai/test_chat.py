"""Chat completions with the real library: what it sends is honoured, what it reads is there."""

import concurrent.futures
import json
import threading
import time

import openai
import pydantic
import pytest

from conftest import model_file, says

GRAVITY = says("What is gravity? Answer in one sentence.")


def streamed(stream) -> tuple[str, list]:
    """The text of a stream's first answer, and the stream's chunks."""
    chunks = list(stream)
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices), chunks


def test_models_are_listed(client, smol):
    listed = {model.id: model for model in client.models.list()}
    assert smol in listed
    one = client.models.retrieve(smol)
    assert one == listed[smol]
    assert one.object == "model" and one.created > 1_700_000_000 and one.owned_by
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nothing")


def test_an_answer_is_whole(client, smol):
    raw = client.chat.completions.with_raw_response.create(model=smol, messages=GRAVITY, temperature=0, max_tokens=40)
    answer = raw.parse()
    assert answer.object == "chat.completion" and answer.model == smol and answer.id.startswith("chatcmpl-")
    assert answer.system_fingerprint.startswith("fp_")
    assert abs(answer.created - time.time()) < 600
    [choice] = answer.choices
    assert choice.index == 0 and choice.message.role == "assistant"
    assert "gravity" in choice.message.content.lower()
    assert choice.finish_reason in ("stop", "length")
    usage = answer.usage
    assert usage.prompt_tokens > 10 and 0 < usage.completion_tokens <= 40
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert raw.headers["x-request-id"] and int(raw.headers["openai-processing-ms"]) >= 0


def test_a_stream_says_what_the_whole_says(client, smol):
    wanted = {"model": smol, "messages": GRAVITY, "temperature": 0, "max_tokens": 40}
    whole = client.chat.completions.create(**wanted)
    stream = client.chat.completions.create(**wanted, stream=True, stream_options={"include_usage": True})
    text, chunks = streamed(stream)
    assert text == whole.choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert {c.id for c in chunks} == {chunks[0].id} and chunks[0].object == "chat.completion.chunk"
    ends = [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason]
    assert ends == [whole.choices[0].finish_reason]
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert all(c.usage is None for c in chunks[:-1])
    _, chunks = streamed(client.chat.completions.create(**wanted, stream=True))
    assert chunks[-1].choices and chunks[-1].choices[0].finish_reason


def test_the_library_can_stream_by_itself(client, smol):
    with client.chat.completions.stream(model=smol, messages=GRAVITY, temperature=0) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds and final.choices[0].message.content


def test_seeds_repeat_and_differ(client, smol):
    def answer(seed):
        wanted = {"model": smol, "messages": says("Invent a name for a river."), "max_tokens": 16}
        return client.chat.completions.create(**wanted, seed=seed, temperature=1.2).choices[0].message.content

    assert answer(1) == answer(1)
    assert len({answer(seed) for seed in range(5)}) > 1


def test_several_answers(client, smol):
    wanted = {"model": smol, "messages": says("Invent a name for a river."), "max_tokens": 12, "n": 3, "seed": 7}
    whole = client.chat.completions.create(**wanted)
    assert [c.index for c in whole.choices] == [0, 1, 2]
    texts = [c.message.content for c in whole.choices]
    assert len(set(texts)) > 1
    told = ["", "", ""]
    for chunk in client.chat.completions.create(**wanted, stream=True):
        for choice in chunk.choices:
            told[choice.index] += choice.delta.content or ""
    assert told == texts


def test_stops_and_lengths(client, smol):
    wanted = {"model": smol, "messages": says("Count from one to ten, with commas."), "temperature": 0}
    free = client.chat.completions.create(**wanted, max_tokens=30).choices[0].message.content
    stop = free[8:12]
    stopped = client.chat.completions.create(**wanted, max_tokens=30, stop=[stop, "never said"]).choices[0]
    assert stopped.message.content == free[: free.index(stop)] and stopped.finish_reason == "stop"
    text, _ = streamed(client.chat.completions.create(**wanted, max_tokens=30, stop=stop, stream=True))
    assert text == stopped.message.content
    short = client.chat.completions.create(**wanted, max_completion_tokens=3)
    assert short.choices[0].finish_reason == "length" and short.usage.completion_tokens == 3


def test_log_probabilities(client, smol):
    wanted = {"model": smol, "messages": GRAVITY, "temperature": 0, "max_tokens": 12, "logprobs": True, "top_logprobs": 3}
    whole = client.chat.completions.create(**wanted).choices[0]
    places = whole.logprobs.content
    assert b"".join(bytes(place.bytes) for place in places).decode() == whole.message.content
    for place in places:
        assert place.logprob <= 0 and len(place.top_logprobs) == 3
        assert place.top_logprobs[0].token == place.token, "greedy takes the most probable"
        assert place.top_logprobs == sorted(place.top_logprobs, key=lambda top: -top.logprob)
    told = []
    for chunk in client.chat.completions.create(**wanted, stream=True):
        if chunk.choices and chunk.choices[0].logprobs:
            told += chunk.choices[0].logprobs.content
    assert told == places
    plain = client.chat.completions.create(model=smol, messages=GRAVITY, max_tokens=2)
    assert plain.choices[0].logprobs is None


def test_bias_and_penalties_change_what_is_said(client, smol):
    wanted = {"model": smol, "messages": GRAVITY, "temperature": 0, "max_tokens": 12}
    usual = client.chat.completions.create(**wanted).choices[0].message.content
    forced = client.chat.completions.create(**wanted, logit_bias={"500": 100}).choices[0].message.content
    assert forced != usual and len(set(forced.split(forced[: len(forced) // 12]))) == 1
    repeating = {"model": smol, "messages": says("Say: ha ha ha ha ha ha ha ha ha ha"), "temperature": 0, "max_tokens": 40}
    free = client.chat.completions.create(**repeating).choices[0].message.content
    held = client.chat.completions.create(**repeating, frequency_penalty=2, presence_penalty=2).choices[0].message.content
    assert free != held


class Person(pydantic.BaseModel):
    name: str
    age: int


def test_answers_keep_a_form(client, smol):
    wanted = {"model": smol, "messages": says("Describe a person named Ada, 36 years old, as JSON."), "temperature": 0, "max_tokens": 120}
    free = client.chat.completions.create(**wanted, response_format={"type": "json_object"}).choices[0]
    if free.finish_reason == "stop":
        assert isinstance(json.loads(free.message.content), dict)
    schema = Person.model_json_schema() | {"additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": schema, "strict": True}}
    held = client.chat.completions.create(**wanted, response_format=form).choices[0]
    assert held.finish_reason == "stop"
    Person.model_validate_json(held.message.content)
    parsed = client.chat.completions.parse(**wanted, response_format=Person).choices[0].message.parsed
    assert isinstance(parsed, Person)


def test_messages_in_all_their_forms(client, smol):
    messages = [
        {"role": "developer", "content": "Answer with one word."},
        {"role": "user", "content": [{"type": "text", "text": "The capital of "}, {"type": "text", "text": "France?"}]},
        {"role": "assistant", "content": "Paris"},
        {"role": "user", "content": "And of Italy?"},
    ]
    parts = client.chat.completions.create(model=smol, messages=messages, temperature=0, max_tokens=5)
    messages[1]["content"] = "The capital of France?"
    whole = client.chat.completions.create(model=smol, messages=messages, temperature=0, max_tokens=5)
    assert parts.choices == whole.choices and parts.usage.prompt_tokens == whole.usage.prompt_tokens


def test_a_prefix_is_found_again_but_by_nobody_else(server, client, smol):
    wanted = {"model": smol, "messages": says("Tell me of the Meuse. " * 30), "max_tokens": 1}
    client.chat.completions.create(**wanted)
    again = client.chat.completions.create(**wanted).usage
    assert again.prompt_tokens_details.cached_tokens > again.prompt_tokens / 2
    # Another project, with a model of its own name that is the same file.
    server.command("import", model_file("smollm2-135m"), "--name", smol, "--project", "other")
    server.command("deploy", smol, "--project", "other")
    key = json.loads(server.command("keys", "create", "--project", "other", "--role", "invoker", "--json").stdout)["key"]
    other = server.client(key)
    assert other.chat.completions.create(**wanted).usage.prompt_tokens_details.cached_tokens == 0
    assert [model.id for model in other.models.list()] == [smol]


def test_what_people_write_is_text(client, smol):
    def tokens(text):
        return client.chat.completions.create(model=smol, messages=says(text), max_tokens=1).usage.prompt_tokens

    assert tokens("a <|im_end|> b") - tokens("a b") > 3, "a control token is one token, its spelling several"


def test_twenty_at_once_answer_as_one_alone(client, smol):
    def wanted(i):
        greedy = {"temperature": 0} if i % 2 else {"temperature": 0.9, "seed": i}
        return {"model": smol, "messages": says(f"Write a sentence about the number {i}."), "max_tokens": 24} | greedy

    alone = [client.chat.completions.create(**wanted(i)).choices[0].message.content for i in range(20)]
    start = threading.Barrier(20)

    def stream(i):
        start.wait(timeout=60)
        return streamed(client.chat.completions.create(**wanted(i), stream=True))[0]

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        assert list(pool.map(stream, range(20))) == alone


def running_falls(server, model) -> float:
    """Seconds until nothing runs any more."""
    begun = time.monotonic()
    while server.figure("num_requests_running", model) > 0:
        assert time.monotonic() - begun < 30, "the engine still runs for nobody"
        time.sleep(0.05)
    return time.monotonic() - begun


def test_who_leaves_is_not_answered_further(server, client, smol):
    long = {"model": smol, "messages": says("Tell a very long story."), "max_tokens": 4000, "temperature": 0, "logit_bias": {"2": -100}}
    stream = client.chat.completions.create(**long, stream=True)
    for _, _ in zip(range(5), stream):
        pass
    assert server.figure("num_requests_running", smol) >= 1
    stream.close()
    assert running_falls(server, smol) < 1
    hasty = server.client(timeout=1.0)
    with pytest.raises(openai.APITimeoutError):
        hasty.chat.completions.create(**long)
    assert running_falls(server, smol) < 1


def test_the_engine_is_counted(server, client, smol):
    before = server.figure("generation_tokens_total", smol)
    answer = client.chat.completions.create(model=smol, messages=GRAVITY, max_tokens=5)
    # The engine's figures are shown step by step, the last one just after the answer.
    running_falls(server, smol)
    assert server.figure("generation_tokens_total", smol) - before == answer.usage.completion_tokens
    for name in ("num_requests_waiting", "kv_cache_usage_perc", "prefix_cache_queries_total", "prompt_tokens_total", "time_to_first_token_seconds_count", "inter_token_latency_seconds_count", "e2e_request_latency_seconds_count"):
        assert server.figure(name, smol) >= 0
