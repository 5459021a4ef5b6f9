"""Google's own system tests of its library, unmodified, out of the library's source distribution."""

import importlib.metadata
import os
import pathlib
import subprocess
import sys
import tarfile

import pytest

from conftest import PROJECT
from models import linear_onnx

PACKAGE = "google-cloud-aiplatform"
VERSION = "2.7.0"
SHA256 = "af89c8b7ff8bfaa3361a4d88224a886e8d2a9f22853d4e3c5d047e46367b6008"
TESTS = "tests/system/aiplatform"
# A model of Google's own, which those tests fetch first.
SAMPLES = "cloud-samples-data-us-central1"
SAMPLE = "vertex-ai/google-cloud-aiplatform-ci-artifacts/models/iris_xgboost/model.bst"
SECONDS = 300


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> pathlib.Path:
    """The library's source, of the version that is installed."""
    assert importlib.metadata.version(PACKAGE) == VERSION
    aside = tmp_path_factory.mktemp("source")
    (aside / "requirements.txt").write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{SHA256}\n")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-binary", PACKAGE, "--require-hashes", "-r", aside / "requirements.txt", "-d", aside]
    subprocess.run(command, check=True, timeout=SECONDS)
    with tarfile.open(next(aside.glob("*.tar.gz"))) as archive:
        wanted = [member for member in archive.getmembers() if "/tests/" in member.name]
        archive.extractall(aside, members=wanted, filter="data")
    return next(path for path in aside.iterdir() if path.is_dir())


@pytest.fixture(scope="module")
def sample(server, tmp_path_factory):
    """In the place of Google's XGBoost model, whose format is not served here, one that is; it is known by its content."""
    made = server.ask("POST", f"/storage/v1/b?project={PROJECT}", json={"name": SAMPLES})
    assert made.status_code == 200, made.text
    model = linear_onnx(tmp_path_factory.mktemp("sample")) / "model.onnx"
    path = f"/upload/storage/v1/b/{SAMPLES}/o?uploadType=media&name={SAMPLE}"
    assert server.ask("POST", path, data=model.read_bytes()).status_code == 200


@pytest.mark.parametrize("name", ["test_model_version_management", "test_model_upload", "test_e2e_metadata_schema"])
def test_googles_own(source, sample, variables, tmp_path, name):
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "BUILD_SPECIFIC_GCLOUD_PROJECT": PROJECT} | variables
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"{TESTS}/{name}.py"]
    done = subprocess.run(command, env=env, cwd=source, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0 and " passed" in done.stdout, f"{done.stdout}\n{done.stderr}"
