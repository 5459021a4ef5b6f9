"""ONNX Runtime's library, brought by the operator: who computes what, and that it answers the same."""

import pathlib
import subprocess

import numpy as np
import onnxruntime
import pytest

from conftest import Server
from networks import SIDE, convolutions
import served

LIBRARY = next(pathlib.Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*"))


@pytest.fixture(scope="module")
def with_library(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("library") / "data", "--onnxruntime", str(LIBRARY))
    yield server
    assert server.stop() == 0, server.stderr()


def test_the_faster_one_computes_and_answers_the_same(server, with_library, tmp_path):
    file = convolutions(tmp_path / "convolutions.onnx")
    images = np.random.default_rng(6).normal(size=(4, 3, SIDE, SIDE)).astype(np.float32)
    scores, best = onnxruntime.InferenceSession(str(file)).run(None, {"image": images})
    for asked, platform in [(server, "onnx"), (with_library, "onnxruntime_onnx")]:
        deployed = asked.deploy("convolutions", file)
        assert asked.ask("GET", "/v2/models/convolutions").json()["platform"] == platform
        answers = deployed.predict(images.tolist())
        np.testing.assert_allclose([a["scores"] for a in answers], scores, rtol=1e-4, atol=1e-5)
        assert [a["best"] for a in answers] == best.tolist()
        # A row alone is, bit for bit, what it is among others.
        assert [deployed.predict([image])[0] for image in images.tolist()] == answers


def test_bad_inputs_stay_errors(with_library, tmp_path):
    deployed = with_library.deploy("small", convolutions(tmp_path / "small.onnx"))
    answer = deployed.ask([[[1.0]]])
    assert answer.status_code == 400 and answer.json()["error"]["status"] == "INVALID_ARGUMENT", answer.text
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(pathlib.Path(tmp_path / "small.onnx").read_bytes()[:400])
    assert "not a readable ONNX model" in with_library.refusal("damaged", damaged)


def test_what_is_no_library_is_refused(tmp_path):
    for name, content in [("text.so", b"hello"), ("missing.so", None)]:
        file = tmp_path / name
        if content:
            file.write_bytes(content)
        command = [served.BINARY, "serve", "--data", tmp_path / "data", "--listen", "127.0.0.1:0", "--onnxruntime", file]
        said = subprocess.run(command, capture_output=True, text=True, timeout=60, env=served.environment())
        assert said.returncode != 0 and name in said.stderr and "libonnxruntime.so" in said.stderr, said.stderr
