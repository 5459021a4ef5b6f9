"""ONNX graphs of BERT's kind made of a directory's safetensors, as exporters make them: `onnx/model.onnx` beside the rest."""

import json
import pathlib
import shutil
import struct

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17


def weights(directory: pathlib.Path) -> dict[str, numpy.ndarray]:
    """The tensors of `model.safetensors`, without the prefix that some files have."""
    data = (directory / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    head = json.loads(data[8 : 8 + length])
    read = {}
    for name, about in head.items():
        if name != "__metadata__" and about["dtype"] == "F32":
            start, end = about["data_offsets"]
            part = numpy.frombuffer(data[8 + length + start : 8 + length + end], "<f4")
            read[name.removeprefix("bert.")] = part.reshape(about["shape"])
    return read


class Maker:
    """Nodes of a graph, one after another."""

    def __init__(self, tensors: dict[str, numpy.ndarray]):
        self.tensors, self.nodes, self.kept = tensors, [], {}

    def constant(self, value) -> str:
        value = numpy.asarray(value)
        name = f"constant{len(self.kept)}"
        self.kept[name] = value
        return name

    def tensor(self, name: str, turned: bool = False) -> str:
        self.kept[name] = numpy.ascontiguousarray(self.tensors[name].T) if turned else self.tensors[name]
        return name

    def __call__(self, kind: str, *inputs: str, **attributes) -> str:
        out = f"{kind}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [out], **attributes))
        return out

    def linear(self, x: str, name: str) -> str:
        product = self("MatMul", x, self.tensor(f"{name}.weight", turned=True))
        return self("Add", product, self.tensor(f"{name}.bias"))

    def norm(self, x: str, name: str) -> str:
        weight, bias = self.tensor(f"{name}.weight"), self.tensor(f"{name}.bias")
        return self("LayerNormalization", x, weight, bias, axis=-1, epsilon=1e-12)


def bert(tensors: dict[str, numpy.ndarray], config: dict) -> onnx.ModelProto:
    """The graph: hidden states, or the score of a model that has a classifier."""
    make = Maker(tensors)
    heads, width = config["num_attention_heads"], config["hidden_size"]
    length = make("Gather", make("Shape", "input_ids"), make.constant(numpy.int64(1)), axis=0)
    places = make("Range", make.constant(numpy.int64(0)), length, make.constant(numpy.int64(1)))
    x = make("Gather", make.tensor("embeddings.word_embeddings.weight"), "input_ids")
    x = make("Add", x, make("Gather", make.tensor("embeddings.token_type_embeddings.weight"), "token_type_ids"))
    x = make("Add", x, make("Gather", make.tensor("embeddings.position_embeddings.weight"), places))
    x = make.norm(x, "embeddings.LayerNorm")
    seen = make("Cast", "attention_mask", to=TensorProto.FLOAT)
    hidden = make("Mul", make("Sub", make.constant(numpy.float32(1)), seen), make.constant(numpy.float32(-1e9)))
    hidden = make("Unsqueeze", hidden, make.constant(numpy.array([1, 2])))
    split = make.constant(numpy.array([0, 0, heads, width // heads]))
    joined = make.constant(numpy.array([0, 0, width]))
    for layer in range(config["num_hidden_layers"]):
        at = f"encoder.layer.{layer}."
        parts = [make("Reshape", make.linear(x, f"{at}attention.self.{part}"), split) for part in ("query", "key", "value")]
        query, key, value = (make("Transpose", part, perm=perm) for part, perm in zip(parts, ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])))
        scores = make("Div", make("MatMul", query, key), make.constant(numpy.float32((width // heads) ** 0.5)))
        mixed = make("MatMul", make("Softmax", make("Add", scores, hidden), axis=-1), value)
        mixed = make("Reshape", make("Transpose", mixed, perm=[0, 2, 1, 3]), joined)
        x = make.norm(make("Add", make.linear(mixed, f"{at}attention.output.dense"), x), f"{at}attention.output.LayerNorm")
        inner = make.linear(x, f"{at}intermediate.dense")
        half = make("Mul", inner, make.constant(numpy.float32(0.5)))
        bent = make("Erf", make("Div", inner, make.constant(numpy.float32(2**0.5))))
        inner = make("Mul", half, make("Add", bent, make.constant(numpy.float32(1))))
        x = make.norm(make("Add", make.linear(inner, f"{at}output.dense"), x), f"{at}output.LayerNorm")
    name, shape = "last_hidden_state", ["batch", "length", width]
    if "classifier.weight" in tensors:
        first = make("Gather", x, make.constant(numpy.int64(0)), axis=1)
        x = make.linear(make("Tanh", make.linear(first, "pooler.dense")), "classifier")
        name, shape = "logits", ["batch", 1]
    make.nodes.append(helper.make_node("Identity", [x], [name]))
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
        for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)]
    kept = [numpy_helper.from_array(value, name) for name, value in make.kept.items()]
    graph = helper.make_graph(make.nodes, "bert", inputs, outputs, kept)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)


def export(source: pathlib.Path, into: pathlib.Path) -> pathlib.Path:
    """The model in `source` as a directory with a graph in place of the safetensors."""
    shutil.copytree(source, into, ignore=shutil.ignore_patterns("*.safetensors"))
    (into / "onnx").mkdir()
    model = bert(weights(source), json.loads((source / "config.json").read_text()))
    onnx.save(model, into / "onnx" / "model.onnx")
    return into
