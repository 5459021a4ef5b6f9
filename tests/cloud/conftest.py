"""A Meuse server with somebody's credentials for a store, and a trained model `nouns` to run batches with."""

import contextlib
import os
import pathlib
import signal
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = os.environ.get("MEUSE_BIN", str(ROOT / "target" / "release" / "meuse"))
DATA = ROOT / "crates" / "meuse" / "data"
TIMEOUT_S = 120


@pytest.fixture(scope="module")
def serve(tmp_path_factory):
    """`with serve(credentials) as run`: `run` calls a command beside a server that has them in its environment."""

    @contextlib.contextmanager
    def serving(credentials: dict[str, str]):
        home = tmp_path_factory.mktemp("served")
        strange = ("MEUSE_", "AWS_", "GOOGLE_", "AZURE_")
        env = {name: value for name, value in os.environ.items() if not name.startswith(strange)}
        command = [BIN, "serve", "--listen", "127.0.0.1:0"]
        with (home / "server.log").open("w") as log:
            server = subprocess.Popen(
                command, cwd=home, env=env | credentials, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert server.stdout.readline().startswith("listening on "), (home / "server.log").read_text()

        def run(*args, code: int = 0) -> subprocess.CompletedProcess:
            done = subprocess.run(
                [BIN, *map(str, args)], cwd=home, env=env | {"NO_COLOR": "1"}, stdin=subprocess.DEVNULL,
                capture_output=True, text=True, timeout=TIMEOUT_S,
            )
            assert done.returncode == code, f"{args}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
            return done

        try:
            run("train", DATA / "train.csv", "--name", "nouns", "--label", "class", "--text", "text", "--epochs", 1)
            yield run
        finally:
            server.send_signal(signal.SIGTERM)
            assert server.wait(timeout=60) == 0

    return serving
