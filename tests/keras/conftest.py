"""One running server, and networks that Keras makes, saves and computes beside it."""

import json
import os
import pathlib
import sys

os.environ["KERAS_BACKEND"] = "jax"
os.environ["JAX_PLATFORMS"] = "cpu"
# What is compiled here runs once.
os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"

import jax  # noqa: E402
import keras  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "served"))
import networks  # noqa: E402
import served  # noqa: E402

REFUSED = 1


class Server(served.Server):
    def post(self, path: str, body) -> dict:
        answer = self.ask("POST", path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def endpoint(self, name: str) -> str:
        """The endpoint at which a deployed model answers to Vertex's clients."""
        listed = self.json("endpoints")
        listed = listed if isinstance(listed, list) else listed["endpoints"]
        return next(endpoint["name"] for endpoint in listed if endpoint["displayName"] == name)

    def infer(self, name: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What a model makes of arrays by name."""
        inputs = [
            {
                "name": input_name,
                "shape": list(array.shape),
                "datatype": "INT32" if array.dtype.kind == "i" else "FP32",
                "data": array.ravel().tolist(),
            }
            for input_name, array in arrays.items()
        ]
        outputs = self.post(f"/v2/models/{name}/infer", {"inputs": inputs})["outputs"]
        return {o["name"]: np.array(o["data"], dtype=np.float32).reshape(o["shape"]) for o in outputs}

    def refusal(self, file: pathlib.Path) -> str:
        """What `meuse import` says of a file that cannot be served; nothing of it is kept."""
        said = self.command("import", file, "--name", "refused", code=REFUSED).stderr
        assert self.process.poll() is None, self.stderr()
        models = json.dumps(self.json("models"))
        assert '"refused"' not in models, models
        return said


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server") / "data")
    yield server
    assert server.stop() == 0, server.stderr()


class Served:
    """A network that the server serves, and Keras' own answers."""

    def __init__(self, server: Server, directory: pathlib.Path, name: str, model: keras.Model):
        self.server, self.name, self.model = server, name, model
        self.file = directory / f"{name}.keras"
        model.save(self.file)
        server.serves(self.file, name)

    def expected(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        kinds = networks.inputs(self.model)
        taken = [arrays[name].astype(bool) if kind.dtype == "bool" else arrays[name] for name, kind in kinds.items()]
        # Compiled as a whole, which takes less time than each operation by itself.
        given = jax.jit(self.model)(taken if len(taken) > 1 else taken[0])
        if isinstance(given, dict):
            return {name: np.asarray(value) for name, value in given.items()}
        given = given if isinstance(given, (list, tuple)) else [given]
        return dict(zip(self.outputs, map(np.asarray, given), strict=True))

    @property
    def outputs(self) -> list[str]:
        """The names of what it gives: those of the layers that give it."""
        if isinstance(self.model, keras.Sequential):
            return [self.model.layers[-1].name]
        return [tensor._keras_history.operation.name for tensor in self.model.outputs]

    def agrees(self, arrays: dict[str, np.ndarray]):
        """The server's answers are Keras', element by element."""
        expected, told = self.expected(arrays), self.server.infer(self.name, arrays)
        assert set(told) == set(expected)
        for name, value in expected.items():
            assert told[name].shape == value.shape, name
            scale = max(np.abs(value).max(), 1e-6)
            np.testing.assert_allclose(told[name], value, rtol=1e-4, atol=1e-5 * scale, err_msg=name)


@pytest.fixture(scope="session")
def serve(server, tmp_path_factory):
    directory = tmp_path_factory.mktemp("archives")

    def serve(name: str, model: keras.Model) -> Served:
        return Served(server, directory, name, model)

    return serve
