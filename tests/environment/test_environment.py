"""Programs written for Google's cloud, unchanged, in the environment that `meuse env vertex` prints."""

import json
import pathlib
import stat
import subprocess

import numpy as np
import pytest

from conftest import PROJECT
from models import linear_onnx, linear_scores
from served import BINARY, environment

ROWS = [[1.0, 0.0, 0.0, 0.0], [0.2, -0.4, 0.6, 0.8]]


@pytest.mark.parametrize("options", [{}, {"api_transport": "rest"}], ids=["grpc", "rest"])
def test_a_script_runs_unchanged(run, tmp_path, options):
    found = run("script.py", str(linear_onnx(tmp_path / "model")), json.dumps(ROWS), json.dumps(options))
    assert found["transport"] == options.get("api_transport", "grpc")
    expected = linear_scores(ROWS)
    for way in ("predictions", "raw", "streamed", "by_raw"):
        assert np.allclose(found[way], expected, rtol=1e-5), way
    assert found["explained"] == len(ROWS) and found["models"] == ["linear"]
    assert found["deployed"] and found["by_raw_model"] == found["model"]
    assert found["objects"] == ["model.onnx"]


def test_the_shell_reads_the_variables(server, variables):
    """Two commands: `eval "$(meuse env vertex)"` and the program."""
    env = environment() | {"MEUSE_URL": server.url, "MEUSE_API_KEY": server.key, "MEUSE_DATA": str(server.data)}
    line = f'eval "$({BINARY} env vertex --project {PROJECT})"; env -0'
    shown = subprocess.run(["sh", "-c", line], env=env, capture_output=True, text=True, check=True, timeout=60)
    seen = dict(part.split("=", 1) for part in shown.stdout.split("\0") if part)
    assert {name: seen.get(name) for name in variables} == variables
    assert variables["HTTPS_PROXY"] == server.url and variables["GOOGLE_CLOUD_PROJECT"] == PROJECT


def test_the_files_are_their_owners(server, variables):
    for path in [variables["GOOGLE_APPLICATION_CREDENTIALS"], server.data / "cloud" / "ca.key"]:
        assert stat.S_IMODE(pathlib.Path(path).stat().st_mode) == 0o600, path


def test_asked_again_it_gives_the_same_account_and_another_for_another_role(server, variables, account):
    again = server.json("env", "vertex", "--data-dir", server.data, "--project", PROJECT)
    assert again == variables
    here = ["--data-dir", server.data, "--project", "other"]
    path = pathlib.Path(server.json("env", "vertex", *here)["GOOGLE_APPLICATION_CREDENTIALS"])
    first = json.loads(path.read_text())["private_key_id"]
    server.json("env", "vertex", *here, "--role", "viewer")
    second = json.loads(path.read_text())["private_key_id"]
    keys = {key["id"]: key for key in server.json("keys", "list")["keys"]}
    assert first not in keys and keys[second]["role"] == "viewer" and keys[second]["project"] == "other"
    assert keys[account["private_key_id"]]["email"] == account["client_email"]
    listed = [line for line in server.command("keys", "list").stdout.splitlines() if second in line]
    assert "service account" in listed[0]


def test_hosts_that_may_be_reached_are_named(server, variables):
    with_direct = server.json(
        "env", "vertex", "--data-dir", server.data, "--project", PROJECT, "--direct", "pypi.org"
    )
    assert with_direct["NO_PROXY"].endswith(",pypi.org") and "pypi.org" not in variables["NO_PROXY"]
    trusted = pathlib.Path(with_direct["SSL_CERT_FILE"]).read_text()
    ours = pathlib.Path(variables["SSL_CERT_FILE"]).read_text()
    assert trusted.startswith(ours) and trusted.count("BEGIN CERTIFICATE") > 10


def test_elsewhere_it_says_so(server):
    refused = subprocess.run(
        [BINARY, "env", "vertex", "--url", "http://192.0.2.1:8080", "--key", "x"], env=environment(),
        capture_output=True, text=True, timeout=60,
    )
    assert refused.returncode == 2 and "not this machine" in refused.stderr
    viewer = server.new_key("viewer")
    refused = server.command("env", "vertex", "--key", viewer, "--data-dir", server.data, code=1)
    assert "role" in refused.stderr
