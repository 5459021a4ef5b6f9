"""Networks that between them have every layer that is read from archives; weights are drawn, not trained."""

import keras
import numpy as np
from keras import layers


def drawn(model: keras.Model, seed: int = 1) -> keras.Model:
    """The model with other weights than those it began with, so that none of them is 0 or 1 by chance."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        if "seed" in weight.path:
            continue
        value = random.normal(scale=0.4, size=weight.shape)
        if "variance" in weight.path:
            value = np.abs(value) + 0.5
        weight.assign(value.astype(np.float32))
    return model


def inputs(model: keras.Model) -> dict:
    """What the model takes, by name."""
    return {tensor._keras_history.operation.name: tensor for tensor in model.inputs}


def rows(model: keras.Model, count: int = 3, seed: int = 2, length: int = 11) -> dict[str, np.ndarray]:
    """Rows for each input of the model, with this length where any is taken; ids from 0 to 9, some of them 0."""
    random = np.random.default_rng(seed)
    arrays = {}
    for name, tensor in inputs(model).items():
        shape = (count, *(length if dim is None else dim for dim in tensor.shape[1:]))
        if tensor.dtype == "bool":
            arrays[name] = random.integers(0, 2, shape).astype(np.int32)
        elif "int" in tensor.dtype:
            arrays[name] = random.integers(0, 10, shape).astype(np.int32)
        else:
            arrays[name] = random.normal(size=shape).astype(np.float32)
    return arrays


def sequential(*stack) -> keras.Model:
    return drawn(keras.Sequential(list(stack)))


def dense():
    return sequential(
        keras.Input((6,)),
        layers.Normalization(mean=[0.5] * 6, variance=[2.0] * 6),
        layers.Dense(16, activation="relu"),
        layers.Dropout(0.5),
        layers.BatchNormalization(),
        layers.Dense(8, activation="tanh", use_bias=False),
        layers.GaussianNoise(0.1),
        layers.Dense(3, activation="softmax"),
    )


ACTIVATIONS = [
    "celu", "elu", "exponential", "gelu", "hard_sigmoid", "hard_silu", "hard_tanh", "leaky_relu", "linear",
    "log_sigmoid", "log_softmax", "mish", "relu", "relu6", "selu", "sigmoid", "silu", "softmax", "softplus",
    "softsign", "tanh", "tanh_shrink",
]


def activations():
    x = keras.Input((4, 5), name="x")
    scaled = layers.Rescaling(4.0, offset=0.5)(x)
    given = {name: layers.Activation(name)(scaled) for name in ACTIVATIONS}
    given |= {
        "relu_layer": layers.ReLU(max_value=2.5)(scaled),
        "relu_sloped": layers.ReLU(negative_slope=0.1)(scaled),
        "leaky_layer": layers.LeakyReLU(0.2)(scaled),
        "elu_layer": layers.ELU(0.7)(scaled),
        "softmax_layer": layers.Softmax()(scaled),
        "prelu": layers.PReLU()(scaled),
        "prelu_shared": layers.PReLU(shared_axes=[1])(scaled),
    }
    return drawn(keras.Model(x, given))


def image():
    return sequential(
        keras.Input((12, 10, 3)),
        layers.Rescaling(1 / 255),
        layers.Conv2D(4, 3, padding="same", activation="relu"),
        layers.BatchNormalization(),
        layers.MaxPooling2D(2),
        layers.Conv2D(6, (3, 2), strides=2, padding="same", use_bias=False),
        layers.ReLU(),
        layers.SpatialDropout2D(0.3),
        layers.Flatten(),
        layers.Dense(4, activation="softmax"),
    )


def residual():
    """What networks of images are made of nowadays, with two ends."""
    x = keras.Input((9, 8, 4), name="picture")
    wide = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=2, activation="relu")(x)
    same = layers.SeparableConv2D(8, 3, padding="same")(wide)
    y = layers.Add()([wide, same])
    y = layers.ZeroPadding2D(((1, 0), (0, 2)))(y)
    y = layers.Conv2D(8, 3, dilation_rate=2, groups=2)(y)
    y = layers.UpSampling2D((2, 3))(y)
    y = layers.Cropping2D(((1, 2), (0, 1)))(y)
    y = layers.AveragePooling2D(3, strides=2, padding="same")(y)
    y = layers.Concatenate()([y, layers.Conv2D(3, 1)(y)])
    y = layers.LayerNormalization()(y)
    y = layers.Conv2DTranspose(5, 3, strides=2, padding="same")(y)
    y = layers.Conv2DTranspose(4, 2, strides=3)(y)
    y = layers.UpSampling2D(2, interpolation="bilinear")(y)
    most = layers.GlobalMaxPooling2D()(y)
    mean = layers.GlobalAveragePooling2D(keepdims=True)(y)
    gated = layers.Multiply()([y, mean])
    return drawn(keras.Model(x, [layers.Dense(2, name="scores")(most), layers.GlobalAveragePooling2D(name="mean")(gated)]))


def steps():
    x = keras.Input((16, 3))
    y = layers.Conv1D(4, 3, padding="causal", activation="elu")(x)
    y = layers.MaxPooling1D(2)(y)
    y = layers.SeparableConv1D(6, 3, padding="same")(y)
    y = layers.AveragePooling1D(2, strides=1)(y)
    y = layers.ZeroPadding1D((1, 2))(y)
    y = layers.Cropping1D(1)(y)
    y = layers.UpSampling1D(2)(y)
    y = layers.Conv1DTranspose(3, 4, strides=2)(y)
    y = layers.DepthwiseConv1D(3)(y)
    both = layers.Concatenate(axis=1)([y, layers.Permute((1, 2))(y)])
    flat = layers.Reshape((-1,))(both)
    turned = layers.Permute((2, 1))(y)
    again = layers.RepeatVector(3)(layers.GlobalAveragePooling1D()(y))
    return drawn(keras.Model(x, [flat, turned, again]))


def shared():
    """One layer and one network, each applied to two inputs, then all ways to make one of two."""
    a, b = keras.Input((5,), name="a"), keras.Input((5,), name="b")
    once = layers.Dense(4, activation="sigmoid")
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(4, activation="tanh"), layers.Dense(4)])
    c, d = inner(once(a)), inner(once(b))
    merged = [
        layers.Add()([c, d]),
        layers.Subtract()([c, d]),
        layers.Multiply()([c, d]),
        layers.Average()([c, d, c]),
        layers.Maximum()([c, d]),
        layers.Minimum()([c, d]),
    ]
    x = keras.Input((24,))
    outer = keras.Model(x, layers.Dense(2)(layers.ActivityRegularization(l2=0.1)(x)), name="outer")
    return drawn(keras.Model([a, b], outer(layers.Concatenate()(merged))))


def words():
    return sequential(
        keras.Input((7,), dtype="int32"),
        layers.Embedding(10, 6, mask_zero=True),
        layers.Dropout(0.2),
        layers.GlobalAveragePooling1D(),
        layers.Dense(3),
    )


def graph_of_words():
    """The mask of ids, as a graph of layers has it: an argument."""
    ids = keras.Input((7,), dtype="int32", name="ids")
    y = layers.Embedding(10, 6, mask_zero=True)(ids)
    y = layers.BatchNormalization()(y)
    return drawn(keras.Model(ids, layers.Dense(2)(layers.GlobalAveragePooling1D()(y))))


def recurrent():
    ids = keras.Input((9,), name="ids")
    y = layers.Embedding(10, 5)(ids)
    y = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(y)
    y = layers.GRU(6, return_sequences=True)(y)
    y = layers.TimeDistributed(layers.Dense(5, activation="tanh"))(y)
    y = layers.Bidirectional(layers.SimpleRNN(4, return_sequences=True), merge_mode="ave")(y)
    last = layers.LSTM(3, go_backwards=True)(y)
    both = layers.Bidirectional(layers.GRU(3), merge_mode="sum")(y)
    simple = layers.SimpleRNN(3, activation="relu")(y)
    return drawn(keras.Model(ids, layers.Concatenate()([last, both, simple])))


def masked():
    """Sentences of different lengths, whose padding no layer sees."""
    return sequential(
        keras.Input((7,), dtype="int32"),
        layers.Embedding(10, 4, mask_zero=True),
        layers.Bidirectional(layers.LSTM(3, return_sequences=True)),
        layers.GRU(4, return_sequences=True),
        layers.SimpleRNN(5, return_sequences=True),
        layers.Bidirectional(layers.GRU(3)),
        layers.Dense(2),
    )


def block(x, heads: int = 2, causal: bool = False):
    """An encoder's block, as transformers are written in Keras."""
    width = x.shape[-1]
    seen = layers.MultiHeadAttention(heads, 3, dropout=0.1)(x, x, use_causal_mask=causal)
    x = layers.LayerNormalization(epsilon=1e-6)(layers.Add()([x, layers.Dropout(0.1)(seen)]))
    inner = layers.Dense(width)(layers.Dense(12, activation="gelu")(x))
    return layers.LayerNormalization(epsilon=1e-6)(layers.Add()([x, inner]))


def transformer():
    """A classifier of texts, its padding masked, of as many steps as come."""
    ids = keras.Input((None,), dtype="int32", name="ids")
    x = block(layers.Embedding(10, 6, mask_zero=True)(ids))
    return drawn(keras.Model(ids, layers.Dense(3)(layers.GlobalAveragePooling1D()(block(x)))))


def decoder():
    """Steps that see earlier ones alone, and those of another text."""
    ids = keras.Input((5,), dtype="int32", name="ids")
    other = keras.Input((7,), dtype="int32", name="other")
    embedded = layers.Embedding(10, 6, mask_zero=True)
    x, memory = block(layers.Embedding(10, 6)(ids), causal=True), embedded(other)
    y = layers.MultiHeadAttention(2, 4, value_dim=5, dropout=0.1, output_shape=8, use_bias=False)(query=x, value=memory, key=memory)
    return drawn(keras.Model([ids, other], [y[:, -1], keras.ops.mean(x, axis=1), y[:, 1:4, 2]]))


def attention():
    """Attention without heads, of all kinds, over masked steps and others."""
    a = keras.Input((6,), dtype="int32", name="a")
    b = keras.Input((4, 5), name="b")
    x, z = (layers.Embedding(10, 5, mask_zero=True)(a) for _ in range(2))
    given = {
        "dot": layers.Attention(use_scale=True)([b, x]),
        "keyed": layers.Attention()([b, x, layers.Dense(5)(x)]),
        "concat": layers.Attention(use_scale=True, score_mode="concat")([x, b]),
        "additive": layers.AdditiveAttention()([x, x], use_causal_mask=True),
        "additive_plain": layers.AdditiveAttention(use_scale=False)([b, x]),
        "heads": layers.MultiHeadAttention(2, 3)(z, z),
        "added": layers.Attention()([x + x, x + x]),
        "pooled": layers.GlobalAveragePooling1D()(layers.Attention()([x, x])),
    }
    return drawn(keras.Model([a, b], given))


def allowed():
    """Attention under masks given by hand: of steps and steps, of heads, of numbers; and its scores."""
    x, y = keras.Input((5, 6), name="x"), keras.Input((4, 6), name="y")
    pairs = keras.Input((5, 4), dtype="bool", name="pairs")
    counts = keras.Input((5,), dtype="int32", name="counts")
    ids = keras.Input((4,), dtype="int32", name="ids")
    embedded = layers.Embedding(10, 6, mask_zero=True)(ids)
    own, scores = layers.MultiHeadAttention(2, 3)(x, y, attention_mask=pairs, return_attention_scores=True)
    each = keras.ops.concatenate([keras.ops.expand_dims(pairs, 1), keras.ops.expand_dims(pairs, 1)], axis=1)
    dot, shares = layers.Attention()([x, y], return_attention_scores=True)
    given = {
        "own": own, "scores": scores, "dot": dot, "shares": shares,
        "kept": layers.MultiHeadAttention(2, 3, dropout=0.1)(x, y, attention_mask=pairs),
        "of_heads": layers.MultiHeadAttention(2, 3)(x, y, attention_mask=each),
        "beside_masked": layers.MultiHeadAttention(2, 3)(x, embedded, attention_mask=pairs),
        "masked": layers.Attention()([x, y], mask=[counts != 0, pairs[:, 0]]),
        "of_values": layers.AdditiveAttention()([x, y], mask=[None, pairs[:, 1]]),
        "named": layers.MultiHeadAttention(2, 3)(x, y, query_mask=counts != 0, value_mask=pairs[:, 2]),
    }
    return drawn(keras.Model([x, y, pairs, counts, ids], given))


def states():
    """A text in, another out: what one network remembers at its end, another begins with."""
    told, ids = keras.Input((6, 3), name="told"), keras.Input((7,), dtype="int32", name="ids")
    begun = keras.Input((4, 5), name="begun")
    given = {}
    masked = layers.Embedding(10, 5, mask_zero=True)
    for name, steps in [("plain", told), ("masked", masked(ids))]:
        lstm, hidden, cell = layers.LSTM(4, return_state=True)(steps)
        gru, state = layers.GRU(4, return_state=True, return_sequences=True)(steps)
        simple, last = layers.SimpleRNN(4, return_state=True)(steps)
        both, *ends = layers.Bidirectional(layers.LSTM(3, return_state=True, return_sequences=True))(steps)
        given |= {f"{name}_lstm": lstm, f"{name}_h": hidden, f"{name}_c": cell, f"{name}_gru": gru, f"{name}_state": state}
        given |= {f"{name}_simple": simple, f"{name}_last": last, f"{name}_both": both, f"{name}_ends": layers.Concatenate()(ends)}
        given |= {
            f"{name}_answer": layers.LSTM(4, return_sequences=True)(begun, initial_state=[hidden, cell]),
            f"{name}_next": layers.GRU(4)(begun, initial_state=state),
            f"{name}_then": layers.SimpleRNN(4, return_sequences=True)(steps, initial_state=[last]),
            f"{name}_on": layers.Bidirectional(layers.LSTM(3))(begun, initial_state=list(ends)),
            f"{name}_further": layers.LSTM(4, return_state=True)(steps, initial_state=[hidden, cell])[2],
            f"{name}_carried": layers.GRU(4, return_state=True)(steps, initial_state=[state])[1],
        }
    given["explicit"] = layers.LSTM(4, return_sequences=True)(told, initial_state=[hidden, cell], mask=ids[:, :6] != 0)
    given["back"] = layers.GRU(4, return_sequences=True, go_backwards=True)(told)
    return drawn(keras.Model([told, ids, begun], given))


def several():
    """A network with two ends within another."""
    inner = keras.Input((5,))
    two = keras.Model(inner, [layers.Dense(3)(inner), layers.Dense(4, activation="tanh")(inner)], name="two")
    x, y = keras.Input((5,), name="x"), keras.Input((5,), name="y")
    (a, b), (c, d) = two(x), two(y)
    return drawn(keras.Model([x, y], {"first": a + c, "second": b * d, "last": layers.Concatenate()([d, c])}))


def products():
    """Sums of products, and what is divided by its own length."""
    a, b = keras.Input((5,), name="a"), keras.Input((5,), name="b")
    x, y = keras.Input((4, 5), name="x"), keras.Input((5, 6), name="y")
    given = {
        "vectors": layers.Dot(axes=1)([a, b]),
        "cosine": layers.Dot(axes=-1, normalize=True)([a, b]),
        "matrices": layers.Dot(axes=(2, 1))([x, y]),
        "turned": layers.Dot(axes=2, normalize=True)([x, x]),
        "sides": layers.Dot(axes=(1, 2))([y, x]),
        "row": layers.Dot(axes=(1, 1))([a, y]),
        "column": layers.Dot(axes=(2, 1))([x, a]),
        "unit": layers.UnitNormalization()(x),
        "whole": layers.UnitNormalization(axis=[1, 2])(x),
        "rms": layers.RMSNormalization(epsilon=1e-3)(x),
    }
    return drawn(keras.Model([a, b, x, y], given))


def groups():
    x = keras.Input((6, 5, 8), name="picture")
    first = keras.Input((8, 4, 3), name="first")
    steps = keras.Input((None, 4), name="steps")
    y = layers.GroupNormalization(4)(layers.Conv2D(8, 3, padding="same")(x))
    given = {
        "image": layers.Conv2D(3, 3)(y),
        "each": layers.GroupNormalization(groups=-1, scale=False)(x),
        "one": layers.GroupNormalization(groups=1, center=False, epsilon=1e-2)(x),
        "first_axis": layers.GroupNormalization(2, axis=1)(first),
        "of_steps": layers.GroupNormalization(2)(steps),
        "row": layers.GroupNormalization(4)(layers.Dense(8)(layers.Flatten()(x))),
    }
    return drawn(keras.Model([x, first, steps], given))


def channels_first():
    x = keras.Input((3, 10, 9))
    first = {"data_format": "channels_first"}
    y = layers.Conv2D(4, 3, padding="same", strides=2, activation="relu", **first)(x)
    y = layers.BatchNormalization(axis=1)(y)
    z = layers.DepthwiseConv2D(3, padding="same", **first)(y)
    y = layers.Concatenate(axis=1)([y, z])
    y = layers.SeparableConv2D(6, 2, activation="tanh", **first)(y)
    y = layers.ZeroPadding2D(((1, 0), (0, 2)), **first)(y)
    y = layers.MaxPooling2D(2, **first)(layers.PReLU(shared_axes=[2, 3])(y))
    y = layers.UpSampling2D((2, 3), **first)(y)
    y = layers.Conv2DTranspose(4, 3, strides=2, **first)(layers.Cropping2D(1, **first)(y))
    steps = layers.Conv1D(3, 2, **first)(layers.Reshape((4, -1))(layers.AveragePooling2D(2, **first)(y)))
    ends = [
        layers.Dense(3)(layers.Flatten(**first)(y)),
        layers.GlobalAveragePooling2D(keepdims=True, **first)(y),
        layers.GlobalMaxPooling1D(**first)(steps),
    ]
    return drawn(keras.Model(x, [*ends, y]))


def any_size():
    """Images of whatever size comes."""
    x = keras.Input((None, None, 3), name="picture")
    y = layers.Conv2D(4, 3, padding="same", strides=2, activation="relu")(x)
    y = layers.MaxPooling2D(2, padding="same")(layers.Conv2D(5, 3, dilation_rate=2, padding="same")(y))
    y = layers.AveragePooling2D(3, strides=2, padding="same")(layers.ZeroPadding2D(3)(y))
    y = layers.Add()([layers.Conv2D(5, 1)(y), y])
    up = layers.UpSampling2D(2)(layers.Cropping2D(((0, 1), (1, 0)))(y))
    up = layers.UpSampling2D(2, interpolation="bilinear")(layers.Conv2DTranspose(3, 3, strides=2, padding="same")(up))
    flat = layers.Reshape((-1, 3))(up)
    return drawn(keras.Model(x, [layers.GlobalAveragePooling2D()(y), up, flat]))


def any_length():
    """Steps of numbers, as many as come, those of zeros masked."""
    x = keras.Input((None, 3), name="steps")
    y = layers.Masking()(x)
    y = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(y)
    y = layers.GRU(4, return_sequences=True, zero_output_for_mask=True)(y)
    last = layers.LSTM(3, go_backwards=True)(y)
    plain = layers.GRU(3)(layers.Conv1D(4, 3, padding="causal")(x))
    return drawn(keras.Model(x, [layers.Concatenate()([last, plain]), layers.TimeDistributed(layers.Dense(2))(y)]))


def operations():
    """`keras.ops` and Python's signs between layers."""
    x, y = keras.Input((4, 5), name="x"), keras.Input((4, 1), name="y")
    ops = keras.ops
    given = [
        x + y, x - 1.5, 2.0 - x, x * y, x / (y * y + 1.0), 1.0 / (ops.exp(x) + 1), ops.maximum(x, y), ops.minimum(x, 0.25),
        ops.mean(x, axis=-1), ops.max(x, axis=[1, 2]), ops.sum(x, axis=1, keepdims=True), ops.min(x, axis=2), x[:, 2],
        x[:, -1, 1:-1], x[:, 1:, 0], ops.expand_dims(y, 1), ops.concatenate([x, y], axis=-1), ops.relu(x), ops.gelu(x),
        ops.softmax(x), ops.silu(x), ops.tanh(x), ops.sigmoid(x),
    ]
    return drawn(keras.Model([x, y], [layers.Flatten(name=f"given{i}")(one) for i, one in enumerate(given)]))


NETWORKS = [
    dense, activations, image, residual, steps, shared, words, graph_of_words, recurrent, masked, transformer, decoder,
    attention, allowed, states, several, products, groups, channels_first, any_size, any_length, operations,
]
