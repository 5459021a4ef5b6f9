"""One running server with encoders, and the unmodified `openai` library pointed at it."""

import json
import pathlib
import sys

import openai
import pytest
import requests

import tiny

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "served"))
import served  # noqa: E402
from served import ANSWER_SECONDS, model_file  # noqa: E402


class Server(served.Server):
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.key, max_retries=0, timeout=ANSWER_SECONDS)

    def post(self, path: str, body: dict) -> requests.Response:
        return self.ask("POST", f"/v1/{path}", json=body)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server") / "data")
    yield server
    assert server.stop() == 0, server.stderr()


@pytest.fixture(scope="session")
def client(server) -> openai.OpenAI:
    return server.client()


@pytest.fixture(scope="session")
def minilm(server) -> str:
    """all-MiniLM-L6-v2, as it is published."""
    return server.serves(model_file("minilm").parent, "minilm")


@pytest.fixture(scope="session")
def judge(server, tmp_path_factory) -> str:
    """A small cross-encoder."""
    return server.serves(tiny.write(tmp_path_factory.mktemp("judge") / "judge"), "judge")


@pytest.fixture(scope="session")
def reference() -> dict:
    """What independent implementations say: see reference.py."""
    return json.loads((HERE / "reference.json").read_text())
