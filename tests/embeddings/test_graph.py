"""Encoders that are ONNX graphs answer as those of safetensors do, and as onnxruntime with the pooling of the files."""

import json
import shutil

import numpy
import onnx
import onnxruntime
import pytest

import graph
import tiny
from served import model_file

TOLERANCE = 1e-3


@pytest.fixture(scope="module")
def minilm_graph(server, tmp_path_factory) -> str:
    directory = graph.export(model_file("minilm").parent, tmp_path_factory.mktemp("graph") / "minilm")
    # A second graph, as published directories have them: it is not the one that is taken.
    (directory / "onnx" / "model_O4.onnx").write_bytes(b"not a graph")
    return server.serves(directory, "minilm-graph")


def vectors(client, **wanted) -> numpy.ndarray:
    return numpy.array([item.embedding for item in client.embeddings.create(**wanted).data], "f4")


def test_vectors_are_those_of_sentence_transformers(client, minilm_graph, reference):
    texts = reference["texts"]
    expected = numpy.array([entry["vector"] for entry in texts])
    found = client.embeddings.create(model=minilm_graph, input=[entry["text"] for entry in texts])
    together = numpy.array([item.embedding for item in found.data], "f4")
    assert numpy.abs(together - expected).max() < TOLERANCE
    assert found.usage.prompt_tokens == sum(entry["tokens"] for entry in texts)
    for entry, vector in zip(texts, together):
        # To the last bit, whatever the company.
        assert numpy.array_equal(vectors(client, model=minilm_graph, input=entry["text"])[0], vector)


def test_other_protocols_and_limits(server, client, minilm_graph):
    whole = vectors(client, model=minilm_graph, input="A river")[0]
    answer = server.ask("POST", "/api/embed", json={"model": minilm_graph, "input": "A river"}).json()
    assert numpy.abs(numpy.array(answer["embeddings"][0]) - whole).max() < 1e-6
    long = {"model": minilm_graph, "input": "river " * 300}
    refusal = server.post("embeddings", long)
    assert refusal.status_code == 400 and "256" in refusal.json()["error"]["message"], refusal.text
    assert server.post("embeddings", long | {"truncate": True}).json()["usage"]["prompt_tokens"] == 256


POOLED = {
    "mean": lambda states: states.mean(0),
    "cls": lambda states: states[0],
    "lasttoken": lambda states: states[-1],
    "max": lambda states: states.max(0),
    "mean_sqrt_len_tokens": lambda states: states.sum(0) / len(states) ** 0.5,
}


def small(directory, pooling: str, normalize: bool):
    """A small encoder whose files say how its vectors are pooled; and the ids of `the river`."""
    source = tiny.write(directory / "source")
    model = graph.bert({k: v for k, v in graph.weights(source).items() if "classifier" not in k}, tiny.CONFIG)
    made = directory / "model"
    shutil.copytree(source, made, ignore=shutil.ignore_patterns("*.safetensors"))
    onnx.save(model, made / "model.onnx")
    kinds = ["Transformer", "Pooling", *(["Normalize"] if normalize else [])]
    paths = ["", "1_Pooling", "2_Normalize"]
    modules = [{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in zip(paths, kinds)]
    (made / "modules.json").write_text(json.dumps(modules))
    (made / "1_Pooling").mkdir()
    (made / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode": pooling}))
    return made, [tiny.WORDS.index(word) for word in ("[CLS]", "the", "river", "[SEP]")]


@pytest.mark.parametrize("pooling", POOLED)
@pytest.mark.parametrize("normalize", [True, False])
def test_every_pooling(server, client, tmp_path, pooling, normalize):
    made, ids = small(tmp_path, pooling, normalize)
    session = onnxruntime.InferenceSession(made / "model.onnx")
    tokens = numpy.array([ids])
    feed = {"input_ids": tokens, "attention_mask": tokens * 0 + 1, "token_type_ids": tokens * 0}
    expected = POOLED[pooling](session.run(None, feed)[0][0])
    if normalize:
        expected = expected / numpy.linalg.norm(expected)
    name = server.serves(made, f"small-{pooling.replace('_', '-')}-{str(normalize).lower()}")
    assert numpy.abs(vectors(client, model=name, input="the river")[0] - expected).max() < TOLERANCE


def test_a_cross_encoder_ranks(server, tmp_path, reference):
    directory = graph.export(tiny.write(tmp_path / "source"), tmp_path / "judge")
    name = server.serves(directory, "judge-graph")
    for ranking in reference["rankings"]:
        body = {"model": name, "query": ranking["query"], "documents": ranking["documents"]}
        reply = server.post("rerank", body).json()
        found = {result["index"]: result["relevance_score"] for result in reply["results"]}
        for index, expected in enumerate(ranking["scores"]):
            assert abs(found[index] - expected) < TOLERANCE


def test_damaged_files_are_refused_and_graphs_alone_take_tensors(server, tmp_path):
    made, ids = small(tmp_path, "mean", True)
    (made / "1_Pooling" / "config.json").write_text('{"pooling_mode": "weightedmean"}')
    said = server.command("import", made, "--name", "damaged-graph", code=1).stderr
    assert "weightedmean" in said, said
    server.serves(made / "model.onnx", "graph-alone")
    answer = server.post(
        "projects/default/locations/us-central1/endpoints/graph-alone:predict",
        {"instances": [{"input_ids": ids, "attention_mask": [1] * 4, "token_type_ids": [0] * 4}]},
    )
    assert answer.status_code == 200, answer.text


UNIGRAM = {
    "version": "1.0",
    "added_tokens": [
        {"id": i, "content": mark, "special": True, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        for i, mark in enumerate(["<s>", "<pad>", "</s>", "<unk>"])
    ],
    "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]},
    "pre_tokenizer": {
        "type": "Sequence",
        "pretokenizers": [{"type": "WhitespaceSplit"}, {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}],
    },
    "post_processor": {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
        "pair": [
            {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}},
            {"SpecialToken": {"id": "</s>", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}},
        ],
        "special_tokens": {},
    },
    "model": {
        "type": "Unigram", "unk_id": 3,
        "vocab": [["<s>", 0.0], ["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0], ["▁river", -2.0], ["▁", -3.0], ["s", -3.5], ["▁rivers", -7.0]],
    },
}
# Whole, the second is less likely than its two parts; neither letter of the third is known.
UNIGRAM_TEXTS = {"river": [0, 4, 2], "  rivers  river": [0, 4, 6, 4, 2], "xy": [0, 5, 3, 2]}


def unigram(directory, output: str, width: int):
    """A model of XLM-RoBERTa's form, without segments: tokens' vectors are added up, by their places."""
    directory.mkdir()
    (directory / "tokenizer.json").write_text(json.dumps(UNIGRAM))
    (directory / "config.json").write_text(json.dumps({"model_type": "xlm-roberta", "vocab_size": 8, "max_position_embeddings": 12}))
    table = numpy.random.default_rng(4).normal(size=(8, width)).astype("f4")
    make = graph.Maker({"table": table})
    length = make("Gather", make("Shape", "input_ids"), make.constant(numpy.int64(1)), axis=0)
    places = make("Range", make.constant(numpy.int64(0)), length, make.constant(numpy.int64(1)))
    weights = make("Unsqueeze", make("Cast", places, to=onnx.TensorProto.FLOAT), make.constant(numpy.array([0, 2])))
    words = make("Mul", make("Gather", make.tensor("table"), "input_ids"), weights)
    seen = make("Unsqueeze", make("Cast", "attention_mask", to=onnx.TensorProto.FLOAT), make.constant(numpy.array([2])))
    make.nodes.append(onnx.helper.make_node("ReduceSum", [make("Mul", words, seen), make.constant(numpy.array([1]))], [output], keepdims=0))
    info = onnx.helper.make_tensor_value_info
    inputs = [info(name, onnx.TensorProto.INT64, ["batch", "length"]) for name in ("input_ids", "attention_mask")]
    kept = [onnx.numpy_helper.from_array(value, name) for name, value in make.kept.items()]
    made = onnx.helper.make_graph(make.nodes, "unigram", inputs, [info(output, onnx.TensorProto.FLOAT, ["batch", width])], kept)
    onnx.save(onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9), directory / "model.onnx")
    return table


def summed(table, tokens) -> numpy.ndarray:
    return numpy.sum([at * table[token] for at, token in enumerate(tokens)], axis=0)


def test_unigram_tokens_and_one_vector_a_text(server, client, tmp_path):
    table = unigram(tmp_path / "unigram", "sentence_embedding", 6)
    name = server.serves(tmp_path / "unigram", "unigram")
    found = client.embeddings.create(model=name, input=list(UNIGRAM_TEXTS))
    assert found.usage.prompt_tokens == sum(map(len, UNIGRAM_TEXTS.values()))
    for item, tokens in zip(found.data, UNIGRAM_TEXTS.values()):
        assert numpy.abs(numpy.array(item.embedding) - summed(table, tokens)).max() < 1e-5
    # Two of the positions come before those of texts.
    refusal = server.post("embeddings", {"model": name, "input": "river " * 9})
    assert refusal.status_code == 400 and "10" in refusal.json()["error"]["message"], refusal.text


def test_two_ends_between_the_texts_of_a_pair(server, tmp_path):
    table = unigram(tmp_path / "judge", "logits", 1)
    name = server.serves(tmp_path / "judge", "unigram-judge")
    reply = server.post("rerank", {"model": name, "query": "river", "documents": ["rivers"]}).json()
    score = summed(table, [0, 4, 2, 2, 4, 6, 2])[0]
    assert abs(reply["results"][0]["relevance_score"] - 1 / (1 + numpy.exp(-score))) < 1e-5
