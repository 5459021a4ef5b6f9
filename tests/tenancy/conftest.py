"""One running server that several projects share, with a classifier trained there and a language model."""

import json
import pathlib
import sys

import pytest
import requests

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "served"))
import served  # noqa: E402
from served import ANSWER_SECONDS, model_file  # noqa: E402

WORDS = {"bird": ["sparrow", "heron", "magpie", "wren"], "tree": ["birch", "alder", "willow", "larch"]}
LOCATION = "us-central1"


class Server(served.Server):
    def call(self, method: str, path: str, key: str | None = None, body=None, **options) -> requests.Response:
        """A request with a body in JSON, or as it is."""
        data = json.dumps(body) if isinstance(body, (dict, list)) else body
        return self.ask(method, path, key, data=data, **options)

    def bare(self, method: str, path: str, headers: dict | None = None, **options) -> requests.Response:
        """A request with these headers and no others."""
        return requests.request(method, f"{self.url}{path}", headers=headers, timeout=ANSWER_SECONDS, **options)

    def memory(self) -> int:
        """The most bytes that the process has ever had in memory."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) << 10

    def train(self, directory: pathlib.Path, name: str, project: str = "default") -> str:
        rows = [f"a {word} number {i},{label}" for label, words in WORDS.items() for word in words for i in range(8)]
        table = directory / f"{name}.csv"
        table.write_text("\n".join(["text,label", *rows]) + "\n")
        self.command("train", table, "--name", name, "--text", "text", "--label", "label", "--project", project)
        self.command("deploy", name, "--project", project)
        return name

    def predict(self, name: str, key: str | None = None, instances=("a small heron",), project: str = "default"):
        path = f"/v1/projects/{project}/locations/{LOCATION}/endpoints/{name}:predict"
        return self.call("POST", path, key, {"instances": list(instances)})

    def chat(self, model: str, text: str, key: str | None = None, **fields) -> requests.Response:
        body = {"model": model, "messages": [{"role": "user", "content": text}], "max_tokens": 4} | fields
        return self.call("POST", "/v1/chat/completions", key, body)

    def entries(self, *options) -> list[dict]:
        """The audit log."""
        return [json.loads(line) for line in self.command("audit", "export", *options).stdout.splitlines()]


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server") / "data")
    yield server
    assert server.stop() == 0, server.stderr()


@pytest.fixture(scope="session")
def topics(server, tmp_path_factory) -> str:
    return server.train(tmp_path_factory.mktemp("topics"), "topics")


@pytest.fixture(scope="session")
def smol(server) -> str:
    return server.serves(model_file("smollm2-135m"), "smol")
