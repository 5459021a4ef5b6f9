"""Every layer answers as Keras does, within 1e-4."""

import zipfile

import keras
import numpy as np
import pytest

import networks


@pytest.mark.parametrize("make", networks.NETWORKS, ids=lambda make: make.__name__)
def test_answers_are_those_of_keras(serve, make):
    model = make()
    network = serve(make.__name__, model)
    arrays = networks.rows(model)
    if make is networks.recurrent:
        # Ids that come as floats, which Keras cuts to whole numbers.
        arrays = {"ids": np.abs(arrays["ids"] * 4).clip(0, 9.9).astype(np.float32)}
    if make is networks.any_length:
        arrays["steps"][:, [0, 4, 5, -1]] = 0
        arrays["steps"][1] = 0
    network.agrees(arrays)


@pytest.mark.parametrize("make", [networks.transformer, networks.any_size, networks.any_length], ids=lambda make: make.__name__)
def test_open_dimensions_take_any_length(server, serve, make):
    model = make()
    network = serve(f"{make.__name__}-of-any-size", model)
    for length in (8, 13):
        network.agrees(networks.rows(model, length=length))
    name, tensor = next(iter(networks.inputs(model).items()))
    [taken] = server.ask("GET", f"/v2/models/{network.name}").json()["inputs"]
    assert (taken["name"], taken["shape"]) == (name, [-1 if dim is None else dim for dim in tensor.shape])


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_policies_are_computed_as_float32(server, serve, policy):
    """Nearer to what the weights say than Keras rounds under the policy, and near to that."""
    keras.config.set_dtype_policy(policy)
    try:
        model = networks.image()
    finally:
        keras.config.set_dtype_policy("float32")
    network = serve(policy, model)
    plain = networks.image()
    plain.set_weights(model.get_weights())
    arrays = networks.rows(model)
    [taken] = arrays.values()
    [told] = server.infer(network.name, arrays).values()
    np.testing.assert_allclose(told, np.asarray(plain(taken)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(told, np.asarray(model(taken)), atol=0.02)


def test_a_packed_archive_is_the_same(serve, server, tmp_path):
    network = serve("plain", networks.dense())
    packed = tmp_path / "packed.keras"
    with zipfile.ZipFile(network.file) as plain, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in plain.namelist():
            archive.writestr(name, plain.read(name))
    server.serves(packed, "packed")
    arrays = networks.rows(network.model)
    np.testing.assert_array_equal(
        *(next(iter(server.infer(name, arrays).values())) for name in ("plain", "packed")),
    )
