"""What memory there is: networks that nobody asks give theirs back, and one that does not fit is refused."""

import time

import numpy as np
import pytest

from conftest import Server
from networks import SIDE, convolutions, product

MEMORY_MIB = 4
SOON_SECONDS = 30


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
