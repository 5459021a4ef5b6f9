#!/usr/bin/env python3
"""The reference program: a text classifier trained, registered, batched, evaluated, served and explained
on Meuse with Google's own client library, unmodified. Only `aiplatform.init` and the credentials differ
from a program written for the cloud.

    meuse serve &                                  # or: cargo run --release -- serve
    pip install google-cloud-aiplatform
    python examples/reference_program.py           # finds ./meuse-data, or set MEUSE_URL and MEUSE_API_KEY

It prints what it does, and as its last line a JSON object with the figures.
"""

import csv
import io
import json
import os
import pathlib
import random
import subprocess
import sys
import time
import uuid

ROOT = pathlib.Path(__file__).resolve().parent.parent
DATA = ROOT / "crates" / "meuse" / "data"  # WordNet definitions: columns text,class


def local(file: str) -> str:
    """What a server on this machine left in its data directory."""
    return (pathlib.Path(os.environ.get("MEUSE_DATA", "meuse-data")) / file).read_text().strip()


URL = os.environ.get("MEUSE_URL") or local("address")
KEY = os.environ.get("MEUSE_API_KEY") or local("admin.key")
os.environ["STORAGE_EMULATOR_HOST"] = URL  # where gs:// buckets are

from google.auth.transport.requests import AuthorizedSession  # noqa: E402
from google.cloud import aiplatform, storage  # noqa: E402
from google.oauth2.credentials import Credentials  # noqa: E402
from google.protobuf import json_format, struct_pb2  # noqa: E402

PROJECT, LOCATION = "default", "us-central1"
PARENT = f"projects/{PROJECT}/locations/{LOCATION}"
CREDENTIALS = Credentials(token=KEY)
RUN = uuid.uuid4().hex[:8]  # so that the program can run again on the same server
BUCKET = f"reference-{RUN}"
QUESTION = "a small striped insect that lives in a hive and makes honey"

# 1. The network, in Keras' words: 100 inputs made of a text, two hidden layers, ten classes.
NETWORK = {
    "label": "class",
    "features": [{"text": "text", "width": 100}],
    "layers": [
        {"dense": 64, "activation": "relu"},
        {"dense": 64, "activation": "relu"},
        {"dense": 10, "activation": "softmax"},
    ],
    "optimizer": "adam",
    "loss": "sparse_categorical_crossentropy",
    "metrics": ["accuracy"],
    "epochs": 10,
}


def connect() -> None:
    aiplatform.init(
        project=PROJECT,
        location=LOCATION,
        api_endpoint=URL,
        api_transport="rest",
        credentials=CREDENTIALS,
        staging_bucket=f"gs://{BUCKET}",
    )


def step(text: str) -> None:
    print(f"\n== {text}", flush=True)


def upload() -> None:
    """Puts the labelled rows into a bucket, and the held-out texts alone, shuffled."""
    bucket = storage.Client(project=PROJECT, credentials=CREDENTIALS).create_bucket(BUCKET)
    bucket.blob("train.csv").upload_from_filename(DATA / "train.csv")
    bucket.blob("heldout.csv").upload_from_filename(DATA / "heldout.csv")
    with open(DATA / "heldout.csv", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    random.Random(7).shuffle(texts)
    shuffled = io.StringIO()
    writer = csv.writer(shuffled)
    writer.writerow(["text"])
    writer.writerows([text] for text in texts)
    bucket.blob("shuffled.csv").upload_from_string(shuffled.getvalue(), content_type="text/csv")


def train(dataset: aiplatform.TabularDataset, seed: int, parent_model: str | None) -> aiplatform.Model:
    """Trains NETWORK and registers the result: as a new model, or as a new version of `parent_model`."""
    pipelines = aiplatform.gapic.PipelineServiceClient(
        client_options={"api_endpoint": URL}, transport="rest", credentials=CREDENTIALS
    )
    inputs = json_format.ParseDict(NETWORK | {"seed": seed}, struct_pb2.Value())
    pipeline = aiplatform.gapic.TrainingPipeline(
        display_name=f"wordnet-{RUN}",
        training_task_definition="gs://meuse/schema/trainingjob/definition/network_1.0.0.yaml",
        training_task_inputs=inputs,
        input_data_config={"dataset_id": dataset.name},
        model_to_upload={"display_name": f"wordnet-{RUN}", "version_description": f"seed {seed}"},
    )
    if parent_model:
        pipeline.parent_model = parent_model
    pipeline = pipelines.create_training_pipeline(parent=PARENT, training_pipeline=pipeline)
    seen = 0
    while True:
        pipeline = pipelines.get_training_pipeline(name=pipeline.name)
        progress = json_format.MessageToDict(type(pipeline).pb(pipeline)).get("trainingTaskMetadata", {})
        for epoch in progress.get("progress", [])[seen:]:
            seen += 1
            print(f"   epoch {epoch['epoch']:>2.0f}  loss {epoch['loss']:.4f}  accuracy {epoch['accuracy']:.4f}")
        if pipeline.state in (
            aiplatform.gapic.PipelineState.PIPELINE_STATE_SUCCEEDED,
            aiplatform.gapic.PipelineState.PIPELINE_STATE_FAILED,
            aiplatform.gapic.PipelineState.PIPELINE_STATE_CANCELLED,
        ):
            break
        time.sleep(0.2)
    if pipeline.state != aiplatform.gapic.PipelineState.PIPELINE_STATE_SUCCEEDED:
        sys.exit(f"training failed: {pipeline.error.message}")
    made = pipeline.model_to_upload
    return aiplatform.Model(made.name, version=made.version_id)


def deploy(first: aiplatform.Model, second: aiplatform.Model) -> aiplatform.Endpoint:
    """Both versions behind one endpoint, 90 to 10, each able to explain itself."""
    endpoint = aiplatform.Endpoint.create(display_name=f"wordnet-{RUN}")
    explain = {
        "explanation_parameters": aiplatform.explain.ExplanationParameters(
            {"integrated_gradients_attribution": {"step_count": 50}}
        ),
        "explanation_metadata": aiplatform.explain.ExplanationMetadata(
            inputs={"text": {}}, outputs={"scores": {}}
        ),
    }
    first.deploy(endpoint=endpoint, traffic_percentage=100, **explain)
    second.deploy(endpoint=endpoint, traffic_percentage=10, **explain)
    return endpoint


def batch(model: aiplatform.Model) -> dict:
    """Predicts every row of the shuffled CSV into a CSV; what came out."""
    job = model.batch_predict(
        job_display_name=f"wordnet-{RUN}",
        gcs_source=f"gs://{BUCKET}/shuffled.csv",
        gcs_destination_prefix=f"gs://{BUCKET}/predictions",
        instances_format="csv",
        predictions_format="csv",
    )
    files = {blob.name: blob.download_as_text() for blob in job.iter_outputs()}
    results = [text for name, text in files.items() if "/prediction.results-" in name]
    rows = [row for text in results for row in csv.DictReader(io.StringIO(text))]
    stats = job.completion_stats
    return {"rows": len(rows), "successful": stats.successful_count, "columns": list(rows[0]), "files": sorted(files)}


def evaluate(model: aiplatform.Model) -> tuple[str, dict]:
    """Measures `model` on the held-out rows; the evaluation's name, and its metrics fetched by that name."""
    session = AuthorizedSession(CREDENTIALS)
    request = {"gcsSource": {"uris": [f"gs://{BUCKET}/heldout.csv"]}, "targetColumn": "class"}
    reply = session.post(f"{URL}/v1/{model.versioned_resource_name}:evaluate", json=request)
    reply.raise_for_status()
    operation = reply.json()
    while not operation.get("done"):
        time.sleep(0.2)
        operation = session.get(f"{URL}/v1/{operation['name']}").json()
    if "error" in operation:
        sys.exit(f"evaluation failed: {operation['error']['message']}")
    name = operation["response"]["name"]
    return name, aiplatform.ModelEvaluation(name).to_dict()["metrics"]


def ask(endpoint_name: str) -> None:
    """Runs in a process of its own: predicts and explains over the network."""
    connect()
    endpoint = aiplatform.Endpoint(endpoint_name)
    prediction = endpoint.predict([QUESTION])
    explanation = endpoint.explain([QUESTION])
    attribution = explanation.explanations[0].attributions[0]
    print(
        json.dumps(
            {
                "prediction": prediction.predictions[0],
                "version": prediction.model_version_id,
                "label": attribution.output_display_name,
                "attributions": json_format.MessageToDict(type(attribution).pb(attribution))["featureAttributions"],
                "approximation_error": attribution.approximation_error,
            }
        )
    )


def main() -> None:
    connect()
    step("1. train the network, 10 epochs")
    upload()
    dataset = aiplatform.TabularDataset.create(display_name="wordnet", gcs_source=[f"gs://{BUCKET}/train.csv"])
    first = train(dataset, seed=1, parent_model=None)
    print(f"   {first.versioned_resource_name}")

    step("2. a new version of it in the registry, serving")
    second = train(dataset, seed=2, parent_model=first.resource_name)
    registry = aiplatform.models.ModelRegistry(model=first.resource_name)
    registry.add_version_aliases(["candidate"], version=second.version_id)
    for version in registry.list_versions():
        print(f"   version {version.version_id}: {', '.join(version.version_aliases)}")
    endpoint = deploy(first, second)
    print(f"   {endpoint.resource_name} {endpoint.traffic_split}")

    step("3. a batch prediction, from a shuffled CSV in a bucket to a CSV in a bucket")
    predicted = batch(second)
    print(f"   {predicted['rows']} rows with columns {', '.join(predicted['columns'])}")

    step("4. an evaluation on labelled rows, fetched again by its name")
    name, metrics = evaluate(second)
    print(f"   {name}")
    for figure in ("accuracy", "logLoss", "auRoc", "auPrc"):
        if figure in metrics:
            print(f"   {figure:<9} {metrics[figure]:.4f}")

    step("5. a prediction and an explanation, from another process")
    other = subprocess.run(
        [sys.executable, __file__, "--ask", endpoint.resource_name], stdout=subprocess.PIPE, text=True, check=True
    )
    answer = json.loads(other.stdout.splitlines()[-1])
    print(f"   “{QUESTION}” → {answer['prediction']['label']}, says version {answer['version']}")
    print(f"   because of {json.dumps(answer['attributions'])}")

    print()
    print(
        json.dumps(
            {
                "model": second.resource_name,
                "versions": [v.version_id for v in registry.list_versions()],
                "traffic_split": endpoint.traffic_split,
                "batch": predicted,
                "evaluation": name,
                "metrics": metrics,
                "answer": answer,
            }
        )
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--ask"]:
        ask(sys.argv[2])
    else:
        main()
