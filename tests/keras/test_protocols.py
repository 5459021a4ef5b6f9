"""One network through every way of asking: Vertex's REST, KServe v2, TensorFlow Serving, batches, evaluation."""

import csv
import json

import numpy as np
import pytest

import networks

@pytest.fixture(scope="module")
def network(serve):
    return serve("everywhere", networks.dense())


@pytest.fixture(scope="module")
def arrays(network):
    return networks.rows(network.model, count=20)


@pytest.fixture(scope="module")
def expected(network, arrays) -> np.ndarray:
    return next(iter(network.expected(arrays).values()))


@pytest.fixture(scope="module")
def instances(arrays) -> list:
    return next(iter(arrays.values())).tolist()


def test_vertex(server, network, instances, expected):
    told = server.post(f"/v1/{server.endpoint(network.name)}:predict", {"instances": instances})
    np.testing.assert_allclose(told["predictions"], expected, rtol=1e-4, atol=1e-6)


def test_kserve(server, network, arrays, expected):
    metadata = server.ask("GET", f"/v2/models/{network.name}").json()
    assert metadata["platform"] == "keras"
    [taken], [given] = metadata["inputs"], metadata["outputs"]
    assert (taken["name"], taken["datatype"], taken["shape"]) == (next(iter(networks.inputs(network.model))), "FP32", [-1, 6])
    assert (given["name"], given["shape"]) == (network.outputs[0], [-1, 3])
    told = server.infer(network.name, arrays)
    np.testing.assert_allclose(told[given["name"]], expected, rtol=1e-4, atol=1e-6)


def test_tensorflow_serving(server, network, instances, expected):
    told = server.post(f"/v1/models/{network.name}:predict", {"instances": instances})
    np.testing.assert_allclose(told["predictions"], expected, rtol=1e-4, atol=1e-6)


def test_a_batch(server, network, instances, expected, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(instance) + "\n" for instance in instances))
    out = tmp_path / "predictions"
    server.command("batch", network.name, "--input", rows, "--output", out)
    parts = sorted(out.glob("prediction.results-*"))
    told = [json.loads(line)["prediction"] for part in parts for line in part.read_text().splitlines()]
    np.testing.assert_allclose(told, expected, rtol=1e-4, atol=1e-6)


def test_an_evaluation(server, serve, tmp_path):
    model = networks.sequential(networks.keras.Input((2,)), networks.layers.Dense(1))
    network = serve("line", model)
    arrays = networks.rows(model, count=50)
    x = next(iter(arrays.values()))
    y = next(iter(network.expected(arrays).values()))[:, 0]
    data = tmp_path / "held-out.csv"
    with data.open("w", newline="") as file:
        csv.writer(file).writerows([["a", "b", "y"], *np.column_stack([x, y + 0.5]).tolist()])
    told = json.dumps(server.json("evaluate", network.name, "--data", data, "--target", "y"))
    assert '"rootMeanSquaredError": 0.5' in told or "0.49999" in told or "0.50000" in told, told


def test_registered_from_a_folder_of_a_bucket(server, network, instances, expected):
    """As Google's library does it; tests/vertex has that library register an archive."""
    server.post("/storage/v1/b?project=default", {"name": "staging"})
    put = "/upload/storage/v1/b/staging/o?uploadType=media&name=keras/model.keras"
    assert server.ask("POST", put, data=network.file.read_bytes()).status_code == 200
    image = "us-docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-15:latest"
    model = {"displayName": "foldered", "artifactUri": "gs://staging/keras", "containerSpec": {"imageUri": image}}
    server.post("/v1/projects/default/locations/us-central1/models:upload", {"model": model, "modelId": "foldered"})
    server.command("deploy", "foldered")
    told = server.post(f"/v1/{server.endpoint('foldered')}:predict", {"instances": instances})
    np.testing.assert_allclose(told["predictions"], expected, rtol=1e-4, atol=1e-6)
