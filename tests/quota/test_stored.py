"""Stored bytes: refused before they come or cut off, whatever way they come by, and free again once deleted."""

import json
import threading

import openai
import pytest
from google.api_core import exceptions
from google.cloud import storage
from google.oauth2.credentials import Credentials

from conftest import SPECIFICATION

PROJECT = "stores"
KIB = 1 << 10
LIMIT = 256 * KIB


@pytest.fixture
def limit(server):
    """Sets the project's limit; without one at the end."""

    def to(stored) -> dict:
        return server.json("quota", "set", f"projects/{PROJECT}", "--stored-bytes", stored)

    yield to
    to("none")


@pytest.fixture(scope="module")
def deployer(server) -> str:
    return server.new_key("deployer", PROJECT)


@pytest.fixture(scope="module")
def bucket(server, deployer):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", server.url)
        client = storage.Client(project=PROJECT, credentials=Credentials(token=deployer))
        yield client.create_bucket("stores-bytes")


def kept(server) -> int:
    return server.json("quota", "get", f"projects/{PROJECT}")["keptBytes"]


def test_objects_are_refused_by_their_length_and_free_again(server, limit, bucket):
    assert limit("256KiB")["storedBytes"] == LIMIT
    first = bucket.blob("first")
    first.upload_from_string(b"x" * (200 * KIB))
    assert kept(server) == 200 * KIB
    for upload in (
        # In two parts, in several, and in one that says nothing of its length.
        lambda: bucket.blob("second").upload_from_string(b"x" * (100 * KIB)),
        lambda: bucket.blob("second", chunk_size=256 * KIB).upload_from_string(b"x" * (300 * KIB)),
        lambda: bucket.copy_blob(first, bucket, "second"),
    ):
        with pytest.raises(exceptions.Forbidden, match="may keep 262144 bytes here"):
            upload()
    refused = server.ask(
        "POST", "/upload/storage/v1/b/stores-bytes/o?uploadType=media&name=second",
        data=(b"x" * KIB for _ in range(100)),
    )
    assert refused.status_code == 403, refused.text
    assert refused.json()["error"]["errors"][0]["reason"] == "quotaExceeded"
    # Nothing half-written, and the limit is met to the byte.
    assert [blob.name for blob in bucket.list_blobs()] == ["first"] and kept(server) == 200 * KIB
    bucket.blob("second").upload_from_string(b"x" * (56 * KIB))
    with pytest.raises(exceptions.Forbidden):
        bucket.blob("third").upload_from_string(b"x")
    # What replaces counts in the place of what it replaces.
    first.delete()
    bucket.blob("second").upload_from_string(b"x" * (100 * KIB))
    assert kept(server) == 100 * KIB
    bucket.delete_blobs(list(bucket.list_blobs()))
    assert kept(server) == 0
    # Others have limits of their own.
    body = {"name": "others-bytes"}
    assert server.ask("POST", "/storage/v1/b?project=default", json=body).status_code == 200
    path = "/upload/storage/v1/b/others-bytes/o?uploadType=media&name=large"
    assert server.ask("POST", path, data=b"x" * (2 * LIMIT)).status_code == 200


def test_a_refused_length_is_not_waited_for(server, limit, deployer, bucket):
    """The answer is there before the body is."""
    import http.client

    limit("100KiB")
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=10)
    connection.putrequest("POST", "/upload/storage/v1/b/stores-bytes/o?uploadType=media&name=late")
    connection.putheader("authorization", f"Bearer {deployer}")
    connection.putheader("content-length", str(1 << 20))
    connection.endheaders()
    assert connection.getresponse().status == 403
    connection.close()
    assert kept(server) == 0


def test_files_are_refused_in_openai_s_words_and_free_again(server, limit, deployer):
    limit("64KiB")
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=deployer, max_retries=0)
    line = json.dumps({"custom_id": "a", "method": "POST", "url": "/v1/completions", "body": {}}).encode() + b"\n"
    made = client.files.create(file=("a.jsonl", line * 400), purpose="batch")
    assert kept(server) == made.bytes == 400 * len(line)
    with pytest.raises(openai.RateLimitError, match="may keep 65536 bytes") as refused:
        client.files.create(file=("b.jsonl", line * 600), purpose="batch")
    assert refused.value.code == "insufficient_quota"
    assert kept(server) == made.bytes
    client.files.delete(made.id)
    assert kept(server) == 0
    client.files.delete(client.files.create(file=("b.jsonl", line * 600), purpose="batch").id)


def test_many_at_once_do_not_exceed_it(server, limit, deployer, bucket):
    limit("256KiB")
    took = []

    def put(n: int):
        path = f"/upload/storage/v1/b/stores-bytes/o?uploadType=media&name=many-{n}"
        took.append(server.ask("POST", path, key=deployer, data=b"x" * (20 * KIB)).status_code)

    threads = [threading.Thread(target=put, args=(n,)) for n in range(40)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert set(took) == {200, 403} and took.count(200) == LIMIT // (20 * KIB)
    assert kept(server) == took.count(200) * 20 * KIB
    bucket.delete_blobs(list(bucket.list_blobs()))


def test_models_and_what_batches_leave_count(server, limit, deployer, bucket, tmp_path):
    specification, rows = tmp_path / "topics.yaml", "gs://stores-bytes/rows.csv"
    specification.write_text(SPECIFICATION)
    options = ("--key", deployer, "--project", PROJECT)
    train = lambda name, **expected: server.command(  # noqa: E731
        "train", rows, "--name", name, "--spec", specification, *options, **expected
    )
    batch = lambda **expected: server.command(  # noqa: E731
        "batch", "sizes", "--input", rows, "--output", "gs://stores-bytes/out", *options, **expected
    )
    limit("100GiB")
    bucket.blob("rows.csv").upload_from_string("text,class\n" + "a bee,animal\na rose,plant\n" * 200)
    before = kept(server)
    train("sizes")
    with_model = kept(server)
    assert with_model > before
    limit(with_model + 100)
    assert "may keep" in batch(code=1).stderr
    # Nothing of it stays.
    assert [blob.name for blob in bucket.list_blobs()] == ["rows.csv"] and kept(server) == with_model
    assert "may keep" in train("more", code=1).stderr
    assert kept(server) == with_model
    limit("100GiB")
    batch()
    left = sum(blob.size for blob in bucket.list_blobs(prefix="out"))
    assert left > 1000 and kept(server) == with_model + left
    there = kept(server)
    server.kill()
    server.start()
    assert kept(server) == there
    # A deleted model takes no room.
    models = f"/v1/projects/{PROJECT}/locations/us-central1/models"
    for model in server.ask("GET", models, key=deployer).json()["models"]:
        assert server.ask("DELETE", f"/v1/{model['name']}", key=deployer).status_code == 200
    assert kept(server) == before + left
