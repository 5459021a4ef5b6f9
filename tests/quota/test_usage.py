"""The ledger: what clients were told, once each, through kills; and who may see and set what."""

import csv
import io
import random
import threading
import time

import pytest
import requests

from conftest import Key, Server, says
from served import model_file

KILLS = 4
WORKERS = 8


def test_what_clients_are_told_is_what_is_counted(server, key):
    prompt = tokens = cached = requests_made = 0
    for stream in (False, True):
        answer = key.openai.chat.completions.create(
            model="smol", messages=says("Say hello."), max_tokens=8, n=2, stream=stream,
            **({"stream_options": {"include_usage": True}} if stream else {}),
        )
        usage = list(answer)[-1].usage if stream else answer.usage
        prompt, tokens = prompt + usage.prompt_tokens, tokens + usage.completion_tokens
        cached, requests_made = cached + usage.prompt_tokens_details.cached_tokens, requests_made + 1
    message = key.anthropic.messages.create(model="smol", messages=says("Say hello."), max_tokens=8)
    usage = message.usage
    prompt += usage.input_tokens + usage.cache_read_input_tokens
    cached, tokens, requests_made = cached + usage.cache_read_input_tokens, tokens + usage.output_tokens, requests_made + 1
    path = "/v1/projects/default/locations/us-central1/endpoints/smol:generateContent"
    body = {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}], "generationConfig": {"maxOutputTokens": 4}}
    usage = server.ask("POST", path, key=key.text, json=body).json()["usageMetadata"]
    prompt, tokens = prompt + usage["promptTokenCount"], tokens + usage["candidatesTokenCount"]
    cached, requests_made = cached + usage["cachedContentTokenCount"], requests_made + 1
    chat = server.ask("POST", "/api/chat", key=key.text, json={"model": "smol", "messages": says("Hi"), "stream": False, "options": {"num_predict": 4}}).json()
    prompt, tokens, requests_made = prompt + chat["prompt_eval_count"], tokens + chat["eval_count"], requests_made + 1
    assert key.predict().status_code == 200
    # Refused before anything was done: not counted.
    assert server.ask("POST", "/v1/chat/completions", key=key.text, json={"model": "smol"}).status_code == 400
    used = key.used()
    assert (used["requests"], used["rows"]) == (requests_made + 1, 1)
    assert (used["promptTokens"], used["outputTokens"]) == (prompt, tokens)
    assert used["cachedTokens"] >= cached
    explained = server.ask(
        "POST", "/v1/projects/default/locations/us-central1/endpoints/topics:explain", key=key.text, json={"instances": ["a bee"]}
    )
    assert explained.status_code == 200 and key.used()["rows"] == 2


def test_usage_is_shown_by_what_it_is_told_apart(server, key):
    key.predict()
    days = server.json("usage", "--by", "day,key,model")["usage"]
    own = next(row for row in days if row["key"] == key.id)
    assert (own["model"], own["rows"], own["requests"], own["day"]) == ("topics", 1, 1, time.strftime("%Y-%m-%d", time.gmtime()))
    rows = list(csv.DictReader(io.StringIO(server.command("usage", "--csv", "--by", "key").stdout)))
    assert next(row for row in rows if row["key"] == key.id)["rows"] == "1"
    text = server.command("usage", "--by", "model").stdout
    assert text.splitlines()[0].split()[:2] == ["MODEL", "REQUESTS"] and "topics" in text
    assert server.json("usage", "--from", "2020-01-01", "--to", "2020-12-31")["usage"] == []
    server.command("usage", "--from", "yesterday", code=1)


def test_a_project_sees_its_own_and_does_not_raise_its_own(server):
    other = server.new(project="other", role="admin")
    ask = lambda method, path, **options: server.ask(method, f"/admin/v1/{path}", key=other.text, **options)  # noqa: E731
    assert ask("GET", "usage?by=project").json()["usage"] == []
    assert ask("GET", "usage?project=default").status_code == 403
    assert ask("GET", "quotas/projects/default").status_code == 403
    assert ask("PUT", "quotas/projects/other", json={"requestsPerMinute": 9}).status_code == 403
    assert ask("PUT", f"quotas/keys/{server.new().id}", json={"requestsPerMinute": 9}).status_code == 404
    assert ask("PUT", f"quotas/keys/{other.id}", json={"requestsPerMinute": 9}).json()["requestsPerMinute"] == 9
    assert [quota["name"] for quota in ask("GET", "quotas").json()["quotas"]] == [f"keys/{other.id}"]
    assert ask("PUT", "prices/smol", json={"promptMillion": "1"}).status_code == 403
    invoker = server.new()
    for path in ("usage", "quotas", "prices"):
        assert server.ask("GET", f"/admin/v1/{path}", key=invoker.text).status_code == 403


@pytest.mark.parametrize("body, named", [
    ({"requestsPerMinute": 0}, "0 would stop everything"),
    ({"requestsPerMinute": -1}, "requestsPerMinute"),
    ({"tokensPerMinute": "many"}, "tokensPerMinute"),
    ({"monthlyBudget": "1e9"}, "monthlyBudget"),
    ({"tokensPerDay": 1}, "tokensPerDay"),
])
def test_wrong_limits_are_refused_by_name(server, body, named):
    refused = server.ask("PUT", "/admin/v1/quotas/projects/default", json=body)
    assert refused.status_code == 400 and named in refused.text, refused.text
    assert server.json("quota", "get", "projects/default")["requestsPerMinute"] is None


def test_quotas_are_set_listed_and_taken_away(server, key):
    assert key.limit(requests_per_minute=7, monthly_budget="2.50")["monthlyBudget"] == "2.5"
    # What is not named stays.
    assert key.limit(tokens_per_minute=9)["requestsPerMinute"] == 7
    names = [quota["name"] for quota in server.json("quota", "list")["quotas"]]
    assert f"keys/{key.id}" in names
    key.limit(requests_per_minute="none", tokens_per_minute="none", monthly_budget="none")
    assert f"keys/{key.id}" not in [quota["name"] for quota in server.json("quota", "list")["quotas"]]
    server.command("quota", "set", "keys/0123456789abcdef", "--requests-per-minute", 1, code=1)
    server.command("quota", "set", "nothing", "--requests-per-minute", 1, code=2)


def test_nothing_that_was_told_is_lost_or_counted_twice_through_kills(tmp_path):
    """Many at once against a budget, and kill -9 at random points."""
    seed = random.randrange(1 << 32)
    chance = random.Random(seed)
    server = Server(tmp_path / "data")
    server.serves(model_file("smollm2-135m"), "smol")
    server.command("quota", "price", "smol", "--output", "1000")
    keys = [Key(server) for _ in range(2)]
    budget = 2.0
    server.command("quota", "set", "projects/default", "--monthly-budget", budget)
    told = {"requests": 0, "tokens": 0, "prompt": 0}
    lock, stopping = threading.Lock(), threading.Event()

    def work(key: Key):
        while not stopping.is_set():
            body = {"model": "smol", "prompt": "One two three", "max_tokens": chance.randrange(1, 12)}
            try:
                reply = requests.post(
                    f"{server.url}/v1/completions", json=body, headers={"authorization": f"Bearer {key.text}"}, timeout=60
                )
            except requests.RequestException:
                time.sleep(0.05)
                continue
            if reply.status_code != 200:
                assert reply.status_code in (400, 404, 429, 503), reply.text
                time.sleep(0.02)
                continue
            usage = reply.json()["usage"]
            with lock:
                told["requests"] += 1
                told["tokens"] += usage["completion_tokens"]
                told["prompt"] += usage["prompt_tokens"]

    workers = [threading.Thread(target=work, args=(key,)) for key in keys for _ in range(WORKERS // 2)]
    [worker.start() for worker in workers]
    def answered(least: int):
        deadline = time.monotonic() + 60
        while told["requests"] < least:
            assert time.monotonic() < deadline, (seed, told)
            time.sleep(0.01)

    for nth in range(KILLS):
        answered(8 * (nth + 1))
        time.sleep(chance.uniform(0, 0.3))
        server.kill()
        server.start()
    answered(8 * (KILLS + 1))
    stopping.set()
    [worker.join() for worker in workers]
    total = server.json("usage")["total"]
    in_flight = KILLS * WORKERS
    assert told["requests"] <= total["requests"] <= told["requests"] + in_flight, (seed, told, total)
    assert told["tokens"] <= total["outputTokens"] <= told["tokens"] + in_flight * 12, (seed, told, total)
    assert told["prompt"] <= total["promptTokens"], (seed, told, total)
    assert float(total["cost"]) <= budget, (seed, total)
    assert float(total["cost"]) == pytest.approx(total["outputTokens"] / 1000, abs=1e-9)
    assert server.stop() == 0
