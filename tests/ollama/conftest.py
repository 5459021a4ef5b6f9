"""One running server with a real language model, and the unmodified `ollama` library pointed at it."""

import os
import pathlib
import queue
import re
import subprocess
import sys
import threading

import ollama
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

    def __init__(self, data: pathlib.Path, *options: str):
        self.data = data
        self.log = open(data.parent / f"{data.name}.log", "w+")
        self.process = subprocess.Popen(
            [BINARY, "serve", "--data", data, "--listen", "127.0.0.1:0", *options],
            stdout=subprocess.PIPE, stderr=self.log, text=True, env=environment(),
        )
        lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=lambda: [lines.put(line) for line in self.process.stdout], daemon=True).start()
        line = lines.get(timeout=START_SECONDS)
        self.url = re.search(r"listening on (http://\S+)", line)[1]
        self.key = (data / "admin.key").read_text().strip()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=60)

    def command(self, *args) -> str:
        """What `meuse` prints with these arguments, asked of this server."""
        env = environment() | {"MEUSE_URL": self.url, "MEUSE_API_KEY": self.key}
        done = subprocess.run([BINARY, *map(str, args)], env=env, capture_output=True, text=True, timeout=COMMAND_SECONDS)
        assert done.returncode == 0, f"{args}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def client(self, key: str | None = None) -> ollama.Client:
        headers = {"authorization": f"Bearer {key or self.key}"}
        return ollama.Client(host=self.url, headers=headers, timeout=ANSWER_SECONDS)

    def post(self, path: str, body, method: str = "POST") -> requests.Response:
        headers = {"authorization": f"Bearer {self.key}"}
        return requests.request(method, f"{self.url}/api/{path}", json=body, headers=headers, timeout=ANSWER_SECONDS)


def environment() -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("MEUSE_")}
    return env | {"NO_COLOR": "1"} | {name: os.environ[name] for name in ("MEUSE_ISA",) if name in os.environ}


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server") / "data")
    yield server
    assert server.stop() == 0, server.log.name


@pytest.fixture(scope="session")
def client(server) -> ollama.Client:
    return server.client()


@pytest.fixture(scope="session")
def smol(server) -> str:
    server.command("import", model_file("smollm2-135m"), "--name", "smol")
    server.command("deploy", "smol")
    return "smol"


@pytest.fixture(scope="session")
def encoder(server) -> str:
    server.command("import", model_file("minilm").parent, "--name", "minilm")
    server.command("deploy", "minilm")
    return "minilm"


@pytest.fixture(scope="session")
def qwen(server) -> str:
    """A model whose template knows tools."""
    server.command("import", model_file("qwen2.5-coder-0.5b"), "--name", "qwen")
    server.command("deploy", "qwen")
    return "qwen"
