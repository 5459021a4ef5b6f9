"""How much of a deployed model is computed at once: what the operator said, whoever asks, after a restart too."""

import concurrent.futures
import os
import re

import numpy as np
import pytest
from onnx import TensorProto, helper

import models
from conftest import Server

WIDTH, PRODUCTS, ASKING = 1024, 10, 6
PARENT = "/v1/projects/default/locations/us-central1"
LABEL = "meuse-concurrency"


def slow(path):
    """A chain of products that takes some tenths of a second, on any number of rows."""
    random = np.random.default_rng(3)
    weights = [("w", random.normal(0, 0.03, (WIDTH, WIDTH)).astype(np.float32))]
    names = ["x", *[f"h{i}" for i in range(PRODUCTS - 1)], "y"]
    nodes = [helper.make_node("MatMul", [names[i], "w"], [names[i + 1]]) for i in range(PRODUCTS)]
    ports = [[models.value(name, TensorProto.FLOAT, ["n", "m", WIDTH])] for name in ("x", "y")]
    return models.save(path, nodes, *ports, weights)


@pytest.fixture(scope="module")
def lonely(tmp_path_factory):
    """A server that may be started anew, with the slow model in two endpoints: one computes it once at a time."""
    directory = tmp_path_factory.mktemp("concurrency")
    server = Server(directory / "data")
    server.command("import", slow(directory / "model.onnx"), "--name", "slow")
    server.command("deploy", "slow", "--endpoint", "one", "--concurrency", 1)
    server.command("deploy", "slow", "--endpoint", "usual")
    yield server
    assert server.stop() == 0, server.stderr()


def most_at_once(server: Server, endpoint: str) -> int:
    """The most that was ever seen to be computed at once, of several who ask at the same time."""

    def ask(rows: int) -> int:
        # Of different shapes, so that they cannot share a batch.
        shape = [1, rows, WIDTH]
        values = np.ones(shape, np.float32)
        head = (
            f'{{"inputs": [{{"name": "x", "datatype": "FP32", "shape": {shape}, "parameters": {{"binary_data_size": '
            f'{values.nbytes}}}}}], "outputs": [{{"name": "y", "parameters": {{"binary_data": true}}}}]}}'
        )
        headers = {"inference-header-content-length": str(len(head))}
        return server.post(f"/v2/models/{endpoint}/infer", head.encode() + values.tobytes(), headers).status_code

    figure = re.compile(rf'^meuse_deployed_running\{{endpoint="[^"]*/{endpoint}",[^}}]*\}} (\d+)$', re.MULTILINE)
    most = 0
    with concurrent.futures.ThreadPoolExecutor(ASKING) as asking:
        answers = [asking.submit(ask, 200 + i) for i in range(ASKING)]
        while not all(answer.done() for answer in answers):
            most = max(most, int(figure.search(server.metrics())[1]))
    assert {answer.result() for answer in answers} == {200}
    return most


def test_no_more_at_once_than_the_operator_said(lonely):
    assert most_at_once(lonely, "one") == 1
    if (os.cpu_count() or 1) > 1:
        assert most_at_once(lonely, "usual") > 1
    lonely.stop()
    lonely.start()
    assert most_at_once(lonely, "one") == 1


def test_it_is_shown(lonely):
    [one] = lonely.json("endpoints", "one")["endpoints"]
    assert one["deployedModels"][0]["systemLabels"] == {LABEL: "1"}
    heading, line = lonely.command("endpoints", "one").stdout.splitlines()
    place = heading.index("AT ONCE")
    assert line[place : place + len("AT ONCE")].strip() == "1"
    [usual] = lonely.json("endpoints", "usual")["endpoints"]
    assert "systemLabels" not in usual["deployedModels"][0]


def test_another_figure_wants_another_deployment(lonely):
    refused = lonely.command("deploy", "slow", "--endpoint", "one", "--concurrency", 2, code=1).stderr
    assert "with another --concurrency" in refused and "meuse undeploy slow@1 --endpoint one" in refused
    lonely.command("deploy", "slow", "--endpoint", "one", "--concurrency", 1)
    for figure in (0, 65, "many"):
        assert "--concurrency" in lonely.command("deploy", "slow", "--concurrency", figure, code=2).stderr


@pytest.mark.parametrize(
    "labels, named",
    [
        ({LABEL: "0"}, "from 1 to 64"),
        ({LABEL: "65"}, "from 1 to 64"),
        ({LABEL: "two"}, f"deployedModel.systemLabels.{LABEL}"),
        ({"meuse-lanes": "1"}, "deployedModel.systemLabels.meuse-lanes"),
    ],
)
def test_what_is_not_honoured_is_refused_by_name(lonely, labels, named):
    body = {"deployedModel": {"model": "slow", "systemLabels": labels}, "trafficSplit": {"0": 0}}
    answer = lonely.post(f"{PARENT}/endpoints/usual:deployModel", body)
    assert answer.status_code == 400 and named in answer.json()["error"]["message"], answer.text


def test_labels_of_others_mean_nothing(lonely):
    body = {"deployedModel": {"model": "slow", "id": "7", "systemLabels": {"claim-bundle": "x"}}}
    answer = lonely.post(f"{PARENT}/endpoints/usual:deployModel", body)
    assert answer.status_code == 200, answer.text
