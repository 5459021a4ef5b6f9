"""A copy of a GGUF file that also says how its tokens' hidden states become one vector."""

import pathlib
import struct

ALIGNMENT = 32
UINT32, STRING = 4, 8


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def write(source: pathlib.Path, target: pathlib.Path, architecture: str, pooling: int) -> pathlib.Path:
    """`pooling`: 1 mean, 2 the first, 3 the last. What is put in is as long as keeps the tensors where they are aligned."""
    data = source.read_bytes()
    magic, version, tensors, pairs = struct.unpack_from("<4sIQQ", data)
    assert (magic, version) == (b"GGUF", 3)
    said = text(f"{architecture}.pooling_type") + struct.pack("<II", UINT32, pooling)
    filler = text("test.filler") + struct.pack("<I", STRING)
    filler += text(" " * (-(len(said) + len(filler) + 8) % ALIGNMENT))
    head = struct.pack("<4sIQQ", magic, version, tensors, pairs + 2)
    target.write_bytes(head + said + filler + data[len(head) :])
    return target
