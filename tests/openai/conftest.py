"""One running server with real language models, and the unmodified `openai` library pointed at it."""

import pathlib
import sys

import openai
import pytest
import requests

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "served"))
import served  # noqa: E402
from served import ANSWER_SECONDS, BINARY, environment, model_file  # noqa: E402, F401


class Server(served.Server):
    def client(self, key: str | None = None, **options) -> openai.OpenAI:
        options = {"max_retries": 0, "timeout": ANSWER_SECONDS} | options
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key or self.key, **options)

    def post(self, path: str, body: bytes | str, **options) -> requests.Response:
        headers = {"content-type": "application/json"}
        return self.ask("POST", f"/v1/{path}", headers=headers, data=body, **options)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server") / "data")
    yield server
    assert server.stop() == 0, server.stderr()


@pytest.fixture(scope="session")
def client(server) -> openai.OpenAI:
    return server.client()


@pytest.fixture(scope="session")
def smol(server) -> str:
    """A model of the llama family, whose template knows no tools."""
    return server.serves(model_file("smollm2-135m"), "smol")


@pytest.fixture(scope="session")
def qwen(server) -> str:
    """A model of the qwen2 family, whose template knows tools."""
    return server.serves(model_file("qwen2.5-coder-0.5b"), "qwen")


def says(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]
