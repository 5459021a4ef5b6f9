"""One running server for all tests of this folder, and the real client libraries pointed at it."""

import os
import pathlib
import queue
import re
import subprocess
import threading
import time

import pytest
import requests

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = pathlib.Path(os.environ.get("MEUSE_BIN", ROOT / "target" / "release" / "meuse"))
PROJECT = "demo"
LOCATION = "us-central1"
PARENT = f"projects/{PROJECT}/locations/{LOCATION}"
START_SECONDS = 60


class Server:
    """A `meuse serve` of our own, with its key."""

    def __init__(self, data: pathlib.Path):
        self.data = data
        self.log = open(data.parent / f"{data.name}.log", "w+")
        self.process = subprocess.Popen(
            [BINARY, "serve", "--data", data, "--listen", "127.0.0.1:0"],
            stdout=subprocess.PIPE, stderr=self.log, text=True,
        )
        self.url = self._address()
        self.key = (data / "admin.key").read_text().strip()
        self.headers = {"authorization": f"Bearer {self.key}"}
        deadline = time.monotonic() + START_SECONDS
        while requests.get(f"{self.url}/health/ready", timeout=5).status_code != 200:
            assert time.monotonic() < deadline, "the server does not become ready"
            time.sleep(0.1)

    def _address(self) -> str:
        lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=lambda: [lines.put(line) for line in self.process.stdout], daemon=True).start()
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            try:
                found = re.search(r"listening on (http://\S+)", lines.get(timeout=0.5))
            except queue.Empty:
                assert self.process.poll() is None, f"the server ended: {self.stderr()}"
                continue
            if found:
                return found[1]
        raise AssertionError(f"the server does not say where it listens: {self.stderr()}")

    def stderr(self) -> str:
        self.log.flush()
        self.log.seek(0)
        return self.log.read()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(timeout=60)

    def call(self, method: str, path: str, **options) -> requests.Response:
        options.setdefault("timeout", 60)
        options.setdefault("headers", self.headers)
        return requests.request(method, f"{self.url}{path}", **options)


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server") / "data")
    os.environ["STORAGE_EMULATOR_HOST"] = server.url
    # Without it the library asks Google's metadata server for a project.
    os.environ["GOOGLE_CLOUD_PROJECT"] = PROJECT
    os.environ["NO_GCE_CHECK"] = "true"
    yield server
    assert server.stop() == 0, server.stderr()


@pytest.fixture(scope="session")
def credentials(server):
    from google.oauth2.credentials import Credentials

    return Credentials(token=server.key)


@pytest.fixture(scope="session")
def storage(server, credentials):
    from google.cloud import storage

    client = storage.Client(project=PROJECT, credentials=credentials)
    client.create_bucket("staging")
    return client


@pytest.fixture(scope="session")
def bucket(storage):
    return storage.create_bucket("rows")


@pytest.fixture(scope="session")
def aip(server, credentials, storage):
    from google.cloud import aiplatform

    aiplatform.init(
        project=PROJECT, location=LOCATION, api_endpoint=server.url, api_transport="rest",
        credentials=credentials, staging_bucket="gs://staging",
    )
    return aiplatform


@pytest.fixture(scope="session")
def gapic(server, credentials, aip):
    """The generated REST clients, by the name of their service."""

    def client(service: str):
        kind = getattr(aip.gapic, f"{service}ServiceClient")
        return kind(credentials=credentials, transport="rest", client_options={"api_endpoint": server.url})

    return client
