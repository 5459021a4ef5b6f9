"""Every client gets every kind of model's answers: those of the library that made the model, within 1e-4."""

import numpy as np
import pytest

from speaking import CLIENTS

TOLERANCE = 1e-4


@pytest.mark.parametrize("client", CLIENTS)
def test_answers_are_the_librarys(server, kind, client):
    told = CLIENTS[client](server, kind)
    assert set(told) == set(kind.expected)
    for name, expected in kind.expected.items():
        assert told[name].shape == expected.shape, name
        if expected.dtype.kind in "UO":
            assert told[name].tolist() == expected.tolist()
            continue
        # Of what is near zero, relative to the rest.
        near = TOLERANCE / 10 * np.abs(expected).max()
        np.testing.assert_allclose(told[name], expected, rtol=TOLERANCE, atol=near, err_msg=name)
