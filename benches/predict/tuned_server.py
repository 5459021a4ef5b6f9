"""FastAPI as someone who has measured it would write it: no validation, orjson both ways, one thread an inference."""

import os

import numpy as np
import onnxruntime
import orjson
from fastapi import FastAPI, Request, Response

app = FastAPI()
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(os.environ["MODEL"], options, providers=["CPUExecutionProvider"])


@app.get("/")
async def health():
    return Response(b"ok")


@app.post("/predict")
async def predict(request: Request):
    instances = orjson.loads(await request.body())["instances"]
    outputs = session.run(None, {"input": np.array(instances, dtype=np.float32)})[0]
    body = orjson.dumps({"predictions": outputs}, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(body, media_type="application/json")
