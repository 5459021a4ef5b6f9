"""One running server for all tests of this folder, and the real client libraries pointed at it."""

import os
import pathlib
import sys

import pytest
import requests

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "served"))
import served  # noqa: E402

PROJECT = "demo"
LOCATION = "us-central1"
PARENT = f"projects/{PROJECT}/locations/{LOCATION}"


class Server(served.Server):
    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}

    def call(self, method: str, path: str, **options) -> requests.Response:
        options = {"timeout": 60, "headers": self.headers} | options
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
