"""One running server with encoders, and the unmodified `openai` library pointed at it."""

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

import tiny

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BINARY = pathlib.Path(os.environ.get("MEUSE_BIN", ROOT / "target" / "release" / "meuse"))
START_SECONDS = 60
FETCH_SECONDS = 600
COMMAND_SECONDS = 120
ANSWER_SECONDS = 60


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

    def command(self, *args, code: int = 0) -> subprocess.CompletedProcess:
        """What `meuse` does with these arguments, asked of this server."""
        env = environment() | {"MEUSE_URL": self.url, "MEUSE_API_KEY": self.key}
        done = subprocess.run(
            [BINARY, *map(str, args)], env=env, capture_output=True, text=True, timeout=COMMAND_SECONDS
        )
        assert done.returncode == code, f"{args}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.key, max_retries=0, timeout=ANSWER_SECONDS)

    def post(self, path: str, body: dict) -> requests.Response:
        headers = {"authorization": f"Bearer {self.key}"}
        return requests.post(f"{self.url}/v1/{path}", json=body, headers=headers, timeout=ANSWER_SECONDS)

    def metrics(self) -> str:
        headers = {"authorization": f"Bearer {self.key}"}
        return requests.get(f"{self.url}/metrics", headers=headers, timeout=ANSWER_SECONDS).text

    def serves(self, path: pathlib.Path, name: str) -> str:
        """Imports and deploys a model, as a person does."""
        self.command("import", path, "--name", name)
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
def client(server) -> openai.OpenAI:
    return server.client()


@pytest.fixture(scope="session")
def minilm(server) -> str:
    """all-MiniLM-L6-v2, as it is published."""
    fetch = [sys.executable, ROOT / "tests" / "models" / "fetch.py", "minilm"]
    fetched = subprocess.run(fetch, check=True, timeout=FETCH_SECONDS, stdout=subprocess.PIPE, text=True)
    return server.serves(pathlib.Path(fetched.stdout.splitlines()[-1]).parent, "minilm")


@pytest.fixture(scope="session")
def judge(server, tmp_path_factory) -> str:
    """A small cross-encoder."""
    return server.serves(tiny.write(tmp_path_factory.mktemp("judge") / "judge"), "judge")


@pytest.fixture(scope="session")
def reference() -> dict:
    """What independent implementations say: see reference.py."""
    return json.loads((HERE / "reference.json").read_text())
