"""Integrated gradients of networks that Keras made, and of ONNX files of the same layers: they add up."""

import keras
import numpy as np
import onnx
import onnx.helper
import onnx.numpy_helper
import pytest
from keras import layers

import networks


def explain(server, name: str, instances: list, parameters: dict | None = None) -> list:
    gradients = {"integratedGradientsAttribution": {"stepCount": 100}}
    body = {"instances": instances, "explanationSpecOverride": {"parameters": gradients} | (parameters or {})}
    told = server.post(f"/v1/{server.endpoint(name)}:explain", body)
    return [explanation["attributions"][0] for explanation in told["explanations"]]


def adds_up(attribution: dict, feature: str) -> np.ndarray:
    """The attributions, which sum to the difference that they explain within what a hundred steps leave open."""
    values = np.array(attribution["featureAttributions"][feature], dtype=float)
    gap = attribution["instanceOutputValue"] - attribution["baselineOutputValue"]
    assert abs(gap) > 1e-3
    error = abs(values.sum() - gap) / abs(gap)
    assert error <= 0.03 and attribution.get("approximationError", 0) == pytest.approx(error, abs=1e-3)
    return values


def test_a_network_of_numbers(serve, server):
    network = serve("gradients-dense", networks.dense())
    [(name, rows)] = networks.rows(network.model).items()
    for attribution in explain(server, network.name, rows.tolist()):
        assert adds_up(attribution, name).shape == (6,)


def test_a_network_of_images(serve, server):
    network = serve("gradients-image", networks.image())
    [(name, rows)] = networks.rows(network.model, count=1).items()
    [attribution] = explain(server, network.name, (rows * 100).tolist())
    assert adds_up(attribution, name).size == 12 * 10 * 3


def test_a_network_of_ids(serve, server):
    network = serve("gradients-words", networks.words())
    name = next(iter(networks.inputs(network.model)))
    [attribution] = explain(server, network.name, [[3, 5, 0, 1, 0, 0, 0]])
    values = adds_up(attribution, name)
    assert values.shape == (7,) and np.abs(values[[0, 1, 3]]).min() > 0
    np.testing.assert_allclose(values[[2, 4, 5, 6]], 0, atol=1e-6)


def test_gradients_are_those_of_a_linear_network(serve, server):
    """Of which everyone knows the attributions: weights times inputs."""
    model = networks.sequential(keras.Input((3,)), layers.Dense(1))
    network = serve("gradients-linear", model)
    [attribution] = explain(server, network.name, [[1.0, -2.0, 0.5]])
    kernel = np.asarray(model.layers[-1].kernel)[:, 0]
    values = np.array(attribution["featureAttributions"][next(iter(networks.inputs(model)))], dtype=float)
    np.testing.assert_allclose(values, kernel * [1.0, -2.0, 0.5], rtol=1e-4, atol=1e-6)


def test_a_network_of_other_layers_says_so(serve, server):
    network = serve("gradients-none", networks.recurrent())
    body = {
        "instances": [[1.0] * 9],
        "explanationSpecOverride": {"parameters": {"integratedGradientsAttribution": {"stepCount": 10}}},
    }
    answer = server.ask("POST", f"/v1/{server.endpoint(network.name)}:explain", json=body)
    assert answer.status_code == 400, answer.text
    assert "Bidirectional" in answer.text and "sampled Shapley" in answer.text
    body["explanationSpecOverride"] = {"parameters": {"sampledShapleyAttribution": {"pathCount": 5}}}
    told = server.post(f"/v1/{server.endpoint(network.name)}:explain", body)
    assert told["explanations"]


def onnx_file(path, nodes: list, constants: dict, shape: list, element: int):
    graph = onnx.helper.make_graph(
        nodes, "net",
        [onnx.helper.make_tensor_value_info("x", element, ["n", *shape])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 2])],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("kind", ["numbers", "ids"])
def test_onnx_files_of_the_same_layers(server, tmp_path, kind):
    random = np.random.default_rng(4)
    draw = lambda *shape: random.normal(scale=0.5, size=shape).astype(np.float32)  # noqa: E731
    node = onnx.helper.make_node
    if kind == "numbers":
        nodes = [
            node("Gemm", ["x", "a", "b"], ["h"], transB=1), node("Relu", ["h"], ["r"]),
            node("MatMul", ["r", "c"], ["m"]), node("Add", ["m", "d"], ["s"]), node("Sigmoid", ["s"], ["y"]),
        ]
        constants = {"a": draw(8, 4), "b": draw(8), "c": draw(8, 2), "d": draw(2)}
        file = onnx_file(tmp_path / "numbers.onnx", nodes, constants, [4], onnx.TensorProto.FLOAT)
        instance = [0.5, -1.0, 2.0, 0.25]
    else:
        nodes = [
            node("Gather", ["table", "x"], ["v"]), node("ReduceMean", ["v", "axes"], ["m"], keepdims=0),
            node("MatMul", ["m", "c"], ["h"]), node("Tanh", ["h"], ["y"]),
        ]
        constants = {"table": draw(10, 4), "axes": np.array([1]), "c": draw(4, 2)}
        file = onnx_file(tmp_path / "ids.onnx", nodes, constants, [5], onnx.TensorProto.INT64)
        instance = [1, 4, 9, 2, 3]
    name = server.serves(file, f"onnx-{kind}")
    [attribution] = explain(server, name, [instance])
    assert adds_up(attribution, "x").shape == (len(instance),)
