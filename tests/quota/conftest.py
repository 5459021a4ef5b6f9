"""One running server with a language model and a classifier, and the unmodified clients with keys of their own."""

import pathlib
import sys
import time

import anthropic
import openai
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "served"))
import served  # noqa: E402
from served import ANSWER_SECONDS, ROOT, model_file  # noqa: E402

SPECIFICATION = """
label: class
layers: [{dense: 8, activation: relu}, {dense: labels, activation: softmax}]
epochs: 1
seed: 1
"""


class Key:
    """A key with a quota of its own, and the clients that use it."""

    def __init__(self, server: "Server", project: str = "default", role: str = "invoker"):
        made = server.json("keys", "create", "--project", project, "--role", role)
        self.server, self.id, self.text = server, made["id"], made["key"]

    def limit(self, **limits):
        flags = [part for name, value in limits.items() for part in (f"--{name.replace('_', '-')}", value)]
        return self.server.json("quota", "set", f"keys/{self.id}", *flags)

    @property
    def openai(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.server.url}/v1", api_key=self.text, max_retries=0, timeout=ANSWER_SECONDS)

    @property
    def anthropic(self) -> anthropic.Anthropic:
        return anthropic.Anthropic(base_url=self.server.url, api_key=self.text, max_retries=0, timeout=ANSWER_SECONDS)

    def predict(self, text: str = "a bee", **options):
        path = "/v1/projects/default/locations/us-central1/endpoints/topics:predict"
        return self.server.ask("POST", path, key=self.text, json={"instances": [text]}, **options)

    def used(self) -> dict:
        """What the ledger holds of this key."""
        rows = self.server.json("usage", "--by", "key")["usage"]
        return next((row for row in rows if row["key"] == self.id), {})


class Server(served.Server):
    def new(self, **options) -> Key:
        return Key(self, **options)


@pytest.fixture
def own(tmp_path):
    """A server of the test's own, to be killed."""
    server = Server(tmp_path / "data")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    directory = tmp_path_factory.mktemp("server")
    server = Server(directory / "data")
    specification = directory / "topics.yaml"
    specification.write_text(SPECIFICATION)
    rows = directory / "rows.csv"
    rows.write_text("text,class\n" + "a bee,animal\na rose,plant\n" * 20)
    server.command("train", rows, "--name", "topics", "--spec", specification)
    server.command("deploy", "topics")
    server.serves(model_file("smollm2-135m"), "smol")
    yield server
    assert server.stop() == 0, server.stderr()


@pytest.fixture
def key(server) -> Key:
    return server.new()


def says(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


# Jobs of a project of their own.

PROJECT = "trains"
PARENT = f"/v1/projects/{PROJECT}/locations/us-central1"
JOB_SECONDS = 120
LONG = SPECIFICATION.replace("epochs: 1", "epochs: 100000")


@pytest.fixture
def rows(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("text,class\n" + "a bee,animal\na rose,plant\n" * 2000)
    return file


def train(server, tmp_path, rows, name: str, specification: str, *flags, code: int = 0):
    file = tmp_path / f"{name}.yaml"
    file.write_text(specification)
    return server.command("train", rows, "--name", name, "--spec", file, "--project", PROJECT, *flags, code=code)


def used(server) -> dict[str, dict]:
    rows = server.json("usage", "--by", "model,key", "--only", PROJECT)["usage"]
    return {row["model"]: row for row in rows}


def jobs(server, collection: str) -> list[dict]:
    return server.ask("GET", f"{PARENT}/{collection}").json().get(collection, [])


def until(what, seconds: float = JOB_SECONDS):
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


def state_of(server, name: str) -> str | None:
    found = [job["state"] for job in jobs(server, "trainingPipelines") if name in str(job.get("modelToUpload"))]
    return found[0] if found else None
