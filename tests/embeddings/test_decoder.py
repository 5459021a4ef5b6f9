"""A decoder whose file says how its hidden states become one vector embeds, as llama.cpp does with the same file."""

import json
import pathlib

import numpy
import openai
import pytest
from conftest import HERE, model_file

import pooled

REFERENCE = json.loads((HERE / "decoder.json").read_text())
WAYS = {"mean": 1, "last": 3}
# Both compute with activations in 8 bits, each in its own way.
COSINE_MIN = 0.995


@pytest.fixture(scope="session")
def smollm() -> pathlib.Path:
    return model_file("smollm2-135m")


@pytest.fixture(scope="session")
def decoders(server, smollm, tmp_path_factory) -> dict[str, str]:
    """For each way of pooling, the name of a served model."""
    directory = tmp_path_factory.mktemp("decoders")
    return {
        way: server.serves(pooled.write(smollm, directory / f"{way}.gguf", "llama", number), f"decoder-{way}")
        for way, number in WAYS.items()
    }


def vectors(client, model: str, texts: list[str]) -> numpy.ndarray:
    return numpy.array([item.embedding for item in client.embeddings.create(model=model, input=texts).data], "f4")


@pytest.mark.parametrize("way", WAYS)
def test_vectors_are_those_of_llama_cpp(client, decoders, way):
    found = vectors(client, decoders[way], REFERENCE["texts"])
    expected = numpy.array(REFERENCE[way])
    assert found.shape == expected.shape
    assert numpy.allclose(numpy.linalg.norm(found, axis=1), 1, atol=1e-5)
    cosines = (found * expected).sum(axis=1) / numpy.linalg.norm(expected, axis=1)
    assert cosines.min() > COSINE_MIN, cosines
    # Alone or in company, to the last bit.
    for text, vector in zip(REFERENCE["texts"], found):
        assert numpy.array_equal(vectors(client, decoders[way], [text])[0], vector)


def test_long_texts_are_taken_whole_and_longer_ones_refused(client, decoders):
    """Longer than a step: what comes last still depends on what came first."""
    text = "water and stone " * 600
    one, other = vectors(client, decoders["last"], ["a " + text, "the " + text])
    assert not numpy.array_equal(one, other)
    with pytest.raises(openai.BadRequestError) as caught:
        vectors(client, decoders["last"], ["water " * 9000])
    assert "8192" in caught.value.body["message"]


def test_it_does_not_answer(client, decoders):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=decoders["mean"], messages=[{"role": "user", "content": "hello"}])
    assert "embed" in caught.value.body["message"], caught.value.body


def test_another_way_of_pooling_is_refused_at_import(server, smollm, tmp_path):
    file = pooled.write(smollm, tmp_path / "ranks.gguf", "llama", 4)
    said = server.command("import", file, "--name", "ranks", code=1).stderr
    assert "llama.pooling_type" in said, said
