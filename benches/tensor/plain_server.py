"""The usual way to serve an ONNX network with FastAPI, sparing it JSON: raw bytes in, raw bytes out."""

import json
import os

import numpy as np
import onnxruntime
from fastapi import Body, FastAPI, Response

app = FastAPI()
session = onnxruntime.InferenceSession(os.environ["MODEL"], providers=["CPUExecutionProvider"])
ports = json.loads(os.environ["PORTS"])


@app.get("/")
def health():
    return {"status": "ok"}


@app.post("/predict")
def predict(body: bytes = Body(media_type="application/octet-stream")):
    inputs, start = {}, 0
    for port in ports:
        values = np.frombuffer(body, port["type"], int(np.prod(port["shape"])), start)
        inputs[port["name"]] = values.reshape(port["shape"])
        start += values.nbytes
    return Response(session.run(None, inputs)[0].tobytes(), media_type="application/octet-stream")
