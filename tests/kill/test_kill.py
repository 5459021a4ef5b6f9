"""kill -9 at random points: every job still ends, and its output is there exactly once."""

import csv
import io
import json
import os
import pathlib
import queue
import random
import subprocess
import threading
import time

import pytest
import requests

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = os.environ.get("MEUSE_BIN", str(ROOT / "target" / "release" / "meuse"))
TRAIN_CSV = ROOT / "crates" / "meuse" / "data" / "train.csv"
KILLS = 20
ROWS = 120_000
START_S = 60
JOB_S = 300
PARENT = "projects/default/locations/us-central1"


class Server:
    """`meuse serve` on one data directory, killed and started again at will."""

    def __init__(self, data: pathlib.Path):
        self.data = data
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [BIN, "serve", "--data", self.data, "--listen", "127.0.0.1:0"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )
        lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=lambda out: [lines.put(line) for line in out], args=(self.process.stdout,), daemon=True).start()
        line = lines.get(timeout=START_S)
        assert line.startswith("listening on "), line
        self.url = line.split()[-1]
        self.headers = {"authorization": "Bearer " + (self.data / "admin.key").read_text().strip()}

    def kill(self):
        self.process.kill()
        self.process.wait(timeout=60)

    def call(self, method: str, path: str, **options):
        reply = requests.request(method, self.url + path, headers=self.headers, timeout=60, **options)
        assert reply.status_code == 200, (method, path, reply.status_code, reply.text[:500])
        return reply

    def put(self, name: str, body: bytes):
        self.call("POST", f"/upload/storage/v1/b/data/o?uploadType=media&name={name}", data=body)

    def objects(self, prefix: str) -> list[str]:
        listing = self.call("GET", f"/storage/v1/b/data/o?prefix={prefix}").json()
        return sorted(item["name"] for item in listing.get("items", []))

    def read(self, name: str) -> str:
        quoted = requests.utils.quote(name, safe="")
        return self.call("GET", f"/download/storage/v1/b/data/o/{quoted}?alt=media").content.decode()

    def train(self, name: str, seed: int, epochs: int) -> str:
        spec = {
            "label": "class", "features": [{"text": "text"}], "epochs": epochs, "seed": seed,
            "layers": [{"dense": 64, "activation": "relu"}, {"dense": 10, "activation": "softmax"}],
        }
        body = {
            "displayName": name,
            "trainingTaskDefinition": "gs://meuse/schema/trainingjob/definition/network_1.0.0.yaml",
            "trainingTaskInputs": spec | {"gcsSource": {"uris": ["gs://data/train.csv"]}},
            "modelToUpload": {"displayName": name},
        }
        return self.call("POST", f"/v1/{PARENT}/trainingPipelines", json=body).json()["name"]

    def ended(self, job: str) -> dict:
        deadline = time.monotonic() + JOB_S
        while time.monotonic() < deadline:
            found = self.call("GET", f"/v1/{job}").json()
            state = str(found["state"])
            if state.endswith(("SUCCEEDED", "FAILED", "CANCELLED")):
                return found
            time.sleep(0.2)
        raise AssertionError(f"{job} does not end")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("kill") / "data")
    server.call("POST", "/storage/v1/b?project=default", json={"name": "data"})
    server.put("train.csv", TRAIN_CSV.read_bytes())
    yield server
    server.process.terminate()
    server.process.wait(timeout=60)


def no_leftovers(server: Server):
    """No staging of a job that has ended, and no unfinished object."""
    jobs = server.data / "jobs"
    assert not jobs.exists() or list(jobs.iterdir()) == []
    hidden = [p for p in (server.data / "buckets").rglob("*") if p.name.startswith((".tmp", "tmp."))]
    assert hidden == []


def test_training_killed_at_random_points(server):
    dice = random.Random(7)
    kills = 0
    while kills < KILLS:
        name = f"trained-{kills}"
        job = server.train(name, seed=1, epochs=40)
        for _ in range(4):
            time.sleep(dice.uniform(0.02, 1.2))
            server.kill()
            kills += 1
            server.start()
        found = server.ended(job)
        assert str(found["state"]).endswith("SUCCEEDED"), found.get("error")
        models = server.call("GET", f"/v1/{PARENT}/models?filter=display_name%3D{name}").json()["models"]
        assert len(models) == 1
        versions = server.call("GET", f"/v1/{models[0]['name']}:listVersions").json()["models"]
        assert len(versions) == 1
    no_leftovers(server)


def test_batch_killed_at_random_points(server):
    model = server.ended(server.train("batched", seed=1, epochs=2))["modelToUpload"]["name"]
    texts = [row["text"] for row in csv.DictReader(io.StringIO(TRAIN_CSV.read_text()))]
    rows = io.StringIO()
    writer = csv.writer(rows)
    writer.writerow(["id", "text"])
    for i in range(ROWS):
        writer.writerow([i, texts[i % len(texts)]])
    server.put("rows.csv", rows.getvalue().encode())

    dice = random.Random(11)
    kills = 0
    while kills < KILLS:
        prefix = f"out-{kills}"
        body = {
            "displayName": prefix, "model": model,
            "inputConfig": {"instancesFormat": "csv", "gcsSource": {"uris": ["gs://data/rows.csv"]}},
            "outputConfig": {"predictionsFormat": "csv", "gcsDestination": {"outputUriPrefix": f"gs://data/{prefix}"}},
        }
        job = server.call("POST", f"/v1/{PARENT}/batchPredictionJobs", json=body).json()["name"]
        for _ in range(5):
            time.sleep(dice.uniform(0.01, 0.9))
            server.kill()
            kills += 1
            server.start()
        found = server.ended(job)
        assert str(found["state"]).endswith("SUCCEEDED"), json.dumps(found)[:2000]
        assert found["completionStats"]["successfulCount"] == str(ROWS)

        names = [n for n in server.objects(prefix) if "prediction.results" in n]
        ids = []
        for name in names:
            ids += [int(row["id"]) for row in csv.DictReader(io.StringIO(server.read(name)))]
        assert ids == list(range(ROWS)), "a row is missing, doubled or out of order"
        others = [n for n in server.objects(prefix) if "prediction." not in n and "manifest" not in n]
        assert others == []
    no_leftovers(server)
