"""Vectors are those of `sentence-transformers`, to within 1e-3, and the `openai` library gets them as it asks."""

import base64
import json
import os
import struct
import subprocess
import threading

import numpy
import openai
import pytest

TOLERANCE = 1e-3
WIDTH = 384


def vectors(client, **wanted) -> numpy.ndarray:
    found = client.embeddings.create(**wanted)
    assert [item.index for item in found.data] == list(range(len(found.data)))
    # As 32-bit floats, which is what they are: decimal digits of them are read as longer numbers.
    return numpy.array([item.embedding for item in found.data], "f4")


def refused(client, kind=openai.BadRequestError, **wanted):
    with pytest.raises(kind) as caught:
        client.embeddings.create(**wanted)
    assert caught.value.body["message"] and caught.value.body["type"]
    return caught.value


def test_vectors_are_those_of_sentence_transformers(client, minilm, reference):
    texts = reference["texts"]
    expected = numpy.array([entry["vector"] for entry in texts])
    found = client.embeddings.create(model=minilm, input=[entry["text"] for entry in texts])
    together = numpy.array([item.embedding for item in found.data], "f4")
    assert numpy.abs(together - expected).max() < TOLERANCE
    assert found.usage.prompt_tokens == found.usage.total_tokens == sum(entry["tokens"] for entry in texts)
    assert found.model == minilm and found.object == "list"
    for entry, vector in zip(texts, together):
        alone = client.embeddings.create(model=minilm, input=entry["text"])
        assert alone.usage.prompt_tokens == entry["tokens"]
        # To the last bit, whatever the company.
        assert numpy.array_equal(numpy.array(alone.data[0].embedding, "f4"), vector)


def test_company_of_other_callers_changes_no_bit(client, minilm, reference):
    texts = [entry["text"] for entry in reference["texts"]]
    expected = {text: vectors(client, model=minilm, input=text)[0] for text in texts}
    wrong = []

    def ask(turn: int) -> None:
        mine = [texts[(turn + place) % len(texts)] for place in range(1 + turn % 5)]
        for text, vector in zip(mine, vectors(client, model=minilm, input=mine)):
            if not numpy.array_equal(vector, expected[text]):
                wrong.append(text)

    threads = [threading.Thread(target=ask, args=(turn,)) for turn in range(24)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not wrong


def test_every_way_to_send_and_to_receive(server, client, minilm):
    plain = vectors(client, model=minilm, input="A river", encoding_format="float")
    # The library asks for base64 by itself, and decodes it.
    assert numpy.array_equal(vectors(client, model=minilm, input="A river"), plain)
    raw = server.post("embeddings", {"model": minilm, "input": "A river", "encoding_format": "base64"}).json()
    bytes_ = base64.b64decode(raw["data"][0]["embedding"])
    assert struct.unpack(f"<{WIDTH}f", bytes_) == tuple(plain[0].tolist())
    # [CLS] a river [SEP], with and without its ends.
    for tokens in ([1037, 2314], [101, 1037, 2314, 102]):
        assert numpy.array_equal(vectors(client, model=minilm, input=tokens), plain)
    both = vectors(client, model=minilm, input=[[1037, 2314], [1037, 2314]])
    assert numpy.array_equal(both, [plain[0], plain[0]])


def test_dimensions_are_the_first_ones_at_length_one(client, minilm):
    whole = vectors(client, model=minilm, input="A river")[0]
    short = vectors(client, model=minilm, input="A river", dimensions=64)[0]
    assert numpy.abs(short - whole[:64] / numpy.linalg.norm(whole[:64])).max() < 1e-6
    assert numpy.array_equal(vectors(client, model=minilm, input="A river", dimensions=WIDTH)[0], whole)
    error = refused(client, model=minilm, input="A river", dimensions=WIDTH + 1)
    assert error.param == "dimensions" and str(WIDTH) in error.body["message"]


def test_what_is_too_long_is_refused_unless_it_may_be_cut(client, minilm):
    long = "river " * 300
    error = refused(client, model=minilm, input=["short", long])
    assert error.code == "context_length_exceeded" and error.param == "input[1]"
    assert "302" in error.body["message"] and "256" in error.body["message"]
    cut = client.embeddings.create(model=minilm, input=long, extra_body={"truncate": True})
    assert cut.usage.prompt_tokens == 256
    fits = vectors(client, model=minilm, input="river " * 254)
    assert numpy.array_equal(numpy.array([cut.data[0].embedding], "f4"), fits)


BAD = [
    ({"input": ""}, "input[0]"),
    ({"input": []}, "input"),
    ({"input": ["a", ""]}, "input[1]"),
    ({"input": [[]]}, "input[0]"),
    ({"input": [1, "a"]}, "input"),
    ({"input": [-1]}, "input"),
    ({"input": [30522]}, "input[0]"),
    ({"input": ["a"] * 2049}, "input"),
    ({"input": [list(range(1000, 1200))] * 1500}, "input"),
    ({"input": "a", "encoding_format": "hex"}, "encoding_format"),
    ({"input": "a", "dimensions": 0}, "dimensions"),
    ({"input": "a", "extra_body": {"frobnicate": 1}}, "frobnicate"),
]


@pytest.mark.parametrize("wanted, field", BAD, ids=[f"{field}-{place}" for place, (_, field) in enumerate(BAD)])
def test_what_is_wrong_is_named(client, minilm, wanted, field):
    assert refused(client, model=minilm, **wanted).param == field


def test_models_that_do_something_else_say_so(server, client, minilm, judge):
    error = refused(client, openai.NotFoundError, model="gpt-7", input="a")
    assert error.code == "model_not_found"
    assert "/v1/rerank" in refused(client, model=judge, input="a").body["message"]
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=minilm, messages=[{"role": "user", "content": "x"}])
    assert "not a language model" in caught.value.body["message"]


@pytest.mark.parametrize("kind", ["minilm", "judge"])
def test_deploying_says_how_to_ask(server, request, kind):
    """The call that is suggested works as it stands."""
    name = request.getfixturevalue(kind)
    said = server.command("deploy", name)
    suggested = (said.stdout + said.stderr).split("Try it: ")[1]
    assert ("/v1/embeddings" if kind == "minilm" else "/v1/rerank") in suggested
    env = {"MEUSE_API_KEY": server.key, "PATH": os.environ["PATH"]}
    asked = subprocess.run(["bash", "-c", suggested], env=env, capture_output=True, text=True, timeout=60)
    assert '"error"' not in asked.stdout and json.loads(asked.stdout)["model"] == name, asked.stdout


def test_it_is_listed_and_counted(server, client, minilm):
    listed = {model.id: model for model in client.models.list()}
    assert listed[minilm].max_model_len == 256 and listed[minilm].capabilities == ["embedding"]
    assert client.models.retrieve(minilm).id == minilm
    assert "minilm" in server.command("models").stdout
    before = figure(server, "texts_total"), figure(server, "tokens_total")
    client.embeddings.create(model=minilm, input=["A river", "A river"])
    assert (figure(server, "texts_total"), figure(server, "tokens_total")) == (before[0] + 2, before[1] + 8)


def figure(server, name: str) -> int:
    lines = [line for line in server.metrics().splitlines() if line.startswith(f'meuse_encoder_{name}{{model_name="minilm"')]
    assert len(lines) == 1, lines
    return int(lines[0].split()[-1])


def test_a_vertex_endpoint_answers_as_googles_text_embedding_models(server, client, minilm):
    path = "projects/default/locations/us-central1/endpoints/minilm:predict"
    body = {"instances": ["A river", {"content": "river " * 300}], "parameters": {"autoTruncate": True}}
    found = server.post(path, body).json()["predictions"]
    assert [one["embeddings"]["statistics"] for one in found] == [
        {"token_count": 4, "truncated": False}, {"token_count": 256, "truncated": True},
    ]
    expected = vectors(client, model=minilm, input="A river")[0]
    assert numpy.array_equal(numpy.array(found[0]["embeddings"]["values"], "f4"), expected)
    short = server.post(path, {"instances": ["A river"], "parameters": {"outputDimensionality": 8}}).json()
    assert len(short["predictions"][0]["embeddings"]["values"]) == 8
    for wrong in (
        {"instances": body["instances"]},
        {"instances": []},
        {"instances": [{"content": "a", "task_type": "RETRIEVAL_QUERY"}]},
        {"instances": ["a"], "parameters": {"outputDimensionality": 999}},
    ):
        refusal = server.post(path, wrong)
        assert refusal.status_code == 400 and refusal.json()["error"]["status"] == "INVALID_ARGUMENT", wrong


def test_how_much_is_computed_at_once_is_not_to_be_said(server, minilm):
    refused = server.command("deploy", minilm, "--endpoint", "bound", "--concurrency", 2, code=1).stderr
    assert "concurrency" in refused and "encoder" in refused
    [bound] = server.json("endpoints", "bound")["endpoints"]
    assert not bound.get("deployedModels")
