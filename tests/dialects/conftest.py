"""One running server with real language models, asked in several dialects by the unmodified libraries."""

import json
import pathlib
import sys
import time

import openai
import pytest
import requests

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "served"))
import served  # noqa: E402
from served import ANSWER_SECONDS, model_file  # noqa: E402


class Server(served.Server):
    def post(self, path: str, body: bytes | str | dict, key: str | None = None, **options) -> requests.Response:
        data = json.dumps(body) if isinstance(body, dict) else body
        return self.ask("POST", f"/{path}", key, headers={"content-type": "application/json"}, data=data, **options)

    def is_soon_idle(self, model: str) -> bool:
        """Whether nothing runs any more within a second."""
        deadline = time.monotonic() + 1
        while self.running(model) > 0:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def running(self, model: str) -> float:
        """How many requests the model's engine works on."""
        return self.figure("num_requests_running", model)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server") / "data")
    yield server
    assert server.stop() == 0, server.stderr()


@pytest.fixture(scope="session")
def chat(server) -> openai.OpenAI:
    """The dialect that the others are compared with."""
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=server.key, max_retries=0, timeout=ANSWER_SECONDS)


@pytest.fixture(scope="session")
def smol(server) -> str:
    """A model of the llama family, whose template knows no tools."""
    return server.serves(model_file("smollm2-135m"), "smol")


@pytest.fixture(scope="session")
def qwen(server) -> str:
    """A model of the qwen2 family, whose template knows tools."""
    return server.serves(model_file("qwen2.5-coder-0.5b"), "qwen")
