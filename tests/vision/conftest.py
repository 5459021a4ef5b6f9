"""One running server with vision models made elsewhere, and what Python makes of the same files."""

import base64
import json
import pathlib
import sys

import pytest

import pipeline

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "served"))
import served  # noqa: E402

PARENT = "projects/default/locations/us-central1"


class Server(served.Server):
    def post(self, path: str, body, **options):
        return self.ask("POST", path, json=body, **options)

    def predict(self, name: str, *instances, status: int = 200):
        """What Vertex' predict says: the predictions, or the error's text."""
        reply = self.post(f"/v1/{PARENT}/endpoints/{name}:predict", {"instances": list(instances)})
        assert reply.status_code == status, reply.text
        return reply.json()["predictions"] if status == 200 else reply.json()["error"]["message"]

    def explain(self, name: str, *instances, **fields) -> dict:
        reply = self.post(f"/v1/{PARENT}/endpoints/{name}:explain", {"instances": list(instances)} | fields)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def made(self, name: str, directory: pathlib.Path, **files) -> str:
        """Serves what lies in a directory, with these documents beside it."""
        for file, text in files.items():
            (directory / file.replace("__", ".")).write_text(text if isinstance(text, str) else json.dumps(text))
        return self.serves(directory, name)

    def put(self, bucket: str, name: str, content: bytes) -> None:
        """Stores an object, as `google-cloud-storage` would."""
        made = self.post("/storage/v1/b?project=default", {"name": bucket})
        assert made.status_code in (200, 409), made.text
        done = self.ask("POST", f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={name}", data=content)
        assert done.status_code == 200, done.text

    def memory(self) -> int:
        """Bytes that the process has in memory."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) << 10


def b64(file: bytes) -> str:
    return base64.b64encode(file).decode()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server") / "data")
    yield server
    assert server.stop() == 0, server.stderr()


@pytest.fixture(scope="session")
def orientation_file() -> pathlib.Path:
    return served.model_file("orientation")


@pytest.fixture(scope="session")
def session(orientation_file):
    return pipeline.session(orientation_file)


@pytest.fixture(scope="session")
def orientation(server, orientation_file, tmp_path_factory) -> str:
    """The real model, imported as a file with a document that says what is done around it."""
    directory = tmp_path_factory.mktemp("orientation")
    (directory / "declared.yaml").write_text(pipeline.ORIENTATION)
    (directory / "labels.txt").write_text("\n".join(pipeline.LABELS) + "\n")
    server.command("import", orientation_file, "--name", "orientation", "--processing", directory / "declared.yaml")
    server.command("deploy", "orientation")
    return "orientation"


@pytest.fixture(scope="session")
def corner(server, tmp_path_factory) -> str:
    """A network that looks at the upper left quarter alone."""
    directory = tmp_path_factory.mktemp("corner")
    pipeline.corner(directory / "model.onnx", 64)
    document = "image: {resize: 64}\noutput: {labels: [bright, dark], softmax: true}\n"
    return server.made("corner", directory, processing__yaml=document)
