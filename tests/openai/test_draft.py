"""A small model that guesses what a large one will say: it changes no answer, and is kept with what is deployed."""

import json

import pytest
import requests

from conftest import Server, model_file, says

ANSWER_TOKENS = 40


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path / "data", "--context", "2048")
    yield server
    server.stop()


def answers(server: Server, model: str) -> list:
    client = server.client()
    ask = lambda **options: client.chat.completions.create(
        model=model, messages=says("Count from one to twenty, then backwards."), max_tokens=ANSWER_TOKENS,
        logprobs=True, top_logprobs=2, **options,
    )
    asked = [ask(temperature=0), ask(temperature=1, seed=3, n=2), ask(temperature=0.7, seed=4, frequency_penalty=0.5)]
    return [(c.message.content, c.logprobs.model_dump()) for answer in asked for c in answer.choices]


def call(server: Server, method: str, path: str, **body) -> requests.Response:
    headers = {"authorization": f"Bearer {server.key}"}
    return requests.request(method, f"{server.url}/v1/{path}", headers=headers, timeout=120, json=body or None)


def test_a_draft_model_changes_no_answer_and_stays(server, tmp_path):
    smol = model_file("smollm2-135m")
    for name in ("plain", "large", "small"):
        server.command("import", smol, "--name", name)
    server.command("deploy", "plain")
    plain = answers(server, "plain")
    endpoint = json.loads(server.command("deploy", "large", "--draft", "small", "--json").stdout)
    speculation = endpoint["deployedModels"][0]["speculativeDecodingSpec"]["draftModelSpeculation"]
    assert speculation["draftModel"].endswith("/small@1")
    assert answers(server, "large") == plain
    # The same model guesses itself right as long as it is asked: until it is known to take as long.
    accepted = server.figure("spec_decode_num_accepted_tokens_total", "large")
    assert 0 < accepted <= server.figure("spec_decode_num_draft_tokens_total", "large")

    # It is in use, and is not itself deployed.
    small = speculation["draftModel"].split("@")[0]
    refused = call(server, "DELETE", small)
    assert refused.status_code == 400 and "is the draft model of what is deployed" in refused.json()["error"]["message"]
    assert "deployedModels" not in call(server, "GET", small).json()
    # Deploying it again the same way shifts traffic; without it, too; with another one is another thing.
    server.command("deploy", "large", "--draft", "small")
    server.command("deploy", "large")
    text = server.command("deploy", "large", "--draft", "plain", code=1).stderr
    assert "without this draft model" in text and "meuse undeploy large@1 --endpoint large" in text

    server.stop()
    again = Server(tmp_path / "data", "--context", "2048")
    try:
        assert answers(again, "large") == plain
        again.command("undeploy", "large")
        assert call(again, "DELETE", small).status_code == 200
    finally:
        again.stop()


def test_a_draft_model_that_does_not_fit_is_refused_by_name(server):
    server.command("import", model_file("smollm2-135m"), "--name", "smol")
    server.command("import", model_file("qwen2.5-coder-0.5b"), "--name", "qwen")
    text = server.command("deploy", "qwen", "--draft", "smol", code=1).stderr
    assert "draft model cannot be used" in text and "49152 of them, where the model has 151936" in text
    assert "no model called nobody" in server.command("deploy", "qwen", "--draft", "nobody", code=1).stderr
    server.command("deploy", "smol")
    assert answers(server, "smol")
    endpoint = json.loads(server.command("endpoints", "smol", "--json").stdout)["endpoints"][0]["name"]
    draft = {"draftModel": "projects/default/locations/us-central1/models/smol"}
    for spec, named in [
        ({"ngramSpeculation": {"ngramSize": 3}}, "ngramSpeculation"),
        ({"draftModelSpeculation": draft, "speculativeTokenCount": 5}, "speculativeTokenCount"),
    ]:
        deployed = {"model": draft["draftModel"], "speculativeDecodingSpec": spec}
        refused = call(server, "POST", f"{endpoint}:deployModel", deployedModel=deployed)
        assert refused.status_code in (400, 501) and named in refused.json()["error"]["message"], refused.text
