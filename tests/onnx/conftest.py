"""One running server, and models that other libraries made, registered with `meuse import`."""

import json
import os
import pathlib
import queue
import re
import subprocess
import threading
import time

import pytest
import requests

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("MEUSE_BIN", ROOT / "target" / "release" / "meuse"))
START_SECONDS = 60
COMMAND_SECONDS = 60


class Server:
    """A `meuse serve` of our own, with its key."""

    def __init__(self, data: pathlib.Path):
        self.log = open(data.parent / f"{data.name}.log", "w+")
        self.process = subprocess.Popen(
            [BINARY, "serve", "--data", data, "--listen", "127.0.0.1:0"],
            stdout=subprocess.PIPE, stderr=self.log, text=True,
        )
        self.url = self._address()
        self.key = (data / "admin.key").read_text().strip()

    def _address(self) -> str:
        lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=lambda: [lines.put(line) for line in self.process.stdout], daemon=True).start()
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

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=60)

    def command(self, *args) -> subprocess.CompletedProcess:
        """What `meuse` does with these arguments, asked of this server."""
        env = os.environ | {"MEUSE_URL": self.url, "MEUSE_API_KEY": self.key, "NO_COLOR": "1"}
        return subprocess.run(
            [BINARY, *map(str, args)], env=env, capture_output=True, text=True, timeout=COMMAND_SECONDS
        )

    def deploy(self, name: str, file: pathlib.Path) -> "Deployed":
        """A model file on an endpoint of its own."""
        for command in (["import", file, "--name", name], ["deploy", name]):
            done = self.command(*command)
            assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
        listed = json.loads(self.command("endpoints", "--json").stdout)
        listed = listed if isinstance(listed, list) else listed["endpoints"]
        endpoint = next(endpoint for endpoint in listed if endpoint["displayName"] == name)
        return Deployed(self, endpoint["name"])

    def refusal(self, name: str, file: pathlib.Path) -> str:
        """What `meuse` says of a model file that cannot be served."""
        done = self.command("import", file, "--name", name)
        assert done.returncode != 0, done.stdout
        assert self.process.poll() is None, self.stderr()
        return done.stderr


class Deployed:
    """A model on an endpoint."""

    def __init__(self, server: Server, endpoint: str):
        self.server, self.endpoint = server, endpoint

    def ask(self, instances) -> requests.Response:
        headers = {"authorization": f"Bearer {self.server.key}"}
        url = f"{self.server.url}/v1/{self.endpoint}:predict"
        return requests.post(url, json={"instances": instances}, headers=headers, timeout=60)

    def predict(self, instances) -> list:
        answer = self.ask(instances)
        assert answer.status_code == 200, answer.text
        return answer.json()["predictions"]


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server") / "data")
    yield server
    assert server.stop() == 0, server.stderr()
