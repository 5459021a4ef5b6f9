"""A server with a real language model, killed and started again at will, and the unmodified `openai` library."""

import json
import os
import pathlib
import queue
import re
import subprocess
import sys
import threading
import time

import openai
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("MEUSE_BIN", ROOT / "target" / "release" / "meuse"))
START_SECONDS = 60
FETCH_SECONDS = 1500
COMMAND_SECONDS = 300
BATCH_SECONDS = 240
ENDED = {"completed", "failed", "cancelled", "expired"}
MODEL = "smol"
COMPLETIONS = "/v1/completions"


def model_file() -> pathlib.Path:
    fetch = [sys.executable, ROOT / "tests" / "models" / "fetch.py", "smollm2-135m"]
    fetched = subprocess.run(fetch, check=True, timeout=FETCH_SECONDS, stdout=subprocess.PIPE, text=True)
    return pathlib.Path(fetched.stdout.splitlines()[-1])


class Server:
    """`meuse serve` on one data directory."""

    def __init__(self, data: pathlib.Path):
        self.data = data
        self.log = open(data.parent / f"{data.name}.log", "w+")
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [BINARY, "serve", "--data", self.data, "--listen", "127.0.0.1:0"],
            stdout=subprocess.PIPE, stderr=self.log, text=True, env=environment(),
        )
        lines: queue.Queue[str] = queue.Queue()
        read = lambda out: [lines.put(line) for line in out]
        threading.Thread(target=read, args=(self.process.stdout,), daemon=True).start()
        found = re.search(r"listening on (http://\S+)", lines.get(timeout=START_SECONDS))
        assert found, self.stderr()
        self.url = found[1]
        self.key = (self.data / "admin.key").read_text().strip()

    def kill(self):
        self.process.kill()
        self.process.wait(timeout=60)

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=60)

    def stderr(self) -> str:
        self.log.flush()
        self.log.seek(0)
        return self.log.read()

    def command(self, *args) -> str:
        env = environment() | {"MEUSE_URL": self.url, "MEUSE_API_KEY": self.key}
        done = subprocess.run([BINARY, *map(str, args)], env=env, capture_output=True, text=True, timeout=COMMAND_SECONDS)
        assert done.returncode == 0, f"{args}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def new_key(self, project: str, role: str) -> str:
        made = self.command("keys", "create", "--project", project, "--role", role)
        return re.search(r"mk_\S+", made)[0]

    def client(self, key: str | None = None, **options) -> openai.OpenAI:
        options = {"max_retries": 0, "timeout": 60} | options
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key or self.key, **options)


def environment() -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("MEUSE_")}
    return env | {"NO_COLOR": "1"} | {name: os.environ[name] for name in ("MEUSE_ISA",) if name in os.environ}


def line(custom_id: str, url: str = COMPLETIONS, method: str = "POST", **body) -> dict:
    return {"custom_id": custom_id, "method": method, "url": url, "body": {"model": MODEL} | body}


def text(lines: list[dict]) -> bytes:
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def upload(client: openai.OpenAI, content: bytes, name: str = "requests.jsonl"):
    return client.files.create(file=(name, content), purpose="batch")


def begin(client: openai.OpenAI, content: bytes, endpoint: str = COMPLETIONS, window: str = "24h", **options):
    file = upload(client, content)
    return client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window=window, **options)


def until(client: openai.OpenAI, batch, wanted=lambda batch: batch.status in ENDED):
    """The batch once it is as wanted."""
    deadline = time.monotonic() + BATCH_SECONDS
    while time.monotonic() < deadline:
        batch = client.batches.retrieve(batch.id)
        if wanted(batch):
            return batch
        time.sleep(0.1)
    raise AssertionError(f"never as wanted: {batch}")


def outcomes(client: openai.OpenAI, batch) -> tuple[dict[str, dict], dict[str, dict]]:
    """Answers and errors by custom id; each id stands once in one of them."""
    files = []
    for file in (batch.output_file_id, batch.error_file_id):
        lines = [json.loads(line) for line in client.files.content(file).text.splitlines()] if file else []
        by_id = {line["custom_id"]: line for line in lines}
        assert len(by_id) == len(lines), "an id stands twice in one file"
        files.append(by_id)
    answers, errors = files
    assert not answers.keys() & errors.keys(), "an id stands in both files"
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (len(answers) + len(errors), len(answers), len(errors))
    return answers, errors


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("batches") / "data")
    server.command("import", model_file(), "--name", MODEL)
    server.command("deploy", MODEL)
    yield server
    assert server.stop() == 0, server.stderr()


@pytest.fixture(scope="session")
def client(server) -> openai.OpenAI:
    return server.client()
