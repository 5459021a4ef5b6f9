"""A server of its own for the command line's tests, and a way to call commands on it."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = os.environ.get("MEUSE_BIN", str(ROOT / "target" / "release" / "meuse"))
DATA = ROOT / "crates" / "meuse" / "data"
TIMEOUT_S = 120


class Cli:
    """Calls the program in a directory of its own, with nothing of the caller's Meuse settings."""

    def __init__(self, home: pathlib.Path, **settings: str):
        self.home = home
        env = {name: value for name, value in os.environ.items() if not name.startswith("MEUSE_")}
        self.env = env | {"NO_COLOR": "1"} | settings

    def run(self, *args, stdin: str | None = None, code: int = 0, timeout_s: int = TIMEOUT_S) -> subprocess.CompletedProcess:
        done = subprocess.run(
            [BIN, *map(str, args)],
            cwd=self.home,
            env=self.env,
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )
        assert done.returncode == code, f"{args}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *args, stdin: str | None = None):
        """What the command prints with --json, read."""
        return json.loads(self.run(*args, "--json", stdin=stdin).stdout)

    def error(self, *args, code: int = 1, stdin: str | None = None) -> str:
        """What the failing command tells a person."""
        done = self.run(*args, code=code, stdin=stdin)
        assert done.stdout == "", done.stdout
        return done.stderr


class Server:
    """`meuse serve` on a free port."""

    def __init__(self, home: pathlib.Path):
        self.home = home
        self.process = subprocess.Popen(
            [BIN, "serve", "--listen", "127.0.0.1:0"],
            cwd=home,
            env=Cli(home).env,
            stdout=subprocess.PIPE,
            stderr=(home / "server.log").open("w"),
            text=True,
        )
        line = self.process.stdout.readline()
        assert line.startswith("listening on http://127.0.0.1:"), (line, (home / "server.log").read_text())
        self.url = line.split()[-1]

    def stop(self, sign: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(sign)
        return self.process.wait(timeout=60)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    started = Server(tmp_path_factory.mktemp("served"))
    yield started
    started.stop()


@pytest.fixture(scope="session")
def cli(server) -> Cli:
    """Commands beside the server: they find it through ./meuse-data, as a person's would."""
    return Cli(server.home)


@pytest.fixture
def nowhere(tmp_path) -> Cli:
    """Commands where nothing runs: the port given is nobody's."""
    return Cli(tmp_path, MEUSE_URL="http://127.0.0.1:9")


@pytest.fixture(scope="session")
def model(cli) -> str:
    """A trained and deployed classifier with two versions, 90 to 10."""
    for seed in (1, 2):
        cli.run("train", DATA / "train.csv", "--name", "nouns", "--label", "class", "--text", "text", "--epochs", 3, "--seed", seed)
    cli.run("deploy", "nouns@1")
    cli.run("deploy", "nouns@2", "--traffic", 10)
    return "nouns"


sys.path.insert(0, str(pathlib.Path(__file__).parent))
