"""Integrated gradients of networks that Keras made, and of ONNX files of the same layers: those of Keras' own gradients."""

import jax
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


def integrated(function, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """The integral of the gradient between two points, times the way between them."""
    places, weights = np.polynomial.legendre.leggauss(200)
    points = start + (places.astype(np.float32)[:, None, None] + 1) / 2 * (end - start).reshape(1, -1, end.shape[-1])
    gradients = jax.vmap(jax.grad(function))(points.reshape(len(places), *end.shape))
    return np.tensordot(weights / 2, np.asarray(gradients, dtype=float), 1) * (end - start)


def agrees(attribution: dict, feature: str, expected: np.ndarray):
    """Within 1e-3 of the greatest; what the sum lacks is told."""
    values = np.array(attribution["featureAttributions"][feature], dtype=float)
    np.testing.assert_allclose(values, expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
    gap = attribution["instanceOutputValue"] - attribution["baselineOutputValue"]
    error = abs(values.sum() - gap) / abs(gap)
    assert attribution.get("approximationError", 0) == pytest.approx(error, abs=1e-4)


def perceptron() -> keras.Model:
    x = keras.Input((4,), name="x")
    y = layers.Dense(8, activation="tanh")(layers.BatchNormalization()(x))
    return networks.drawn(keras.Model(x, layers.Dense(2, activation="softmax", name="y")(layers.Dropout(0.3)(y))))


def embedder(masked: bool) -> keras.Model:
    x = keras.Input((5,), dtype="int32", name="x")
    y = layers.GlobalAveragePooling1D()(layers.Embedding(10, 4, mask_zero=masked)(x))
    return networks.drawn(keras.Model(x, layers.Dense(2, name="y")(layers.Dense(6, activation="sigmoid")(y))))


def as_onnx(path, model: keras.Model, whole: bool = False):
    """The same network as exporters write it, with the normalisation as a whole or as what it comes to."""
    node = onnx.helper.make_node
    dense = {layer: [np.asarray(w) for w in layer.weights] for layer in model.layers if isinstance(layer, layers.Dense)}
    first, last = dense.values()
    constants = {"a": first[0], "b": first[1], "c": last[0], "d": last[1]}
    if isinstance(model.layers[1], layers.Embedding):
        constants |= {"table": np.asarray(model.layers[1].embeddings), "axes": np.array([1])}
        nodes = [
            node("Gather", ["table", "x"], ["v"]), node("ReduceMean", ["v", "axes"], ["m"], keepdims=0),
            node("Gemm", ["m", "a", "b"], ["h"]), node("Sigmoid", ["h"], ["s"]), node("Gemm", ["s", "c", "d"], ["y"]),
        ]
        return onnx_file(path, nodes, constants, [5], onnx.TensorProto.INT64)
    gamma, beta, mean, variance = (np.asarray(weight) for weight in model.layers[1].weights)
    scale = gamma / np.sqrt(variance + 1e-3)
    constants |= {"scale": scale, "shift": beta - mean * scale}
    first = [node("Mul", ["x", "scale"], ["n"]), node("Add", ["n", "shift"], ["m"])]
    if whole:
        constants |= {"gamma": gamma, "beta": beta, "mean": mean, "variance": variance}
        first = [node("BatchNormalization", ["x", "gamma", "beta", "mean", "variance"], ["m"], epsilon=1e-3)]
    nodes = [
        *first, node("MatMul", ["m", "a"], ["p"]), node("Add", ["p", "b"], ["h"]), node("Tanh", ["h"], ["s"]), node("Gemm", ["s", "c", "d"], ["o"]),
        node("Softmax", ["o"], ["y"], axis=1),
    ]
    return onnx_file(path, nodes, constants, [4], onnx.TensorProto.FLOAT)


@pytest.mark.parametrize("form", ["keras", "onnx", "onnx-normalization"])
def test_attributions_of_numbers_are_the_integrals(serve, server, tmp_path, form):
    model = perceptron()
    name = f"integral-{form}"
    if form == "keras":
        serve(name, model)
    else:
        server.serves(as_onnx(tmp_path / "model.onnx", model, whole=form == "onnx-normalization"), name)
    [row] = networks.rows(model, count=1)["x"]
    [attribution] = explain(server, name, [row.tolist()])
    element = int(attribution["outputIndex"][0])
    score = lambda point: model(point[None])[0, element]  # noqa: E731
    agrees(attribution, "x", integrated(score, np.zeros_like(row), row))


@pytest.mark.parametrize("form", ["keras", "masked", "onnx"])
def test_attributions_of_ids_are_the_integrals(serve, server, tmp_path, form):
    """From the vectors of id 0 to those of the ids, each summed."""
    model = embedder(form == "masked")
    name = f"integral-of-ids-{form}"
    if form == "onnx":
        server.serves(as_onnx(tmp_path / "model.onnx", model), name)
    else:
        serve(name, model)
    row = np.array([3, 0, 7, 9, 1], dtype=np.int32)
    [attribution] = explain(server, name, [row.tolist()])
    element = int(attribution["outputIndex"][0])
    table = np.asarray(model.layers[1].embeddings)
    counts = (row != 0)[:, None] if form == "masked" else np.ones((5, 1), dtype=bool)
    start = np.zeros((5, 4), dtype=np.float32) if form == "masked" else np.tile(table[0], (5, 1))
    end = np.where(counts, table[row], start)

    def score(points):
        pooled = (points * counts).sum(axis=0, keepdims=True) / counts.sum()
        return model.layers[-1](model.layers[-2](pooled))[0, element]

    agrees(attribution, "x", integrated(score, start, end).sum(axis=-1))


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
