"""`meuse bench` against a small server that speaks OpenAI's protocol: what it sends, counts, says and draws."""

import http.server
import itertools
import json
import signal
import subprocess
import threading
import time
import xml.etree.ElementTree as ElementTree

import pytest
from conftest import BIN

KEY = "secret"
# Tokens that the form of a chat takes: every word is one more.
FORM = 20
SPREAD = {"mean", "p50", "p90", "p99"}


class Fake(http.server.ThreadingHTTPServer):
    """A server that says what it was asked. What a model does lies in its name."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, *models: str, key: str | None = None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.models, self.key = models, key
        self.asked, self.headers, self.open, self.most_open = [], [], 0, 0
        self.lock = threading.Lock()
        self.counter = itertools.count()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def prompts(self) -> list[str]:
        """The prompts that were measured, without the two that were counted beforehand."""
        return [body["messages"][0]["content"] for body in self.asked[2:]]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"

    def log_message(self, *_):
        pass

    def reply(self, status: int, value):
        text = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def refused(self) -> bool:
        if self.server.key in (None, self.headers["authorization"].removeprefix("Bearer ") if self.headers["authorization"] else ""):
            return False
        self.reply(401, {"error": {"message": "no such key"}})
        return True

    def do_GET(self):
        if self.path != "/v1/models":
            return self.reply(404, {"error": {"message": "no such route"}})
        if not self.refused():
            self.reply(200, {"object": "list", "data": [{"id": name} for name in self.server.models]})

    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.refused():
            return
        with server.lock:
            server.asked.append(body)
            server.headers.append(dict(self.headers))
            server.open += 1
            server.most_open = max(server.most_open, server.open)
        try:
            self.answer(body, next(server.counter))
        finally:
            with server.lock:
                server.open -= 1

    def answer(self, body, number: int):
        model = body["model"]
        if model not in self.server.models:
            return self.reply(404, {"error": {"message": f"the model `{model}` does not exist"}})
        measured = number >= 2
        # The third of each three goes wrong.
        wrong = measured and number % 3 == 1
        if model == "busy" and wrong:
            return self.reply(429, {"error": {"message": "come back later"}})
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        self.event({"choices": [{"delta": {"role": "assistant", "content": ""}}]})
        for token in range(body["max_tokens"]):
            if model == "slow" and measured:
                time.sleep(0.2)
            kind = "reasoning_content" if model == "thinker" and token == 0 else "content"
            self.event({"choices": [{"delta": {kind: " word"}}]})
            if model == "fragile" and wrong:
                return
            if model == "failing" and wrong:
                return self.event({"error": {"message": "out of memory"}})
        self.event({"choices": [{"delta": {}, "finish_reason": "length"}]})
        if model != "silent" and body["stream_options"]["include_usage"]:
            words = len(body["messages"][0]["content"].split())
            usage = {"prompt_tokens": FORM + words, "completion_tokens": body["max_tokens"]}
            if model == "caching":
                usage["prompt_tokens_details"] = {"cached_tokens": (FORM + words) // 2}
            self.event({"choices": [], "usage": usage})
        self.wfile.write(b"data: [DONE]\n\n")

    def event(self, value):
        self.wfile.write(b"data: " + json.dumps(value).encode() + b"\n\n")
        self.wfile.flush()


@pytest.fixture
def fake():
    servers = []

    def start(*models: str, **options) -> Fake:
        servers.append(Fake(*models, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()


def measure(cli, server: Fake, *options) -> dict:
    return cli.json("bench", "--url", server.url, *options)


def test_a_sweep_asks_as_much_at_once_as_it_says(nowhere, fake):
    server = fake("slow")
    options = ["--concurrency", "1,3", "--requests", 6, "--prompt-tokens", 100, "--output-tokens", 2]
    found = measure(nowhere, server, *options, "--seed", 7, "--ttft-max", "10s", "--itl-max", "1ms")
    assert found["model"] == "slow" and found["url"] == server.url and found["seed"] == 7 and found["stopped"] is False
    assert [level["concurrency"] for level in found["levels"]] == [1, 3] and server.most_open == 3
    for level in found["levels"]:
        assert (level["answered"], level["failed"], level["errors"], level["unfinished"]) == (6, 0, [], 0)
        assert level["promptTokens"] == dict.fromkeys(SPREAD, 100) and level["outputTokens"] == dict.fromkeys(SPREAD, 2)
        for name in ("firstTokenMs", "betweenTokensMs", "longestPauseMs", "wholeMs"):
            assert set(level[name]) == SPREAD and level[name]["p50"] <= level[name]["p99"]
        assert level["betweenTokensMs"]["p50"] > 100 and level["wholeMs"]["p50"] > level["firstTokenMs"]["p50"]
        tokens = level["outputTokensPerSecond"] * level["seconds"]
        assert abs(tokens - 12) < 0.01 and level["goodRequestsPerSecond"] == 0
    assert len(server.prompts) == len(set(server.prompts)) == 12
    body = server.asked[-1]
    assert body["max_tokens"] == 2 and body["stream"] and body["stream_options"] == {"include_usage": True}
    measure(nowhere, server, *options, "--seed", 7)
    assert sorted(server.prompts[14:]) == sorted(server.prompts[:12])


def test_a_person_gets_tables_and_a_picture(nowhere, fake):
    server = fake("quick")
    (nowhere.home / "meuse-data").mkdir()
    (nowhere.home / "meuse-data" / "admin.key").write_text("of a server on this machine")
    done = nowhere.run("bench", "--url", f"{server.url}/v1/", "--concurrency", "1,2,4", "--plot", "out.svg", "--itl-max", "5s")
    assert "CONCURRENCY" in done.stdout and "FIRST TOKEN" in done.stdout and "GOOD ANSWERS/S" in done.stdout
    rows = [line.split()[:2] for line in done.stdout.splitlines()[1:4]]
    assert rows == [["1", "8"], ["2", "8"], ["4", "16"]]
    assert "concurrency 4: 16 requests" in done.stderr and "out.svg" in done.stderr
    root = ElementTree.parse(nowhere.home / "out.svg").getroot()
    assert root.tag.endswith("svg")
    # Tokens, two latencies twice, all answers and good ones: a dot at each of three levels.
    assert sum(element.tag.endswith("circle") for element in root) == 7 * 3
    # The key of this machine's server is nobody else's business, nor are projects.
    assert all(not {"authorization", "openai-project"} & {name.lower() for name in headers} for headers in server.headers)


def test_arrivals_at_a_rate_do_not_wait_for_answers(nowhere, fake):
    server = fake("slow")
    found = measure(nowhere, server, "--rate", "40", "--requests", 20, "--output-tokens", "3-5")
    [level] = found["levels"]
    assert level["rate"] == 40 and level["answered"] == 20 and server.most_open > 5
    assert {body["max_tokens"] for body in server.asked[2:]} == {3, 4, 5}
    # Time bounds it as well: about five arrive in half a second.
    found = measure(nowhere, server, "--rate", "10", "--duration", "1s", "--output-tokens", 1, "--seed", 1)
    assert 1 <= found["levels"][0]["answered"] < 40


def test_time_bounds_a_sweep(nowhere, fake):
    server = fake("slow")
    found = measure(nowhere, server, "--concurrency", "2", "--duration", "1s", "--output-tokens", 1)
    # Two at a time, a fifth of a second each.
    assert 2 <= found["levels"][0]["answered"] <= 12


def test_lengths_and_prefixes_are_what_was_asked_for(nowhere, fake):
    server = fake("caching")
    options = ["--prompt-tokens", "80-120", "--shared-prefix-tokens", 40, "--concurrency", "4", "--requests", 30]
    [level] = measure(nowhere, server, *options)["levels"]
    counts = [FORM + len(prompt.split()) for prompt in server.prompts]
    assert all(80 <= count <= 120 for count in counts) and len(set(counts)) > 10
    words = [prompt.split() for prompt in server.prompts]
    assert all(prompt[:40] == words[0][:40] for prompt in words) and len({tuple(prompt[40:45]) for prompt in words}) == 30
    assert abs(level["cachedShare"] - 0.5) < 0.01
    more = measure(nowhere, server, "--extra-body", '{"ignore_eos": true, "temperature": 0}', "--concurrency", 1, "--requests", 1)
    assert more["levels"][0]["answered"] == 1 and server.asked[-1]["ignore_eos"] is True and server.asked[-1]["temperature"] == 0


@pytest.mark.parametrize(
    ("model", "kind", "message"),
    [("busy", "status 429", "come back later"), ("fragile", "cut off", "cut"), ("failing", "failed", "out of memory")],
)
def test_errors_are_counted_by_kind(nowhere, fake, model, kind, message):
    server = fake(model)
    [level] = measure(nowhere, server, "--concurrency", "2", "--requests", 9, "--output-tokens", 3)["levels"]
    assert (level["answered"], level["failed"]) == (6, 3)
    [error] = level["errors"]
    assert (error["kind"], error["count"]) == (kind, 3) and message in error["message"]
    table = nowhere.run("bench", "--url", server.url, "--concurrency", "1", "--requests", 9, "--output-tokens", 3).stdout
    assert kind in table and message in table


def test_answers_that_take_too_long_are_given_up(nowhere, fake):
    server = fake("slow")
    options = ["--url", server.url, "--concurrency", "2", "--requests", 3, "--output-tokens", 100, "--timeout", "1s"]
    done = nowhere.run("bench", *options, code=1)
    assert "timed out" in done.stdout and "no request was answered" in done.stderr


def test_thoughts_are_tokens(nowhere, fake):
    [level] = measure(nowhere, fake("thinker"), "--concurrency", "1", "--requests", 2, "--output-tokens", 1)["levels"]
    assert level["answered"] == 2 and level["betweenTokensMs"] is None


def test_what_cannot_be_measured_is_said(nowhere, fake):
    assert "no server answers at http://127.0.0.1:9" in nowhere.error("bench")
    one = fake("a", key=KEY)
    text = nowhere.error("bench", "--url", one.url)
    assert "no such key" in text and "--key" in text
    assert measure(nowhere, one, "--key", KEY, "--concurrency", "1", "--requests", 1)["levels"][0]["answered"] == 1
    text = nowhere.error("bench", "--url", one.url, "--key", KEY, "--model", "b")
    assert "`b` does not exist" in text and "answer there: a" in text
    text = nowhere.error("bench", "--url", fake("a", "b").url, code=2)
    assert "2 language models" in text and "a, b" in text
    assert "no language model" in nowhere.error("bench", "--url", fake().url)
    assert "does not list its models" in nowhere.error("bench", "--url", f"{one.url}/elsewhere", "--key", KEY)
    assert "does not say how many tokens" in nowhere.error("bench", "--url", fake("silent").url)
    text = nowhere.error("bench", "--url", fake("a").url, "--prompt-tokens", 20, code=2)
    assert "cannot have 20 tokens" in text and "--prompt-tokens" in text
    text = nowhere.error("bench", "--url", fake("a").url, "--prompt-tokens", 60, "--shared-prefix-tokens", 50, code=2)
    assert "cannot share 50" in text


@pytest.mark.parametrize(
    "wrong",
    [
        ["--concurrency", "0"],
        ["--concurrency", "1,x"],
        ["--rate", "0"],
        ["--rate", "1", "--concurrency", "1"],
        ["--requests", "0"],
        ["--prompt-tokens", "9-3"],
        ["--ttft-max", "5"],
        ["--duration", "soon"],
        ["--extra-body", "[]"],
        ["machine", "--rate", "1"],
    ],
)
def test_what_makes_no_sense_is_refused(nowhere, wrong):
    assert nowhere.run("bench", *wrong, code=2).stderr


def test_interrupted_it_shows_what_it_has(nowhere, fake):
    server = fake("slow")
    command = [BIN, "bench", "--url", server.url, "--concurrency", "2", "--requests", "1000", "--output-tokens", "1", "--json"]
    running = subprocess.Popen(command, cwd=nowhere.home, env=nowhere.env, stdout=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while len(server.asked) < 12 and time.monotonic() < deadline:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    text, _ = running.communicate(timeout=30)
    found = json.loads(text)
    assert running.returncode == 0 and found["stopped"] is True
    assert 4 <= found["levels"][0]["answered"] < 1000 and found["levels"][0]["unfinished"] == 2
