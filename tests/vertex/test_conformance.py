"""Every Vertex AI call that Meuse serves, made with Google's own library; values checked, not only status."""

import base64
import csv
import io
import json
import time

import numpy as np
import pytest
import requests
from google.api_core import exceptions
from google.protobuf import field_mask_pb2, json_format, struct_pb2

from conftest import LOCATION, PARENT, PROJECT
from models import TOPICS, linear_onnx, linear_scores, text_csv, text_rows
from served import ROOT

IMAGE = "us-docker.pkg.dev/vertex-ai/prediction/sklearn-cpu.1-3:latest"
# The library refuses local ONNX files under the names of the newer prebuilt images.
LOCAL_IMAGE = "gcr.io/cloud-aiplatform/prediction/sklearn-cpu.1-0:latest"
NETWORK = "gs://meuse/schema/trainingjob/definition/network_1.0.0.yaml"
ROWS = [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.2, -0.4, 0.6, 0.8]]
SPEC = {
    "label": "label",
    "features": [{"text": "text"}],
    "layers": [
        {"dense": 16, "activation": "relu"},
        {"dense": "labels", "activation": "softmax"},
    ],
    "optimizer": "adam",
    "learning_rate": 0.01,
    "metrics": ["accuracy"],
    "epochs": 10,
    "seed": 1,
}


def value(thing) -> struct_pb2.Value:
    return json_format.ParseDict(thing, struct_pb2.Value())


def plain(message):
    """A protobuf value of the library as plain Python."""
    return json.loads(json.dumps(message, default=lambda m: dict(m) if hasattr(m, "keys") else list(m)))


@pytest.fixture(scope="module")
def uploaded(aip, storage, tmp_path_factory):
    """A model made elsewhere, with a second version twice as sure of itself: one from a bucket under the name of a
    prebuilt image, as scripts for the cloud have it, and one from a local directory."""
    local = tmp_path_factory.mktemp("onnx")
    made_elsewhere = linear_onnx(local / "one") / "model.onnx"
    storage.bucket("staging").blob("linear/one/model.onnx").upload_from_filename(made_elsewhere)
    first = aip.Model.upload(
        display_name="linear", artifact_uri="gs://staging/linear/one", serving_container_image_uri=IMAGE,
        description="three classes", labels={"team": "search"}, version_aliases=["stable"],
        version_description="the first",
    )
    second = aip.Model.upload(
        display_name="linear", parent_model=first.resource_name, artifact_uri=str(linear_onnx(local / "two", 2.0)),
        serving_container_image_uri=LOCAL_IMAGE, is_default_version=False, version_aliases=["sharper"],
        version_description="the second",
    )
    return first, second


@pytest.fixture(scope="module")
def trained(gapic, aip, bucket):
    """A text classifier trained through a pipeline."""
    bucket.blob("train.csv").upload_from_string(text_csv(text_rows(300)), content_type="text/csv")
    dataset = aip.TabularDataset.create(display_name="topics", gcs_source="gs://rows/train.csv")
    client = gapic("Pipeline")
    made = client.create_training_pipeline(
        parent=PARENT,
        training_pipeline={
            "display_name": "train topics",
            "training_task_definition": NETWORK,
            "training_task_inputs": value(SPEC),
            "input_data_config": {"dataset_id": dataset.name},
            "model_to_upload": {"display_name": "topics", "version_aliases": ["fresh"]},
            "labels": {"made-by": "test"},
        },
    )
    pipeline = wait_for(lambda: client.get_training_pipeline(name=made.name), "PIPELINE_STATE_")
    assert pipeline.state.name == "PIPELINE_STATE_SUCCEEDED", pipeline.error
    return pipeline


def wait_for(get, prefix: str, seconds: float = 240):
    deadline = time.monotonic() + seconds
    final = {prefix + end for end in ("SUCCEEDED", "FAILED", "CANCELLED")}
    while (found := get()).state.name not in final:
        assert time.monotonic() < deadline, f"still {found.state.name}"
        time.sleep(0.2)
    return found


@pytest.fixture(scope="module")
def endpoint(aip, uploaded):
    endpoint = aip.Endpoint.create(display_name="linear")
    endpoint.deploy(uploaded[0], deployed_model_display_name="v1", machine_type="n1-standard-2", traffic_percentage=100)
    return endpoint


@pytest.fixture(scope="module")
def text_endpoint(aip, trained):
    endpoint = aip.Endpoint.create(display_name="topics")
    endpoint.deploy(aip.Model(trained.model_to_upload.name))
    return endpoint


# Models


def test_upload_and_get(aip, uploaded):
    first, second = uploaded
    assert first.display_name == "linear" and first.description == "three classes"
    assert first.version_id == "1" and second.version_id == "2"
    assert first.resource_name == second.resource_name
    read = aip.Model(first.resource_name)
    assert read.version_id == "1" and set(read.version_aliases) == {"default", "stable"}
    assert read.labels == {"team": "search"} and read.version_description == "the first"
    assert read.container_spec.image_uri == IMAGE and read.uri == "gs://staging/linear/one"
    assert second.uri.startswith("gs://staging/")
    assert aip.Model(f"{first.resource_name}@sharper").version_id == "2"
    assert aip.Model(first.name, version="2").version_description == "the second"
    assert read.create_time <= read.update_time and read.gca_resource.etag
    with pytest.raises(exceptions.NotFound):
        aip.Model("999999")
    with pytest.raises(exceptions.NotFound):
        aip.Model(f"{first.resource_name}@77")


def test_list_models(aip, uploaded):
    names = [model.display_name for model in aip.Model.list()]
    assert "linear" in names
    assert [m.display_name for m in aip.Model.list(filter='display_name="linear"')] == ["linear"]
    assert [m.display_name for m in aip.Model.list(filter="labels.team=search")] == ["linear"]
    assert aip.Model.list(filter='display_name="nothing"') == []
    assert [m.display_name for m in aip.Model.list(filter='display_name="linear"', order_by="create_time desc")] == ["linear"]
    with pytest.raises(exceptions.BadRequest):
        aip.Model.list(filter="display_name=(")


def test_a_keras_archive(aip, storage):
    """Of one layer, `x · [[0, 1], [2, 3]] + 1`; tests/keras has Keras write larger ones."""
    archive = ROOT / "fuzz" / "corpus" / "keras" / "sequence"
    storage.bucket("staging").blob("keras/model.keras").upload_from_filename(archive)
    model = aip.Model.upload(
        display_name="keras", artifact_uri="gs://staging/keras",
        serving_container_image_uri="us-docker.pkg.dev/vertex-ai/prediction/tf2-cpu.2-15:latest",
    )
    endpoint = model.deploy(machine_type="n1-standard-2")
    assert endpoint.predict([[1.0, 1.0], [-1.0, 0.5]]).predictions == [[3.0, 5.0], [2.0, 1.5]]


def test_update_model(aip, uploaded):
    model = aip.Model(uploaded[0].resource_name)
    model.update(display_name="linear", description="new", labels={"team": "search", "tier": "gold"})
    read = aip.Model(model.resource_name)
    assert read.description == "new" and read.labels == {"team": "search", "tier": "gold"}


def test_a_stale_etag_is_refused(gapic, uploaded):
    client = gapic("Model")
    model = client.get_model(name=uploaded[0].resource_name)
    stale = model.etag
    mask = field_mask_pb2.FieldMask(paths=["description"])
    model.description = "one"
    client.update_model(model=model, update_mask=mask)
    model.description, model.etag = "two", stale
    with pytest.raises((exceptions.Aborted, exceptions.Conflict)):
        client.update_model(model=model, update_mask=mask)
    with pytest.raises(exceptions.MethodNotImplemented, match="predictSchemata"):
        client.update_model(model={"name": model.name}, update_mask={"paths": ["predict_schemata"]})


def test_versions_and_aliases(aip, uploaded):
    registry = uploaded[0].versioning_registry
    infos = {info.version_id: info for info in registry.list_versions()}
    assert set(infos) == {"1", "2"} and infos["2"].version_aliases == ["sharper"]
    registry.add_version_aliases(["candidate"], version="2")
    assert registry.get_version_info("candidate").version_id == "2"
    registry.remove_version_aliases(["candidate"], version="2")
    assert registry.get_version_info("2").version_aliases == ["sharper"]
    registry.update_version(version="2", version_description="described anew", labels={"team": "search"})
    assert registry.get_version_info("2").version_description == "described anew"
    with pytest.raises(exceptions.BadRequest):
        registry.remove_version_aliases(["default"], version="1")


def test_delete_versions_and_models(aip, tmp_path):
    model = aip.Model.upload(
        display_name="short-lived", artifact_uri=str(linear_onnx(tmp_path / "m")),
        serving_container_image_uri=LOCAL_IMAGE,
    )
    second = aip.Model.upload(
        parent_model=model.resource_name, artifact_uri=str(linear_onnx(tmp_path / "n")),
        serving_container_image_uri=LOCAL_IMAGE, is_default_version=True,
    )
    assert second.version_id == "2" and "default" in second.version_aliases
    model.versioning_registry.delete_version("1")
    assert [info.version_id for info in second.versioning_registry.list_versions()] == ["2"]
    with pytest.raises(exceptions.BadRequest):
        second.versioning_registry.delete_version("2")
    second.delete()
    with pytest.raises(exceptions.NotFound):
        aip.Model(model.resource_name)


def test_uploads_that_cannot_be_served(aip, gapic, storage, tmp_path):
    client = gapic("Model")

    def upload(**model):
        return client.upload_model(parent=PARENT, model={"display_name": "bad", **model}).result(timeout=60)

    with pytest.raises(exceptions.BadRequest, match="artifactUri"):
        upload(container_spec={"image_uri": IMAGE})
    with pytest.raises(exceptions.GoogleAPICallError, match="nowhere"):
        upload(artifact_uri="gs://nowhere/model", container_spec={"image_uri": IMAGE})
    storage.bucket("staging").blob("pickled/model.pkl").upload_from_string(b"\x80\x04\x95junk")
    with pytest.raises(exceptions.GoogleAPICallError, match="(?i)pickle|pkl"):
        upload(artifact_uri="gs://staging/pickled", container_spec={"image_uri": IMAGE})
    storage.bucket("staging").blob("torn/model.onnx").upload_from_string(b"\x08\x09not a graph")
    with pytest.raises(exceptions.GoogleAPICallError):
        upload(artifact_uri="gs://staging/torn", container_spec={"image_uri": IMAGE})


# Endpoints


def test_endpoint_create_list_update(aip, endpoint):
    assert endpoint.display_name == "linear"
    made = aip.Endpoint.create(display_name="empty", description="nothing yet", labels={"a": "b"}, endpoint_id="4711")
    assert made.name == "4711" and made.gca_resource.description == "nothing yet" and made.labels == {"a": "b"}
    assert [e.name for e in aip.Endpoint.list(filter='display_name="empty"')] == ["4711"]
    made.update(display_name="still-empty", labels={"a": "c"})
    read = aip.Endpoint("4711")
    assert read.display_name == "still-empty" and read.labels == {"a": "c"}
    with pytest.raises(exceptions.GoogleAPICallError):
        read.predict([[1, 2, 3, 4]])
    made.delete()
    with pytest.raises(exceptions.NotFound):
        aip.Endpoint("4711").gca_resource


def test_deploy_split_undeploy(aip, uploaded):
    first, second = uploaded
    endpoint = aip.Endpoint.create(display_name="split")
    endpoint.deploy(first, deployed_model_display_name="one")
    deployed = endpoint.list_models()
    assert [d.display_name for d in deployed] == ["one"] and deployed[0].model == first.resource_name
    assert deployed[0].model_version_id == "1" and endpoint.traffic_split == {deployed[0].id: 100}
    endpoint.deploy(second, deployed_model_display_name="two", traffic_percentage=25, machine_type="n1-standard-4")
    by_name = {d.display_name: d for d in endpoint.list_models()}
    assert by_name["two"].model_version_id == "2"
    assert by_name["two"].dedicated_resources.machine_spec.machine_type == "n1-standard-4"
    assert endpoint.traffic_split == {by_name["one"].id: 75, by_name["two"].id: 25}

    answers = {endpoint.predict([ROWS[0]]).deployed_model_id for _ in range(60)}
    assert answers == {by_name["one"].id, by_name["two"].id}

    endpoint.update(traffic_split={by_name["one"].id: 0, by_name["two"].id: 100})
    answer = endpoint.predict(ROWS)
    assert answer.deployed_model_id == by_name["two"].id and answer.model_version_id == "2"
    np.testing.assert_allclose(answer.predictions, linear_scores(ROWS, 2.0), rtol=1e-5)

    with pytest.raises(exceptions.BadRequest, match="100"):
        endpoint.update(traffic_split={by_name["one"].id: 50, by_name["two"].id: 20})
    with pytest.raises(exceptions.BadRequest):
        endpoint.update(traffic_split={"123": 100})
    with pytest.raises(exceptions.BadRequest):
        first.delete()
    endpoint.undeploy(by_name["two"].id, traffic_split={by_name["one"].id: 100})
    assert endpoint.traffic_split == {by_name["one"].id: 100}
    with pytest.raises(exceptions.BadRequest):
        endpoint.delete()
    endpoint.undeploy_all()
    assert endpoint.list_models() == []
    endpoint.delete()


def test_deploy_with_a_split_that_does_not_sum(gapic, endpoint, uploaded):
    deployed = {"model": f"{uploaded[0].resource_name}@2", "dedicated_resources": {"machine_spec": {"machine_type": "n1-standard-2"}}}
    with pytest.raises(exceptions.BadRequest, match="100"):
        gapic("Endpoint").deploy_model(
            endpoint=endpoint.resource_name, deployed_model=deployed,
            traffic_split={"0": 30, endpoint.list_models()[0].id: 30},
        ).result(timeout=60)


def test_mutate_deployed_model(gapic, aip, uploaded):
    endpoint = aip.Endpoint.create(display_name="mutable")
    endpoint.deploy(uploaded[0])
    deployed = endpoint.list_models()[0]
    client = gapic("Endpoint")
    done = client.mutate_deployed_model(
        endpoint=endpoint.resource_name,
        deployed_model={"id": deployed.id, "dedicated_resources": {"min_replica_count": 2, "max_replica_count": 3}},
        update_mask={"paths": ["dedicated_resources.min_replica_count", "dedicated_resources.max_replica_count"]},
    ).result(timeout=60)
    assert done.deployed_model.dedicated_resources.min_replica_count == 2
    with pytest.raises(exceptions.MethodNotImplemented):
        client.mutate_deployed_model(
            endpoint=endpoint.resource_name, deployed_model={"id": deployed.id, "service_account": "x"},
            update_mask={"paths": ["service_account"]},
        )
    endpoint.delete(force=True)


# Predictions


def test_predict(endpoint, uploaded):
    answer = endpoint.predict(instances=ROWS)
    np.testing.assert_allclose(answer.predictions, linear_scores(ROWS), rtol=1e-5)
    assert answer.deployed_model_id == endpoint.list_models()[0].id
    assert answer.model_resource_name == uploaded[0].resource_name and answer.model_version_id == "1"


def test_predict_text(text_endpoint):
    rows = text_rows(30, seed=99)
    answer = text_endpoint.predict([text for text, _, _ in rows])
    labels = [prediction["label"] for prediction in answer.predictions]
    assert labels == [label for _, label, _ in rows]
    for prediction in answer.predictions:
        assert set(prediction["classes"]) == {"cooking", "sailing", "chess"}
        assert sum(prediction["scores"]) == pytest.approx(1, abs=1e-5)
        assert prediction["classes"][int(np.argmax(prediction["scores"]))] == prediction["label"]
    as_records = text_endpoint.predict([{"text": rows[0][0]}])
    assert as_records.predictions == [answer.predictions[0]]


def test_predictions_that_do_not_fit(server, endpoint, text_endpoint):
    for instances, named in [([[1, 2, 3]], "4"), ([["a", "b", "c", "d"]], "instance 0"), ([{"y": 1}], "instance 0")]:
        with pytest.raises(exceptions.BadRequest, match=named):
            endpoint.predict(instances)
    with pytest.raises(exceptions.BadRequest, match="colour"):
        text_endpoint.predict([{"colour": "blue"}])
    with pytest.raises((exceptions.BadRequest, exceptions.MethodNotImplemented), match="confidence"):
        endpoint.predict(ROWS, parameters={"confidence": 0.5})
    path = f"/v1/{endpoint.resource_name}:predict"
    for body, status in [("{", 400), ('{"instances":[NaN]}', 400), ('{"instance":[]}', 400), ("[]", 400), ("", 400),
                         ('{"instances":[9007199254740993]}', 400), ('{"instances": 3}', 400)]:
        answer = server.call("POST", path, data=body)
        error = answer.json()["error"]
        assert answer.status_code == status and error["code"] == status and error["status"] == "INVALID_ARGUMENT", body
        assert error["message"] and error["details"] == []


def test_raw_predict_in_both_shapes(server, gapic, endpoint, uploaded):
    from google.api import httpbody_pb2

    body = json.dumps({"instances": ROWS})
    raw = server.call("POST", f"/v1/{endpoint.resource_name}:rawPredict", data=body,
                      headers={**server.headers, "content-type": "application/json"})
    np.testing.assert_allclose(raw.json()["predictions"], linear_scores(ROWS), rtol=1e-5)
    assert raw.headers["X-Vertex-AI-Deployed-Model-Id"] == endpoint.list_models()[0].id
    assert raw.headers["X-Vertex-AI-Model"] == uploaded[0].resource_name
    assert raw.headers["X-Vertex-AI-Model-Version-Id"] == "1"
    wrapped = gapic("Prediction").raw_predict(
        endpoint=endpoint.resource_name,
        http_body=httpbody_pb2.HttpBody(content_type="application/json", data=body.encode()),
    )
    assert wrapped.content_type == "application/json" and json.loads(wrapped.data) == raw.json()


def test_stream_raw_predict_in_both_shapes(server, gapic, endpoint):
    from google.api import httpbody_pb2

    rows = ROWS * 200
    body = json.dumps({"instances": rows})
    raw = server.call("POST", f"/v1/{endpoint.resource_name}:streamRawPredict", data=body, stream=True)
    lines = [json.loads(line) for line in raw.iter_lines()]
    np.testing.assert_allclose(lines, linear_scores(rows), rtol=1e-5)
    from google.cloud.aiplatform_v1.types import StreamRawPredictRequest

    request = StreamRawPredictRequest(
        endpoint=endpoint.resource_name,
        http_body=httpbody_pb2.HttpBody(content_type="application/json", data=body.encode()),
    )
    pieces = list(gapic("Prediction").stream_raw_predict(request=request))
    assert len(pieces) > 1
    lines = [json.loads(line) for piece in pieces for line in piece.data.splitlines()]
    np.testing.assert_allclose(lines, linear_scores(rows), rtol=1e-5)


def test_explain(text_endpoint):
    text = "the anchor and the keel with flour"
    answer = text_endpoint.explain([text])
    attribution = answer.explanations[0].attributions[0]
    features = plain(dict(attribution.feature_attributions))
    assert len(features["text"]) == len(features["text_tokens"]) == 7
    assert [token.strip() for token in features["text_tokens"]] == text.split()
    assert attribution.output_display_name == answer.predictions[0]["label"] == "sailing"
    total = attribution.instance_output_value - attribution.baseline_output_value
    assert sum(features["text"]) == pytest.approx(total, abs=max(0.05, 2 * attribution.approximation_error))
    by_token = dict(zip(features["text_tokens"], features["text"]))
    assert max(by_token, key=by_token.get).strip() in ("anchor", "keel")
    assert answer.deployed_model_id == text_endpoint.list_models()[0].id


def test_explain_numbers_with_a_chosen_method(gapic, endpoint):
    from google.cloud.aiplatform_v1.types import ExplainRequest

    def explain(parameters):
        request = ExplainRequest(endpoint=endpoint.resource_name, explanation_spec_override={"parameters": parameters})
        ExplainRequest.pb(request).instances.append(value(ROWS[2]))
        return gapic("Prediction").explain(request)

    answer = explain({"sampled_shapley_attribution": {"path_count": 20}})
    attribution = answer.explanations[0].attributions[0]
    assert list(attribution.output_index) == [int(np.argmax(linear_scores([ROWS[2]])[0]))]
    assert attribution.instance_output_value == pytest.approx(linear_scores([ROWS[2]]).max(), rel=1e-4)
    with pytest.raises(exceptions.MethodNotImplemented, match="xraiAttribution"):
        explain({"xrai_attribution": {"step_count": 5}})


# Batch predictions


def objects(storage, directory: str) -> dict[str, str]:
    prefix = directory.removeprefix("gs://rows/")
    return {blob.name.rsplit("/", 1)[1]: blob.download_as_text() for blob in storage.bucket("rows").list_blobs(prefix=prefix)}


def test_batch_of_csv(aip, storage, bucket, trained):
    rows = text_rows(200, seed=3)
    bucket.blob("batch/in.csv").upload_from_string(text_csv(rows))
    job = aip.Model(trained.model_to_upload.name).batch_predict(
        job_display_name="csv", gcs_source="gs://rows/batch/in.csv", gcs_destination_prefix="gs://rows/batch/out",
        instances_format="csv", predictions_format="csv", machine_type="n1-standard-2",
    )
    assert job.state.name == "JOB_STATE_SUCCEEDED"
    assert job.completion_stats.successful_count == 200 and job.completion_stats.failed_count == 0
    assert job.output_info.gcs_output_directory.startswith("gs://rows/batch/out/")
    # Directories are not outputs; every object is.
    names = [blob.name for blob in job.iter_outputs()]
    assert names
    texts = objects(storage, job.output_info.gcs_output_directory)
    found = [row for name, text in sorted(texts.items()) if name.startswith("prediction.results") for row in csv.DictReader(io.StringIO(text))]
    assert sorted(row["text"] for row in found) == sorted(text for text, _, _ in rows)
    read = aip.BatchPredictionJob(job.resource_name)
    assert read.display_name == "csv" and read.gca_resource.input_config.instances_format == "csv"
    assert "csv" in [j.display_name for j in aip.BatchPredictionJob.list()]
    job.delete()
    with pytest.raises(exceptions.NotFound):
        aip.BatchPredictionJob(job.resource_name)


def test_batch_of_jsonl_with_bad_rows(aip, storage, bucket, uploaded):
    lines = [json.dumps(row) for row in ROWS * 5]
    lines[4], lines[9] = "[1, 2", json.dumps(["a"] * 4)
    bucket.blob("batch/in.jsonl").upload_from_string("\n".join(lines))
    job = uploaded[0].batch_predict(
        job_display_name="jsonl", gcs_source=["gs://rows/batch/in.jsonl"], gcs_destination_prefix="gs://rows/batch/jsonl",
        instances_format="jsonl", predictions_format="jsonl",
    )
    assert job.completion_stats.successful_count == 13 and job.completion_stats.failed_count == 2
    failures = [status.message for status in job.partial_failures]
    assert len(failures) == 2 and any("4" in f or "5" in f for f in failures)
    texts = objects(storage, job.output_info.gcs_output_directory)
    found = [json.loads(line) for name, text in texts.items() if name.startswith("prediction.results") for line in text.splitlines()]
    assert len(found) == 13
    for row in found:
        np.testing.assert_allclose(row["prediction"], linear_scores([row["instance"]])[0], rtol=1e-5)


def test_batches_that_cannot_be(aip, gapic, uploaded):
    def job(**changes):
        return {
            "display_name": "bad", "model": uploaded[0].resource_name,
            "input_config": {"instances_format": "csv", "gcs_source": {"uris": ["gs://nowhere/in.csv"]}},
            "output_config": {"predictions_format": "csv", "gcs_destination": {"output_uri_prefix": "gs://rows/out"}},
            **changes,
        }

    client = gapic("Job")
    with pytest.raises(exceptions.GoogleAPICallError, match="nowhere"):
        made = client.create_batch_prediction_job(parent=PARENT, batch_prediction_job=job())
        done = wait_for(lambda: client.get_batch_prediction_job(name=made.name), "JOB_STATE_")
        assert done.state.name == "JOB_STATE_FAILED"
        raise exceptions.BadRequest(done.error.message)
    with pytest.raises(exceptions.BadRequest, match="bigquery"):
        client.create_batch_prediction_job(parent=PARENT, batch_prediction_job=job(
            input_config={"instances_format": "bigquery", "gcs_source": {"uris": ["gs://rows/x"]}}))
    with pytest.raises(exceptions.GoogleAPICallError, match="bigquerySource|gcsSource"):
        client.create_batch_prediction_job(parent=PARENT, batch_prediction_job=job(
            input_config={"instances_format": "csv", "bigquery_source": {"input_uri": "bq://x"}}))
    with pytest.raises(exceptions.MethodNotImplemented, match="modelParameters"):
        client.create_batch_prediction_job(parent=PARENT, batch_prediction_job=job(model_parameters=value({"top": 1})))
    with pytest.raises(exceptions.NotFound):
        client.get_batch_prediction_job(name=f"{PARENT}/batchPredictionJobs/1")


def test_batch_over_unknown_columns(aip, bucket, trained):
    bucket.blob("batch/other.csv").upload_from_string("colour\nblue\nred\n")
    job = aip.Model(trained.model_to_upload.name).batch_predict(
        job_display_name="unknown", gcs_source="gs://rows/batch/other.csv", gcs_destination_prefix="gs://rows/batch/unknown",
        instances_format="csv", predictions_format="csv", sync=False,
    )
    with pytest.raises(RuntimeError, match="text"):
        job.wait()


def test_cancel_a_batch(aip, gapic, bucket, trained):
    bucket.blob("batch/big.csv").upload_from_string(text_csv(text_rows(3000)) )
    client = gapic("Job")
    made = client.create_batch_prediction_job(parent=PARENT, batch_prediction_job={
        "display_name": "cancelled", "model": trained.model_to_upload.name,
        "input_config": {"instances_format": "csv", "gcs_source": {"uris": ["gs://rows/batch/big.csv"] * 50}},
        "output_config": {"predictions_format": "csv", "gcs_destination": {"output_uri_prefix": "gs://rows/batch/cancelled"}},
    })
    client.cancel_batch_prediction_job(name=made.name)
    done = wait_for(lambda: client.get_batch_prediction_job(name=made.name), "JOB_STATE_")
    assert done.state.name in ("JOB_STATE_CANCELLED", "JOB_STATE_SUCCEEDED")


# Evaluations


@pytest.fixture(scope="module")
def evaluation(server, gapic, bucket, trained):
    """Made by our own operation, waited for as any other."""
    bucket.blob("evaluate.csv").upload_from_string(text_csv(text_rows(90, seed=5)))
    name = trained.model_to_upload.name
    made = server.call("POST", f"/v1/{name}:evaluate", json={
        "displayName": "held out", "gcsSource": {"uris": ["gs://rows/evaluate.csv"]}, "targetColumn": "label", "sliceBy": ["length"],
    })
    assert made.status_code == 200, made.text
    operation = made.json()
    deadline = time.monotonic() + 120
    while not operation.get("done"):
        assert time.monotonic() < deadline
        operation = server.call("POST", f"/v1/{operation['name']}:wait", json={"timeout": "10s"}).json()
    assert "error" not in operation, operation
    assert operation["response"]["@type"] == "type.googleapis.com/google.cloud.aiplatform.v1.ModelEvaluation"
    return operation["response"]["name"]


def test_evaluation(aip, gapic, evaluation, trained):
    model = aip.Model(trained.model_to_upload.name)
    found = model.list_model_evaluations()
    assert evaluation.split("/")[-1] in [one.resource_name.split("/")[-1] for one in found]
    read = model.get_model_evaluation(evaluation.split("/")[-1])
    metrics = plain(dict(read.metrics))
    assert metrics["auRoc"] == pytest.approx(1, abs=0.05) and metrics["logLoss"] < 0.6
    assert len(metrics["confusionMatrix"]["rows"]) == 3
    assert sum(cell for row in metrics["confusionMatrix"]["rows"] for cell in as_cells(row)) == 90
    assert gapic("Model").get_model_evaluation(name=evaluation).metrics_schema_uri.endswith("classification_metrics_1.0.0.yaml")
    slices = list(gapic("Model").list_model_evaluation_slices(parent=evaluation))
    found = {(s.slice_.dimension, s.slice_.value) for s in slices}
    # One a class, as Vertex makes them itself, and those asked for.
    assert found == {("annotationSpec", topic) for topic in TOPICS} | {("length", "long"), ("length", "short")}
    one = gapic("Model").get_model_evaluation_slice(name=slices[0].name)
    assert plain(dict(one.metrics))["auRoc"] == pytest.approx(1, abs=0.05)


def as_cells(row):
    return row["dataItemCounts"] if isinstance(row, dict) else row


def test_import_an_evaluation(gapic, trained):
    client = gapic("Model")
    made = client.import_model_evaluation(parent=trained.model_to_upload.name, model_evaluation={
        "display_name": "from elsewhere",
        "metrics_schema_uri": "gs://google-cloud-aiplatform/schema/modelevaluation/classification_metrics_1.0.0.yaml",
        "metrics": value({"auPrc": 0.75, "logLoss": 1}),
    })
    read = client.get_model_evaluation(name=made.name)
    assert read.display_name == "from elsewhere" and plain(dict(read.metrics)) == {"auPrc": 0.75, "logLoss": 1}
    assert made.name in [e.name for e in client.list_model_evaluations(parent=trained.model_to_upload.name)]


def test_evaluations_that_cannot_be(server, gapic, bucket, trained, evaluation):
    name = trained.model_to_upload.name
    with pytest.raises(exceptions.NotFound):
        gapic("Model").get_model_evaluation(name=f"{name}/evaluations/1")
    bad = server.call("POST", f"/v1/{name}:evaluate", json={"gcsSource": {"uris": ["gs://rows/evaluate.csv"]}, "metric": "x"})
    assert bad.status_code in (400, 501) and "metric" in bad.json()["error"]["message"]
    made = server.call("POST", f"/v1/{name}:evaluate", json={
        "gcsSource": {"uris": ["gs://rows/evaluate.csv"]}, "targetColumn": "colour"}).json()
    if "error" not in made or "code" not in made["error"]:
        while not made.get("done"):
            made = server.call("POST", f"/v1/{made['name']}:wait", json={"timeout": "10s"}).json()
    assert "colour" in made["error"]["message"]


# Datasets and training


def test_datasets(aip, gapic, bucket):
    bucket.blob("sets/a.csv").upload_from_string("a,b,y\n1,2,x\n")
    made = aip.TabularDataset.create(display_name="set", gcs_source=["gs://rows/sets/a.csv"], labels={"k": "v"})
    assert made.display_name == "set" and sorted(made.column_names) == ["a", "b", "y"]
    assert [d.name for d in aip.TabularDataset.list(filter='display_name="set"')] == [made.name]
    made.update(display_name="renamed", labels={"k": "w"})
    assert aip.TabularDataset(made.name).display_name == "renamed"
    made.delete()
    with pytest.raises(exceptions.NotFound):
        aip.TabularDataset(made.name)
    text = aip.TextDataset.create(display_name="texts")
    text.import_data(
        gcs_source="gs://rows/sets/a.csv",
        import_schema_uri=aip.schema.dataset.ioformat.text.single_label_classification,
    )
    with pytest.raises(exceptions.GoogleAPICallError):
        aip.TabularDataset.create(display_name="bq", bq_source="bq://p.d.t")


def test_training_reads_back(gapic, aip, trained):
    assert trained.model_to_upload.version_id == "1" and "fresh" in trained.model_to_upload.version_aliases
    assert trained.labels == {"made-by": "test"} and trained.training_task_definition == NETWORK
    metadata = plain(dict(trained.training_task_metadata))
    assert metadata["epochs"] == 10 and len(metadata["progress"]) == 10
    assert metadata["progress"][-1]["loss"] < metadata["progress"][0]["loss"]
    assert metadata["progress"][-1]["accuracy"] > 0.9
    model = aip.Model(trained.model_to_upload.name)
    assert model.training_job is not None or model.gca_resource.training_pipeline == trained.name
    names = [p.name for p in gapic("Pipeline").list_training_pipelines(parent=PARENT)]
    assert trained.name in names


def test_training_a_keras_network(gapic, bucket, trained):
    network = {"class_name": "Sequential", "config": {"name": "s", "layers": [
        {"class_name": "Dense", "config": {"name": "a", "units": 8, "activation": "relu"}},
        {"class_name": "Dense", "config": {"name": "b", "units": 3, "activation": "softmax"}},
    ]}}
    client = gapic("Pipeline")
    made = client.create_training_pipeline(parent=PARENT, training_pipeline={
        "display_name": "keras", "training_task_definition": NETWORK,
        "training_task_inputs": value({
            "model": json.dumps(network), "label": "label", "features": [{"text": "text"}], "epochs": 2,
            "gcsSource": {"uris": ["gs://rows/train.csv"]},
        }),
        "parent_model": trained.model_to_upload.name, "model_to_upload": {"version_description": "as Keras prints it"},
    })
    done = wait_for(lambda: client.get_training_pipeline(name=made.name), "PIPELINE_STATE_")
    assert done.state.name == "PIPELINE_STATE_SUCCEEDED", done.error
    assert done.model_to_upload.name == trained.model_to_upload.name and int(done.model_to_upload.version_id) > 1
    client.delete_training_pipeline(name=made.name).result(timeout=60)
    with pytest.raises(exceptions.NotFound):
        client.get_training_pipeline(name=made.name)


def test_automl_tabular(aip, bucket):
    random = np.random.default_rng(0)
    rows = random.normal(size=(400, 2))
    lines = [f"{a:.4f},{b:.4f},{'yes' if a + b > 0 else 'no'}" for a, b in rows]
    bucket.blob("automl/table.csv").upload_from_string("a,b,answer\n" + "\n".join(lines) + "\n")
    dataset = aip.TabularDataset.create(display_name="table", gcs_source="gs://rows/automl/table.csv")
    job = aip.AutoMLTabularTrainingJob(
        display_name="tabular", optimization_prediction_type="classification",
        column_specs={"a": "numeric", "b": "numeric"},
    )
    model = job.run(dataset=dataset, target_column="answer", model_display_name="table", training_fraction_split=0.8,
                    validation_fraction_split=0.1, test_fraction_split=0.1)
    assert model.display_name == "table" and job.state.name == "PIPELINE_STATE_SUCCEEDED"
    endpoint = model.deploy(machine_type="n1-standard-2")
    answer = endpoint.predict([{"a": 2, "b": 2}, {"a": -2, "b": -2}])
    assert [p["label"] for p in answer.predictions] == ["yes", "no"]
    endpoint.delete(force=True)
    with pytest.raises(exceptions.MethodNotImplemented, match="weightColumnName"):
        other = aip.AutoMLTabularTrainingJob(display_name="w", optimization_prediction_type="classification", column_specs={"a": "numeric"})
        other.run(dataset=dataset, target_column="answer", weight_column="b")


def test_automl_text(aip, bucket):
    bucket.blob("automl/texts.csv").upload_from_string(text_csv(text_rows(200)))
    dataset = aip.TextDataset.create(
        display_name="texts", gcs_source="gs://rows/automl/texts.csv",
        import_schema_uri=aip.schema.dataset.ioformat.text.single_label_classification,
    )
    job = aip.AutoMLTextTrainingJob(display_name="text", prediction_type="classification", multi_label=False)
    model = job.run(dataset=dataset, model_display_name="texts")
    endpoint = model.deploy()
    rows = text_rows(12, seed=1)
    labels = [p["label"] for p in endpoint.predict([text for text, _, _ in rows]).predictions]
    assert labels == [label for _, label, _ in rows]
    endpoint.delete(force=True)


def test_trainings_that_cannot_be(gapic, server, trained):
    client = gapic("Pipeline")

    def create(**pipeline):
        return client.create_training_pipeline(parent=PARENT, training_pipeline={
            "display_name": "bad", "training_task_definition": NETWORK, **pipeline})

    rows = {"gcsSource": {"uris": ["gs://rows/train.csv"]}}
    with pytest.raises(exceptions.BadRequest, match="lstm|LSTM"):
        create(training_task_inputs=value({"layers": [{"lstm": 5}], **rows}))
    with pytest.raises(exceptions.BadRequest, match="epoch_count"):
        create(training_task_inputs=value({"epoch_count": 5, **rows}))
    with pytest.raises(exceptions.BadRequest, match="datasetId"):
        create(training_task_inputs=value({"label": "x"}))
    with pytest.raises(exceptions.MethodNotImplemented, match="custom_task"):
        create(training_task_definition="gs://google-cloud-aiplatform/schema/trainingjob/definition/custom_task_1.0.0.yaml",
               training_task_inputs=value(rows))


def test_cancel_a_training(gapic, trained):
    client = gapic("Pipeline")
    made = client.create_training_pipeline(parent=PARENT, training_pipeline={
        "display_name": "endless", "training_task_definition": NETWORK,
        "training_task_inputs": value({**SPEC, "epochs": 100_000, "gcsSource": {"uris": ["gs://rows/train.csv"]}}),
        "model_to_upload": {"display_name": "endless"},
    })
    client.cancel_training_pipeline(name=made.name)
    done = wait_for(lambda: client.get_training_pipeline(name=made.name), "PIPELINE_STATE_")
    assert done.state.name == "PIPELINE_STATE_CANCELLED"


# Operations


def test_operations(server, gapic, aip):
    made = server.call("POST", f"/v1/{PARENT}/endpoints", json={"displayName": "by hand"}).json()
    name = made["name"]
    for prefix in ("/v1", "/ui"):
        read = server.call("GET", f"{prefix}/{name}").json()
        assert read["name"] == name
    waited = server.call("POST", f"/v1/{name}:wait", json={"timeout": "5s"}).json()
    assert waited["done"] and waited["response"]["displayName"] == "by hand"
    assert waited["metadata"]["@type"].endswith("CreateEndpointOperationMetadata")
    listed = server.call("GET", f"/v1/{PARENT}/operations").json()["operations"]
    assert name in [operation["name"] for operation in listed]
    client = gapic("Endpoint")
    assert client.get_operation({"name": name}).done
    assert server.call("POST", f"/v1/{name}:cancel", json={}).status_code == 200
    assert server.call("DELETE", f"/v1/{name}").json() == {}
    assert server.call("GET", f"/v1/{name}").status_code == 404


# What every call has in common


def test_keys_guard_every_call(server, aip, endpoint):
    path = f"/v1/{endpoint.resource_name}"
    for headers in ({}, {"authorization": "Bearer mk_wrong_key"}, {"authorization": "Bearer"}, {"x-api-key": "' OR 1=1 --"}):
        answer = server.call("GET", path, headers=headers)
        assert answer.status_code == 401 and answer.json()["error"]["status"] == "UNAUTHENTICATED", headers
    assert server.call("GET", path, headers={"x-api-key": server.key}).status_code == 200
    assert server.call("GET", path, headers={"x-goog-api-key": server.key}).status_code == 200
    assert requests.get(f"{server.url}/health/live", timeout=5).status_code == 200


def test_roles_and_projects(server, endpoint):
    def key(role, project):
        made = server.call("POST", "/admin/v1/keys", json={"project": project, "role": role})
        assert made.status_code == 200, made.text
        return {"authorization": f"Bearer {made.json()['key']}"}

    predict = f"/v1/{endpoint.resource_name}:predict"
    body = {"instances": ROWS}
    invoker, viewer, stranger = key("invoker", PROJECT), key("viewer", PROJECT), key("deployer", "other")
    assert server.call("POST", predict, json=body, headers=invoker).status_code == 200
    assert server.call("GET", f"/v1/{PARENT}/models", headers=invoker).status_code == 200
    assert server.call("POST", predict, json=body, headers=viewer).status_code == 403
    for method, path in [("GET", f"/v1/{PARENT}/models"), ("POST", predict), ("GET", "/storage/v1/b/rows"),
                         ("DELETE", f"/v1/{endpoint.resource_name}")]:
        answer = server.call(method, path, json=body if method == "POST" else None, headers=stranger)
        assert answer.status_code in (403, 404), (method, path, answer.text)
    assert server.call("POST", f"/v1/{PARENT}/endpoints", json={"displayName": "x"}, headers=invoker).status_code == 403
    assert server.call("POST", "/admin/v1/keys", json={"project": PROJECT, "role": "admin"}, headers=invoker).status_code == 403
    own_admin = key("admin", "other")
    assert server.call("POST", "/admin/v1/keys", json={"project": PROJECT, "role": "viewer"}, headers=own_admin).status_code == 403


def test_metrics(server, endpoint):
    before = server.call("GET", "/metrics").text
    endpoint.predict(ROWS)
    after = server.call("GET", "/metrics").text
    line = f'meuse_deployed_requests_total{{endpoint="{endpoint.resource_name}",deployed_model="{endpoint.list_models()[0].id}"}}'
    count = lambda text: int(next(l for l in text.splitlines() if l.startswith(line)).rsplit(" ", 1)[1])
    assert count(after) == count(before) + 1
    assert requests.get(f"{server.url}/metrics", timeout=5).status_code == 401


def test_fields_without_effect_are_named(server, aip, uploaded):
    cases = [
        ("endpoints", {"displayName": "x", "colour": "blue"}, 400, "colour"),
        ("endpoints", {"displayName": "x", "network": "projects/1/global/networks/n"}, 501, "network"),
        ("endpoints", {"displayName": "x", "encryptionSpec": {"kmsKeyName": "k"}}, 501, "encryptionSpec"),
        ("endpoints", {"displayName": 5}, 400, ""),
        ("customJobs", {"displayName": "x"}, 501, "CreateCustomJob"),
    ]
    for collection, body, status, named in cases:
        answer = server.call("POST", f"/v1/{PARENT}/{collection}", json=body)
        assert answer.status_code == status and named in answer.json()["error"]["message"], answer.text
    assert server.call("GET", f"/v1/{PARENT}/endpoints?pageSizee=5").status_code == 400
    assert server.call("GET", f"/v1/{PARENT}/nothing").status_code == 404
    assert server.call("PUT", f"/v1/{PARENT}/endpoints").status_code == 405


def test_spellings_of_the_wire(server, uploaded):
    name = uploaded[0].resource_name
    for path in (f"/v1/{name}%402", f"//v1//{name}@2", f"/v1/{name}@2?$alt=json;enum-encoding=int", f"/v1/{name}@2/"):
        answer = server.call("GET", path)
        assert answer.status_code == 200 and answer.json()["versionId"] == "2", path
    assert server.call("GET", f"/v1/{name}%252e%252e").status_code in (400, 404)
    pages, token = [], ""
    for _ in range(50):
        page = server.call("GET", f"/v1/{PARENT}/operations?pageSize=2&pageToken={token}").json()
        pages += [operation["name"] for operation in page["operations"]]
        token = page.get("nextPageToken", "")
        if not token:
            break
    assert len(pages) == len(set(pages)) > 2
