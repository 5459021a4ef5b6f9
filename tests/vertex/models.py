"""Small models and rows whose right answers are known."""

import pathlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FEATURES = 4
WEIGHTS = np.array([[1, -1, 0], [0, 2, -1], [-2, 0, 1], [0.5, 0.5, -0.5]], dtype=np.float32)
BIAS = np.array([0.1, -0.2, 0.3], dtype=np.float32)
SLOPES = np.array([[0.5], [1.5], [-0.75], [2.0]], dtype=np.float32)


def linear_onnx(path: pathlib.Path, scale: float = 1.0) -> pathlib.Path:
    """softmax(x · WEIGHTS · scale + BIAS) as an ONNX file."""
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["scores"], axis=1),
    ]
    graph = helper.make_graph(
        nodes, "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", FEATURES])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(WEIGHTS * np.float32(scale), "w"), numpy_helper.from_array(BIAS, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    path.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path / "model.onnx")
    return path


def linear_scores(rows, scale: float = 1.0) -> np.ndarray:
    logits = np.asarray(rows, dtype=np.float32) @ (WEIGHTS * np.float32(scale)) + BIAS
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def numbers_onnx(path, offset: float):
    """x · SLOPES + offset, one number a row."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["product"]), helper.make_node("Add", ["product", "b"], ["value"])]
    graph = helper.make_graph(
        nodes, "numbers",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", FEATURES])],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, ["n", 1])],
        [numpy_helper.from_array(SLOPES, "w"), numpy_helper.from_array(np.array([offset], dtype=np.float32), "b")],
    )
    path.mkdir(parents=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path / "model.onnx")
    return path


TOPICS = {
    "cooking": ["simmer", "onion", "oven", "flour", "butter", "roast"],
    "sailing": ["sail", "mast", "harbour", "wind", "anchor", "keel"],
    "chess": ["rook", "bishop", "gambit", "castle", "pawn", "endgame"],
}
FILLER = ["the", "a", "with", "and", "then", "before", "after", "slowly", "again", "well"]


def text_rows(count: int, seed: int = 7) -> list[tuple[str, str, str]]:
    """Texts, their topic, and a column to slice by."""
    random = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        topic = list(TOPICS)[i % len(TOPICS)]
        words = list(random.choice(TOPICS[topic], 3)) + list(random.choice(FILLER, 5))
        random.shuffle(words)
        rows.append((" ".join(words), topic, "long" if i % 2 else "short"))
    return rows


def text_csv(rows) -> str:
    return "text,label,length\n" + "".join(f"{text},{label},{length}\n" for text, label, length in rows)
