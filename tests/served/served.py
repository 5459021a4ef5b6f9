"""A `meuse serve` of a suite's own, and what its tests do with it. Suites put this directory on their path."""

import json
import os
import pathlib
import queue
import re
import subprocess
import sys
import threading
import time

import requests

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("MEUSE_BIN", ROOT / "target" / "release" / "meuse"))
START_SECONDS = 60
STOP_SECONDS = 60
FETCH_SECONDS = 1500
COMMAND_SECONDS = 300
ANSWER_SECONDS = 120


def model_file(name: str) -> pathlib.Path:
    """The path of a model file, fetched if need be."""
    fetch = [sys.executable, ROOT / "tests" / "models" / "fetch.py", name]
    fetched = subprocess.run(fetch, check=True, timeout=FETCH_SECONDS, stdout=subprocess.PIPE, text=True)
    return pathlib.Path(fetched.stdout.splitlines()[-1])


def environment() -> dict[str, str]:
    """This process' own, without settings of Meuse but the instruction set."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("MEUSE_")}
    return env | {"NO_COLOR": "1"} | {name: os.environ[name] for name in ("MEUSE_ISA",) if name in os.environ}


class Server:
    """`meuse serve` on one data directory, with its key; killed and started again at will."""

    listen = "127.0.0.1:0"

    def __init__(self, data: pathlib.Path, *options: str):
        self.data, self.options = data, options
        self.log = open(data.parent / f"{data.name}.log", "a+")
        self.start()

    def start(self):
        self.process = subprocess.Popen(
            [BINARY, "serve", "--data", self.data, "--listen", self.listen, *self.options],
            stdout=subprocess.PIPE, stderr=self.log, text=True, env=environment(),
        )
        self.url = self._address()
        self.key = (self.data / "admin.key").read_text().strip()

    def _address(self) -> str:
        lines: queue.Queue[str] = queue.Queue()
        read = lambda out: [lines.put(line) for line in out]  # noqa: E731
        threading.Thread(target=read, args=(self.process.stdout,), daemon=True).start()
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                found = re.search(r"listening on (http://\S+)", lines.get(timeout=0.5))
            except queue.Empty:
                assert self.process.poll() is None, f"the server ended: {self.stderr()}"
                continue
            if found:
                return found[1]
        raise AssertionError(f"the server does not say where it listens: {self.stderr()}")

    def stderr(self) -> str:
        self.log.flush()
        self.log.seek(0)
        return self.log.read()

    def kill(self):
        self.process.kill()
        self.process.wait(timeout=STOP_SECONDS)

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=STOP_SECONDS)

    def command(self, *args, code: int = 0, stdin: str = "") -> subprocess.CompletedProcess:
        """What `meuse` does with these arguments, asked of this server."""
        env = environment() | {"MEUSE_URL": self.url, "MEUSE_API_KEY": self.key}
        done = subprocess.run(
            [BINARY, *map(str, args)], env=env, input=stdin, capture_output=True, text=True, timeout=COMMAND_SECONDS
        )
        assert done.returncode == code, f"{args}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *args):
        """What `meuse` says with `--json`."""
        return json.loads(self.command(*args, "--json").stdout)

    def new_key(self, role: str, project: str = "default") -> str:
        return self.json("keys", "create", "--project", project, "--role", role)["key"]

    def serves(self, path: pathlib.Path, name: str) -> str:
        """Imports and deploys a model, as a person does."""
        self.command("import", path, "--name", name)
        self.command("deploy", name)
        return name

    def ask(self, method: str, path: str, key: str | None = None, headers: dict | None = None, **options) -> requests.Response:
        """A request with the server's key or another."""
        options = {"timeout": ANSWER_SECONDS} | options
        headers = {"authorization": f"Bearer {key or self.key}"} | (headers or {})
        return requests.request(method, f"{self.url}{path}", headers=headers, **options)

    def metrics(self) -> str:
        return self.ask("GET", "/metrics").text

    def figure(self, name: str, model: str) -> float:
        """A figure of /metrics about a language model."""
        text = self.metrics()
        found = re.search(rf'^vllm:{name}{{model_name="{model}",[^}}]*}} (\S+)$', text, re.MULTILINE)
        assert found, f"no vllm:{name} of {model} in\n{text}"
        return float(found[1])
