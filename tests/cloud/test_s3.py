"""Objects in an S3 store (moto's): a batch reads from it and writes to it, and what is wrong with it is said."""

import json

import boto3
import pytest
from moto.server import ThreadedMotoServer

REGION = "us-east-1"
ROWS = 2000


@pytest.fixture(scope="module")
def store():
    """The store's address."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def s3(store):
    key = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
    client = boto3.client("s3", endpoint_url=store, region_name=REGION, **key)
    client.create_bucket(Bucket="rows")
    return client


@pytest.fixture(scope="module")
def meuse(store, serve):
    credentials = {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_ENDPOINT": store,
        "AWS_ALLOW_HTTP": "true",
        "AWS_REGION": REGION,
    }
    with serve(credentials) as run:
        yield run


def results(s3, prefix: str) -> list[str]:
    """The lines of every object of predictions under a prefix."""
    keys = [item["Key"] for item in s3.list_objects_v2(Bucket="rows", Prefix=prefix).get("Contents", [])]
    bodies = [s3.get_object(Bucket="rows", Key=key)["Body"].read().decode() for key in keys if "prediction.results" in key]
    return [line for body in bodies for line in body.splitlines()]


def test_a_batch_reads_and_writes_there(meuse, s3):
    """Every row once, from several objects; and nothing else is left there."""
    for part in range(2):
        rows = "".join(json.dumps({"text": f"a small animal number {part} {row}"}) + "\n" for row in range(ROWS))
        s3.put_object(Bucket="rows", Key=f"in/part-{part}.jsonl", Body=rows.encode())
    meuse("batch", "nouns", "--input", "s3://rows/in/*", "--input-format", "jsonl", "--output", "s3://rows/out")
    lines = [json.loads(line) for line in results(s3, "out/")]
    asked = sorted(line["instance"]["text"] for line in lines)
    assert asked == sorted(f"a small animal number {part} {row}" for part in range(2) for row in range(ROWS))
    assert all(line["prediction"]["label"] for line in lines)
    assert not s3.list_multipart_uploads(Bucket="rows").get("Uploads")


def test_what_is_missing_is_named(meuse, s3):
    said = meuse("batch", "nouns", "--input", "s3://rows/none.csv", "--output", "s3://rows/out2", code=1).stderr
    assert "s3://rows/none.csv" in said and "does not exist" in said
    said = meuse("batch", "nouns", "--input", "s3://no-such-bucket/in/*", "--output", "s3://rows/out2", code=1).stderr
    assert "s3://no-such-bucket/in/" in said and "does not exist" in said
    s3.put_object(Bucket="rows", Key="one.csv", Body=b"text\na bee\n")
    said = meuse("batch", "nouns", "--input", "s3://rows/one.csv", "--output", "s3://no-such-bucket/out", code=1).stderr
    assert "s3://no-such-bucket" in said
    assert results(s3, "out2/") == []


def test_a_scheme_without_credentials_is_refused(meuse):
    said = meuse("batch", "nouns", "--input", "az://container/rows.csv", "--output", "az://container/out", code=1).stderr
    assert "AZURE_STORAGE_ACCOUNT_NAME" in said
