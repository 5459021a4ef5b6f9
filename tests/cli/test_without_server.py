"""What a newcomer meets before anything runs: help, mistakes, and advice."""

import json
import os
import signal
import subprocess

import pytest
from conftest import BIN, DATA, Cli, Server

COMMANDS = (
    "serve quickstart train import pull deploy undeploy predict batch evaluate explain models endpoints jobs keys bench doctor"
).split()


def test_help_names_every_command(nowhere):
    text = nowhere.run("--help").stdout
    for command in COMMANDS:
        assert f"  {command} " in text
        assert "Usage: meuse" in nowhere.run(command, "--help").stdout
    assert nowhere.run("--version").stdout.startswith("meuse ")


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("no-such-command",),
        ("deploy",),
        ("deploy", "m", "--traffic", "101"),
        ("deploy", "m@"),
        ("train", "x.csv", "--name", "m"),
        ("predict",),
        ("predict", "m", "--instance", "{"),
        ("explain", "m"),
        ("explain", "m", "text", "--method", "magic"),
        ("evaluate", "m"),
        ("batch", "m", "--input", "x.csv"),
        ("batch", "m", "--input", "gs://b/x.csv", "--output", "here", "--no-wait"),
        ("jobs", "--watch"),
        ("bench", "--concurrency", "many"),
        ("bench", "machine", "--threads", "many"),
        ("serve", "--unload-idle", "soon"),
        ("keys", "create", "--role", "king"),
        ("keys", "create", "--role", "viewer", "--expires", "30y"),
        ("serve", "--listen", "8080"),
        ("serve", "--listen", "0.0.0.0:0"),
        ("quickstart", "--listen", "0.0.0.0:0"),
        ("models", "--url", "ftp://host"),
        ("models", "--url", "nonsense"),
    ],
    ids=" ".join,
)
def test_bad_usage_is_2(nowhere, args):
    done = nowhere.run(*args, code=2)
    assert done.stdout == "" and done.stderr.strip()


@pytest.mark.parametrize(
    "args",
    [
        ("models",),
        ("endpoints",),
        ("jobs",),
        ("predict", "m", "text"),
        ("deploy", "m"),
        ("bench",),
        ("keys", "create", "--role", "viewer"),
    ],
    ids=" ".join,
)
def test_without_a_server_it_says_how_to_start_one(nowhere, args):
    text = nowhere.error(*args)
    assert "no server answers at http://127.0.0.1:9" in text and "connection refused" in text
    assert "meuse serve" in text


def test_errors_are_json_for_programs(nowhere):
    done = nowhere.run("models", "--json", code=1)
    error = json.loads(done.stderr)["error"]
    assert "no server answers" in error["message"] and "meuse serve" in error["next"]


def test_a_specification_is_checked_before_anything_is_sent(nowhere, tmp_path):
    spec = tmp_path / "spec.yaml"
    spec.write_text("label: class\nlayers:\n  - {dense: 10, activation: zoom}\n")
    text = nowhere.error("train", DATA / "train.csv", "--name", "m", "--spec", spec, code=2)
    assert "spec.yaml" in text and "layers[0] (dense).activation" in text and "zoom" in text
    text = nowhere.error("train", DATA / "train.csv", "--name", "m", "--label", "clas", code=2)
    assert "no column `clas`" in text and "text, class" in text
    assert "there is no file" in nowhere.error("train", "absent.csv", "--name", "m", "--label", "class")


def test_listening_for_everyone_needs_a_flag(nowhere):
    text = nowhere.error("serve", "--listen", "0.0.0.0:0", code=2)
    assert "no TLS" in text and "--insecure-listen" in text


def test_a_taken_port_is_named(tmp_path):
    first = Server(tmp_path)
    try:
        text = Cli(tmp_path).error("serve", "--data", "other", "--listen", first.url.removeprefix("http://"))
        assert "cannot listen on" in text and "--listen" in text
    finally:
        assert first.stop() == 0


def test_one_server_a_directory(tmp_path):
    first = Server(tmp_path)
    try:
        text = Cli(tmp_path).error("serve", "--listen", "127.0.0.1:0")
        assert "meuse-data" in text and "--data" in text, text
    finally:
        assert first.stop() == 0


@pytest.mark.parametrize("sign", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well(tmp_path, sign):
    server = Server(tmp_path)
    data = tmp_path / "meuse-data"
    assert (data / "address").read_text().strip() == server.url
    assert (data / "admin.key").stat().st_mode & 0o777 == 0o600
    assert server.stop(sign) == 0
    assert not (data / "address").exists()


def test_the_address_is_json_for_programs(tmp_path):
    process = subprocess.Popen(
        [BIN, "serve", "--listen", "127.0.0.1:0", "--json"],
        cwd=tmp_path,
        env=Cli(tmp_path).env,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        said = json.loads(process.stdout.readline())
        assert said["address"].startswith("http://127.0.0.1:")
        assert os.path.exists(tmp_path / said["adminKeyFile"])
    finally:
        process.terminate()
        assert process.wait(timeout=60) == 0


def test_doctor_without_a_server(tmp_path):
    text = Cli(tmp_path).run("doctor", "--url", "http://127.0.0.1:9", code=1)
    assert "✗ server" in text.stdout and "start it" in text.stdout
    (tmp_path / "file").write_text("")
    report = json.loads(Cli(tmp_path).run("doctor", "--data-dir", "file", "--json", code=1).stdout)
    verdicts = {check["check"]: check["verdict"] for check in report["checks"]}
    assert report["healthy"] is False and verdicts["data"] == "bad" and verdicts["disk"] in ("good", "bad")


def test_the_machine_is_measured(nowhere):
    found = json.loads(nowhere.run("bench", "machine", "--threads", "1", "--json").stdout)
    assert found["threads"] == 1
    assert found["bytesPerSecond"] > 1e6 and found["int8OperationsPerSecond"] > 1e6
    assert found["instructionSet"] in nowhere.run("bench", "machine").stdout
    refused = Cli(nowhere.home, MEUSE_ISA="mmx").run("bench", "machine", code=2)
    assert "mmx" in refused.stderr and "scalar" in refused.stderr
