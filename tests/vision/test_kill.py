"""A batch over a folder whose server is killed goes on where it was: each image once, in order."""

import json
import time

import pipeline
from conftest import Server
from pipeline import page, written

IMAGES = 250
WAIT_SECONDS = 300


def test_a_killed_batch_goes_on_in_its_folder(tmp_path, orientation_file):
    server = Server(tmp_path / "data")
    model = tmp_path / "model"
    model.mkdir()
    (model / "model.onnx").write_bytes(orientation_file.read_bytes())
    (model / "labels.txt").write_text("\n".join(pipeline.LABELS))
    server.made("orientation", model, processing__yaml=pipeline.ORIENTATION)
    server.put("pictures", "all/0000.png", written(page(), "PNG"))
    folder = server.data / "buckets" / "pictures" / "all"
    files = [written(page(turned, seed=turned, size=(240, 300)), "PNG") for turned in (0, 90, 180, 270)]
    for i in range(IMAGES):
        (folder / f"{i:04}.png").write_bytes(files[i % 4])
    server.post("/storage/v1/b?project=default", {"name": "told"})
    arguments = ("batch", "orientation", "--input", "gs://pictures/all/", "--output", "gs://told/out", "--no-wait")
    job = server.json(*arguments)["name"]

    def state() -> dict:
        time.sleep(0.1)
        return server.ask("GET", f"/v1/{job}").json()

    begun = time.monotonic()
    while not 0 < int(state().get("completionStats", {}).get("successfulCount", 0)) < IMAGES:
        assert time.monotonic() - begun < WAIT_SECONDS
    server.kill()
    server.start()
    begun = time.monotonic()
    while (now := state())["state"] in ("JOB_STATE_PENDING", "JOB_STATE_RUNNING"):
        assert time.monotonic() - begun < WAIT_SECONDS
    assert now["state"] == "JOB_STATE_SUCCEEDED" and now["completionStats"]["successfulCount"] == str(IMAGES), now
    out = server.data / "buckets" / "told" / "out"
    rows = [json.loads(line) for path in sorted(out.rglob("*results*")) for line in path.read_text().splitlines()]
    assert [row["instance"]["content"][-8:] for row in rows] == [f"{i:04}.png" for i in range(IMAGES)]
    assert [row["prediction"]["displayNames"][0] for row in rows[:4]] == ["0", "270", "180", "90"]
    assert server.stop() == 0, server.stderr()
