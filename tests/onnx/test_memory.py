"""What memory there is: networks that nobody asks give theirs back, and one that does not fit is refused."""

import json
import time

import numpy as np
import pytest

from conftest import Server
from networks import SIDE, convolutions, pairs, product, widening

MEMORY_MIB = 4
SOON_SECONDS = 30
# Far less than the values that are refused, of more than 512.
PEAK_MIB = 300


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("small") / "data", "--unload-idle", "1s", "--model-memory", str(MEMORY_MIB))
    yield server
    assert server.stop() == 0, server.stderr()


def loaded(server) -> list[str]:
    lines = server.ask("GET", "/metrics").text.splitlines()
    return [line.rsplit(" ", 1)[1] for line in lines if line.startswith("meuse_deployed_loaded{")]


def test_a_network_rests_and_comes_back(small, tmp_path):
    deployed = small.deploy("resting", convolutions(tmp_path / "resting.onnx"))
    image = np.random.default_rng(1).normal(size=(3, SIDE, SIDE)).tolist()
    before = deployed.predict([image])
    assert loaded(small) == ["1"]
    until = time.monotonic() + SOON_SECONDS
    while loaded(small) != ["0"]:
        assert time.monotonic() < until, "it is still in memory"
        time.sleep(0.2)
    assert deployed.predict([image]) == before
    assert loaded(small) == ["1"]


def test_what_does_not_fit_is_refused_with_the_figures(small, tmp_path):
    said = small.refusal("large", product(tmp_path / "large.onnx", 1000, 1000))
    assert f"{MEMORY_MIB} MiB are available" in said and "takes up to 7 MiB" in said


@pytest.mark.parametrize(
    "network, small, large",
    [
        # Computed by the general runtime, which has inferred the sizes of values.
        (pairs, np.ones((1, 50, 4)), np.ones((1, 12_000, 4))),
        # Computed as a plan, whose steps share memory.
        (lambda path: widening(path, 400), np.ones((1, 1, 8, 8)), np.ones((1, 1, 600, 600))),
    ],
    ids=["sequence", "picture"],
)
def test_a_request_that_would_take_the_memory_is_refused_before_it_does(server, tmp_path, network, small, large):
    name = f"grows{small.ndim}"
    server.serves(network(tmp_path / "model.onnx"), name)
    before = server.peak_memory()

    def infer(values: np.ndarray):
        wanted = {"name": "x", "datatype": "FP32", "shape": values.shape, "parameters": {"binary_data_size": 4 * values.size}}
        head = json.dumps({"inputs": [wanted]}).encode()
        headers = {"inference-header-content-length": str(len(head))}
        return server.ask("POST", f"/v2/models/{name}/infer", headers=headers, data=head + values.astype(np.float32).tobytes())

    refused = infer(large)
    assert refused.status_code == 400 and "134217728 numbers" in refused.json()["error"], refused.text
    rows = infer(np.repeat(small, 3, axis=0)).json()["outputs"][0]["data"]
    assert rows == 3 * infer(small).json()["outputs"][0]["data"]
    assert server.peak_memory() < before + PEAK_MIB * 2**20
    if small.ndim == 3:
        instance = server.ask("POST", f"/v1/{endpoint(server, name)}:predict", json={"instances": large.tolist()})
        assert instance.status_code == 400 and instance.json()["error"]["status"] == "INVALID_ARGUMENT", instance.text
        # Rows that are too many together are computed apart.
        together = infer(np.ones((12, 4000, 4)))
        assert together.status_code == 200 and set(together.json()["outputs"][0]["data"]) == {4.0}
        assert server.peak_memory() < before + PEAK_MIB * 2**20


def endpoint(server, name: str) -> str:
    return next(found["name"] for found in server.json("endpoints")["endpoints"] if found["displayName"] == name)
