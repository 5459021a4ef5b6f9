"""One running server with a classifier that was trained there and networks made elsewhere, and the unmodified clients."""

import json
import os
import pathlib
import queue
import re
import subprocess
import threading
import time

import grpc
import numpy as np
import onnxruntime
import pytest
import requests
import tritonclient.grpc
import tritonclient.http

import models

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("MEUSE_BIN", ROOT / "target" / "release" / "meuse"))
START_SECONDS = 60
COMMAND_SECONDS = 300
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
        self.host = self.url.removeprefix("http://")
        self.key = (data / "admin.key").read_text().strip()
        self.headers = {"authorization": f"Bearer {self.key}"}

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

    def new_key(self, role: str) -> str:
        return json.loads(self.command("keys", "create", "--project", "default", "--role", role, "--json"))["key"]

    def get(self, path: str, **options) -> requests.Response:
        return requests.get(f"{self.url}{path}", headers=self.headers, timeout=ANSWER_SECONDS, **options)

    def post(self, path: str, body=None, headers: dict | None = None, **options) -> requests.Response:
        data = json.dumps(body) if isinstance(body, (dict, list)) else body
        headers = self.headers | {"content-type": "application/json"} | (headers or {})
        return requests.post(f"{self.url}{path}", data=data, headers=headers, timeout=ANSWER_SECONDS, **options)

    def memory(self) -> int:
        """The most bytes that the process has ever had in memory."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) << 10


def environment() -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("MEUSE_")}
    return env | {"NO_COLOR": "1"} | {name: os.environ[name] for name in ("MEUSE_ISA",) if name in os.environ}


class Client:
    """tritonclient over one of its transports, with a key in every call."""

    def __init__(self, module, server: Server, key: str | None = None):
        self.module = module
        options = {"network_timeout": ANSWER_SECONDS} if module is tritonclient.http else {}
        self.inner = module.InferenceServerClient(server.host, **options)
        self.headers = {"authorization": f"Bearer {key or server.key}"}

    def __getattr__(self, name):
        call = getattr(self.inner, name)
        # The library writes into the headers that it is given.
        return lambda *args, **options: call(*args, headers=dict(self.headers), **options)

    def infer_arrays(self, model: str, arrays: dict, outputs=None, version: str = "", **options):
        inputs = []
        for name, array in arrays.items():
            tensor = self.module.InferInput(name, list(array.shape), tritonclient.utils.np_to_triton_dtype(array.dtype))
            tensor.set_data_from_numpy(array)
            inputs.append(tensor)
        return self.infer(model, inputs, outputs=outputs, model_version=version, **options)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server") / "data")
    yield server
    assert server.stop() == 0, server.stderr()


@pytest.fixture(scope="session", params=["http", "grpc"])
def client(request, server) -> Client:
    return Client(getattr(tritonclient, request.param), server)


@pytest.fixture(scope="session")
def channel(server):
    with grpc.insecure_channel(server.host) as channel:
        yield channel


@pytest.fixture(scope="session")
def topics(server, tmp_path_factory) -> str:
    """A classifier of a text and a number, trained by the server."""
    directory = tmp_path_factory.mktemp("topics")
    specification = directory / "topics.yaml"
    specification.write_text(models.SPECIFICATION)
    server.command("train", models.topics_csv(directory / "topics.csv"), "--name", "topics", "--spec", specification)
    server.command("deploy", "topics")
    return "topics"


class Onnx:
    """A network that the server serves, and what onnxruntime makes of the same inputs."""

    def __init__(self, server: Server, file: pathlib.Path, name: str):
        server.command("import", file, "--name", name)
        server.command("deploy", name)
        self.name = name
        self.session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])

    def run(self, **arrays) -> dict[str, np.ndarray]:
        names = [output.name for output in self.session.get_outputs()]
        return dict(zip(names, self.session.run(names, arrays)))


@pytest.fixture(scope="session")
def mlp(server, tmp_path_factory) -> Onnx:
    return Onnx(server, models.mlp(tmp_path_factory.mktemp("mlp") / "model.onnx"), "mlp")


@pytest.fixture(scope="session")
def several(server, tmp_path_factory) -> Onnx:
    return Onnx(server, models.several(tmp_path_factory.mktemp("several") / "model.onnx"), "several")


@pytest.fixture(scope="session")
def rowless(server, tmp_path_factory) -> Onnx:
    return Onnx(server, models.rowless(tmp_path_factory.mktemp("rowless") / "model.onnx"), "rowless")
