"""Model files, against the libraries that define them."""

import json
import math
import subprocess

import gguf
import numpy
import pytest

import conftest


@pytest.fixture(scope="module")
def inspect():
    program = conftest.example("formats", "inspect")

    def run(path) -> list[list[str]]:
        done = subprocess.run([program, path], capture_output=True, text=True, timeout=conftest.RUN_TIMEOUT_S)
        assert done.returncode == 0, done.stderr
        return [line.split(" ", 2) for line in done.stdout.splitlines()]

    return run


def total(text: str) -> int:
    return sum(text.encode())


def shown(value) -> str:
    """A metadata value as the example shows it."""
    match value:
        case bool():
            return f"bool {str(value).lower()}"
        case int():
            return f"whole {value}"
        case str():
            return f"text {len(value.encode())} {total(value)}"
        case [str(), *_]:
            return f"texts {len(value)} {sum(map(total, value))}"
        case [int(), *_]:
            return f"wholes {len(value)} {sum(value)}"
    return "other"


@pytest.mark.parametrize("name", ["smollm", "qwen"])
def test_gguf(inspect, request, name):
    path = request.getfixturevalue(name)
    reader = gguf.GGUFReader(path)
    lines = inspect(path)
    keys = {key: value for kind, key, value in lines if kind == "key"}
    theirs = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    assert keys.keys() == theirs.keys()
    for key, value in theirs.items():
        if isinstance(value, float):
            kind, number = keys[key].split(" ")
            assert kind == "float" and math.isclose(float(number), value, rel_tol=1e-6), key
        else:
            assert keys[key] == shown(value), key
    tensors = [(name, rest) for kind, name, rest in lines if kind == "tensor"]
    assert len(tensors) == len(reader.tensors)
    for (name, rest), tensor in zip(tensors, reader.tensors, strict=True):
        shape = [int(side) for side in reversed(tensor.shape)]
        bytes_sum = int(tensor.data.view(numpy.uint8).sum(dtype=numpy.uint64))
        assert (name, rest) == (tensor.name, f"{tensor.tensor_type.name} {shape} {bytes_sum}")


def test_safetensors(inspect, minilm):
    data = (minilm / "model.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    body = numpy.frombuffer(data, numpy.uint8)[8 + length :]
    expected = {}
    for name, entry in header.items():
        if entry["dtype"] in ("F32", "F16", "BF16"):
            start, end = entry["data_offsets"]
            bytes_sum = int(body[start:end].sum(dtype=numpy.uint64))
            expected[name] = f"{entry['dtype']} {entry['shape']} {bytes_sum}"
    assert {name: rest for _, name, rest in inspect(minilm)} == expected
