"""A server with a model that was trained from a Parquet file, and the same rows as CSV."""

import csv
import pathlib
import sys
import time

import pyarrow as pa
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "served"))
import served  # noqa: E402

import tables  # noqa: E402

MODEL = "rivers"
ROWS = 3000
WAIT_SECONDS = 120
ENDED = ("JOB_STATE_SUCCEEDED", "JOB_STATE_FAILED", "JOB_STATE_CANCELLED")


class Server(served.Server):
    def batch(self, path, *options: str, name: str = MODEL) -> str:
        """Begins a batch over a file and says which."""
        arguments = ("--output", "gs://told/out", "--no-wait", *options)
        return self.json("batch", name, "--input", path, *arguments)["name"]

    def until(self, job: str, wanted=lambda job: job["state"] in ENDED) -> dict:
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            found = self.ask("GET", f"/v1/{job}").json()
            if wanted(found):
                return found
            time.sleep(0.05)
        raise AssertionError(f"never as wanted: {found}")

    def predicted(self, path, *options: str, name: str = MODEL) -> list[list[str]]:
        """What a batch makes of a file: header and rows."""
        return self.rows(self.until(self.batch(path, *options, name=name)))

    def rows(self, job: dict) -> list[list[str]]:
        assert job["state"] == "JOB_STATE_SUCCEEDED", job
        directory = job["outputInfo"]["gcsOutputDirectory"].removeprefix("gs://")
        found = []
        for path in sorted((self.data / "buckets" / directory).glob("prediction.results*")):
            with open(path, newline="") as file:
                header, *rows = csv.reader(file)
            found += rows if found else [header, *rows]
        return found

    def refused(self, path) -> str:
        job = self.until(self.batch(path))
        assert job["state"] == "JOB_STATE_FAILED", job
        return job["error"]["message"]


def as_csv(path, rows: pa.Table):
    """The same rows as a CSV file."""
    with open(path, "w", newline="") as file:
        out = csv.writer(file)
        out.writerow(rows.column_names)
        out.writerows([tables.cell(value) for value in row.values()] for row in rows.to_pylist())
    return path


def plain(rows: int) -> pa.Table:
    """Rows that the model takes: the answer follows from the length."""
    count = range(rows)
    return pa.table({
        "id": pa.array(count, pa.int64()),
        "double": pa.array(n / 7 for n in count),
        "own": pa.array(f"row {n}" for n in count),
        "category": pa.array("xyz"[n % 3] for n in count),
        "length": pa.array(float(n % 2 * 5 + n % 3) for n in count),
        "answer": pa.array("deep" if n % 2 else "shallow" for n in count),
    })


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    return tmp_path_factory.mktemp("files")


@pytest.fixture(scope="session")
def server(tmp_path_factory, files):
    server = Server(tmp_path_factory.mktemp("parquet") / "data")
    server.ask("POST", "/storage/v1/b?project=default", json={"name": "told"})
    tables.write(files / "train.parquet", plain(ROWS))
    (files / "spec.yaml").write_text(
        "features: [{numeric: length}]\nlabel: answer\n"
        "layers: [{dense: 8, activation: relu}, {dense: labels, activation: softmax}]\nepochs: 3\nseed: 1\n"
    )
    server.command("train", files / "train.parquet", "--name", MODEL, "--spec", files / "spec.yaml")
    yield server
    assert server.stop() == 0, server.stderr()
