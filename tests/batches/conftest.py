"""A server with a real language model, killed and started again at will, and the unmodified `openai` library."""

import json
import pathlib
import sys
import time

import openai
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "served"))
import served  # noqa: E402
from served import model_file  # noqa: E402

BATCH_SECONDS = 240
ENDED = {"completed", "failed", "cancelled", "expired"}
MODEL = "smol"
COMPLETIONS = "/v1/completions"


class Server(served.Server):
    def client(self, key: str | None = None, **options) -> openai.OpenAI:
        options = {"max_retries": 0, "timeout": 60} | options
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=key or self.key, **options)


def line(custom_id: str, url: str = COMPLETIONS, method: str = "POST", **body) -> dict:
    return {"custom_id": custom_id, "method": method, "url": url, "body": {"model": MODEL} | body}


def text(lines: list[dict]) -> bytes:
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def upload(client: openai.OpenAI, content: bytes, name: str = "requests.jsonl"):
    return client.files.create(file=(name, content), purpose="batch")


def begin(client: openai.OpenAI, content: bytes, endpoint: str = COMPLETIONS, window: str = "24h", **options):
    file = upload(client, content)
    return client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window=window, **options)


def until(client: openai.OpenAI, batch, wanted=lambda batch: batch.status in ENDED):
    """The batch once it is as wanted."""
    deadline = time.monotonic() + BATCH_SECONDS
    while time.monotonic() < deadline:
        batch = client.batches.retrieve(batch.id)
        if wanted(batch):
            return batch
        time.sleep(0.1)
    raise AssertionError(f"never as wanted: {batch}")


def outcomes(client: openai.OpenAI, batch) -> tuple[dict[str, dict], dict[str, dict]]:
    """Answers and errors by custom id; each id stands once in one of them."""
    files = []
    for file in (batch.output_file_id, batch.error_file_id):
        lines = [json.loads(line) for line in client.files.content(file).text.splitlines()] if file else []
        by_id = {line["custom_id"]: line for line in lines}
        assert len(by_id) == len(lines), "an id stands twice in one file"
        files.append(by_id)
    answers, errors = files
    assert not answers.keys() & errors.keys(), "an id stands in both files"
    counts = batch.request_counts
    assert (counts.total, counts.completed, counts.failed) == (len(answers) + len(errors), len(answers), len(errors))
    return answers, errors


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("batches") / "data")
    server.serves(model_file("smollm2-135m"), MODEL)
    yield server
    assert server.stop() == 0, server.stderr()


@pytest.fixture(scope="session")
def client(server) -> openai.OpenAI:
    return server.client()
