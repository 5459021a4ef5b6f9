"""TLS on the one port: whoever comes with it, whoever comes without, whoever means harm; certificates that change."""

import json
import os
import pathlib
import socket
import ssl
import subprocess
import sys
import time

import pytest
import requests

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "vertex"))
from models import linear_onnx, linear_scores  # noqa: E402
from certificates import Authority  # noqa: E402
from served import BINARY, Server  # noqa: E402

ROWS = [[1.0, 0.0, 0.0, 0.0], [0.2, -0.4, 0.6, 0.8]]
SCRIPT_SECONDS = 240
RENEWAL_SECONDS = 30


def serial(server, authority) -> int:
    """The serial number of the certificate that the server shows."""
    context = ssl.create_default_context(cafile=authority.file)
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
        with context.wrap_socket(raw, server_hostname="localhost") as secure:
            return int(secure.getpeercert()["serialNumber"], 16)


def is_well(server, authority) -> bool:
    return requests.get(f"{server.secure}/health/live", verify=authority.file, timeout=10).status_code == 200


def test_both_ways_lead_to_one_server(server, authority):
    headers = {"authorization": f"Bearer {server.key}"}
    assert is_well(server, authority)
    plain = requests.get(f"{server.url}/v1/models", headers=headers, timeout=10)
    secure = requests.get(f"{server.secure}/v1/models", headers=headers, verify=authority.file, timeout=10)
    assert plain.status_code == secure.status_code == 200 and plain.json() == secure.json()
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(f"{server.secure}/health/live", timeout=10)


def test_addresses_in_answers_say_https(server, authority):
    """A resumable upload goes on at the address that the first answer names."""
    ask = dict(headers={"authorization": f"Bearer {server.key}"}, verify=authority.file, timeout=10)
    made = requests.post(f"{server.secure}/storage/v1/b?project=demo", json={"name": "secure"}, **ask)
    assert made.status_code == 200, made.text
    begun = requests.post(f"{server.secure}/upload/storage/v1/b/secure/o?uploadType=resumable&name=x", json={}, **ask)
    location = begun.headers["location"]
    assert location.startswith(server.secure), location
    assert requests.put(location, data=b"content", **ask).status_code == 200
    read = requests.get(f"{server.secure}/download/storage/v1/b/secure/o/x?alt=media", **ask)
    assert read.content == b"content"


def test_googles_library_comes_by_grpc(server, authority, tmp_path):
    """With its usual transport, which it does not use without TLS."""
    headers = {"authorization": f"Bearer {server.key}"}
    file = linear_onnx(tmp_path) / "model.onnx"
    requests.post(f"{server.url}/storage/v1/b?project=demo", json={"name": "staging"}, headers=headers, timeout=10)
    stored = requests.post(
        f"{server.url}/upload/storage/v1/b/staging/o?uploadType=media&name=linear/model.onnx",
        data=file.read_bytes(), headers=headers, timeout=10,
    )
    assert stored.status_code == 200, stored.text
    env = os.environ | {
        "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH": str(authority.file), "REQUESTS_CA_BUNDLE": str(authority.file),
        "STORAGE_EMULATOR_HOST": server.url, "GOOGLE_CLOUD_PROJECT": "demo", "NO_GCE_CHECK": "true",
    }
    arguments = [f"localhost:{server.port}", server.key, "gs://staging/linear", json.dumps(ROWS)]
    done = subprocess.run(
        [sys.executable, HERE / "script.py", *arguments], env=env, capture_output=True, text=True, timeout=SCRIPT_SECONDS
    )
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert "grpc" in found["transport"] and "linear" in found["models"]
    for ours, expected in zip(found["predictions"], linear_scores(ROWS)):
        assert max(abs(a - b) for a, b in zip(ours, expected)) < 1e-5


def test_broken_and_endless_handshakes_hurt_nobody(server, authority):
    held = []
    for kind in range(200):
        connection = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        if kind % 4:
            connection.sendall([b"\x16", b"\x16" + b"\xff" * 400, b"\x16\x03\x01\x02\x00\x01"][kind % 4 - 1])
        held.append(connection)
    begun = time.monotonic()
    assert is_well(server, authority) and time.monotonic() - begun < 5
    assert server.ask("GET", "/v1/models").status_code == 200
    # Those that are never finished are given up.
    deadline = time.monotonic() + 30
    for connection in held:
        connection.settimeout(max(0.1, deadline - time.monotonic()))
        try:
            while connection.recv(1024):
                pass
        except ConnectionResetError:
            pass
        connection.close()


def test_a_changed_certificate_is_taken_and_a_broken_one_is_not(server, authority, files):
    before = serial(server, authority)
    new = authority.issue(files / "cert.pem", files / "key.pem")
    deadline = time.monotonic() + RENEWAL_SECONDS
    while serial(server, authority) == before and time.monotonic() < deadline:
        time.sleep(0.5)
    assert serial(server, authority) == new
    (files / "cert.pem").write_text("nonsense")
    deadline = time.monotonic() + RENEWAL_SECONDS
    while "the changed certificate is not used" not in server.stderr() and time.monotonic() < deadline:
        time.sleep(0.5)
    assert "the changed certificate is not used" in server.stderr()
    assert serial(server, authority) == new and is_well(server, authority)


def test_clients_must_bring_a_certificate_where_the_operator_says_so(authority, tmp_path):
    cert, key, stranger_cert, stranger_key = (tmp_path / name for name in ("c.pem", "k.pem", "sc.pem", "sk.pem"))
    authority.issue(cert, key)
    (tmp_path / "elsewhere").mkdir()
    Authority(tmp_path / "elsewhere").issue(stranger_cert, stranger_key)
    server = Server(tmp_path / "data", "--tls-cert", str(cert), "--tls-key", str(key), "--tls-client-ca", str(authority.file))
    secure = f"https://localhost:{server.url.rsplit(':', 1)[1]}"
    ask = lambda path, **options: requests.get(secure + path, verify=authority.file, timeout=10, **options)  # noqa: E731
    assert ask("/health/live", cert=(cert, key)).status_code == 200
    # It comes beside a key, and not in place of one.
    assert ask("/v1/models", cert=(cert, key)).status_code == 401
    headers = {"authorization": f"Bearer {server.key}"}
    assert ask("/v1/models", cert=(cert, key), headers=headers).status_code == 200
    for brought in (None, (stranger_cert, stranger_key)):
        with pytest.raises(requests.exceptions.ConnectionError):
            ask("/v1/models", cert=brought, headers=headers)
    # This machine may come without TLS, as ever.
    assert requests.get(f"{server.url}/v1/models", headers=headers, timeout=10).status_code == 200
    assert server.stop() == 0
    for file, said in ((key, "authority"), (tmp_path / "none.pem", "none.pem")):
        command = [BINARY, "serve", "--data", tmp_path / "data", "--listen", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key]
        done = subprocess.run([*command, "--tls-client-ca", file], capture_output=True, text=True, timeout=60)
        assert done.returncode == 2 and said in done.stderr, done.stderr


def test_files_that_cannot_be_used_are_named_at_the_start(authority, files, tmp_path):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    authority.issue(cert, key)
    authority.issue(tmp_path / "other.pem", tmp_path / "other-key.pem")
    for arguments, said in [
        ([tmp_path / "none.pem", key], "none.pem"),
        ([key, key], "no certificate"),
        ([cert, cert], "private key"),
        ([cert, tmp_path / "other-key.pem"], "together"),
    ]:
        command = [BINARY, "serve", "--data", tmp_path / "data", "--listen", "127.0.0.1:0"]
        command += ["--tls-cert", arguments[0], "--tls-key", arguments[1]]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 2 and said in done.stderr, done.stderr
    half = subprocess.run([BINARY, "serve", "--tls-cert", cert], capture_output=True, text=True, timeout=60)
    assert half.returncode == 2 and "--tls-key" in half.stderr
