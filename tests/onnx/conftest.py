"""One running server, and models that other libraries made, registered with `meuse import`."""

import pathlib
import re
import sys

import pytest
import requests

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "served"))
import served  # noqa: E402

REFUSED = 1


class Server(served.Server):
    def deploy(self, name: str, file: pathlib.Path) -> "Deployed":
        """A model file on an endpoint of its own."""
        self.serves(file, name)
        listed = self.json("endpoints")
        listed = listed if isinstance(listed, list) else listed["endpoints"]
        return Deployed(self, next(endpoint["name"] for endpoint in listed if endpoint["displayName"] == name))

    def refusal(self, name: str, file: pathlib.Path) -> str:
        """What `meuse` says of a model file that cannot be served."""
        said = self.command("import", file, "--name", name, code=REFUSED).stderr
        assert self.process.poll() is None, self.stderr()
        return said

    def peak_memory(self) -> int:
        """The most bytes that the process has ever had in memory."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) << 10


class Deployed:
    """A model on an endpoint."""

    def __init__(self, server: Server, endpoint: str):
        self.server, self.endpoint = server, endpoint

    def ask(self, instances) -> requests.Response:
        return self.server.ask("POST", f"/v1/{self.endpoint}:predict", json={"instances": instances})

    def predict(self, instances) -> list:
        answer = self.ask(instances)
        assert answer.status_code == 200, answer.text
        return answer.json()["predictions"]


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server") / "data")
    yield server
    assert server.stop() == 0, server.stderr()
