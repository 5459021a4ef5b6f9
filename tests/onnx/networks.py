"""Networks made by hand, and written to files."""

import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE, CHANNELS = 32, 24


def convolutions(path: pathlib.Path) -> pathlib.Path:
    """Three convolutions, which ONNX Runtime computes several times faster, a pool and a product."""
    random = np.random.default_rng(5)
    nodes, weights, current, channels = [], [], "image", 3
    for number in range(3):
        kernel = (random.normal(size=(CHANNELS, channels, 3, 3)) / 10).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"kernel{number}"))
        nodes.append(helper.make_node("Conv", [current, f"kernel{number}"], [f"conv{number}"], kernel_shape=[3, 3], pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [f"conv{number}"], [f"relu{number}"]))
        current, channels = f"relu{number}", CHANNELS
    weights.append(numpy_helper.from_array((random.normal(size=(CHANNELS, 5)) / 3).astype(np.float32), "last"))
    nodes += [
        helper.make_node("GlobalAveragePool", [current], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "last"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["best"], axis=1, keepdims=0),
    ]
    outputs = [("scores", TensorProto.FLOAT, ["n", 5]), ("best", TensorProto.INT64, ["n"])]
    return write(path, nodes, ("image", ["n", 3, SIDE, SIDE]), outputs, weights)


def product(path: pathlib.Path, inputs: int, outputs: int) -> pathlib.Path:
    """One product, of as many weights as it takes."""
    kernel = np.random.default_rng(7).normal(size=(inputs, outputs)).astype(np.float32)
    node = helper.make_node("MatMul", ["x", "kernel"], ["y"])
    return write(path, [node], ("x", ["n", inputs]), [("y", TensorProto.FLOAT, ["n", outputs])], [numpy_helper.from_array(kernel, "kernel")])


def write(path, nodes, given, outputs, weights) -> pathlib.Path:
    graph = helper.make_graph(
        nodes, "made", [helper.make_tensor_value_info(given[0], TensorProto.FLOAT, given[1])],
        [helper.make_tensor_value_info(*output) for output in outputs], weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


def pairs(path: pathlib.Path) -> pathlib.Path:
    """The nearest of a sequence's places to each, of sequences of any length: it holds a number for every two of them."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["x", "turned"], ["products"]),
        helper.make_node("ReduceMax", ["products"], ["y"], axes=[2], keepdims=0),
    ]
    return write(path, nodes, ("x", ["n", "length", 4]), [("y", TensorProto.FLOAT, ["n", "length"])], [])


def widening(path: pathlib.Path, channels: int) -> pathlib.Path:
    """A convolution that makes many channels of one, of pictures of any size."""
    kernel = np.ones((channels, 1, 1, 1), np.float32)
    nodes = [
        helper.make_node("Conv", ["x", "kernel"], ["wide"], kernel_shape=[1, 1]),
        helper.make_node("GlobalAveragePool", ["wide"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["y"]),
    ]
    outputs = [("y", TensorProto.FLOAT, ["n", channels])]
    return write(path, nodes, ("x", ["n", 1, "height", "width"]), outputs, [numpy_helper.from_array(kernel, "kernel")])
