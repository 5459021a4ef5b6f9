"""Who did what is on disk before it is done; whoever alters it is found out."""

import json
import re
import signal
import threading

import pytest
import requests

import served
from conftest import LOCATION, Server


def lines(server) -> list[bytes]:
    return (server.data / "audit" / "log.jsonl").read_bytes().splitlines(keepends=True)


def test_acts_are_written_down_with_who_what_and_how_it_ended(server):
    key = server.json("keys", "create", "--role", "deployer", "--project", "works")
    parent = f"/v1/projects/works/locations/{LOCATION}"
    last = server.entries()[-1]["n"]
    assert server.call("POST", f"{parent}/endpoints?endpointId=e1", key["key"], {"displayName": "private words"}).status_code == 200
    assert server.call("DELETE", f"{parent}/endpoints/absent", key["key"]).status_code == 404
    assert server.call("GET", f"{parent}/endpoints", key["key"]).status_code == 200
    found = server.entries("--after", last)
    acts = [entry for entry in found if entry["event"] == "act" and entry["key"] == key["id"]]
    assert [(act["what"].split()[0], act["project"], act["role"], act["from"]) for act in acts] == [
        ("POST", "works", "deployer", "127.0.0.1"), ("DELETE", "works", "deployer", "127.0.0.1")]
    assert acts[1]["resource"] == f"{parent}/endpoints/absent"
    ends = {entry["of"]: entry for entry in found if entry["event"] == "outcome"}
    assert [ends[act["n"]]["status"] for act in acts] == [200, 404]
    assert "projects/works/" in ends[acts[0]["n"]]["resource"]
    # Reading is no act, but reading the log is.
    assert sum(entry.get("what") == "GET /admin/v1/audit" and entry["event"] == "act" for entry in found) == 1
    assert "private words" not in json.dumps(found)
    made, = [entry for entry in server.entries() if entry["event"] == "outcome" and key["id"] in entry.get("resource", "")]
    assert made["resource"] == f"keys/{key['id']} for deployer of project works"


def test_refusals_are_counted_and_a_flood_of_them_fills_no_disk(server):
    key = server.json("keys", "create", "--role", "viewer", "--project", "flooded")
    last, size = server.entries()[-1]["n"], (server.data / "audit" / "log.jsonl").stat().st_size

    def flood():
        with requests.Session() as session:
            for i in range(500):
                session.get(f"{server.url}/v1/models/secret-{i}", headers={"authorization": f"Bearer wrong{i}"}, timeout=60)
                session.delete(f"{server.url}/v1/files/f{i}", headers={"authorization": f"Bearer {key['key']}"}, timeout=60)

    threads = [threading.Thread(target=flood) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    denied = [entry for entry in server.entries("--after", last) if entry["event"] == "denied"]
    count = lambda status: sum(entry["count"] for entry in denied if entry.get("status") == status)  # noqa: E731
    assert (count(401), count(403)) == (2000, 2000)
    assert {entry["key"] for entry in denied if entry["status"] == 403} == {key["id"]}
    assert {entry["what"] for entry in denied} == {"GET /v1/models/{model}", "DELETE /v1/files/{file}"}
    assert (server.data / "audit" / "log.jsonl").stat().st_size - size < 20_000
    assert "secret-" not in json.dumps(denied) and "wrong" not in json.dumps(denied)


def test_an_auditor_reads_the_log_of_its_project_and_nothing_else(server):
    auditor = server.new_key("auditor", "works")
    text = server.call("GET", "/admin/v1/audit", auditor).text
    assert text and {json.loads(line)["project"] for line in text.splitlines()} == {"works"}
    for method, path in (("GET", "/v1/models"), ("GET", f"/v1/projects/works/locations/{LOCATION}/models"),
                         ("GET", "/storage/v1/b"), ("GET", "/admin/v1/keys"), ("GET", "/metrics"), ("POST", "/v1/chat/completions")):
        assert server.call(method, path, auditor).status_code == 403, path
    for role in ("viewer", "invoker", "deployer"):
        assert server.call("GET", "/admin/v1/audit", server.new_key(role)).status_code == 403
    assert server.call("GET", "/admin/v1/audit?after=x", auditor).status_code == 400


def test_an_export_is_verified_anywhere(server, tmp_path):
    verdict = server.json("audit", "verify")
    assert verdict["fault"] is None and verdict["entries"] > 10
    export = tmp_path / "export.jsonl"
    server.command("audit", "export", "--output", export)
    head = f"{verdict['entries']}:{verdict['digest']}"
    assert "all as they were written" in server.command("audit", "verify", "--file", export, "--head", head).stdout
    whole = export.read_bytes().splitlines(keepends=True)
    changed = {
        "removed": whole[:3] + whole[4:],
        "reordered": [whole[1], whole[0], *whole[2:]],
        "altered": [*whole[:5], whole[5].replace(b'"event":"', b'"event": "'), *whole[6:]],
        "cut off": whole[:2],
        "forged": [*whole[:-1], re.sub(rb"20\d\d-", b"2001-", whole[-1])],
    }
    for what, content in changed.items():
        export.write_bytes(b"".join(content))
        failed = server.command("audit", "verify", "--file", export, "--head", head, code=1)
        assert "not as it was written" in failed.stderr, what


@pytest.mark.parametrize("harm", ["removed", "altered", "reordered", "cut off", "cut in the middle of a line", "emptied"])
def test_the_server_finds_what_was_done_to_its_log(tmp_path, harm):
    server = Server(tmp_path / "data")
    for _ in range(3):
        server.new_key("viewer")
    assert server.json("audit", "verify")["fault"] is None
    assert server.stop() == 0
    log, whole = server.data / "audit" / "log.jsonl", lines(server)
    acts = [i for i, line in enumerate(whole) if b'"event":"act"' in line]
    harmed = {
        "removed": whole[:acts[1]] + whole[acts[1] + 1:],
        "altered": [line.replace(b"POST /admin", b"GET_ /admin") for line in whole],
        "reordered": [whole[1], whole[0], *whole[2:]],
        "cut off": whole[:-2],
        "cut in the middle of a line": [*whole[:-2], whole[-2][:30]],
        "emptied": [],
    }[harm]
    log.write_bytes(b"".join(harmed))
    server.start()
    # Whatever is written afterwards does not hide it.
    server.new_key("viewer")
    failed = server.command("audit", "verify", code=1)
    assert "not as it was written" in failed.stderr
    assert server.predict("absent").status_code == 404
    assert server.stop() == 0


def test_every_act_that_was_answered_is_in_the_log_of_a_killed_server(tmp_path):
    server = Server(tmp_path / "data")
    made, stop = [], threading.Event()

    def make():
        while not stop.is_set():
            try:
                made.append(server.call("POST", "/admin/v1/keys", body={"project": "p", "role": "viewer"}).json()["id"])
            except requests.RequestException:
                return

    for _ in range(3):
        stop.clear()
        before, threads = len(made), [threading.Thread(target=make) for _ in range(4)]
        for thread in threads:
            thread.start()
        while len(made) < before + 20:
            threading.Event().wait(0.02)
        server.process.send_signal(signal.SIGKILL)
        server.process.wait()
        stop.set()
        for thread in threads:
            thread.join()
        server.start()
    assert server.json("audit", "verify")["fault"] is None
    acts = [entry for entry in server.entries() if entry["event"] == "act" and entry["what"] == "POST /admin/v1/keys"]
    listed = {key["id"] for key in server.json("keys", "list")["keys"]}
    # Each key that there is, answered or not, was made by an act that is written down.
    assert set(made) <= listed and len(acts) >= len(listed) - 1
    assert server.stop() == 0


def test_what_cannot_be_written_down_is_not_done(tmp_path, monkeypatch):
    server = Server(tmp_path / "data")
    keys = len(server.json("keys", "list")["keys"])
    assert server.stop() == 0
    # The disk is full from the first durable step after the start's own.
    plain = served.environment()
    monkeypatch.setattr(served, "environment", lambda: plain | {"MEUSE_FAULT": "disk_full@2"})
    server.start()
    refused = server.call("POST", "/admin/v1/keys", body={"project": "p", "role": "viewer"})
    assert refused.status_code == 503 and "was not done" in refused.text
    assert server.call("DELETE", "/v1/files/file-1").status_code != 503
    assert server.call("GET", "/v1/models").status_code == 200
    server.kill()
    monkeypatch.setattr(served, "environment", lambda: plain)
    server.start()
    assert len(server.json("keys", "list")["keys"]) == keys
    assert server.json("audit", "verify")["fault"] is None
    assert server.stop() == 0


def test_an_archive_takes_entries_off_the_server_and_the_chain_goes_on(tmp_path):
    server = Server(tmp_path / "data")
    head = lambda said: re.search(r"^head (\S+)$", said.stdout, re.MULTILINE)[1]  # noqa: E731
    parts = []
    for nth in range(2):
        server.new_key("viewer")
        archive = tmp_path / f"archive-{nth}.jsonl"
        parts.append((archive, head(server.command("audit", "prune", "--archive", archive))))
        assert server.json("audit", "verify")["fault"] is None
        # What is left begins after what was archived, and tells of the archiving.
        left = [json.loads(line) for line in lines(server)]
        assert left[0]["n"] == int(parts[-1][1].split(":")[0]) + 1
        assert any(entry.get("resource") == f"entries to {parts[-1][1].replace(':', ', ', 1)}" for entry in left)
        server.kill()
        server.start()
        assert server.json("audit", "verify")["fault"] is None
    (first, first_head), (second, second_head) = parts
    server.command("audit", "verify", "--file", first, "--head", first_head)
    server.command("audit", "verify", "--file", second, "--after", first_head, "--head", second_head)
    forged = f"{first_head.split(':', 1)[0]}:sha256:{'0' * 64}"
    for wrong in ((), ("--after", forged), ("--after", first_head, "--head", forged)):
        assert "not as it was written" in server.command("audit", "verify", "--file", second, *wrong, code=1).stderr
    # Never over an archive; with no other entry than the log has; by nobody but an admin of all projects.
    assert "exists" in server.command("audit", "prune", "--archive", first, code=1).stderr.lower()
    last = server.json("audit", "verify")
    before = lines(server)
    forged = {"through": {"entries": last["entries"], "digest": "sha256:" + "0" * 64}}
    assert server.call("POST", "/admin/v1/audit:prune", body=forged).status_code == 400
    for wrong in ({}, {"through": {"entries": 1}}, {"through": {"entries": "1", "digest": "x"}}, {"all": True}):
        assert server.call("POST", "/admin/v1/audit:prune", body=wrong).status_code == 400, wrong
    for key in (server.new_key("admin"), server.new_key("auditor")):
        assert server.call("POST", "/admin/v1/audit:prune", key, forged).status_code == 403
    assert lines(server)[:len(before)] == before
    # What is removed without an archive is found as before.
    assert server.stop() == 0
    (server.data / "audit" / "log.jsonl").write_bytes(b"".join(lines(server)[1:]))
    server.start()
    assert "not as it was written" in server.command("audit", "verify", code=1).stderr
    assert server.stop() == 0
