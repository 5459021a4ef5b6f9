"""One running server with a real language model, and the unmodified `ollama` library pointed at it."""

import pathlib
import sys

import ollama
import pytest
import requests

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "served"))
import served  # noqa: E402
from served import ANSWER_SECONDS, model_file  # noqa: E402


class Server(served.Server):
    def client(self, key: str | None = None) -> ollama.Client:
        headers = {"authorization": f"Bearer {key or self.key}"}
        return ollama.Client(host=self.url, headers=headers, timeout=ANSWER_SECONDS)

    def post(self, path: str, body, method: str = "POST") -> requests.Response:
        return self.ask(method, f"/api/{path}", json=body)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server") / "data")
    yield server
    assert server.stop() == 0, server.stderr()


@pytest.fixture(scope="session")
def client(server) -> ollama.Client:
    return server.client()


@pytest.fixture(scope="session")
def smol(server) -> str:
    return server.serves(model_file("smollm2-135m"), "smol")


@pytest.fixture(scope="session")
def encoder(server) -> str:
    return server.serves(model_file("minilm").parent, "minilm")


@pytest.fixture(scope="session")
def qwen(server) -> str:
    """A model whose template knows tools."""
    return server.serves(model_file("qwen2.5-coder-0.5b"), "qwen")
