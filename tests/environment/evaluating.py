"""A program that evaluates two models, as it is written for Google's cloud."""

import json
import sys
import time

from google.cloud import aiplatform, storage

classifier, regressor = sys.argv[1:3]
IMAGE = "gcr.io/cloud-aiplatform/prediction/sklearn-cpu.1-0:latest"
bucket = storage.Client(project="acme-prod").create_bucket("acme-evaluations")
aiplatform.init(project="acme-prod", location="us-central1", staging_bucket="gs://acme-evaluations")


def rows(name: str, path: str) -> str:
    bucket.blob(name).upload_from_filename(path)
    return f"gs://acme-evaluations/{name}"


def evaluated(directory: str, name: str, **options) -> dict:
    time.sleep(1)  # The library names an evaluation by the second it is asked for in; in the cloud one takes minutes.
    model = aiplatform.Model.upload(display_name=name, artifact_uri=directory, serving_container_image_uri=IMAGE)
    job = model.evaluate(
        gcs_source_uris=[rows(f"{name}.csv", f"{directory}/rows.csv")], target_field_name="truth",
        evaluation_pipeline_display_name=f"{name} pipeline", evaluation_metrics_display_name=f"{name} figures", **options,
    )
    job.wait()
    evaluation = job.get_model_evaluation()
    return {
        "state": job.state.name,
        "metrics": dict(evaluation.metrics),
        "shown": evaluation.gca_resource.display_name,
        "listed": [listed.resource_name for listed in model.list_model_evaluations()] == [evaluation.resource_name],
        "job": job.resource_name,
        "pipelines": [listed.display_name for listed in aiplatform.PipelineJob.list()],
    }


found = {
    "classes": evaluated(classifier, "classes", prediction_type="classification", class_labels=["ant", "bee", "cat"]),
    "numbers": evaluated(regressor, "numbers", prediction_type="regression"),
}
try:
    evaluated(classifier, "wrong", prediction_type="classification", class_labels=["ant", "bee"])
except RuntimeError as error:
    found["wrong"] = str(error)
try:
    aiplatform.Model.list()[0].evaluate(
        prediction_type="classification", gcs_source_uris=["gs://acme-evaluations/classes.csv"], class_labels=["a"],
        target_field_name="truth", prediction_label_column="somewhere.else",
    )
except ValueError as error:
    found["unheeded"] = str(error)
print(json.dumps(found, default=lambda part: dict(part) if hasattr(part, "keys") else list(part)))
