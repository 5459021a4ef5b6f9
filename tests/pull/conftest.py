"""A Meuse that may pull from this machine, a host to pull from, and a model that is quick to load."""

import json
import os
import pathlib
import queue
import subprocess
import threading

import numpy
import onnx
import pytest
import requests

from host import Host

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = os.environ.get("MEUSE_BIN", str(ROOT / "target" / "release" / "meuse"))
START_S = 60
COMMAND_S = 300
PARENT = "projects/default/locations/us-central1"


class Server:
    """`meuse serve` on one data directory, killed and started again at will."""

    def __init__(self, data: pathlib.Path, *options: str):
        self.data, self.options = data, options
        self.start()

    def start(self):
        log = open(self.data.parent / f"{self.data.name}.log", "a")
        self.process = subprocess.Popen(
            [BIN, "serve", "--data", self.data, "--listen", "127.0.0.1:0", *self.options],
            stdout=subprocess.PIPE, stderr=log, text=True, env=environment(),
        )
        lines: queue.Queue[str] = queue.Queue()
        read = lambda out: [lines.put(line) for line in out]
        threading.Thread(target=read, args=(self.process.stdout,), daemon=True).start()
        line = lines.get(timeout=START_S)
        assert line.startswith("listening on "), line
        self.url = line.split()[-1]
        self.key = (self.data / "admin.key").read_text().strip()

    def kill(self):
        self.process.kill()
        self.process.wait(timeout=60)

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=60)

    def call(self, method: str, path: str, status: int = 200, key: str | None = None, **options) -> dict:
        headers = {"authorization": f"Bearer {key or self.key}"}
        reply = requests.request(method, self.url + path, headers=headers, timeout=60, **options)
        assert reply.status_code == status, (method, path, reply.status_code, reply.text[:500])
        return reply.json()

    def command(self, *args, code: int = 0) -> subprocess.CompletedProcess:
        """What `meuse` does with these arguments, asked of this server."""
        env = environment() | {"MEUSE_URL": self.url, "MEUSE_API_KEY": self.key}
        done = subprocess.run([BIN, *map(str, args)], env=env, capture_output=True, text=True, timeout=COMMAND_S)
        assert done.returncode == code, f"{args}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *args):
        return json.loads(self.command(*args, "--json").stdout)

    def begin(self, source: str, status: int = 200, **fields) -> dict:
        """Begins a pull; its operation."""
        body = {"source": source} | fields
        return self.call("POST", f"/v1/{PARENT}/models:pull", status, json=body)

    def ended(self, operation: dict) -> dict:
        while not operation.get("done"):
            operation = self.call("POST", f"/v1/{operation['name']}:wait", json={"timeout": "20s"})
        return operation

    def models(self) -> list[dict]:
        return self.call("GET", f"/v1/{PARENT}/models").get("models", [])

    def left_behind(self) -> list[pathlib.Path]:
        """Files of pulls and of artifacts."""
        return [path for name in ("jobs", "artifacts") for path in (self.data / name).rglob("*") if path.is_file()]


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("MEUSE_")} | {"NO_COLOR": "1"}


@pytest.fixture
def host():
    host = Host()
    yield host
    host.close()


def serve(data: pathlib.Path, host: Host, *options: str) -> Server:
    hosts = ("--hugging-face", host.url, "--ollama-registry", host.url, "--package-index", f"{host.url}/simple")
    return Server(data, "--allow-private-sources", *hosts, *options)


@pytest.fixture
def server(tmp_path, host):
    server = serve(tmp_path / "data", host)
    yield server
    assert server.stop() == 0


@pytest.fixture(scope="session")
def model() -> bytes:
    """An ONNX file of a few megabytes: numbers times a matrix."""
    weights = numpy.random.default_rng(1).standard_normal((1000, 2000), dtype=numpy.float32)
    helper = onnx.helper
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "product",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 1000])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 2000])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return made.SerializeToString()
