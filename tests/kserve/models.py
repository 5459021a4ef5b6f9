"""Small models and rows whose right answers are known."""

import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FEATURES, HIDDEN, CLASSES = 4, 16, 3
FILLER = ["the", "a", "with", "and", "then", "before", "after", "slowly", "again", "well"]
TOPICS = {
    "cooking": ["simmer", "onion", "oven", "flour", "butter", "roast"],
    "sailing": ["sail", "mast", "harbour", "wind", "anchor", "keel"],
    "chess": ["rook", "bishop", "gambit", "castle", "pawn", "endgame"],
}


def save(path: pathlib.Path, nodes, inputs, outputs, weights=()) -> pathlib.Path:
    graph = helper.make_graph(nodes, "test", inputs, outputs, [numpy_helper.from_array(w, n) for n, w in weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def value(name: str, kind: int, shape) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def mlp(path: pathlib.Path, seed: int = 1) -> pathlib.Path:
    """Two dense layers and a softmax: rows of four numbers to three scores."""
    random = np.random.default_rng(seed)
    weights = [
        ("w1", random.normal(size=(FEATURES, HIDDEN)).astype(np.float32)),
        ("b1", random.normal(size=HIDDEN).astype(np.float32)),
        ("w2", random.normal(size=(HIDDEN, CLASSES)).astype(np.float32)),
        ("b2", random.normal(size=CLASSES).astype(np.float32)),
    ]
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "w2", "b2"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["scores"], axis=1),
    ]
    return save(
        path, nodes, [value("x", TensorProto.FLOAT, ["n", FEATURES])], [value("scores", TensorProto.FLOAT, ["n", CLASSES])], weights
    )


def several(path: pathlib.Path) -> pathlib.Path:
    """Two inputs, one of them of whole numbers, and two outputs: embedded ids plus numbers, and the place of the highest."""
    table = np.arange(40, dtype=np.float32).reshape(10, 4)
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("Add", ["rows", "x"], ["sum"]),
        helper.make_node("ArgMax", ["sum"], ["best"], axis=1, keepdims=0),
    ]
    return save(
        path, nodes,
        [value("ids", TensorProto.INT64, ["n"]), value("x", TensorProto.FLOAT, ["n", 4])],
        [value("sum", TensorProto.FLOAT, ["n", 4]), value("best", TensorProto.INT64, ["n"])],
        [("table", table)],
    )


def rowless(path: pathlib.Path) -> pathlib.Path:
    """An input that has no dimension for rows: six numbers, doubled."""
    nodes = [helper.make_node("Add", ["x", "x"], ["y"])]
    return save(path, nodes, [value("x", TensorProto.FLOAT, [6])], [value("y", TensorProto.FLOAT, [6])])


def topics_csv(path: pathlib.Path, count: int = 300, seed: int = 7) -> pathlib.Path:
    random = np.random.default_rng(seed)
    lines = ["text,size,label"]
    for i in range(count):
        topic = list(TOPICS)[i % len(TOPICS)]
        words = list(random.choice(TOPICS[topic], 3)) + list(random.choice(FILLER, 5))
        random.shuffle(words)
        lines.append(f"{' '.join(words)},{i % 7},{topic}")
    path.write_text("\n".join(lines) + "\n")
    return path


SPECIFICATION = """label: label
features: [{text: text, width: 100}, {numeric: [size]}]
layers:
  - {dense: 16, activation: relu}
  - {dense: labels, activation: softmax}
epochs: 20
seed: 1
"""
