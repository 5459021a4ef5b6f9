"""Programs written for Google's cloud, unchanged, in the environment that `meuse env vertex` prints."""

import json
import pathlib
import stat
import subprocess

import numpy as np
import pytest
import requests

from conftest import PROJECT
from models import FEATURES, SLOPES, linear_onnx, linear_scores, numbers_onnx
from served import BINARY, Server, environment, model_file

ROWS = [[1.0, 0.0, 0.0, 0.0], [0.2, -0.4, 0.6, 0.8]]


@pytest.mark.parametrize("options", [{}, {"api_transport": "rest"}], ids=["grpc", "rest"])
def test_a_script_runs_unchanged(run, tmp_path, options):
    found = run("script.py", str(linear_onnx(tmp_path / "model")), json.dumps(ROWS), json.dumps(options))
    assert found["transport"] == options.get("api_transport", "grpc")
    expected = linear_scores(ROWS)
    for way in ("predictions", "raw", "streamed", "by_raw"):
        assert np.allclose(found[way], expected, rtol=1e-5), way
    assert found["explained"] == len(ROWS) and found["models"] == ["linear"]
    assert found["deployed"] and found["by_raw_model"] == found["model"]
    assert found["objects"] == ["model.onnx"]


@pytest.mark.parametrize("options", [{}, {"api_transport": "rest"}], ids=["grpc", "rest"])
def test_an_experiment_runs_unchanged(run, options):
    row = run("experiment.py", json.dumps(options))
    assert row["experiment_name"] == "attempts" and row["run_name"] == "first" and row["state"] == "COMPLETE"
    assert row["param.rate"] == 0.1 and row["metric.accuracy"] == 0.75 and row["time_series_metric.loss"] == 0.5


def test_a_dedicated_endpoint_answers_at_its_own_address(run, tmp_path):
    found = run("dedicated.py", str(linear_onnx(tmp_path / "model")), json.dumps(ROWS))
    assert found["dns"] == "us-central1-aiplatform.googleapis.com"
    expected, (chosen, by_whom) = linear_scores(ROWS), found["chosen"]
    for answer in [found["predictions"], found["raw"], found["streamed"], found["invoked"], found["invoked_stream"][0], chosen]:
        assert np.allclose(answer, expected, rtol=1e-5), found
    assert by_whom and found["elsewhere"] == 404


def test_a_language_model_answers(server, run):
    server.command("import", model_file("smollm2-135m"), "--name", "speaker", "--project", PROJECT)
    server.command("deploy", "speaker", "--project", PROJECT)
    found = run("speaking.py")
    assert found["whole"] and found["whole"] == found["streamed"] == found["raw"] and found["deployed"]
    events = [json.loads(line.removeprefix("data: ")) for line in found["lines"] if line.startswith("data: {")]
    said = "".join(event["choices"][0]["delta"].get("content") or "" for event in events if event["choices"])
    assert said == found["raw"] and found["lines"][-1] == "data: [DONE]"


def test_without_tls_no_endpoint_is_dedicated(tmp_path):
    """It would be called at an address where nobody speaks TLS."""
    server = Server(tmp_path / "data")
    try:
        path = "/v1/projects/default/locations/us-central1/endpoints"
        body = {"displayName": "x", "dedicatedEndpointEnabled": True}
        refused = server.ask("POST", path, json=body)
        assert refused.status_code == 400 and "TLS" in refused.json()["error"]["message"]
        here = server.json("env", "vertex", "--data-dir", server.data)
        made = server.ask("POST", path, json=body).json()["response"]
        address = made["dedicatedEndpointDns"]
        assert address == server.url.replace("http://127.0.0.1", "localhost")
        read = requests.get(
            f"https://{address}/v1/{made['name']}", headers={"authorization": f"Bearer {server.key}"},
            verify=here["REQUESTS_CA_BUNDLE"], timeout=60,
        )
        assert read.json()["name"] == made["name"]
    finally:
        assert server.stop() == 0, server.stderr()


def with_rows(directory: pathlib.Path, truth) -> pathlib.Path:
    """Rows for the model in a directory, beside it: what `truth` says of the features is right."""
    features = np.random.default_rng(7).normal(size=(200, FEATURES)).astype(np.float32)
    lines = [",".join([*(f"x{i}" for i in range(FEATURES)), "truth"])]
    lines += [",".join([*map(str, row), str(answer)]) for row, answer in zip(features.tolist(), truth(features))]
    (directory / "rows.csv").write_text("\n".join(lines) + "\n")
    return directory


def test_a_model_is_evaluated_by_the_librarys_own_call(run, tmp_path):
    names = np.array(["ant", "bee", "cat"])
    # Every fifth answer is another one than the model's.
    shift = np.arange(200) % 5 == 0
    classes = lambda x: names[(linear_scores(x).argmax(axis=1) + shift) % 3]  # noqa: E731
    numbers = lambda x: (x @ SLOPES)[:, 0] + 2.5  # noqa: E731
    found = run(
        "evaluating.py", str(with_rows(linear_onnx(tmp_path / "classes"), classes)),
        str(with_rows(numbers_onnx(tmp_path / "numbers", 0.5), numbers)),
    )
    measured = found["classes"]
    assert measured["state"] == "PIPELINE_STATE_SUCCEEDED" and measured["listed"], measured
    assert measured["shown"] == "classes figures" and measured["pipelines"] == ["classes pipeline"]
    assert measured["metrics"]["accuracy"] == pytest.approx(0.8)
    specs = measured["metrics"]["confusionMatrix"]["annotationSpecs"]
    assert [spec["displayName"] for spec in specs] == list(names)
    assert found["numbers"]["metrics"]["rootMeanSquaredError"] == pytest.approx(2.0, rel=1e-5)
    assert "evaluation-regression-pipeline-" in found["numbers"]["job"]
    assert "2 class labels" in found["wrong"] and "3 classes" in found["wrong"]
    assert "evaluation_prediction_label_column" in found["unheeded"]


def test_pipelines_of_containers_are_refused(server):
    path = f"/v1/projects/{PROJECT}/locations/us-central1/pipelineJobs"
    job = {"displayName": "x", "pipelineSpec": {"pipelineInfo": {"name": "mine"}}, "runtimeConfig": {}}
    refused = server.ask("POST", path, json=job)
    assert refused.status_code == 501 and "mine" in refused.json()["error"]["message"]
    name = "evaluation-classification-pipeline"
    job["pipelineSpec"]["pipelineInfo"]["name"] = name
    for parameters, said in [
        ({}, "model_name"),
        ({"model_name": "x", "evaluation_prediction_score_column": "s"}, "evaluation_prediction_score_column"),
        ({"model_name": "x", "batch_predict_gcs_source_uris": "gs://a/b"}, "batch_predict_gcs_source_uris"),
        ({"model_name": "x", "batch_predict_instances_format": "bigquery"}, "batch_predict_instances_format"),
        ({"model_name": f"projects/{PROJECT}/locations/us-central1/models/none"}, "none"),
    ]:
        job["runtimeConfig"] = {"parameterValues": parameters}
        refused = server.ask("POST", path, json=job)
        assert refused.status_code in (400, 404) and said in refused.json()["error"]["message"], refused.text
    templates = "/vertex-evaluation/pipeline-templates"
    assert server.ask("GET", f"{templates}/{name}/1.0.0").json()["pipelineInfo"]["name"] == name
    unknown = server.ask("GET", f"{templates}/evaluation-feature-attribution-classification-pipeline/1.0.0")
    assert unknown.status_code == 404


def test_the_shell_reads_the_variables(server, variables):
    """Two commands: `eval "$(meuse env vertex)"` and the program."""
    env = environment() | {"MEUSE_URL": server.url, "MEUSE_API_KEY": server.key, "MEUSE_DATA": str(server.data)}
    line = f'eval "$({BINARY} env vertex --project {PROJECT})"; env -0'
    shown = subprocess.run(["sh", "-c", line], env=env, capture_output=True, text=True, check=True, timeout=60)
    seen = dict(part.split("=", 1) for part in shown.stdout.split("\0") if part)
    assert {name: seen.get(name) for name in variables} == variables
    assert variables["HTTPS_PROXY"] == server.url and variables["GOOGLE_CLOUD_PROJECT"] == PROJECT


def test_the_files_are_their_owners(server, variables):
    for path in [variables["GOOGLE_APPLICATION_CREDENTIALS"], server.data / "cloud" / "ca.key"]:
        assert stat.S_IMODE(pathlib.Path(path).stat().st_mode) == 0o600, path


def test_asked_again_it_gives_the_same_account_and_another_for_another_role(server, variables, account):
    again = server.json("env", "vertex", "--data-dir", server.data, "--project", PROJECT)
    assert again == variables
    here = ["--data-dir", server.data, "--project", "other"]
    path = pathlib.Path(server.json("env", "vertex", *here)["GOOGLE_APPLICATION_CREDENTIALS"])
    first = json.loads(path.read_text())["private_key_id"]
    server.json("env", "vertex", *here, "--role", "viewer")
    second = json.loads(path.read_text())["private_key_id"]
    keys = {key["id"]: key for key in server.json("keys", "list")["keys"]}
    assert first not in keys and keys[second]["role"] == "viewer" and keys[second]["project"] == "other"
    assert keys[account["private_key_id"]]["email"] == account["client_email"]
    listed = [line for line in server.command("keys", "list").stdout.splitlines() if second in line]
    assert "service account" in listed[0]


def test_hosts_that_may_be_reached_are_named(server, variables):
    with_direct = server.json(
        "env", "vertex", "--data-dir", server.data, "--project", PROJECT, "--direct", "pypi.org"
    )
    assert with_direct["NO_PROXY"].endswith(",pypi.org") and "pypi.org" not in variables["NO_PROXY"]
    trusted = pathlib.Path(with_direct["SSL_CERT_FILE"]).read_text()
    ours = pathlib.Path(variables["SSL_CERT_FILE"]).read_text()
    assert trusted.startswith(ours) and trusted.count("BEGIN CERTIFICATE") > 10


def test_elsewhere_it_says_so(server):
    refused = subprocess.run(
        [BINARY, "env", "vertex", "--url", "http://192.0.2.1:8080", "--key", "x"], env=environment(),
        capture_output=True, text=True, timeout=60,
    )
    assert refused.returncode == 2 and "not this machine" in refused.stderr
    viewer = server.new_key("viewer")
    refused = server.command("env", "vertex", "--key", viewer, "--data-dir", server.data, code=1)
    assert "role" in refused.stderr
