"""A server, and the environment in which programs written for Google's cloud come to it."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "served"))
sys.path.insert(0, str(HERE.parent / "vertex"))
from served import Server  # noqa: E402

PROJECT = "acme-prod"
SCRIPT_SECONDS = 240


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("environment") / "data")
    yield server
    assert server.stop() == 0, server.stderr()


@pytest.fixture(scope="session")
def variables(server) -> dict[str, str]:
    return server.json("env", "vertex", "--data-dir", server.data, "--project", PROJECT)


@pytest.fixture(scope="session")
def account(variables) -> dict[str, str]:
    """The service account's file."""
    return json.loads(pathlib.Path(variables["GOOGLE_APPLICATION_CREDENTIALS"]).read_text())


@pytest.fixture(scope="session")
def run(variables, tmp_path_factory):
    """Runs a program in that environment alone: no address, no key, nothing of Meuse. What it prints last."""
    home = tmp_path_factory.mktemp("home")

    def run(program: str, *arguments: str, **more: str):
        env = {"PATH": os.environ["PATH"], "HOME": str(home)} | variables | more
        done = subprocess.run(
            [sys.executable, HERE / program, *arguments], env=env, cwd=home, capture_output=True, text=True,
            timeout=SCRIPT_SECONDS,
        )
        assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
        return json.loads(done.stdout.splitlines()[-1])

    return run
