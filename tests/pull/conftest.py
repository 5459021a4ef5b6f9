"""A Meuse that may pull from this machine, a host to pull from, and a model that is quick to load."""

import pathlib
import sys

import numpy
import onnx
import pytest

from host import Host

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "served"))
import served  # noqa: E402

PARENT = "projects/default/locations/us-central1"


class Server(served.Server):
    def call(self, method: str, path: str, status: int = 200, key: str | None = None, **options) -> dict:
        reply = self.ask(method, path, key, **options)
        assert reply.status_code == status, (method, path, reply.status_code, reply.text[:500])
        return reply.json()

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
