"""One running server with a model of each kind, and TLS for who insists on it."""

import os
import pathlib
import sys

import pytest

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path += [str(TESTS / beside) for beside in ("served", "tls", "embeddings", "vision")]
import served  # noqa: E402
from certificates import Authority  # noqa: E402
from kinds import KINDS, Kind  # noqa: E402


class Server(served.Server):
    @property
    def host(self) -> str:
        return self.url.removeprefix("http://")

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    def post(self, path: str, body) -> dict:
        answer = self.ask("POST", path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    directory = tmp_path_factory.mktemp("clients")
    authority = Authority(directory)
    authority.issue(directory / "cert.pem", directory / "key.pem")
    os.environ["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"] = str(authority.file)
    # Without these Google's library looks for a cloud around it.
    os.environ |= {"GOOGLE_CLOUD_PROJECT": "default", "NO_GCE_CHECK": "true"}
    server = Server(directory / "data", "--tls-cert", str(directory / "cert.pem"), "--tls-key", str(directory / "key.pem"))
    yield server
    assert server.stop() == 0, server.stderr()


@pytest.fixture(scope="session", params=KINDS, ids=lambda make: make.__name__)
def kind(request, server, tmp_path_factory) -> Kind:
    return request.param(server, tmp_path_factory.mktemp(request.param.__name__))
