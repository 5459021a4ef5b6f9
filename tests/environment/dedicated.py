"""A program with a dedicated endpoint, as it is written for Google's cloud."""

import json
import sys

from google.cloud import aiplatform, storage

directory, rows = sys.argv[1], json.loads(sys.argv[2])
storage.Client(project="acme-prod").create_bucket("acme-dedicated")
aiplatform.init(project="acme-prod", location="us-central1", staging_bucket="gs://acme-dedicated")
model = aiplatform.Model.upload(
    display_name="dedicated", artifact_uri=directory,
    serving_container_image_uri="gcr.io/cloud-aiplatform/prediction/sklearn-cpu.1-0:latest",
)
endpoint = aiplatform.Endpoint.create(display_name="dedicated", dedicated_endpoint_enabled=True)
endpoint.deploy(model, machine_type="n1-standard-2", traffic_percentage=100)
body, headers = json.dumps({"instances": rows}).encode(), {"Content-Type": "application/json"}
invoked = endpoint.invoke("/predict", body, headers)
(deployed,) = [deployed.id for deployed in endpoint.list_models()]
chosen = endpoint.invoke("/predict", body, headers, deployed_model_id=deployed)
found = {
    "dns": endpoint.dedicated_endpoint_dns,
    "predictions": endpoint.predict(rows, use_dedicated_endpoint=True).predictions,
    "raw": endpoint.raw_predict(body, headers, use_dedicated_endpoint=True).json()["predictions"],
    "streamed": [json.loads(line) for line in endpoint.stream_raw_predict(body, headers) if line],
    "invoked": invoked.json()["predictions"],
    "invoked_stream": [json.loads(line)["predictions"] for line in endpoint.invoke("/predict", body, headers, stream=True)],
    "chosen": [chosen.json()["predictions"], chosen.headers["X-Vertex-AI-Deployed-Model-Id"] == deployed],
    "elsewhere": endpoint.invoke("/health", body, headers).status_code,
}
endpoint.delete(force=True)
print(json.dumps(found))
