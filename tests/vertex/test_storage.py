"""Cloud Storage calls with the real library: values, checksums, paging, conditions."""

import hashlib
import os

import pytest
import requests
from google.api_core import exceptions

pytestmark = pytest.mark.usefixtures("storage")


def test_buckets(storage):
    made = storage.create_bucket("shelf", location="EU")
    assert made.name == "shelf" and made.location == "EU" and made.time_created is not None
    assert storage.get_bucket("shelf").name == "shelf"
    assert "shelf" in [bucket.name for bucket in storage.list_buckets()]
    with pytest.raises(exceptions.Conflict):
        storage.create_bucket("shelf")
    made.blob("x").upload_from_string("1")
    with pytest.raises(exceptions.Conflict):
        made.delete()
    made.blob("x").delete()
    made.delete()
    assert storage.lookup_bucket("shelf") is None
    with pytest.raises(exceptions.BadRequest):
        storage.create_bucket("Not A Bucket")


def test_small_object(bucket):
    blob = bucket.blob("dir/näme with spaces & more.txt")
    blob.metadata = {"colour": "blue"}
    blob.upload_from_string("hello", content_type="text/plain", if_generation_match=0)
    again = bucket.get_blob(blob.name)
    assert again.size == 5 and again.content_type == "text/plain" and again.metadata == {"colour": "blue"}
    assert again.md5_hash == "XUFAKrxLKna5cZ2REBfFkg==" and again.crc32c == "mnG7TA=="
    assert again.download_as_bytes(checksum="md5") == b"hello"
    assert again.download_as_bytes(checksum="crc32c") == b"hello"
    assert again.download_as_bytes(start=1, end=3) == b"ell"
    with pytest.raises(exceptions.PreconditionFailed):
        blob.upload_from_string("other", if_generation_match=0)
    assert again.download_as_bytes() == b"hello"
    blob.delete()
    assert not bucket.blob(blob.name).exists()
    with pytest.raises(exceptions.NotFound):
        bucket.blob("dir/gone").download_as_bytes()


@pytest.mark.parametrize("checksum", ["md5", "crc32c", None])
def test_large_object_over_several_requests(bucket, tmp_path, checksum):
    content = os.urandom(3 * 256 * 1024 + 12345)
    source = tmp_path / "large.bin"
    source.write_bytes(content)
    blob = bucket.blob(f"large-{checksum}.bin", chunk_size=256 * 1024)
    blob.upload_from_filename(source, checksum=checksum)
    target = tmp_path / "back.bin"
    bucket.get_blob(blob.name).download_to_filename(target)
    assert hashlib.sha256(target.read_bytes()).digest() == hashlib.sha256(content).digest()
    # Chunked downloads ask for ranges.
    assert bucket.blob(blob.name, chunk_size=256 * 1024).download_as_bytes() == content


def test_stream_of_unknown_length(bucket):
    with bucket.blob("written.csv").open("w", chunk_size=256 * 1024) as file:
        for i in range(100_000):
            file.write(f"{i},x\n")
    assert bucket.blob("written.csv").download_as_text().splitlines()[99_999] == "99999,x"


def test_empty_object(bucket):
    bucket.blob("empty").upload_from_string("")
    assert bucket.get_blob("empty").size == 0
    assert bucket.blob("empty").download_as_bytes() == b""


def test_listing(storage):
    bucket = storage.create_bucket("listing")
    names = ["a.txt", "b/1.txt", "b/2.txt", "b/c/3.txt", "d.txt"]
    for name in names:
        bucket.blob(name).upload_from_string(name)
    assert [blob.name for blob in bucket.list_blobs()] == names
    assert [blob.name for blob in bucket.list_blobs(prefix="b/")] == names[1:4]
    folded = bucket.list_blobs(prefix="", delimiter="/")
    assert [blob.name for blob in folded] == ["a.txt", "d.txt"] and folded.prefixes == {"b/"}
    assert [blob.name for blob in bucket.list_blobs(page_size=2)] == names
    assert len(list(bucket.list_blobs(max_results=3))) == 3
    pages = bucket.list_blobs(page_size=1, delimiter="/")
    assert [blob.name for blob in pages] == ["a.txt", "d.txt"] and pages.prefixes == {"b/"}
    assert [blob.name for blob in bucket.list_blobs(start_offset="b/2.txt", end_offset="d.txt")] == names[2:4]


def test_copy_and_compose(bucket):
    bucket.blob("one").upload_from_string("1")
    bucket.blob("two").upload_from_string("2")
    bucket.copy_blob(bucket.blob("one"), bucket, "sub/copied")
    assert bucket.blob("sub/copied").download_as_bytes() == b"1"
    joined = bucket.blob("joined")
    joined.compose([bucket.blob("one"), bucket.blob("two"), bucket.blob("one")])
    assert joined.download_as_bytes() == b"121"


def test_what_is_missing_or_not_allowed(server, storage):
    with pytest.raises(exceptions.NotFound):
        storage.get_bucket("nowhere")
    with pytest.raises(exceptions.NotFound):
        storage.bucket("nowhere").blob("x").upload_from_string("x")
    with pytest.raises(exceptions.NotFound):
        list(storage.list_blobs("nowhere"))
    anonymous = requests.get(f"{server.url}/storage/v1/b/rows", timeout=10)
    assert anonymous.status_code == 401 and anonymous.json()["error"]["errors"][0]["reason"] == "required"
    for name in ["..%2F..%2Fadmin.key", "%252e%252e%252fadmin.key", "a%5C..%5Cb", "a%00b"]:
        answer = server.call("GET", f"/storage/v1/b/rows/o/{name}?alt=media")
        assert answer.status_code in (400, 404), name


def test_a_stated_checksum_that_differs_is_refused(server, bucket):
    body = (
        b'--x\r\ncontent-type: application/json\r\n\r\n{"name": "wrong", "md5Hash": "AAAAAAAAAAAAAAAAAAAAAA=="}'
        b"\r\n--x\r\ncontent-type: text/plain\r\n\r\nhello\r\n--x--"
    )
    headers = {**server.headers, "content-type": "multipart/related; boundary=x"}
    answer = server.call("POST", "/upload/storage/v1/b/rows/o?uploadType=multipart", data=body, headers=headers)
    assert answer.status_code == 400, answer.text
    assert bucket.get_blob("wrong") is None


def test_an_upload_that_breaks_off_is_taken_up_again(server, bucket):
    begun = server.call("POST", "/upload/storage/v1/b/rows/o?uploadType=resumable&name=resumed")
    address = begun.headers["location"]
    first = requests.put(address, data=b"abcd", headers={**server.headers, "content-range": "bytes 0-3/8"}, timeout=10)
    assert first.status_code == 308 and first.headers["range"] == "bytes=0-3"
    asked = requests.put(address, headers={**server.headers, "content-range": "bytes */8"}, timeout=10)
    assert asked.status_code == 308 and asked.headers["range"] == "bytes=0-3"
    # The client is not sure what arrived: it sends two bytes again.
    last = requests.put(address, data=b"cdefgh", headers={**server.headers, "content-range": "bytes 2-7/8"}, timeout=10)
    assert last.status_code == 200 and last.json()["size"] == "8"
    assert bucket.blob("resumed").download_as_bytes() == b"abcdefgh"
    assert requests.put(address, data=b"x", headers=server.headers, timeout=10).status_code == 404
