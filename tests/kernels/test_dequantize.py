"""What a stored block means, by the `gguf` package: the digests that the crate's own test holds its definition to.

Both sides make the same pseudo-random blocks; a digest of the numbers' bits stands in the golden file. Run as a program,
this file writes the golden file anew.
"""

import pathlib

import numpy as np
import pytest
from gguf import GGMLQuantizationType, quants

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "crates" / "kernels" / "src" / "dequantize" / "golden.txt"

BLOCKS = 64
MASK = (1 << 64) - 1

# Name, bytes of a block, and where in it the upper bytes of f16 numbers are (of f32 and bf16 likewise): these lose a bit
# of the exponent, so that every number is finite.
FORMATS = [
    ("F32", 4, [3]),
    ("F16", 2, [1]),
    ("BF16", 2, [1]),
    ("Q8_0", 34, [1]),
    ("Q4_0", 18, [1]),
    ("Q4_1", 20, [1, 3]),
    ("Q5_0", 22, [1]),
    ("Q5_1", 24, [1, 3]),
    ("Q2_K", 84, [81, 83]),
    ("Q3_K", 110, [109]),
    ("Q4_K", 144, [1, 3]),
    ("Q5_K", 176, [1, 3]),
    ("Q6_K", 210, [209]),
    ("IQ4_NL", 18, [1]),
    ("IQ4_XS", 136, [1]),
    ("MXFP4", 17, []),
]


def blocks(size: int, uppers: list[int]) -> np.ndarray:
    """The upper bytes of xorshift64* numbers."""
    state = size * 0x9E3779B97F4A7C15 & MASK | 1
    data = np.empty((BLOCKS, size), np.uint8)
    for at in np.ndindex(BLOCKS, size):
        state ^= state >> 12
        state ^= state << 25 & MASK
        state ^= state >> 27
        data[at] = (state * 0x2545F4914F6CDD1D & MASK) >> 56
    data[:, uppers] &= 0xBF
    return data


def digest(numbers: np.ndarray) -> str:
    """FNV-1a over the bits, a 32-bit word at a time."""
    state = 0xCBF29CE484222325
    for word in numbers.astype("<f4").view("<u4").ravel().tolist():
        state = (state ^ word) * 0x100000001B3 & MASK
    return f"{state:016x}"


def reference(name: str, size: int, uppers: list[int]) -> str:
    # A row for each block; the package wants plain floats as such.
    data = blocks(size, uppers)
    kind = GGMLQuantizationType[name]
    return digest(quants.dequantize(data.view({"F32": "<f4", "F16": "<f2"}.get(name, np.uint8)), kind))


@pytest.mark.parametrize("name,size,uppers", FORMATS, ids=[name for name, _, _ in FORMATS])
def test_golden_file_is_what_the_package_says(name, size, uppers):
    golden = dict(line.split() for line in GOLDEN.read_text().splitlines())
    assert golden[name] == reference(name, size, uppers)


if __name__ == "__main__":
    GOLDEN.write_text("".join(f"{name} {reference(name, size, uppers)}\n" for name, size, uppers in FORMATS))
