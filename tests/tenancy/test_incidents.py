"""What has happened to others does not happen here: a test for each of twenty known incidents, named after it.

Where the defence is a rule of the code, a unit test of the same name or number stands beside it, too.
"""

import io
import json
import pickle
import shutil
import socket
import struct
import threading
import time
import urllib.parse
import zipfile

import pytest

from conftest import LOCATION

PARENT = f"/v1/projects/default/locations/{LOCATION}"
IMAGE = "us-docker.pkg.dev/vertex-ai/prediction/sklearn-cpu.1-3:latest"
STRING, U32, U64, ARRAY, F32, I32 = 8, 4, 10, 9, 6, 5


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value.encode())) + value.encode()


def gguf(tensors: int, pairs: list[tuple[str, int, bytes]], tail: bytes = b"", pair_count: int | None = None) -> bytes:
    """A GGUF file that says what it is told to say."""
    head = b"GGUF" + struct.pack("<IQQ", 3, tensors, len(pairs) if pair_count is None else pair_count)
    return head + b"".join(text(name) + struct.pack("<I", kind) + value for name, kind, value in pairs) + tail


def tensor(name: str, dimensions: list[int], kind: int, offset: int) -> bytes:
    return text(name) + struct.pack(f"<I{len(dimensions)}QIQ", len(dimensions), *dimensions, kind, offset)


def refused_import(server, tmp_path, content: bytes, name: str = "model.gguf", within_s: float = 20) -> str:
    """What `meuse import` says of this file; that it takes neither long nor much memory."""
    path = tmp_path / name
    path.write_bytes(content)
    before, begun = server.memory(), time.monotonic()
    said = server.command("import", path, "--name", "bad", code=1).stderr
    assert time.monotonic() - begun < within_s and server.memory() - before < 64 << 20
    assert server.call("GET", f"{PARENT}/models/bad").status_code == 404
    return said


def still_serves(server, topics):
    assert server.predict(topics).status_code == 200


@pytest.fixture(autouse=True)
def alive(server, topics):
    """Whatever a test does to it, the server serves on in the same process."""
    process = server.process.pid
    yield
    still_serves(server, topics)
    assert server.process.pid == process and server.process.poll() is None


def test_cve_2026_7482_a_tensor_larger_than_its_file_shows_no_memory(server, tmp_path):
    for dimensions, offset in (([1 << 20], 0), ([32], 1 << 40), ([32], (1 << 64) - 32), ([1 << 40, 1 << 40], 0)):
        pairs = [("general.architecture", STRING, text("llama"))]
        refused_import(server, tmp_path, gguf(1, pairs, tensor("token_embd.weight", dimensions, 0, offset) + b"\0" * 256))


def test_cve_2024_37032_a_digest_is_no_path(server, tmp_path):
    for digest in ("../" * 8 + "etc/passwd", "a" * 63, "a" * 65, "%2e%2e%2f" * 7 + "a", "sha256:" + "a" * 64 + "/.."):
        answer = server.call("POST", f"{PARENT}/models:pull", body={"source": "https://192.0.2.1/model.gguf", "sha256": digest})
        assert answer.status_code == 400, answer.text
    outside = [path for path in server.data.parent.iterdir() if path.name not in {server.data.name, f"{server.data.name}.log"}]
    assert outside == []


def test_ollama_17042_small_files_that_claim_much(server, tmp_path):
    huge = 1 << 63
    files = [
        gguf(huge, []),
        gguf(0, [], pair_count=huge),
        gguf(0, [("general.architecture", ARRAY, struct.pack("<IQ", STRING, huge))]),
        gguf(0, [("a", STRING, struct.pack("<Q", huge))]),
        gguf(0, [("general.alignment", U32, struct.pack("<I", 1 << 31)), ("general.architecture", STRING, text("llama"))]),
        gguf(1, [], text("t") + struct.pack("<I", 0xFFFFFFFF)),
    ]
    for content in files:
        assert len(content) < 160
        refused_import(server, tmp_path, content, within_s=10)


def test_llama_cpp_25969_byte_tokens_that_are_no_bytes(server, tmp_path):
    tokens = ["<0x-1>", "<0x100>", "<0xZZ>", "<0x>", "<0x" + "f" * 1000 + ">", "\0", "", "<0x41"]
    array = lambda kind, items: struct.pack("<IQ", kind, len(items)) + b"".join(items)  # noqa: E731
    pairs = [
        ("general.architecture", STRING, text("llama")),
        ("tokenizer.ggml.model", STRING, text("llama")),
        ("tokenizer.ggml.tokens", ARRAY, array(STRING, [text(token) for token in tokens])),
        ("tokenizer.ggml.scores", ARRAY, array(F32, [struct.pack("<f", float("nan"))] * len(tokens))),
        ("tokenizer.ggml.token_type", ARRAY, array(I32, [struct.pack("<i", 6)] * len(tokens))),
        ("tokenizer.ggml.bos_token_id", U32, struct.pack("<I", 0xFFFFFFFF)),
    ]
    refused_import(server, tmp_path, gguf(0, pairs))


@pytest.mark.parametrize("field", ["max_tokens", "n", "temperature", "top_p", "top_logprobs", "seed", "presence_penalty",
                                   "frequency_penalty", "n_discard", "top_k", "logit_bias"])
def test_cve_2026_21869_numbers_out_of_their_range(server, smol, field):
    for number in ("-1", "0", "2147483648", "9223372036854775808", "1e400", "NaN", "-1e308", '"1"', "[1]"):
        body = json.dumps({"model": smol, "messages": [{"role": "user", "content": "x"}], "max_completion_tokens": 2})
        answer = server.call("POST", "/v1/chat/completions", body=body[:-1] + f', "{field}": {number}}}')
        taken = answer.status_code == 200 and field in ("seed", "temperature", "top_p", "presence_penalty", "frequency_penalty", "top_logprobs", "top_k")
        assert taken or answer.status_code == 400, (field, number, answer.text)
        assert answer.status_code == 200 or answer.json()["error"]["message"]


def test_vllm_17313_patterns_and_grammars_that_break_engines(server, smol):
    nested = {"type": "object"}
    for _ in range(300):
        nested = {"type": "object", "properties": {"a": nested}}
    schemas = [
        {"type": "string", "pattern": "foo**"}, {"type": "string", "pattern": "(" * 5000}, {"type": "string", "pattern": "[z-a]"},
        {"type": "string", "pattern": "(a{1000}){1000}"}, {"type": "string", "pattern": "\\"}, nested, {"type": "nothing"},
        {"$ref": "#"}, {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, {"$ref": "file:///etc/passwd"}, {"type": ["string", 5]},
        {"type": "array", "minItems": 1 << 62},
    ]
    for schema in schemas:
        begun = time.monotonic()
        answer = server.chat(smol, "x", response_format={"type": "json_schema", "json_schema": {"name": "s", "schema": schema, "strict": True}})
        assert answer.status_code in (200, 400) and time.monotonic() - begun < 5, (schema if len(str(schema)) < 200 else "nested", answer.text)
    for schema in (schemas[1], schemas[2], schemas[4]):
        tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": schema}}}}]
        answer = server.chat(smol, "x", tools=tools, tool_choice="required")
        assert answer.status_code == 400, answer.text
    assert server.chat(smol, "x").status_code == 200


def test_cve_2026_34756_much_of_everything(server, smol):
    before = server.memory()
    for fields in ({"n": 10**9}, {"max_tokens": 10**12}, {"logprobs": True, "top_logprobs": 10**6}, {"stop": ["x"] * 10**5},
                   {"logit_bias": {str(i): 1 for i in range(10**5)}}, {"n": 128, "max_tokens": 10**9}):
        begun = time.monotonic()
        answer = server.chat(smol, "x", **fields)
        assert answer.status_code == 400 and time.monotonic() - begun < 5, (str(fields)[:80], answer.text)
    for fields in ({"n": 10**9}, {"best_of": 10**9}, {"prompt": ["x"] * 10**5}, {"logprobs": 10**9}):
        answer = server.call("POST", "/v1/completions", body={"model": smol, "prompt": "x"} | fields)
        assert answer.status_code == 400, (str(fields)[:80], answer.text)
    assert server.memory() - before < 256 << 20


def test_cve_2025_62426_template_arguments_and_long_prompts_stop_nobody(server, smol):
    for arguments in ({"chat_template": "{% for i in range(10**9) %}{% endfor %}"}, {"chat_template_kwargs": {"chat_template": "x"}},
                      {"chat_template_kwargs": {"tokenize": True}}):
        answer = server.chat(smol, "x", **arguments)
        assert answer.status_code == 400, answer.text
    # A million characters are told apart and refused off the threads that answer everybody else.
    threads = [threading.Thread(target=server.chat, args=(smol, "word " * 200_000)) for _ in range(4)]
    for thread in threads:
        thread.start()
    slowest = 0.0
    while any(thread.is_alive() for thread in threads):
        begun = time.monotonic()
        assert server.bare("GET", "/health/live").status_code == 200
        slowest = max(slowest, time.monotonic() - begun)
    for thread in threads:
        thread.join()
    assert slowest < 2


def test_cve_2024_34359_a_template_is_data(server, smol, tmp_path):
    """What templates can do is tested beside the code (`llm::template`); here, that a client's own is not taken."""
    for words in ("{{ lipsum.__globals__['os'].popen('id').read() }}", "{% raw %}", "{{ 7 * 7 }}", "<|im_start|>system\n"):
        answer = server.chat(smol, words)
        assert answer.status_code == 200
        assert server.chat(smol, "x", chat_template=words).status_code == 400


def test_cve_2025_46570_what_one_tenant_asked_is_not_faster_for_another(server, smol):
    prompt = "The keel was laid in the spring, and by autumn the hull was planked to the rail. " * 6
    cached = lambda key, **fields: server.chat(smol, prompt, key, **fields).json()["usage"]["prompt_tokens_details"]["cached_tokens"]  # noqa: E731
    ours, also_ours = server.new_key("invoker"), server.new_key("invoker")
    # What everybody's prompt begins with, the template's own words, may have been asked before.
    assert cached(ours) <= 16 and cached(ours) > 64 and cached(also_ours) > 64
    path = max(server.data.glob("artifacts/*/files/*.gguf"), key=lambda file: file.stat().st_size)
    server.command("import", path, "--name", smol, "--project", "rivals")
    server.command("deploy", smol, "--project", "rivals")
    theirs = server.new_key("invoker", "rivals")
    assert cached(theirs) == 0 and cached(theirs) > 64
    # Nobody chooses whose prefixes are looked at.
    for fields in ({"cache_salt": "default"}, {"prompt_cache_key": "x"}, {"user": "x"}):
        answer = server.chat(smol, "Another " + prompt, theirs, **fields)
        assert answer.status_code in (200, 400), answer.text
    fresh = "A third one. " + prompt
    assert server.chat(smol, fresh, ours).status_code == 200
    answer = server.chat(smol, fresh, theirs, user="default").json()
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] <= 16


@pytest.mark.parametrize("host", ["169.254.169.254", "[::1]", "127.0.0.1", "2130706433", "0x7f000001", "017700000001", "127.1", "localhost",
                                  "localhost.", "[::ffff:127.0.0.1]", "0.0.0.0", "10.0.0.1", "[fe80::1]", "metadata.google.internal."])
def test_cve_2025_6242_the_server_calls_nobody_at_home(server, host):
    port = int(server.url.rsplit(":", 1)[1])
    for scheme in ("https", "http"):
        answer = server.call("POST", f"{PARENT}/models:pull", body={
            "source": f"{scheme}://{host}:{port}/model.gguf", "sha256": "a" * 64, "displayName": "bad"})
        if answer.status_code != 200:
            assert 400 <= answer.status_code < 500, answer.text
            continue
        operation = answer.json()["name"]
        for _ in range(6):
            ended = server.call("POST", f"/v1/{operation}:wait", body={"timeout": "10s"}).json()
            if ended.get("done"):
                break
        assert "error" in ended and server.call("GET", f"{PARENT}/models/bad").status_code == 404, ended
        # Refused for where it leads, and not because nobody answers there: a name with a dot may be known to nobody here.
        if scheme == "https" and not host.endswith("."):
            assert "lies on this machine or in a private network" in ended["error"]["message"], ended


def test_cve_2023_43654_no_model_is_taken_from_an_address(server):
    for address in ("http://192.0.2.1/model.zip", "https://192.0.2.1/model.onnx", "ftp://192.0.2.1/m", "file:///etc/passwd", "/etc/passwd", "data:,x"):
        answer = server.call("POST", f"{PARENT}/models:upload", body={
            "model": {"displayName": "bad", "artifactUri": address, "containerSpec": {"imageUri": IMAGE}}})
        assert 400 <= answer.status_code < 500, (address, answer.text)
    # Nor does the server listen for others without TLS unless it is told to.
    refused = server.command("serve", "--data", server.data.parent / "other", "--listen", "0.0.0.0:0", code=2)
    assert "--insecure-listen" in refused.stderr
    shutil.rmtree(server.data.parent / "other", ignore_errors=True)


def test_cve_2023_48022_no_method_is_left_open(server, topics):
    """The whole matrix, from the router itself, is a unit test of `api`."""
    paths = [f"{PARENT}/endpoints/{topics}", f"{PARENT}/models/{topics}", "/storage/v1/b/x", "/admin/v1/keys/x", "/v1/files/file-1", "/api/delete",
             "/api/pull", "/v2/repository/models/x/unload", f"{PARENT}/batchPredictionJobs", "/metrics", "/admin/v1/audit", "/v1/batches"]
    foreign = {"origin": "https://evil.example", "host": "evil.example", "referer": "https://evil.example/"}
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE", "PROPFIND"):
        for path in paths:
            for headers in ({}, foreign, {"authorization": "Bearer wrong"}, {"x-http-method-override": "GET"}, {"cookie": f"key={server.key}"},
                            {"authorization": f"Basic {server.key}"}):
                answer = server.bare(method, path, headers)
                assert answer.status_code in (401, 405), (method, path, headers, answer.status_code)
                assert not any(name.lower().startswith("access-control") for name in answer.headers)


def test_cve_2026_0545_jobs_are_behind_the_same_door(server):
    for path in ("batchPredictionJobs", "trainingPipelines", "batchPredictionJobs/1", "trainingPipelines/1:cancel", "operations", "operations/1:cancel"):
        for method in ("GET", "POST", "DELETE"):
            for prefix in (PARENT, PARENT.replace("/v1/", "/ui/"), f"//{PARENT}", PARENT.replace("/v1/", "/v1//"), PARENT.replace("v1", "%76%31")):
                assert server.bare(method, f"{prefix}/{path}").status_code == 401, (method, prefix, path)


@pytest.mark.parametrize("name", ["%2e%2e%2fx", "%252e%252e%252fx", "..%2f..%2fetc%2fpasswd", "a%2f..%2f..%2fx", "..%5c..%5cx", "x%00.onnx",
                                  "%2e%2e", "a%2f%2e%2e", "%252e%252e", "file:%2f%2f%2fetc%2fpasswd%00", "%ff"])
def test_cve_2023_1177_names_lead_nowhere_else(server, name):
    server.call("POST", "/storage/v1/b?project=default", body={"name": "climbed"})
    before = {path for path in server.data.parent.rglob("*") if path.is_file() and "audit" not in path.parts and "meuse.db" not in path.name}
    for method, path in (("GET", f"/storage/v1/b/climbed/o/{name}"), ("GET", f"/download/storage/v1/b/climbed/o/{name}?alt=media"),
                         ("DELETE", f"/storage/v1/b/climbed/o/{name}"), ("POST", f"/upload/storage/v1/b/climbed/o?uploadType=media&name={name}"),
                         ("POST", f"/upload/storage/v1/b/climbed/o?uploadType=media&kmsKeyName=x&name={name}"),
                         ("GET", f"/storage/v1/b/{name}"), ("GET", f"{PARENT}/models/{name}"), ("GET", f"/v1/files/{name}/content")):
        # `requests` would make the path a plain one before it is sent.
        status = raw(server, method, path)
        assert 400 <= status < 500 or status == 501, (method, path, status)
    after = {path for path in server.data.parent.rglob("*") if path.is_file() and "audit" not in path.parts and "meuse.db" not in path.name}
    assert after == before


def raw(server, method: str, path: str, head: bytes = b"", body: bytes = b"") -> int:
    """The status of a request that is sent as it is."""
    host, port = urllib.parse.urlsplit(server.url).netloc.split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        lines = f"{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {server.key}\r\n".encode()
        length = b"" if b"transfer-encoding" in head else f"content-length: {len(body)}\r\n".encode()
        try:
            connection.sendall(lines + head + length + b"\r\n" + body)
        except (BrokenPipeError, ConnectionResetError):
            pass
        answer = b""
        try:
            while piece := connection.recv(65536):
                answer += piece
        except ConnectionResetError:
            pass
    return int(answer.split(b" ")[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def test_cve_2026_27905_an_archive_writes_where_it_is_unpacked_and_nowhere_else(server, tmp_path):
    """Only one member of a wheel is ever unpacked, into a file of ours (`control::jobs::pull`); a directory with links is refused."""
    directory = tmp_path / "linked"
    directory.mkdir()
    (directory / "model.onnx").symlink_to("/etc/passwd")
    said = server.command("import", directory, "--name", "bad", code=1).stderr
    assert said and server.call("GET", f"{PARENT}/models/bad").status_code == 404
    for member in ("../../x", "/etc/passwd", "a/../../x", "..\\x"):
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr(member, "content")
        said = refused_import(server, tmp_path, packed.getvalue(), "model.zip")
        assert said


def test_cve_2025_27520_what_runs_when_it_is_opened_is_not_opened(server, tmp_path):
    class Runs:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch = io.BytesIO()
    with zipfile.ZipFile(torch, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Runs()))
    numpy = b"\x93NUMPY\x01\x00\x76\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }" + b" " * 60 + b"\n" + pickle.dumps([Runs()])
    risks = {"model.pkl": "pickle", "model.joblib": "pickle", "model.pt": "PyTorch file", "model.onnx": "a Python pickle"}
    for name, content in {"model.pkl": pickle.dumps(Runs()), "model.joblib": pickle.dumps(Runs(), 0), "model.pt": torch.getvalue(), "model.npy": numpy,
                          "model.onnx": pickle.dumps(Runs()), "model.gguf": pickle.dumps(Runs()), "saved_model.pb": pickle.dumps(Runs())}.items():
        assert risks.get(name, "") in refused_import(server, tmp_path, content, name)
    assert not (tmp_path / "ran").exists()


def test_cve_2025_23310_pieces_boundaries_and_headers_without_end(server, topics):
    before = server.memory()
    path = f"{PARENT}/endpoints/{topics}:predict"
    body = json.dumps({"instances": ["a heron"]}).encode()
    pieces = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
    assert raw(server, "POST", path, b"transfer-encoding: chunked\r\n", pieces + b"0\r\n\r\n") == 200
    # Three million pieces of one byte: taken as a body like any other, and none.
    many = b"1\r\n \r\n" * 300_000
    assert raw(server, "POST", path, b"transfer-encoding: chunked\r\n", many + b"0\r\n\r\n") == 400
    boundary = b"b" * 1_000_000
    upload = "/upload/storage/v1/b/climbed/o?uploadType=multipart"
    assert raw(server, "POST", upload, b"content-type: multipart/related; boundary=" + boundary + b"\r\n") in (0, 400, 413, 431)
    long = b"content-type: multipart/related; boundary=" + b"b" * 1000 + b"\r\n"
    assert raw(server, "POST", upload, long, b"x" * 100_000) in (400, 404)
    assert raw(server, "GET", path, b"".join(b"h%d: x\r\n" % i for i in range(10_000))) in (0, 400, 431)
    assert raw(server, "POST", "/v1/files", b"content-type: multipart/form-data; boundary=" + b"b" * 60_000 + b"\r\n", b"--" + b"b" * 60_000) in (0, 400, 413, 431)
    assert server.memory() - before < 64 << 20


def test_cve_2026_24146_shapes_that_do_not_hold_what_they_say(server, topics):
    text_of = lambda shape, data: {"name": "text", "datatype": "BYTES", "shape": shape, "data": data}  # noqa: E731
    before = server.memory()
    for inputs in ([text_of([1 << 62, 4], ["x"])], [text_of([(1 << 63) - 1], ["x"])], [text_of([-1], ["x"])], [text_of([2], ["x"])], [text_of([0], ["x"])],
                   [text_of([1 << 32, 1 << 32], ["x"])], [text_of([1] * 10_000, ["x"])], [text_of([1.5], ["x"])], [text_of([1e300], ["x"])]):
        answer = server.call("POST", f"/v2/models/{topics}/infer", body={"inputs": inputs})
        assert answer.status_code == 400, (str(inputs)[:100], answer.text)
    outputs = [{"name": f"o{i}"} for i in range(100_000)]
    answer = server.call("POST", f"/v2/models/{topics}/infer", body={"inputs": [text_of([1], ["x"])], "outputs": outputs})
    assert answer.status_code == 400, answer.text[:200]
    assert server.memory() - before < 128 << 20


@pytest.mark.parametrize("value", ["' OR '1'='1", "x' UNION SELECT * FROM documents --", "admin'--", '"; DROP TABLE documents; --', "mk_0_0' OR 1=1 --",
                                   "mk_0123456789abcdef_' OR ''='", "%27%20OR%201=1", "1; ATTACH DATABASE 'x' AS y", "mk_" + "a" * 16 + "_" + "b" * 43])
def test_cve_2026_42208_a_key_is_looked_up_and_never_a_question(server, value):
    for header in ("authorization", "x-api-key", "x-goog-api-key"):
        answer = server.bare("GET", "/v1/models", {header: f"Bearer {value}" if header == "authorization" else value})
        assert answer.status_code == 401 and value not in answer.text
    assert server.call("GET", "/v1/models").status_code == 200


def test_cve_2025_23319_errors_tell_nothing_of_the_inside(server, topics, smol):
    texts = [
        server.predict("absent").text, server.predict(topics, instances=[[1]]).text, server.chat("absent", "x").text,
        server.call("GET", "/storage/v1/b/nothing-here").text, server.call("POST", f"{PARENT}/models:upload", body={
            "model": {"displayName": "m", "artifactUri": "gs://nothing-here/x", "containerSpec": {"imageUri": IMAGE}}}).text,
        server.call("POST", f"{PARENT}/endpoints", body={"displayName": []}).text, server.call("GET", "/v1/files/file-x").text,
    ]
    for said in texts:
        assert str(server.data) not in said and "::" not in said and "panicked" not in said and "shm" not in said, said
