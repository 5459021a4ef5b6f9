"""The usual way to serve an ONNX model with FastAPI: a typed body, `session.run`, a list back."""

import os

import numpy as np
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
session = onnxruntime.InferenceSession(os.environ["MODEL"], providers=["CPUExecutionProvider"])


class Request(BaseModel):
    instances: list[list[float]]


@app.get("/")
def health():
    return {"status": "ok"}


@app.post("/predict")
def predict(request: Request):
    inputs = np.array(request.instances, dtype=np.float32)
    return {"predictions": session.run(None, {"input": inputs})[0].tolist()}
