"""What is hostile is refused in each protocol's shape, costs little, and the server goes on."""

import json
import socket
import struct
import time

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from models import FEATURES

ROWS = np.ones((1, FEATURES), dtype=np.float32)
INFER = "/v2/models/mlp/infer"
MEMORY_MAX = 400 << 20


@pytest.fixture(autouse=True)
def goes_on(server, mlp):
    """After whatever was sent the server answers as before."""
    before = server.memory()
    yield
    body = {"inputs": [{"name": "x", "shape": [1, FEATURES], "datatype": "FP32", "data": [1, 1, 1, 1]}]}
    told = server.post(INFER, body).json()
    np.testing.assert_allclose(told["outputs"][0]["data"], mlp.run(x=ROWS)["scores"][0], rtol=1e-4)
    assert server.memory() - before < MEMORY_MAX


def request(**changes) -> dict:
    return {"inputs": [{"name": "x", "shape": [1, FEATURES], "datatype": "FP32", "data": [1, 1, 1, 1]} | changes]}


def refused(reply, named: str, status: int = 400):
    assert reply.status_code == status, reply.text[:500]
    assert set(reply.json()) == {"error"} and named in reply.json()["error"], reply.text[:500]


@pytest.mark.parametrize("changes, named", [
    ({"shape": [2**62, 2**62]}, "is no shape"),
    ({"shape": [2**32, 2**31]}, "its shape holds"),
    ({"shape": [-1, 4]}, "is no shape"),
    ({"shape": [2**40, 0], "data": []}, "no elements"),
    ({"shape": [0, 4], "data": []}, "no elements"),
    ({"shape": [1] * 1000}, "more than 32 dimensions"),
    ({"shape": [2, 4]}, "4 elements are given, and its shape holds 8"),
    ({"shape": [4]}, "does not take the shape [4]"),
    ({"shape": [1, 1, 4]}, "does not take the shape"),
    ({"data": [1, 1, 1]}, "3 elements"),
    ({"data": [1, 1, 1, "a"]}, "different kinds"),
    ({"data": ["a", "b", "c", "d"]}, "texts"),
    ({"data": [1, 1, 1, None]}, "null"),
    ({"data": 1e300, "shape": []}, "does not fit"),
    ({"datatype": "FP31"}, "FP31"),
    ({"datatype": "BYTES", "data": ["a"] * 4}, "BYTES"),
    ({"name": "y"}, "`y` is not an input"),
    ({"frobnicate": 1}, "frobnicate"),
    ({"parameters": {"binary_data_size": 16}}, "both"),
    ({"parameters": {"shared_memory_region": "r"}}, "shared memory"),
])
def test_inputs(server, changes, named):
    refused(server.post(INFER, request(**changes)), named)


def test_inputs_given_twice_or_not_at_all(server):
    refused(server.post(INFER, {"inputs": request()["inputs"] * 2}), "twice")
    refused(server.post(INFER, {"inputs": []}), "missing")
    refused(server.post(INFER, {"inputs": request()["inputs"] * 100_000}), "16384")


def test_a_million_outputs(server):
    begun = time.monotonic()
    for outputs in ([{"name": "scores"}] * 1_000_000, [{"name": f"o{i}"} for i in range(1_000_000)]):
        refused(server.post(INFER, request() | {"outputs": outputs}), "16384")
    refused(server.post(INFER, request() | {"outputs": [{"name": "scores"}] * 2}), "twice")
    refused(server.post(INFER, request() | {"outputs": [{"name": "absent"}]}), "`absent` is not an output")
    assert time.monotonic() - begun < 30


@pytest.mark.parametrize("body", ["", "{", "[]", "null", "[" * 100_000, b"\xff\xfe", '{"inputs": [NaN]}', '{"inputs": 1}', '{"inputs": [' + "{}," * 1000 + "{}]}"])
def test_malformed_bodies(server, body):
    reply = server.post(INFER, body)
    assert reply.status_code == 400 and reply.json()["error"]


def binary(head: dict, tail: bytes, length: int | str | None = None) -> tuple[bytes, dict]:
    top = json.dumps(head).encode()
    return top + tail, {"inference-header-content-length": str(len(top) if length is None else length)}


@pytest.mark.parametrize("size, tail, length, named", [
    (16, b"x" * 15, None, "15 bytes are left"),
    (16, b"x" * 17, None, "belong to no input"),
    (15, b"x" * 15, None, "15 bytes are not the 4 elements"),
    (2**62, b"x" * 16, None, "16 bytes are left"),
    (-1, b"x" * 16, None, "binary_data_size"),
    ("16", b"x" * 16, None, "binary_data_size"),
    (16, b"x" * 16, 10**9, "bytes of JSON"),
    (16, b"x" * 16, 2**70, "must be a number"),
    (16, b"x" * 16, "x", "must be a number"),
    (16, b"x" * 16, 5, "not JSON"),
    (16, b"x" * 16, 0, "not JSON"),
])
def test_sizes_that_lie(server, size, tail, length, named):
    head = request(parameters={"binary_data_size": size})
    del head["inputs"][0]["data"]
    body, headers = binary(head, tail, length)
    refused(server.post(INFER, body, headers=headers), named)


def test_texts_that_lie_about_their_length(server, topics):
    def ask(text: bytes):
        head = {"inputs": [
            {"name": "text", "shape": [1, 1], "datatype": "BYTES", "parameters": {"binary_data_size": len(text)}},
            {"name": "size", "shape": [1, 1], "datatype": "FP32", "data": [1]},
        ]}
        body, headers = binary(head, text)
        return server.post("/v2/models/topics/infer", body, headers=headers)

    assert ask(struct.pack("<I", 3) + b"oak").status_code == 200
    refused(ask(struct.pack("<I", 2**32 - 1) + b"oak"), "says that it has")
    refused(ask(struct.pack("<I", 1) + b"oak"), "left")
    refused(ask(struct.pack("<I", 3) + b"\xff\xfe\xfd"), "UTF-8")
    refused(ask(b""), "0 elements")


def test_bodies_that_are_too_large_or_packed(server):
    refused(server.post(INFER, b" " * (40 << 20)), "larger than", 413)
    refused(server.post(INFER, b"x", headers={"content-encoding": "gzip"}), "gzip", 415)


def test_three_megabytes_in_pieces_of_a_byte(server):
    body = json.dumps(request() | {"id": "x" * (3 << 20)}).encode()
    with socket.create_connection(tuple(server.host.split(":")), timeout=60) as connection:
        head = f"POST {INFER} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {server.key}\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
        connection.sendall(head.encode() + b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n")
        reply = b""
        while piece := connection.recv(1 << 16):
            reply += piece
    assert reply.startswith(b"HTTP/1.1 200"), reply[:200]


def test_wrong_names(server):
    refused(server.get("/v2/models/absent"), "absent", 404)
    refused(server.get("/v2/models/mlp/versions/x"), "`x` is no version", 404)
    refused(server.post("/v2/models/absent/infer", request()), "absent", 404)
    assert server.get("/v2/models/..%2f..%2fadmin.key").status_code == 400
    refused(server.get("/v2/models/" + "x" * 10_000), "longer than any name")
    wrong = {"authorization": "Bearer mk_wrong"}
    refused(server.post(INFER, request(), headers=wrong), "key is not valid", 401)


# gRPC: the bytes as they come.

def call(channel, server, method: str, message: bytes, **options):
    ask = channel.unary_unary(f"/inference.GRPCInferenceService/{method}", request_serializer=None, response_deserializer=None)
    return ask(message, metadata=list(server.headers.items()), timeout=options.get("timeout", 30))


def fails(channel, server, message: bytes, code: grpc.StatusCode, named: str, method: str = "ModelInfer", **options):
    with pytest.raises(grpc.RpcError) as caught:
        call(channel, server, method, message, **options)
    assert caught.value.code() == code, caught.value
    assert named in caught.value.details(), caught.value


def message(**changes) -> service_pb2.ModelInferRequest:
    asked = service_pb2.ModelInferRequest(model_name="mlp")
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, FEATURES]} | changes
    asked.inputs.add(**tensor)
    asked.raw_input_contents.append(ROWS.tobytes())
    return asked


INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("changes, named", [
    ({"shape": [2**62, 2**62]}, "is no shape"),
    ({"shape": [-1, 4]}, "is no shape"),
    ({"shape": [2, 4]}, "16 bytes are not the 8 elements"),
    ({"shape": []}, "16 bytes are not the 1 elements"),
    ({"datatype": "FP31"}, "FP31"),
    ({"name": "y"}, "`y` is not an input"),
])
def test_messages(channel, server, changes, named):
    fails(channel, server, message(**changes).SerializeToString(), INVALID, named)


def test_messages_that_contradict_themselves(channel, server):
    both = message()
    both.inputs[0].contents.fp32_contents.extend([1, 1, 1, 1])
    fails(channel, server, both.SerializeToString(), INVALID, "both typed and raw")
    more = message()
    more.raw_input_contents.append(b"x")
    fails(channel, server, more.SerializeToString(), INVALID, "2 entries for 1 inputs")
    fails(channel, server, service_pb2.ModelInferRequest(model_name="absent").SerializeToString(), grpc.StatusCode.NOT_FOUND, "absent")


def test_a_million_outputs_over_grpc(channel, server):
    for count, named in ((20_000, "16384"), (1_000_000, "65536")):
        asked = message()
        asked.outputs.extend([service_pb2.ModelInferRequest.InferRequestedOutputTensor(name="scores")] * count)
        fails(channel, server, asked.SerializeToString(), INVALID, named)


@pytest.mark.parametrize("junk", [b"\xff", b"\x0a\xff\xff\xff\xff\x0f", b"\x32", b"\x0b" * 1000, b"\x0a\x02\xff\xfe", b"\x00"])
def test_bytes_that_are_no_message(channel, server, junk):
    fails(channel, server, junk, INVALID, "cannot be read")


def test_limits_of_grpc(channel, server):
    with grpc.insecure_channel(server.host, options=[("grpc.max_send_message_length", -1)]) as wide:
        large = message().SerializeToString() + b"\x3a" + b"\x80\x80\x80\x14" + bytes(40 << 20)
        fails(wide, server, large, grpc.StatusCode.RESOURCE_EXHAUSTED, "larger than")
    fails(channel, server, b"", grpc.StatusCode.UNIMPLEMENTED, "ModelStatistics", method="ModelStatistics")
    fails(channel, server, b"", grpc.StatusCode.UNIMPLEMENTED, "NoSuchMethod", method="NoSuchMethod")
    stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(message(), metadata=[("authorization", "Bearer mk_wrong")], timeout=30)
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
    with pytest.raises(grpc.RpcError) as caught:
        packed = message()
        packed.id = "x" * 10_000
        stub.ModelInfer(packed, metadata=list(server.headers.items()), compression=grpc.Compression.Gzip, timeout=30)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
    assert stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=30).live


def test_a_frame_by_hand(server):
    """A procedure asked without gRPC's content type is no procedure."""
    reply = server.post("/inference.GRPCInferenceService/ModelInfer", b"\0\0\0\0\0")
    assert reply.status_code == 415
