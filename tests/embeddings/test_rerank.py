"""Scores are those of `transformers`, and documents come in their order."""

import pytest

TOLERANCE = 1e-3


def test_scores_are_those_of_transformers(server, judge, reference):
    for ranking in reference["rankings"]:
        body = {"model": judge, "query": ranking["query"], "documents": ranking["documents"]}
        reply = server.post("rerank", body).json()
        found = {result["index"]: result["relevance_score"] for result in reply["results"]}
        assert sorted(found) == list(range(len(ranking["documents"])))
        for index, expected in enumerate(ranking["scores"]):
            assert abs(found[index] - expected) < TOLERANCE
        scores = [result["relevance_score"] for result in reply["results"]]
        assert scores == sorted(scores, reverse=True)
        assert reply["model"] == judge and reply["usage"]["total_tokens"] > 0
        # Each pair alone, to the last bit.
        for index, document in enumerate(ranking["documents"]):
            alone = server.post("rerank", body | {"documents": [document]}).json()
            assert alone["results"][0]["relevance_score"] == found[index]


def test_as_many_as_are_wanted_with_their_texts(server, judge, reference):
    ranking = reference["rankings"][0]
    documents = [{"text": text} for text in ranking["documents"]]
    body = {"model": judge, "query": ranking["query"], "documents": documents, "top_n": 2, "return_documents": True}
    results = server.post("rerank", body).json()["results"]
    best = sorted(range(len(documents)), key=lambda index: -ranking["scores"][index])[:2]
    assert [result["index"] for result in results] == best
    assert [result["document"] for result in results] == [documents[index] for index in best]


def test_what_is_too_long_is_refused_unless_it_may_be_cut(server, judge):
    body = {"model": judge, "query": "the river", "documents": ["water " * 50]}
    refusal = server.post("rerank", body)
    error = refusal.json()["error"]
    assert refusal.status_code == 400 and error["code"] == "context_length_exceeded", error
    assert error["param"] == "documents[0]" and "55" in error["message"] and "40" in error["message"]
    assert server.post("rerank", body | {"truncate": True}).json()["usage"]["total_tokens"] == 40
    refusal = server.post("rerank", body | {"truncate": True, "query": "water " * 50})
    assert refusal.status_code == 400 and "query" in refusal.json()["error"]["message"]


BAD = [
    ({"documents": []}, "documents"),
    ({"documents": ["a", ""]}, "documents[1]"),
    ({"documents": [{"txt": "a"}]}, "documents[0].text"),
    ({"documents": None}, "documents"),
    ({"query": ""}, "query"),
    ({"top_n": 0}, "top_n"),
    ({"max_chunks_per_doc": 3}, "max_chunks_per_doc"),
]


@pytest.mark.parametrize("wrong, field", BAD, ids=[f"{field}-{place}" for place, (_, field) in enumerate(BAD)])
def test_what_is_wrong_is_named(server, judge, wrong, field):
    refusal = server.post("rerank", {"model": judge, "query": "a", "documents": ["b"]} | wrong)
    assert refusal.status_code == 400 and refusal.json()["error"]["param"] == field, refusal.text


def test_models_that_do_something_else_say_so(server, minilm):
    refusal = server.post("rerank", {"model": minilm, "query": "a", "documents": ["b"]})
    assert refusal.status_code == 400 and "/v1/embeddings" in refusal.json()["error"]["message"]
