"""Objects in Azure's Blob service (`azure.py`), with an account's key: a batch reads, writes, says what is wrong."""

import base64
import json

import pytest
from azure import ACCOUNT, Store

PARTS, ROWS = 5, 1000


@pytest.fixture(scope="module")
def store():
    store = Store().start()
    store.buckets["rows"] = {}
    yield store
    store.shutdown()


def credentials(store, key: str) -> dict[str, str]:
    return {
        "AZURE_STORAGE_ACCOUNT_NAME": ACCOUNT,
        "AZURE_STORAGE_ACCOUNT_KEY": key,
        "AZURE_STORAGE_ENDPOINT": store.address,
        "AZURE_ALLOW_HTTP": "true",
    }


@pytest.fixture(scope="module")
def meuse(store, serve):
    with serve(credentials(store, Store.key)) as run:
        yield run


def results(store, prefix: str) -> list[dict]:
    """The lines of every object of predictions under a prefix."""
    named = {name: data for name, data in store.buckets["rows"].items() if name.startswith(prefix)}
    bodies = [data.decode() for name, data in named.items() if "prediction.results" in name]
    return [json.loads(line) for body in bodies for line in body.splitlines()]


def test_a_batch_reads_and_writes_there(meuse, store):
    """Every row once, of more objects than a page of the listing has; nothing half-written is left; every call is signed."""
    for part in range(PARTS):
        rows = "".join(json.dumps({"text": f"a small animal number {part} {row}"}) + "\n" for row in range(ROWS))
        store.buckets["rows"][f"in/part-{part}.jsonl"] = rows.encode()
    meuse("batch", "nouns", "--input", "az://rows/in/*", "--input-format", "jsonl", "--output", "az://rows/out")
    lines = results(store, "out/")
    asked = sorted(line["instance"]["text"] for line in lines)
    assert asked == sorted(f"a small animal number {part} {row}" for part in range(PARTS) for row in range(ROWS))
    assert all(line["prediction"]["label"] for line in lines)
    assert store.uploads == {} and store.denied == 0


def test_what_is_missing_is_named(meuse, store):
    store.buckets["rows"]["some.csv"] = b"text\na bee\n"
    for missing in ["az://rows/none.csv", "az://no-such-container/in/*"]:
        said = meuse("batch", "nouns", "--input", missing, "--output", "az://rows/out2", code=1).stderr
        assert missing.removesuffix("*") in said and "does not exist" in said
    said = meuse("batch", "nouns", "--input", "az://rows/some.csv", "--output", "az://no-such-container/out", code=1).stderr
    assert "az://no-such-container" in said
    assert results(store, "out2/") == []


def test_a_store_that_refuses_the_account_is_named(store, serve):
    """Another key than the account's: the store's refusal is said, with what to do; nothing is written."""
    store.buckets["rows"]["some.csv"] = b"text\na bee\n"
    with serve(credentials(store, base64.b64encode(b"another").decode())) as run:
        for input in ["az://rows/some.csv", "az://rows/in/*"]:
            said = run("batch", "nouns", "--input", input, "--output", "az://rows/stranger", code=1).stderr
            assert f"refuses the server access to {input.removesuffix('*')}" in said
    assert results(store, "stranger/") == []
