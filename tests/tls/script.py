"""A program of Google's library with its usual transport, gRPC, which insists on TLS: upload, deploy, predict, list."""

import json
import sys

from google.cloud import aiplatform
from google.oauth2.credentials import Credentials

address, key, artifact, rows = sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
aiplatform.init(
    project="demo", location="us-central1", api_endpoint=address, credentials=Credentials(token=key),
    staging_bucket="gs://staging",
)
model = aiplatform.Model.upload(
    display_name="linear", artifact_uri=artifact,
    serving_container_image_uri="us-docker.pkg.dev/vertex-ai/prediction/sklearn-cpu.1-3:latest",
)
endpoint = model.deploy(machine_type="n1-standard-2")
found = {
    "transport": endpoint.api_client.transport.kind,
    "predictions": endpoint.predict(rows).predictions,
    "models": [listed.display_name for listed in aiplatform.Model.list()],
}
endpoint.undeploy_all()
endpoint.delete()
print(json.dumps(found))
