"""Builds the programs that show what the Rust code does, and fetches the model files to compare on."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

import corpus

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD_TIMEOUT_S = 1500
RUN_TIMEOUT_S = 300


def example(package: str, name: str) -> pathlib.Path:
    """The path of an example program, built if need be."""
    command = ["cargo", "build", "--release", "--locked", "--quiet", "--package", package, "--example", name]
    built = subprocess.run(
        [*command, "--message-format", "json"], cwd=ROOT, check=True, timeout=BUILD_TIMEOUT_S, stdout=subprocess.PIPE
    )
    messages = [json.loads(line) for line in built.stdout.splitlines()]
    return next(
        pathlib.Path(message["executable"])
        for message in messages
        if message.get("target", {}).get("name") == name and message.get("executable")
    )


def model(name: str) -> pathlib.Path:
    """The path of a model file, fetched if need be."""
    fetch = [sys.executable, ROOT / "tests" / "models" / "fetch.py", name]
    fetched = subprocess.run(fetch, check=True, timeout=BUILD_TIMEOUT_S, stdout=subprocess.PIPE, text=True)
    return pathlib.Path(fetched.stdout.splitlines()[-1])


class Tokenize:
    """Calls the example `tokenize`: many texts at once."""

    def __init__(self):
        self.program = example("llm", "tokenize")

    def encode(self, path, texts: list[str], *options: str, action: str = "encode") -> list[list[int]]:
        """Each text's tokens."""
        lines = [text.encode().hex() for text in texts]
        return [[int(word) for word in line.split()] for line in self.run(lines, path, action, *options)]

    def decode(self, path, ids: list[list[int]]) -> list[str]:
        """Each list's text."""
        lines = [" ".join(map(str, line)) for line in ids]
        return [bytes.fromhex(line).decode() for line in self.run(lines, path, "decode")]

    def split(self, rule: str, texts: list[str]) -> list[list[str]]:
        """Each text's pieces by the rule."""
        lines = self.run([text.encode().hex() for text in texts], "-", "split", "--pre", rule)
        pieces = []
        for text, line in zip(texts, lines, strict=True):
            ends = [0, *map(int, line.split())]
            data = text.encode()
            pieces.append([data[start:end].decode() for start, end in zip(ends, ends[1:])])
        return pieces

    def run(self, lines: list[str], *arguments) -> list[str]:
        done = subprocess.run(
            [self.program, *map(str, arguments)],
            input="".join(line + "\n" for line in lines),
            capture_output=True,
            text=True,
            timeout=RUN_TIMEOUT_S,
        )
        assert done.returncode == 0, done.stderr
        answers = done.stdout.split("\n")[:-1]
        assert len(answers) == len(lines)
        return answers


@pytest.fixture(scope="session")
def tokenize() -> Tokenize:
    return Tokenize()


@pytest.fixture(scope="session")
def texts() -> list[str]:
    # The size can be raised for a longer search.
    return corpus.texts(int(os.environ.get("MEUSE_CORPUS", "3000")))


@pytest.fixture(scope="session")
def smollm() -> pathlib.Path:
    return model("smollm2-135m")


@pytest.fixture(scope="session")
def qwen() -> pathlib.Path:
    return model("qwen2.5-coder-0.5b")


@pytest.fixture(scope="session")
def minilm() -> pathlib.Path:
    return model("minilm").parent


@pytest.fixture(scope="session")
def mistral() -> pathlib.Path:
    return model("mistral-vocabulary")
