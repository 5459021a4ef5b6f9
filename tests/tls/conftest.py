"""A server that speaks TLS with a certificate of the tests' own authority."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "served"))
from served import Server  # noqa: E402

from certificates import Authority  # noqa: E402


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> pathlib.Path:
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="session")
def authority(files) -> Authority:
    return Authority(files)


@pytest.fixture(scope="session")
def server(files, authority):
    authority.issue(files / "cert.pem", files / "key.pem")
    server = Server(files / "data", "--tls-cert", str(files / "cert.pem"), "--tls-key", str(files / "key.pem"))
    server.port = int(server.url.rsplit(":", 1)[1])
    server.secure = f"https://localhost:{server.port}"
    yield server
    assert server.stop() == 0, server.stderr()
