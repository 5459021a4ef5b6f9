"""A program as it is written for Google's cloud: a project, a region, a bucket, and no word of where they are."""

import json
import sys

from google.cloud import aiplatform, storage

directory, rows, options = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
bucket = storage.Client(project="acme-prod").create_bucket(f"acme-{options.get('api_transport', 'usual')}")
aiplatform.init(project="acme-prod", location="us-central1", staging_bucket=f"gs://{bucket.name}", **options)
model = aiplatform.Model.upload(
    display_name="linear", artifact_uri=directory,
    serving_container_image_uri="gcr.io/cloud-aiplatform/prediction/sklearn-cpu.1-0:latest",
)
endpoint = model.deploy(machine_type="n1-standard-2")
body = json.dumps({"instances": rows})
raw = endpoint.raw_predict(body=body.encode(), headers={"Content-Type": "application/json"})
streamed = endpoint.stream_raw_predict(body=body.encode(), headers={"Content-Type": "application/json"})
by_raw = endpoint.predict(rows, use_raw_predict=True)
found = {
    "transport": endpoint.api_client.transport.kind,
    "predictions": endpoint.predict(rows).predictions,
    "raw": raw.json()["predictions"],
    "deployed": raw.headers["X-Vertex-AI-Deployed-Model-Id"],
    "streamed": [json.loads(line) for line in streamed if line],
    "by_raw": by_raw.predictions,
    "by_raw_model": by_raw.model_resource_name,
    "model": model.resource_name,
    "explained": len(endpoint.explain(rows).explanations),
    "models": [listed.display_name for listed in aiplatform.Model.list()],
    "objects": [blob.name.rsplit("/", 1)[1] for blob in bucket.list_blobs()],
}
endpoint.undeploy_all()
endpoint.delete()
model.delete()
print(json.dumps(found))
