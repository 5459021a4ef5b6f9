"""Limits as the client libraries meet them: the right error, what to wait for, and answers that end where tokens do."""

import threading
import time

import anthropic
import openai
import pytest
from google.api_core import exceptions
from google.cloud import aiplatform
from google.oauth2.credentials import Credentials

from conftest import says


def test_openai_is_told_of_requests(key):
    key.limit(requests_per_minute=2)
    ask = lambda: key.openai.chat.completions.with_raw_response.create(  # noqa: E731
        model="smol", messages=says("Hi"), max_completion_tokens=2
    )
    headers = ask().headers
    assert (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-remaining-requests"]) == ("2", "1")
    assert headers["ratelimit-policy"] == '"requests";q=2;w=60'
    assert headers["ratelimit"].startswith('"requests";r=1;t=')
    ask()
    with pytest.raises(openai.RateLimitError, match="may make 2 requests a minute") as refused:
        ask()
    assert refused.value.code == "rate_limit_exceeded"
    assert 1 <= int(refused.value.response.headers["retry-after"]) <= 30
    assert key.used()["requests"] == 2


def test_anthropic_is_told_of_requests_and_tokens(key):
    key.limit(requests_per_minute=1, tokens_per_minute=1000)
    ask = lambda: key.anthropic.messages.with_raw_response.create(  # noqa: E731
        model="smol", messages=says("Hi"), max_tokens=2
    )
    headers = ask().headers
    assert headers["anthropic-ratelimit-requests-remaining"] == "0"
    assert 900 < int(headers["anthropic-ratelimit-tokens-remaining"]) < 1000
    assert headers["anthropic-ratelimit-tokens-reset"].endswith("Z")
    with pytest.raises(anthropic.RateLimitError, match="may make 1 requests a minute") as refused:
        ask()
    assert refused.value.body["error"]["type"] == "rate_limit_error"
    assert int(refused.value.response.headers["retry-after"]) > 10


def test_vertex_is_told_in_its_own_words(key, server):
    key.limit(requests_per_minute=2)
    aiplatform.init(
        project="default", location="us-central1", credentials=Credentials(token=key.text),
        api_endpoint=server.url, api_transport="rest",
    )
    endpoint = aiplatform.Endpoint("projects/default/locations/us-central1/endpoints/topics")
    assert endpoint.predict(["a bee"]).predictions
    assert endpoint.predict(["a bee"]).predictions
    with pytest.raises(exceptions.TooManyRequests, match="may make 2 requests a minute"):
        endpoint.predict(["a bee"])
    refused = key.predict()
    assert refused.status_code == 429
    assert refused.json()["error"]["status"] == "RESOURCE_EXHAUSTED"
    assert int(refused.headers["retry-after"]) >= 1
    assert key.used()["rows"] == 2


def test_other_protocols_are_refused_too(key, server):
    key.limit(requests_per_minute=1)
    assert key.predict().status_code == 200
    for path, body in [
        ("/v2/models/topics/infer", {"inputs": []}),
        ("/v1/models/topics:predict", {"instances": [{"text": "a"}]}),
        ("/mlflow/topics/invocations", {"instances": [{"text": "a"}]}),
        ("/api/chat", {"model": "smol", "messages": says("Hi")}),
        ("/v1/responses", {"model": "smol", "input": "Hi"}),
        ("/v1/messages/count_tokens", {"model": "smol", "messages": says("Hi")}),
    ]:
        refused = server.ask("POST", path, key=key.text, json=body)
        assert refused.status_code == 429, (path, refused.text)
        assert "requests a minute" in refused.text and "retry-after" in refused.headers, path


def test_more_tokens_than_are_left_are_refused_before_anything_is_done(key):
    key.limit(tokens_per_minute=200)
    ask = lambda tokens: key.openai.chat.completions.create(  # noqa: E731
        model="smol", messages=says("Count to one hundred."), max_completion_tokens=tokens, temperature=0
    )
    with pytest.raises(openai.RateLimitError, match="asks for up to .* ask for fewer"):
        ask(400)
    told = ask(20).usage
    with pytest.raises(openai.RateLimitError, match="are left") as refused:
        ask(160)
    assert int(refused.value.response.headers["retry-after"]) >= 1
    assert int(refused.value.response.headers["x-ratelimit-remaining-tokens"]) < 200
    used = key.used()
    assert (used["promptTokens"], used["outputTokens"]) == (told.prompt_tokens, told.completion_tokens)
    # What was reserved and not used is there again.
    ask(100)


def test_a_stream_ends_where_the_tokens_do(key):
    # No number of tokens is asked for: the first piece is to be had, the next is not.
    key.limit(tokens_per_minute=350)
    stream = key.openai.chat.completions.create(
        model="smol", messages=says("Tell a very long story of a river."), temperature=0,
        stream=True, stream_options={"include_usage": True},
    )
    chunks = list(stream)
    told = chunks[-1].usage
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices][-1] == "length"
    assert told.completion_tokens == 256 and told.total_tokens <= 350
    used = key.used()
    assert (used["promptTokens"], used["outputTokens"]) == (told.prompt_tokens, told.completion_tokens)


def test_anthropic_is_refused_more_tokens_than_there_are(key):
    key.limit(tokens_per_minute=100)
    with pytest.raises(anthropic.RateLimitError, match="100 tokens a minute"):
        key.anthropic.messages.create(model="smol", messages=says("Hi"), max_tokens=200)


def test_no_more_at_once_than_may_be(key):
    key.limit(concurrent_requests=1)
    story = says("Tell a very long story of a river.")
    stream = key.openai.chat.completions.create(model="smol", messages=story, max_tokens=400, stream=True, temperature=0)
    next(iter(stream))
    assert key.predict().status_code == 429
    stream.close()
    deadline = time.monotonic() + 10
    while key.predict().status_code == 429:
        assert time.monotonic() < deadline, "the place was not given back"
        time.sleep(0.05)


def test_who_leaves_pays_for_what_was_told_alone(key):
    key.limit(tokens_per_minute=1000)
    stream = key.openai.chat.completions.create(
        model="smol", messages=says("Tell a very long story of a river."), max_tokens=800, stream=True, temperature=0
    )
    for _, _ in zip(range(5), stream):
        pass
    stream.close()
    deadline = time.monotonic() + 10
    while not key.used():
        assert time.monotonic() < deadline, "what was told was not counted"
        time.sleep(0.05)
    assert 0 < key.used()["outputTokens"] < 400
    # The rest of the 800 is there again.
    answer = key.openai.chat.completions.create(model="smol", messages=says("Hi"), max_tokens=500, stop=["."])
    assert answer.choices


def test_a_budget_is_spent_and_not_exceeded(server, key):
    server.command("quota", "price", "smol", "--prompt", "1", "--output", "4")
    server.command("quota", "price", "topics", "--predictions", "2")
    try:
        key.limit(monthly_budget="0.008")
        assert [key.predict().status_code for _ in range(2)] == [200, 200]
        # What is left pays for 0.004, which is one thousandth of a million tokens of an answer.
        refused = pytest.raises(openai.RateLimitError, match="budget of 0.008 for this month")
        ask = lambda n: key.openai.completions.create(model="smol", prompt="One", max_tokens=n, temperature=0)  # noqa: E731
        with refused as told:
            ask(1001)
        assert told.value.code == "insufficient_quota"
        usage = ask(50).usage
        cost = 0.004 + (usage.prompt_tokens + 4 * usage.completion_tokens) / 1e6
        assert float(key.used()["cost"]) == pytest.approx(cost, abs=1e-9)
        answers = []
        together = [threading.Thread(target=lambda: answers.append(key.predict().status_code)) for _ in range(16)]
        [thread.start() for thread in together]
        [thread.join() for thread in together]
        assert answers.count(200) == 1, answers
        assert float(key.used()["cost"]) <= 0.008
        assert server.json("quota", "get", f"keys/{key.id}")["spentThisMonth"] == key.used()["cost"]
    finally:
        server.command("quota", "price", "smol", "--remove")
        server.command("quota", "price", "topics", "--remove")


def test_a_project_is_bound_whichever_key_asks(server):
    project = "bound"
    first, second = server.new(project=project), server.new(project=project)
    server.command("quota", "set", f"projects/{project}", "--requests-per-minute", 2)
    ask = lambda key: server.ask("POST", "/v1/chat/completions", key=key.text, json={"model": "none", "messages": says("Hi")})  # noqa: E731
    assert [ask(key).status_code for key in (first, second, first)] == [404, 404, 429]
    assert "project bound" in ask(second).text
