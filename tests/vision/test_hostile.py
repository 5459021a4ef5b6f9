"""Files that are made to do harm: a clear 400 each, memory flat, the server alive."""

import base64
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from conftest import PARENT, b64
from pipeline import page, written

MEGABYTE = 1 << 20
SIDE = 65535


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, data: bytes = b"") -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def jpeg(width: int, height: int) -> bytes:
    file = bytearray(written(page(), "JPEG"))
    at = file.index(b"\xff\xc0") + 5
    file[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(file)


def riff(*chunks: tuple[bytes, bytes]) -> bytes:
    body = b"WEBP" + b"".join(kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2) for kind, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def canvas(width: int, height: int) -> tuple[bytes, bytes]:
    return b"VP8X", bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")


VP8 = b"\x10\x00\x00\x9d\x01\x2a" + struct.pack("<HH", 16383, 16383) + bytes(64)
VP8L = b"\x2f" + struct.pack("<I", 16383 | 16383 << 14) + bytes(64)

FILES = {
    "a PNG bomb": (png(SIDE, SIDE), "65535 x 65535 pixels; the limit is 33554432 pixels"),
    "a JPEG bomb": (jpeg(SIDE, SIDE), "JPEG file cannot be read"),
    "a JPEG of too many pixels": (jpeg(30000, 30000), "30000 x 30000 pixels; the limit is 33554432 pixels"),
    "a lossy WebP bomb": (riff((b"VP8 ", VP8)), "16383 x 16383 pixels; the limit"),
    "a lossless WebP bomb": (riff((b"VP8L", VP8L)), "16384 x 16384 pixels; the limit"),
    "a WebP bomb in a small canvas": (riff(canvas(9, 9), (b"VP8 ", VP8)), "16383 x 16383 pixels; the limit"),
    "a WebP canvas": (riff(canvas(1 << 24, 1 << 24)), "WebP"),
    "a WebP without a picture": (riff(canvas(9, 9)), "WebP file cannot be read"),
    "a film": (written(page(), "WEBP", save_all=True, append_images=[page(180)]), "is animated"),
    "a PNG cut short": (written(page(), "PNG")[:2000], "PNG file cannot be read"),
    "a JPEG cut short": (written(page(), "JPEG")[:300], "JPEG file cannot be read"),
    "a WebP cut short": (written(page(), "WEBP", lossless=True)[:2000], "WebP file cannot be read"),
    "a PNG of two pixels with the data of many": (png(2, 1, bytes(8 * MEGABYTE)), ""),
    "a sliver": (written(Image.new("L", (1, 32000)), "PNG"), "has more than 33554432 pixels then"),
    "a GIF": (written(page(), "GIF"), "neither PNG, JPEG nor WebP"),
    "an SVG": (b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>', "neither PNG"),
    "nothing": (b"", "is empty"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_hostile_file_is_refused_by_name(server, orientation, name):
    file, said = FILES[name]
    server.predict(orientation, {"b64": b64(written(page(), "PNG"))})
    before = server.memory()
    reply = server.post(f"/v1/{PARENT}/endpoints/{orientation}:predict", {"instances": [{"b64": b64(file)}]})
    # What a decoder makes of data that is too long is its own affair: an answer, or a refusal.
    assert reply.status_code == 400 or (not said and reply.status_code == 200), reply.text
    if said:
        message = reply.json()["error"]["message"]
        assert message.startswith("instance 0: `image`: ") and said in message, message
    assert server.memory() - before < 96 * MEGABYTE
    assert server.predict(orientation, {"b64": b64(written(page(), "PNG"))})


def test_what_is_no_file_is_refused(server, orientation):
    garbage = base64.b64encode(np.random.default_rng(1).bytes(3 * MEGABYTE)).decode()
    for instance, said in (
        ({"b64": garbage}, "neither PNG, JPEG nor WebP"),
        ({"b64": garbage[:-3] + "!!!"}, "in base64"),
        ({"b64": 5}, "`b64` must be a string"),
        ({"content": "gs://bucket/image.png"}, "in base64"),
        ({"content": b64(written(page(), "PNG")), "mimeType": "image/jpeg"}, "the file is image/png"),
        ({"picture": "x"}, "`picture` is not known"),
        ([1, 2, 3], "expected a list of 1"),
        (5, "found a number"),
    ):
        message = server.predict(orientation, instance, status=400)
        assert message.startswith("instance 0: ") and said in message, message
    many = ["x"] * 2000
    assert "bytes; send at most 445 at a time" in server.predict(orientation, *many, status=400)


def test_decoders_survive_every_broken_byte(server, orientation):
    """A byte flipped anywhere is an answer or a refusal."""
    draw, small = np.random.default_rng(2), page().resize((24, 20))
    for form in ("PNG", "JPEG", "WEBP"):
        whole = written(small, form)
        for _ in range(40):
            file = bytearray(whole)
            for at in draw.integers(0, len(file), 3):
                file[at] ^= 1 << draw.integers(8)
            body = {"instances": [{"b64": b64(bytes(file))}]}
            reply = server.post(f"/v1/{PARENT}/endpoints/{orientation}:predict", body)
            assert reply.status_code in (200, 400), (form, reply.text, b64(bytes(file)))
    assert server.process.poll() is None
