"""One running server with real language models, asked in several dialects by the unmodified libraries."""

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
import requests

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("MEUSE_BIN", ROOT / "target" / "release" / "meuse"))
START_SECONDS = 60
FETCH_SECONDS = 1500
COMMAND_SECONDS = 300
ANSWER_SECONDS = 120


def model_file(name: str) -> pathlib.Path:
    """The path of a model file, fetched if need be."""
    fetch = [sys.executable, ROOT / "tests" / "models" / "fetch.py", name]
    fetched = subprocess.run(fetch, check=True, timeout=FETCH_SECONDS, stdout=subprocess.PIPE, text=True)
    return pathlib.Path(fetched.stdout.splitlines()[-1])


class Server:
    """A `meuse serve` of our own, with its key."""

    def __init__(self, data: pathlib.Path):
        self.log = open(data.parent / f"{data.name}.log", "w+")
        self.process = subprocess.Popen(
            [BINARY, "serve", "--data", data, "--listen", "127.0.0.1:0"],
            stdout=subprocess.PIPE, stderr=self.log, text=True, env=environment(),
        )
        self.url = self._address()
        self.key = (data / "admin.key").read_text().strip()

    def _address(self) -> str:
        lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=lambda: [lines.put(line) for line in self.process.stdout], daemon=True).start()
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                found = re.search(r"listening on (http://\S+)", lines.get(timeout=0.5))
            except queue.Empty:
                assert self.process.poll() is None, f"the server ended: {self.stderr()}"
                continue
            if found:
                return found[1]
        raise AssertionError(f"the server does not say where it listens: {self.stderr()}")

    def stderr(self) -> str:
        self.log.flush()
        self.log.seek(0)
        return self.log.read()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=60)

    def command(self, *args) -> str:
        """What `meuse` prints with these arguments, asked of this server."""
        env = environment() | {"MEUSE_URL": self.url, "MEUSE_API_KEY": self.key}
        done = subprocess.run(
            [BINARY, *map(str, args)], env=env, capture_output=True, text=True, timeout=COMMAND_SECONDS
        )
        assert done.returncode == 0, f"{args}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def new_key(self, role: str, project: str = "default") -> str:
        return json.loads(self.command("keys", "create", "--project", project, "--role", role, "--json"))["key"]

    def post(self, path: str, body: bytes | str | dict, key: str | None = None, **options) -> requests.Response:
        data = json.dumps(body) if isinstance(body, dict) else body
        headers = {"authorization": f"Bearer {key or self.key}", "content-type": "application/json"}
        return requests.post(f"{self.url}/{path}", data=data, headers=headers, timeout=ANSWER_SECONDS, **options)

    def running(self, model: str) -> float:
        """How many requests the model's engine works on."""
        headers = {"authorization": f"Bearer {self.key}"}
        text = requests.get(f"{self.url}/metrics", headers=headers, timeout=10).text
        found = re.search(rf'^vllm:num_requests_running{{model_name="{model}",[^}}]*}} (\S+)$', text, re.MULTILINE)
        assert found, f"no figure of {model} in\n{text}"
        return float(found[1])

    def is_soon_idle(self, model: str) -> bool:
        """Whether nothing runs any more within a second."""
        deadline = time.monotonic() + 1
        while self.running(model) > 0:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def serves(self, file: pathlib.Path, name: str) -> str:
        """Imports and deploys a file, as a person does."""
        self.command("import", file, "--name", name)
        self.command("deploy", name)
        return name


def environment() -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("MEUSE_")}
    return env | {"NO_COLOR": "1"} | {name: os.environ[name] for name in ("MEUSE_ISA",) if name in os.environ}


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server") / "data")
    yield server
    assert server.stop() == 0, server.stderr()


@pytest.fixture(scope="session")
def chat(server) -> openai.OpenAI:
    """The dialect that the others are compared with."""
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0, timeout=ANSWER_SECONDS)


@pytest.fixture(scope="session")
def smol(server) -> str:
    """A model of the llama family, whose template knows no tools."""
    return server.serves(model_file("smollm2-135m"), "smol")


@pytest.fixture(scope="session")
def qwen(server) -> str:
    """A model of the qwen2 family, whose template knows tools."""
    return server.serves(model_file("qwen2.5-coder-0.5b"), "qwen")
