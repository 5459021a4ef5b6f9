"""The reference program runs end to end with Google's own client library, and twice on one server."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = os.environ.get("MEUSE_BIN", str(ROOT / "target" / "release" / "meuse"))


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    home = tmp_path_factory.mktemp("served")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MEUSE_")}
    process = subprocess.Popen(
        [BIN, "serve", "--listen", "127.0.0.1:0"],
        cwd=home,
        env=clean,
        stdout=subprocess.PIPE,
        stderr=(home / "server.log").open("w"),
        text=True,
    )
    assert process.stdout.readline().startswith("listening on")
    yield home, clean
    process.terminate()
    assert process.wait(timeout=60) == 0


def reference(served) -> dict:
    home, clean = served
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "reference_program.py")],
        cwd=home,
        env=clean,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr + (home / "server.log").read_text()
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def figures(served):
    return reference(served)


def test_two_versions_share_the_traffic(figures):
    assert sorted(figures["versions"]) == ["1", "2"]
    assert sorted(figures["traffic_split"].values()) == [10, 90]


def test_every_row_was_predicted_once(figures):
    assert figures["batch"]["rows"] == 1000
    assert figures["batch"]["successful"] == 1000


def test_the_evaluation_is_far_above_chance(figures):
    assert figures["evaluation"].startswith(f"{figures['model']}/evaluations/")
    metrics = figures["metrics"]
    assert metrics["auRoc"] > 0.9
    assert metrics["logLoss"] < 1.5


def test_another_process_got_an_answer_and_reasons(figures):
    answer = figures["answer"]
    assert answer["prediction"]["label"] == "animal"
    assert answer["label"] == "animal"
    assert answer["version"] in ("1", "2")
    assert answer["approximation_error"] < 0.1
    assert len(answer["attributions"]["text"]) == len(answer["attributions"]["text_tokens"])


def test_it_runs_again_on_the_same_server(served, figures):
    assert reference(served)["model"] != figures["model"]
