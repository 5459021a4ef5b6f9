"""Parquet files, as pyarrow writes them, where CSV is taken: the same rows, whatever the way of writing."""

import hashlib
import json
import random
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tables
from conftest import MODEL, ROWS, as_csv, plain


def wide(rows: int) -> pa.Table:
    """Every kind of column, with one that the model takes."""
    table = tables.table(rows)
    return table.append_column("length", pa.array([float(n % 7) for n in range(rows)]))


def same(found: list[list[str]], expected: list[list[str]]):
    """Floats may be written otherwise."""
    assert len(found) == len(expected) and found[0] == expected[0]
    for one, other in zip(found[1:], expected[1:]):
        for name, cell, wanted in zip(found[0], one, other):
            assert cell == wanted or float(cell) == pytest.approx(float(wanted), rel=1e-6), (name, cell, wanted)


@pytest.fixture(scope="module")
def expected(server, files):
    return server.predicted(as_csv(files / "wide.csv", wide(ROWS)))


@pytest.mark.parametrize("writer", tables.WRITERS)
def test_every_way_of_writing_gives_what_csv_gives(server, files, expected, writer):
    tables.write(files / f"{writer}.parquet", wide(ROWS), writer)
    found = server.predicted(files / f"{writer}.parquet")
    same(found, expected)


def test_training_and_evaluation(server, files):
    trained = server.json("models", MODEL)
    assert trained, trained
    as_csv(files / "held.csv", plain(900))
    tables.write(files / "held.parquet", plain(900), "second")
    by_parquet = server.json("evaluate", MODEL, "--data", files / "held.parquet", "--slice-by", "category")
    by_csv = server.json("evaluate", MODEL, "--data", files / "held.csv", "--slice-by", "category")
    assert by_parquet["metrics"] == by_csv["metrics"]
    assert by_parquet["metadata"]["rows"] == 900 and by_parquet["metadata"]["skippedRows"] == 0
    digest = hashlib.sha256((files / "held.parquet").read_bytes()).hexdigest()
    assert by_parquet["metadata"]["datasetDigest"] == f"sha256:{digest}"


def test_several_files_keys_and_jsonl(server, files):
    for part in range(3):
        tables.write(files / f"part-{part}.parquet", plain(300).slice(part * 100, 100))
    server.ask("POST", "/storage/v1/b?project=default", json={"name": "parts"})
    for part in range(3):
        body = (files / f"part-{part}.parquet").read_bytes()
        server.ask("POST", f"/upload/storage/v1/b/parts/o?uploadType=media&name=part-{part}.parquet", data=body)
    found = server.predicted("gs://parts/part-*.parquet", "--input-format", "parquet", "--key-column", "id")
    assert found[0][0] == "key" and [row[0] for row in found[1:]] == [str(n) for n in range(300)]
    job = server.until(server.batch(files / "part-1.parquet", "--output-format", "jsonl"))
    directory = job["outputInfo"]["gcsOutputDirectory"].removeprefix("gs://")
    (path,) = (server.data / "buckets" / directory).glob("prediction.results*")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["instance"]["id"] for line in lines] == list(range(100, 200))
    assert lines[0]["instance"]["own"] == "row 100" and "label" in lines[0]["prediction"]


def test_images_beside_a_file_are_sent_with_it(server, files):
    """Those that lie there; a name that nothing has is left to the row."""
    pictures = files / "pictures"
    (pictures / "more").mkdir(parents=True)
    (pictures / "a.png").write_bytes(b"one")
    (pictures / "more" / "b.jpg").write_bytes(b"two")
    names = pa.array(["a.png", "more/b.jpg", "absent.png"])
    tables.write(pictures / "rows.parquet", plain(3).append_column("picture", names), "plain")
    job = server.until(server.batch(pictures / "rows.parquet", "--exclude", "picture"))
    [uri] = job["inputConfig"]["gcsSource"]["uris"]
    sent = (server.data / "buckets" / uri.removeprefix("gs://")).parent
    assert (sent / "a.png").read_bytes() == b"one" and (sent / "more" / "b.jpg").read_bytes() == b"two"
    assert not (sent / "absent.png").exists() and job["completionStats"]["successfulCount"] == "3"


def test_a_row_that_does_not_fit_fails_alone(server, files):
    rows = plain(10).set_column(4, "length", pa.array(["1.5", "nothing"] * 5))
    tables.write(files / "bad.parquet", rows)
    job = server.until(server.batch(files / "bad.parquet"))
    assert job["completionStats"]["successfulCount"] == "5" and job["completionStats"]["failedCount"] == "5"
    assert "row 1: column `length`" in job["partialFailures"][0]["message"]


def test_what_is_not_read_is_refused_by_name(server, files):
    for column, named in [
        (pa.array([[1.0]]), "column `length` is nested"),
        (pa.array([{"a": 1.0}]), "column `length` is nested"),
        (pa.array([b"x" * 16], pa.binary(16)), "column `length`: bytes of fixed length"),
    ]:
        pq.write_table(pa.table({"length": column}), files / "no.parquet")
        assert named in server.refused(files / "no.parquet")
    pq.write_table(pa.table({"length": [1.0]}), files / "no.parquet", compression="brotli")
    assert "column `length`: the compression Brotli is not supported" in server.refused(files / "no.parquet")
    (files / "no.parquet").write_text("length\n1\n")
    assert "is not a whole Parquet file" in server.refused(files / "no.parquet")


def test_damage_is_told_and_the_server_goes_on(server, files):
    tables.write(files / "whole.parquet", wide(ROWS), "second")
    whole = (files / "whole.parquet").read_bytes()
    (files / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    assert "is not a whole Parquet file" in server.refused(files / "cut.parquet")
    lying = whole[:-8] + (0x7FFFFFFF).to_bytes(4, "little") + b"PAR1"
    (files / "lying.parquet").write_bytes(lying)
    assert "its footer is damaged" in server.refused(files / "lying.parquet")
    dice = random.Random(7)
    for _ in range(10):
        bytes_ = bytearray(whole)
        for _ in range(20):
            bytes_[dice.randrange(4, len(whole) - 8)] = dice.randrange(256)
        (files / "hit.parquet").write_bytes(bytes_)
        server.until(server.batch(files / "hit.parquet"))
    assert server.ask("GET", "/").status_code == 200


def memory(server) -> int:
    status = open(f"/proc/{server.process.pid}/status").read()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM:"))) << 10


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_bomb_is_refused_with_memory_flat(server, files):
    before = memory(server)
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 20_000, pa.int32()), pa.array(["x" * 100_000]))
    pq.write_table(pa.table({"length": text}), files / "bomb.parquet", compression="gzip")
    assert (files / "bomb.parquet").stat().st_size < 1 << 20
    assert "it unpacks to more than 1000 times its size" in server.refused(files / "bomb.parquet")
    assert memory(server) - before < 512 << 20


def rows_done(job: dict) -> int:
    return int(job.get("completionStats", {}).get("successfulCount", 0))


def test_killed_at_random_points(server, files):
    rows = plain(1_500_000)
    tables.write(files / "many.parquet", rows, row_group_size=50_000, data_page_size=1 << 16, write_batch_size=1024)
    expected = server.predicted(files / "many.parquet", "--key-column", "id")
    job = server.batch(files / "many.parquet", "--key-column", "id")
    amid, done = 0, 0
    for _ in range(4):
        now = server.until(job, lambda job: rows_done(job) > done or "endTime" in job)
        server.kill()
        server.start()
        done, amid = rows_done(now), amid + (0 < rows_done(now) < rows.num_rows)
    assert amid > 0, "the job was never killed on its way"
    found = server.rows(server.until(job))
    assert found == expected and len(found) == 1_500_001
