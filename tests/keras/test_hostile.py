"""Archives that are damaged, or made to do harm: refused with the reason, and the server goes on."""

import io
import json
import pathlib
import re
import zipfile

import h5py
import keras
import numpy as np
import pytest
from keras import layers

import networks

CONFIG, WEIGHTS = "config.json", "model.weights.h5"


@pytest.fixture(scope="module")
def parts(tmp_path_factory) -> dict[str, bytes]:
    """The parts of a good archive."""
    return saved(networks.dense(), tmp_path_factory.mktemp("good") / "good.keras")


@pytest.fixture(scope="module")
def graph(tmp_path_factory) -> dict[str, bytes]:
    """The parts of a good graph of layers."""
    x = keras.Input((4,), name="x")
    y = layers.Dense(4, name="one")(x)
    model = keras.Model(x, layers.Add(name="sum")([y, layers.Dense(4, name="two")(y)]))
    return saved(model, tmp_path_factory.mktemp("graph") / "graph.keras")


def saved(model: keras.Model, path) -> dict[str, bytes]:
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def archive(path, parts: dict[str, bytes], packing: int = zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", packing) as made:
        for name, content in parts.items():
            made.writestr(name, content)
    return path


def changed(parts: dict[str, bytes], change) -> dict[str, bytes]:
    config = json.loads(parts[CONFIG])
    change(config["config"]["layers"])
    return parts | {CONFIG: json.dumps(config).encode()}


@pytest.fixture(autouse=True)
def still_serves(server):
    yield
    assert server.ask("GET", "/health/ready").status_code == 200


def test_code_is_never_run(server, tmp_path):
    model = keras.Sequential([keras.Input((2,)), layers.Lambda(lambda x: x * 2)])
    model.save(tmp_path / "code.keras")
    said = server.refusal(tmp_path / "code.keras")
    assert "Lambda" in said and "could do anything" in said


def test_unknown_layers_and_options_are_named(server, tmp_path):
    x = keras.Input((4, 4))
    for name, y, named in [
        ("attention", layers.MultiHeadAttention(2, 2, attention_axes=(2,))(keras.ops.expand_dims(x, 1), x[:, None]), "attention_axes"),
        ("gated", layers.MultiHeadAttention(2, 2, use_gate=True)(x, x), "use_gate"),
        ("softmax", layers.Conv1D(2, 2, activation="softmax", data_format="channels_first")(x), "softmax"),
        ("bent", layers.LSTM(2, activation="relu")(x), "activation"),
        ("sorted", keras.ops.sort(x), "`Sort`"),
        ("strided", x[:, ::2], "`GetItem`"),
        ("many", layers.SimpleRNN(2)(layers.ZeroPadding1D(1500)(x)), "1024"),
    ]:
        keras.Model(x, y).save(tmp_path / f"{name}.keras")
        assert named in server.refusal(tmp_path / f"{name}.keras"), name


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.99])
def test_weights_that_are_cut_off(server, parts, tmp_path, share):
    cut = parts[WEIGHTS][: int(len(parts[WEIGHTS]) * share)]
    assert "not a whole HDF5 file" in server.refusal(archive(tmp_path / "cut.keras", parts | {WEIGHTS: cut}))


def test_an_archive_that_is_cut_off(server, parts, tmp_path):
    whole = archive(tmp_path / "whole.keras", parts).read_bytes()
    (tmp_path / "cut.keras").write_bytes(whole[: len(whole) // 2])
    assert "not a whole ZIP archive" in server.refusal(tmp_path / "cut.keras")


def test_dimensions_beyond_any_memory(server, parts, tmp_path):
    def wide(config):
        config[0]["config"]["batch_shape"] = [None, 4000, 4000, 4000]

    def units(config):
        next(layer for layer in config if layer["class_name"] == "Dense")["config"]["units"] = 10**12

    assert "the limit" in server.refusal(archive(tmp_path / "wide.keras", changed(parts, wide)))
    assert "units" in server.refusal(archive(tmp_path / "units.keras", changed(parts, units)))


def test_a_small_row_that_grows(server, tmp_path):
    model = keras.Sequential([keras.Input((8, 8, 64)), layers.UpSampling2D(2)])
    parts = saved(model, tmp_path / "small.keras")

    def grow(config):
        config[1]["config"]["size"] = [100_000, 100_000]

    assert "the limit" in server.refusal(archive(tmp_path / "grows.keras", changed(parts, grow)))


def test_weights_of_other_shapes(server, parts, tmp_path):
    def fewer(config):
        next(layer for layer in config if layer["class_name"] == "Dense")["config"]["units"] = 15

    assert "do not agree" in server.refusal(archive(tmp_path / "fewer.keras", changed(parts, fewer)))

    def narrower(config):
        config[0]["config"]["batch_shape"] = [None, 5]

    assert "[5] is expected" in server.refusal(archive(tmp_path / "narrower.keras", changed(parts, narrower)))


def test_layers_that_wait_for_each_other(server, graph, tmp_path):
    def circle(config):
        one = next(layer for layer in config if layer["name"] == "one")
        one["inbound_nodes"][0]["args"][0]["config"]["keras_history"] = ["two", 0, 0]

    assert "circle" in server.refusal(archive(tmp_path / "circle.keras", changed(graph, circle)))


def test_bombs(server, parts, tmp_path):
    bomb = parts | {WEIGHTS: bytes(200 << 20)}
    said = server.refusal(archive(tmp_path / "bomb.keras", bomb, zipfile.ZIP_DEFLATED))
    assert "the limit" in said
    config = parts | {CONFIG: b" " * (32 << 20)}
    assert "the limit" in server.refusal(archive(tmp_path / "config.keras", config, zipfile.ZIP_DEFLATED))


def test_configurations_that_are_none(server, parts, tmp_path):
    for text in [b"", b"{", b"[]", b"null", b'{"class_name": "Sequential"}', b"[" * 100_000]:
        server.refusal(archive(tmp_path / "none.keras", parts | {CONFIG: text}))
    server.refusal(archive(tmp_path / "lacking.keras", {CONFIG: parts[CONFIG]}))
    (tmp_path / "text.keras").write_text("not an archive")
    server.refusal(tmp_path / "text.keras")


def test_weights_that_are_packed_or_in_chunks(server, parts, tmp_path):
    for options in ({"chunks": (2, 2)}, {"compression": "gzip"}):
        buffer = io.BytesIO(parts[WEIGHTS])
        with h5py.File(buffer, "a") as file:
            kernel = file["layers/dense/vars/0"][()]
            del file["layers/dense/vars/0"]
            file.create_dataset("layers/dense/vars/0", data=kernel, **options)
        said = server.refusal(archive(tmp_path / "chunks.keras", parts | {WEIGHTS: buffer.getvalue()}))
        assert "not supported" in said


@pytest.mark.parametrize("version", ["earliest", "v108", "v110", "latest"])
def test_files_of_every_version_of_hdf5(server, serve, tmp_path, version):
    """With so many layers that newer versions keep their names in a heap."""
    stack = [layers.Dense(3, activation="tanh") for _ in range(60)]
    network = serve(f"deep-{version}", networks.sequential(keras.Input((3,)), *stack))
    with zipfile.ZipFile(network.file) as made:
        parts = {name: made.read(name) for name in made.namelist()}
    buffer = io.BytesIO()
    with h5py.File(io.BytesIO(parts[WEIGHTS])) as old, h5py.File(buffer, "w", libver=version) as new:
        for name in old:
            old.copy(name, new)
    name = f"deep-{version}-again"
    server.serves(archive(tmp_path / "model.keras", parts | {WEIGHTS: buffer.getvalue()}), name)
    arrays = networks.rows(network.model)
    [(_, expected)] = network.expected(arrays).items()
    [(_, told)] = server.infer(name, arrays).items()
    np.testing.assert_allclose(told, expected, rtol=1e-4, atol=1e-6)


def test_texts_longer_than_a_network_can_hold(server, serve):
    """Attention takes memory by the square of a text's length, which the client chooses."""
    network = serve("of-any-length", networks.transformer())
    path = f"/v1/models/{network.name}:predict"
    answer = server.ask("POST", path, json={"instances": [[1] * 100_000]})
    assert answer.status_code == 400 and "100000 long; this model takes 5792 at most" in answer.text, answer.text
    tensor = {"name": "ids", "shape": [1, 100_000], "datatype": "INT32", "data": [1] * 100_000}
    answer = server.ask("POST", f"/v2/models/{network.name}/infer", json={"inputs": [tensor]})
    assert answer.status_code == 400 and "5792 at most" in answer.text, answer.text
    # Rows that could be held one by one are not held all at once.
    before = peak(server)
    rows = np.random.default_rng(1).integers(0, 10, (300, 512)).tolist()
    answer = server.ask("POST", path, json={"instances": rows})
    assert answer.status_code == 200 and peak(server) - before < 1 << 30
    alone = server.ask("POST", path, json={"instances": rows[-1:]}).json()["predictions"]
    assert alone == answer.json()["predictions"][-1:]


def peak(server) -> int:
    """The most bytes that the server has had in memory."""
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) << 10
