"""kill -9 at random points: every line of a batch is answered once, and nothing of an upload is half there."""

import random
import socket
import time
import urllib.parse

from conftest import ENDED, begin, line, outcomes, text, until, upload

KILLS = 20
LINES = 5_000


def test_killed_at_random_points(server):
    dice = random.Random(5)
    content = text([line(str(n), prompt=str(n), max_tokens=1 + n % 2) for n in range(LINES)])
    batches, kills = [], 0
    while kills < KILLS:
        client = server.client()
        if not batches or client.batches.retrieve(batches[-1].id).status in ENDED:
            batches.append(begin(client, content))
        time.sleep(dice.uniform(0.05, 1.5))
        server.kill()
        kills += 1
        server.start()
    client = server.client()
    for batch in batches:
        done = until(client, batch)
        assert done.status == "completed", done.errors
        answers, errors = outcomes(client, done)
        assert not errors and answers.keys() == {str(n) for n in range(LINES)}
    assert not list((server.data / "jobs").iterdir())


def test_an_upload_that_is_cut_leaves_nothing(server):
    kept = upload(server.client(), b"{}\n")
    before = {file.id for file in server.client().files.list()}
    head = (
        f"POST /v1/files HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {server.key}\r\n"
        "content-type: multipart/form-data; boundary=xyz\r\ncontent-length: 9000000\r\n\r\n"
        '--xyz\r\ncontent-disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\n'
    )
    staging = server.data / "files" / ".staging"
    address = urllib.parse.urlsplit(server.url)
    for end in ("leaves", "killed"):
        with socket.create_connection((address.hostname, address.port)) as connection:
            connection.sendall(head.encode() + b"x" * 3_000_000)
            deadline = time.monotonic() + 30
            while not any(file.stat().st_size for file in staging.iterdir()):
                assert time.monotonic() < deadline
                time.sleep(0.02)
            if end == "killed":
                server.kill()
        if end == "killed":
            server.start()
        deadline = time.monotonic() + 30
        while any(staging.iterdir()):
            assert time.monotonic() < deadline, "what was cut stays"
            time.sleep(0.05)
        assert {file.id for file in server.client().files.list()} == before
    assert server.client().files.content(kept.id).content == b"{}\n"
