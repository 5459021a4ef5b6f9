"""kill -9 at twenty random points of a pull: it ends with the right bytes, and asks for none twice."""

import random

import time

from conftest import serve
from host import sha256

KILLS = 20
PULL_SECONDS = 6
PATIENCE_S = 60


def test_a_pull_killed_at_random_points(tmp_path, host, model):
    url = host.put("/m.onnx", model, rate=len(model) / PULL_SECONDS)
    server = serve(tmp_path / "data", host)
    operation = server.begin(url, sha256=sha256(model), displayName="killed")
    dice = random.Random(5)
    points = sorted(dice.randrange(len(model)) for _ in range(KILLS))

    def here() -> int:
        parts = list((server.data / "jobs").glob("*/0/part"))
        return parts[0].stat().st_size if parts else 0

    for point in points:
        until = time.monotonic() + PATIENCE_S
        while here() < point:
            assert time.monotonic() < until, (here(), point)
            time.sleep(0.002)
        server.kill()
        kept = here()
        assert server_has_no_version(server)
        before = len(host.gets("/m.onnx"))
        server.start()
        until = time.monotonic() + PATIENCE_S
        while len(host.gets("/m.onnx")) == before and kept < len(model):
            assert time.monotonic() < until
            time.sleep(0.002)
        if kept < len(model):
            # Nothing that was here is asked for again.
            assert (host.gets("/m.onnx")[-1].start or 0) == kept
    ended = server.ended(operation)
    assert "response" in ended, ended
    assert [found["displayName"] for found in server.models()] == ["killed"]
    stored, = (server.data / "artifacts").rglob("m.onnx")
    assert sha256(stored.read_bytes()) == sha256(model)
    assert not any((server.data / "jobs").iterdir())
    assert server.stop() == 0


def server_has_no_version(server) -> bool:
    return not list((server.data / "artifacts").rglob("m.onnx"))
