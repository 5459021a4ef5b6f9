"""Directories that are damaged, or hold another kind of model, are refused at import with what is wrong."""

import json

import pytest

import tiny


def damaged(directory, file: str, change) -> None:
    path = directory / file
    path.write_bytes(change(path.read_bytes()))


def config(**settings):
    return lambda old: json.dumps(json.loads(old) | settings).encode()


CASES = [
    ("model.safetensors", lambda old: old[:-1], "model.safetensors"),
    ("model.safetensors", lambda old: b"\xff" * 16 + old, "model.safetensors"),
    ("config.json", config(hidden_size=4_000_000_000), "hidden_size"),
    ("config.json", config(hidden_size=2048), "token_type_embeddings"),
    ("config.json", config(model_type="llama"), "llama"),
    ("tokenizer.json", lambda old: old[: len(old) // 2], "tokenizer"),
]


@pytest.mark.parametrize("file, change, names", CASES, ids=[f"{case[2]}-{place}" for place, case in enumerate(CASES)])
def test_a_damaged_directory_is_refused(server, tmp_path, file, change, names):
    directory = tiny.write(tmp_path / "model")
    damaged(directory, file, change)
    said = server.command("import", directory, "--name", "damaged", code=1).stderr
    assert names in said, said
    assert "damaged" not in server.command("models").stdout
