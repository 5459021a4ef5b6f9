"""One running server with a classifier that was trained there and networks made elsewhere, and the unmodified clients."""

import json
import pathlib
import re
import sys

import grpc
import numpy as np
import onnxruntime
import pytest
import requests
import tritonclient.grpc
import tritonclient.http

import models

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "served"))
import served  # noqa: E402
from served import ANSWER_SECONDS  # noqa: E402


class Server(served.Server):
    @property
    def host(self) -> str:
        return self.url.removeprefix("http://")

    @property
    def headers(self) -> dict:
        return {"authorization": f"Bearer {self.key}"}

    def get(self, path: str, **options) -> requests.Response:
        return self.ask("GET", path, **options)

    def post(self, path: str, body=None, headers: dict | None = None, **options) -> requests.Response:
        data = json.dumps(body) if isinstance(body, (dict, list)) else body
        headers = {"content-type": "application/json"} | (headers or {})
        return self.ask("POST", path, headers=headers, data=data, **options)

    def memory(self) -> int:
        """The most bytes that the process has ever had in memory."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) << 10


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
        self.name = server.serves(file, name)
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
