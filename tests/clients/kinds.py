"""A model of each kind: its file or rows, what it is asked, and what the library that made it answers."""

import collections
import csv
import dataclasses
import json
import os
import pathlib

os.environ["KERAS_BACKEND"] = "jax"
os.environ["JAX_PLATFORMS"] = "cpu"
# What is compiled here runs once.
os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"

import keras  # noqa: E402
import lightgbm  # noqa: E402
import numpy as np  # noqa: E402
import onnx  # noqa: E402
import onnxmltools  # noqa: E402
import onnxruntime  # noqa: E402
from keras import layers  # noqa: E402
from onnxmltools.convert.common.data_types import FloatTensorType as LightGbmFloats  # noqa: E402
from skl2onnx import to_onnx  # noqa: E402
from skl2onnx.common.data_types import FloatTensorType, StringTensorType  # noqa: E402
from sklearn.compose import ColumnTransformer  # noqa: E402
from sklearn.datasets import load_diabetes  # noqa: E402
from sklearn.linear_model import LogisticRegression  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import OneHotEncoder, StandardScaler  # noqa: E402

import graph  # noqa: E402
import pipeline  # noqa: E402
from served import Server, model_file  # noqa: E402

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass
class Kind:
    """A deployed model, rows for it by input, and the right answers to them by output."""

    name: str
    inputs: Arrays
    expected: Arrays
    # Of a classifier, whose outputs are labels and scores.
    classes: list[str] | None = None


def run(file: pathlib.Path, inputs: Arrays) -> list[np.ndarray]:
    """What onnxruntime makes of them."""
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).run(None, inputs)


def best(scores: np.ndarray, classes: list[str]) -> Arrays:
    """A classifier's answer as the server words it."""
    return {"label": np.array(classes)[scores.argmax(axis=1)], "scores": scores}


TOPICS = {
    "chess": ["rook", "bishop", "gambit", "castle", "pawn", "endgame"],
    "cooking": ["simmer", "onion", "oven", "flour", "butter", "roast"],
    "sailing": ["sail", "mast", "harbour", "wind", "anchor", "keel"],
}
FILLER = ["the", "a", "with", "and", "then", "slowly"]
LENGTH = 6
SPECIFICATION = f"""label: topic
features: [{{text: text, method: sequence, length: {LENGTH}}}]
layers:
  - {{embedding: 8}}
  - global_average_pooling1d
  - {{dense: labels, activation: softmax}}
optimizer: {{adam: {{learning_rate: 0.02}}}}
epochs: 10
seed: 1
"""


def trained(server: Server, directory: pathlib.Path) -> Kind:
    """A classifier of texts that the server trains, whose network onnxruntime computes from ids counted here."""
    random = np.random.default_rng(7)
    with (directory / "topics.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "topic"])
        for topic in list(TOPICS) * 60:
            rows.writerow([" ".join([*random.choice(TOPICS[topic], 3), *random.choice(FILLER, 2)]), topic])
    (directory / "topics.yaml").write_text(SPECIFICATION)
    server.command("train", directory / "topics.csv", "--name", "trained", "--spec", directory / "topics.yaml")
    server.command("deploy", "trained")
    [made] = server.data.glob("artifacts/*/files/meuse.json")
    about = json.loads(made.read_text())
    ids = collections.defaultdict(lambda: 1, {word: i + 2 for i, word in enumerate(about["features"][0]["vocabulary"])})
    texts = ["simmer the onion with butter", "a rook and the pawn", "wind unheard of"]
    tokens = [[ids[word] for word in text.split()] for text in texts]
    padded = np.array([[*row, *[0] * (LENGTH - len(row))] for row in tokens], dtype=np.int32)
    session = onnxruntime.InferenceSession(made.with_name("model.onnx"), providers=["CPUExecutionProvider"])
    [scores] = session.run(None, {session.get_inputs()[0].name: padded})
    classes = about["task"]["labels"]
    return Kind("trained", {"text": np.array(texts, dtype=object)[:, None]}, best(scores, classes), classes)


PADDED = 16


def embedding(server: Server, directory: pathlib.Path) -> Kind:
    """MiniLM as an ONNX graph that takes texts; these are made of words that its vocabulary has whole."""
    source = model_file("minilm").parent
    made = graph.export(source, directory / "minilm")
    file = made / "onnx" / "model.onnx"
    (made / "processing.yaml").write_text(f"text: {{max_length: {PADDED}}}\n")
    server.command("import", file, "--name", "embedding", "--processing", made / "processing.yaml")
    server.command("deploy", "embedding")
    vocabulary = json.loads((source / "tokenizer.json").read_text())["model"]["vocab"]
    texts = ["a river in the north", "the bee makes honey"]
    words = [["[CLS]", *text.split(), "[SEP]"] for text in texts]
    ids = np.array([[vocabulary[word] for word in row] + [0] * (PADDED - len(row)) for row in words])
    [states] = run(file, {"input_ids": ids, "attention_mask": (ids > 0).astype(np.int64), "token_type_ids": ids * 0})
    return Kind("embedding", {"text": np.array(texts, dtype=object)[:, None]}, {"last_hidden_state": states})


def vision(server: Server, directory: pathlib.Path) -> Kind:
    """The turn of a page, of a file of an image."""
    file = model_file("orientation")
    (directory / "processing.yaml").write_text(pipeline.ORIENTATION.replace("top_k: 3", "top_k: 4"))
    (directory / "labels.txt").write_text("\n".join(pipeline.LABELS) + "\n")
    server.command("import", file, "--name", "vision", "--processing", directory / "processing.yaml")
    server.command("deploy", "vision")
    pages = [pipeline.written(pipeline.page(turned), "PNG") for turned in (0, 90)]
    scores = pipeline.session(file).run(None, {"x": np.stack([pipeline.pixels(page) for page in pages])})[0]
    return Kind("vision", {"image": np.array(pages, dtype=object)[:, None]}, best(scores, pipeline.LABELS), pipeline.LABELS)


def scikit(server: Server, directory: pathlib.Path) -> Kind:
    """A pipeline of scikit-learn's over columns of numbers and words, one input each."""
    random = np.random.default_rng(3)
    age, town = random.uniform(18, 80, 200), random.choice(["Metz", "Namur", "Verdun"], 200)
    wanted = np.where((age > 45) ^ (town == "Metz"), "yes", "no")
    columns = ColumnTransformer([("ages", StandardScaler(), [0]), ("towns", OneHotEncoder(), [1])])
    table = np.stack([age.astype(object), town.astype(object)], axis=1)
    fitted = make_pipeline(columns, LogisticRegression()).fit(table, wanted)
    types = [("age", FloatTensorType([None, 1])), ("town", StringTensorType([None, 1]))]
    file = directory / "pipeline.onnx"
    onnx.save(to_onnx(fitted, initial_types=types, options={"zipmap": False}), file)
    server.serves(file, "scikit")
    inputs = {"age": age[:5, None].astype(np.float32), "town": town[:5, None].astype(object)}
    label, scores = run(file, inputs)
    return Kind("scikit", inputs, {"label": label, "probabilities": scores}, fitted.classes_.tolist())


def boosted(server: Server, directory: pathlib.Path) -> Kind:
    """Trees of LightGBM's that add up to a number."""
    x, y = load_diabetes(return_X_y=True)
    fitted = lightgbm.LGBMRegressor(n_estimators=15, verbose=-1).fit(x, y)
    model = onnxmltools.convert_lightgbm(fitted, initial_types=[("x", LightGbmFloats([None, x.shape[1]]))])
    file = directory / "trees.onnx"
    onnx.save(model, file)
    server.serves(file, "boosted")
    inputs = {"x": x[:5].astype(np.float32)}
    return Kind("boosted", inputs, {model.graph.output[0].name: run(file, inputs)[0]})


def archive(server: Server, directory: pathlib.Path) -> Kind:
    """A network of Keras' that sees a small image and a number, and gives two answers."""
    picture, number = keras.Input((8, 8, 3), name="picture"), keras.Input((1,), name="number")
    seen = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, activation="relu")(picture))
    both = layers.Dense(6, activation="gelu")(layers.Concatenate()([seen, number]))
    answers = {"kind": layers.Dense(3, activation="softmax")(both), "amount": layers.Dense(1)(both)}
    model = keras.Model([picture, number], answers)
    model.save(directory / "network.keras")
    server.serves(directory / "network.keras", "archive")
    random = np.random.default_rng(4)
    inputs = {
        "picture": random.normal(size=(3, 8, 8, 3)).astype(np.float32),
        "number": random.normal(size=(3, 1)).astype(np.float32),
    }
    return Kind("archive", inputs, {name: np.asarray(value) for name, value in model(inputs).items()})


KINDS = [trained, embedding, vision, scikit, boosted, archive]
