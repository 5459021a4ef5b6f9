"""Objects in Cloud Storage, by its XML API (`gcs.py`) and a service account's key: a batch reads, writes, says what is wrong."""

import json

import pytest
from gcs import Store

PARTS, ROWS = 5, 1000


@pytest.fixture(scope="module")
def store():
    store = Store().start()
    store.buckets["rows"] = {}
    yield store
    store.shutdown()


@pytest.fixture(scope="module")
def meuse(store, serve, tmp_path_factory):
    credentials = tmp_path_factory.mktemp("account") / "account.json"
    credentials.write_text(store.credentials())
    with serve({"GOOGLE_SERVICE_ACCOUNT_PATH": str(credentials), "GOOGLE_ALLOW_HTTP": "true"}) as run:
        yield run


def results(store, prefix: str) -> list[dict]:
    """The lines of every object of predictions under a prefix."""
    named = {name: data for name, data in store.buckets["rows"].items() if name.startswith(prefix)}
    bodies = [data.decode() for name, data in named.items() if "prediction.results" in name]
    return [json.loads(line) for body in bodies for line in body.splitlines()]


def test_a_batch_reads_and_writes_there(meuse, store):
    """Every row once, of more objects than a page of the listing has; nothing half-written is left; no call without a token."""
    for part in range(PARTS):
        rows = "".join(json.dumps({"text": f"a small animal number {part} {row}"}) + "\n" for row in range(ROWS))
        store.buckets["rows"][f"in/part {part}.jsonl"] = rows.encode()
    meuse("batch", "nouns", "--input", "gs://rows/in/*", "--input-format", "jsonl", "--output", "gs://rows/out")
    lines = results(store, "out/")
    asked = sorted(line["instance"]["text"] for line in lines)
    assert asked == sorted(f"a small animal number {part} {row}" for part in range(PARTS) for row in range(ROWS))
    assert all(line["prediction"]["label"] for line in lines)
    assert store.uploads == {} and store.denied == 0


def test_csv_comes_out_as_csv(meuse, store):
    store.buckets["rows"]["some.csv"] = b"text\na bee\na small town\n"
    meuse("batch", "nouns", "--input", "gs://rows/some.csv", "--output", "gs://rows/csv", "--output-format", "csv")
    [name] = [name for name in store.buckets["rows"] if name.startswith("csv/") and "prediction.results" in name]
    header, *rows = store.buckets["rows"][name].decode().splitlines()
    assert header.split(",")[0] == "text" and [row.split(",")[0] for row in rows] == ["a bee", "a small town"]


def test_what_is_missing_is_named(meuse, store):
    said = meuse("batch", "nouns", "--input", "gs://rows/none.csv", "--output", "gs://rows/out2", code=1).stderr
    assert "gs://rows/none.csv" in said and "does not exist" in said
    said = meuse("batch", "nouns", "--input", "gs://rows/some.csv", "--output", "gs://no-such-bucket/out", code=1).stderr
    assert "gs://no-such-bucket" in said
    said = meuse("batch", "nouns", "--input", "gs://no-such-bucket/in/*", "--output", "gs://rows/out2", code=1).stderr
    assert "gs://no-such-bucket/in/" in said and "does not exist" in said
    assert results(store, "out2/") == []


def test_a_store_that_refuses_the_account_is_named(store, serve, tmp_path):
    """Another key than the account's: the store's refusal is said, with what to do; nothing is written."""
    stranger = Store()
    account = json.loads(stranger.credentials()) | {"gcs_base_url": store.address}
    stranger.server_close()
    with serve({"GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(account), "GOOGLE_ALLOW_HTTP": "true"}) as run:
        for input in ["gs://rows/some.csv", "gs://rows/in/*"]:
            said = run("batch", "nouns", "--input", input, "--output", "gs://rows/stranger", code=1).stderr
            assert f"refuses the server access to {input.removesuffix('*')}" in said
    assert results(store, "stranger/") == []
