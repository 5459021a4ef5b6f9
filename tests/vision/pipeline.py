"""What Python makes of the same files: Pillow, NumPy and onnxruntime, as most people put them together."""

import io

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageDraw, ImageFont, ImageOps

LABELS = ["0", "90", "180", "270"]
MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)
ORIENTATION = """\
image:
  resize: {shortest: 256}
  crop: 224
  mean: [0.485, 0.456, 0.406]
  std: [0.229, 0.224, 0.225]
output:
  labels: labels.txt
  top_k: 3
"""
WORDS = "the quick brown fox jumps over a lazy dog while seven wizards box daily quarterly reports".split()


def page(turned: int = 0, seed: int = 1, size=(360, 460)) -> Image.Image:
    """A page of text, which the model was made to tell the turn of."""
    draw = np.random.default_rng(seed)
    image = Image.new("RGB", size, "white")
    canvas, font = ImageDraw.Draw(image), ImageFont.load_default(size=20)
    for y in range(20, size[1] - 30, 30):
        canvas.text((20, y), " ".join(draw.choice(WORDS, 6)), fill=(20, 20, 60), font=font)
    return image.rotate(turned, expand=True)


def written(image: Image.Image, form: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def shortest(image: Image.Image, side: int, filter=Image.Resampling.BILINEAR) -> Image.Image:
    width, height = image.size
    size = (side, side * height // width) if width <= height else (side * width // height, side)
    return image.resize(size, filter)


def middle(image: Image.Image, height: int, width: int) -> Image.Image:
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))


def pixels(file: bytes) -> np.ndarray:
    """A row of the orientation model's input."""
    image = middle(shortest(Image.open(io.BytesIO(file)).convert("RGB"), 256), 224, 224)
    scaled = (np.asarray(image).astype(np.float64) * (1 / 255)).astype(np.float32)
    return ((scaled - MEAN) / STD).transpose(2, 0, 1)


def upright(file: bytes) -> Image.Image:
    return ImageOps.exif_transpose(Image.open(io.BytesIO(file))).convert("RGB")


def session(path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


def save(path, nodes, inputs, outputs, weights=()):
    value = lambda name, kind, shape: helper.make_tensor_value_info(name, kind, shape)  # noqa: E731
    graph = helper.make_graph(
        nodes, "test", [value(*spec) for spec in inputs], [value(*spec) for spec in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def mirror(path, shape):
    """A network that gives back what it is given."""
    node = helper.make_node("Identity", ["x"], ["y"])
    return save(path, [node], [("x", TensorProto.FLOAT, ["n", *shape])], [("y", TensorProto.FLOAT, ["n", *shape])])


def corner(path, side: int):
    """Two logits: how bright the upper left quarter of a picture is, and the opposite."""
    weights = np.zeros((3, side, side), np.float32)
    weights[:, : side // 2, : side // 2] = 2 / (3 * (side // 2) ** 2)
    both = np.stack([weights.ravel(), -weights.ravel()], axis=1)
    nodes = [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["logits"])]
    return save(
        path, nodes, [("x", TensorProto.FLOAT, ["n", 3, side, side])], [("logits", TensorProto.FLOAT, ["n", 2])],
        [("w", both)],
    )


def tokens(path, length: int):
    """A network that gives back the tokens of a text, 0 where there are none."""
    nodes = [
        helper.make_node("Mul", ["input_ids", "attention_mask"], ["own"]),
        helper.make_node("Add", ["own", "token_type_ids"], ["sum"]),
        helper.make_node("Cast", ["sum"], ["y"], to=TensorProto.FLOAT),
    ]
    names = ("input_ids", "attention_mask", "token_type_ids")
    return save(
        path, nodes, [(name, TensorProto.INT64, ["n", length]) for name in names],
        [("y", TensorProto.FLOAT, ["n", length])],
    )
