"""Programs that ask a language model, as they are written for Google's cloud: with two of its libraries."""

import json

from google import genai
from google.cloud import aiplatform

client = genai.Client(vertexai=True, project="acme-prod", location="us-central1")
config = {"max_output_tokens": 8, "temperature": 0}
whole = client.models.generate_content(model="speaker", contents="Name a colour.", config=config)
pieces = client.models.generate_content_stream(model="speaker", contents="Name a colour.", config=config)

aiplatform.init(project="acme-prod", location="us-central1")
endpoint = aiplatform.Endpoint("speaker")
chat = {"messages": [{"role": "user", "content": "Name a colour."}], "max_tokens": 8, "temperature": 0}
headers = {"Content-Type": "application/json"}
raw = endpoint.raw_predict(json.dumps(chat), headers)
lines = [line for line in endpoint.stream_raw_predict(json.dumps(chat), headers) if line]
print(json.dumps({
    "whole": whole.text,
    "streamed": "".join(piece.text or "" for piece in pieces),
    "raw": raw.json()["choices"][0]["message"]["content"],
    "deployed": raw.headers["X-Vertex-AI-Deployed-Model-Id"],
    "lines": [line.decode() for line in lines],
}))
