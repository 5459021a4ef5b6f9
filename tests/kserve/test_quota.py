"""Limits as Triton's client meets them over gRPC: RESOURCE_EXHAUSTED, and when to come back."""

import grpc
import numpy as np
import pytest
import tritonclient.grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from conftest import Client
from served import ANSWER_SECONDS

RETRY_INFO = b"type.googleapis.com/google.rpc.RetryInfo"


def test_a_limit_is_told_with_the_time_to_come_back(server, channel, mlp):
    made = server.json("keys", "create", "--role", "invoker")
    server.command("quota", "set", f"keys/{made['id']}", "--requests-per-minute", 2)
    client = Client(tritonclient.grpc, server, made["key"])
    name = client.get_model_metadata(mlp.name).inputs[0].name
    width = client.get_model_metadata(mlp.name).inputs[0].shape[1]
    ask = lambda: client.infer_arrays(mlp.name, {name: np.zeros((1, width), np.float32)})  # noqa: E731
    ask(), ask()
    with pytest.raises(InferenceServerException, match="may make 2 requests a minute") as refused:
        ask()
    assert refused.value.status() == "StatusCode.RESOURCE_EXHAUSTED"
    # What that client does not show of it.
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    asked = service_pb2.ModelInferRequest(model_name=mlp.name)
    with pytest.raises(grpc.RpcError) as refused:
        stub.ModelInfer(asked, metadata=[("authorization", f"Bearer {made['key']}")], timeout=ANSWER_SECONDS)
    assert refused.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert RETRY_INFO in dict(refused.value.trailing_metadata())["grpc-status-details-bin"]
    rows = server.json("usage", "--by", "key")["usage"]
    used = next(row for row in rows if row["key"] == made["id"])
    assert (used["requests"], used["rows"]) == (2, 2)
