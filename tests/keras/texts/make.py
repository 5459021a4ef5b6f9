"""Makes the archives in this folder, and Keras' answers beside them: with tensorflow-cpu 2.21.0 and keras 3.15.1, which
are too large to be brought for every test."""

import json
import os
import pathlib

os.environ["KERAS_BACKEND"] = "tensorflow"

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from keras import layers  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
TEXTS = [
    "The bee makes honey.", "A STRIPED bee; a river!", "nothing of it, öäü Bee", "", "the the  the\tthe the the the the",
]


def keep(name: str, model: keras.Model, inputs: dict):
    random = np.random.default_rng(1)
    for weight in model.weights:
        weight.assign(random.normal(scale=0.4, size=weight.shape))
    model.save(HERE / f"{name}.keras")
    taken = [
        tf.constant([[text] for text in values]) if isinstance(values[0], str)
        else tf.constant(values, tf.int64 if isinstance(values[0][0], int) else tf.float32)
        for values in inputs.values()
    ]
    given = np.asarray(model(taken if len(taken) > 1 else taken[0]))
    (HERE / f"{name}.json").write_text(json.dumps({"inputs": inputs, "output": given.tolist()}, ensure_ascii=False))


def text(*stack) -> keras.Model:
    return keras.Sequential([keras.Input((1,), dtype="string", name="text"), *stack])


adapted = layers.TextVectorization(output_sequence_length=6)
adapted.adapt(["the bee makes honey", "a striped bee", "the river"])
keep("sentences", text(adapted, layers.Embedding(9, 4, mask_zero=True), layers.LSTM(3), layers.Dense(2)), {"text": TEXTS})

letters = layers.TextVectorization(output_sequence_length=8, split="character", standardize=None, vocabulary=list("abehouö"))
keep("letters", text(letters, layers.Embedding(10, 2), layers.Flatten(), layers.Dense(2)), {"text": TEXTS})

bag = layers.TextVectorization(output_mode="count", vocabulary=["bee", "honey", "the"], standardize="lower", split="whitespace")
keep("bag", text(bag, layers.Dense(2)), {"text": TEXTS})

colour = keras.Input((1,), dtype="string", name="colour")
size, rest = keras.Input((1,), dtype="int64", name="size"), keras.Input((3,), name="rest")
colours = ["red", "green", "blue"]
place = layers.Flatten()(layers.Embedding(4, 3)(layers.StringLookup(vocabulary=colours)(colour)))
kind = layers.CategoryEncoding(num_tokens=4, output_mode="one_hot")(layers.IntegerLookup(vocabulary=[10, 20, 30])(size))
hot = layers.StringLookup(vocabulary=colours, output_mode="multi_hot")(colour)
model = keras.Model([colour, size, rest], layers.Dense(2)(layers.Concatenate()([place, kind, hot, rest])))
keep("columns", model, {
    "colour": ["red", "Red", "blue", ""], "size": [[10], [30], [7], [20]],
    "rest": [[0.1, 0.2, 0.3], [1.0, 2.0, 3.0], [0.0, 0.0, 0.0], [-1.0, 0.5, 2.0]],
})
