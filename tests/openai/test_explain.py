"""Why a language model answered so: through the chat call, through Google's library, and on the command line."""

import json
import math

import openai
import pytest
from google.api_core import exceptions
from google.cloud import aiplatform, aiplatform_v1
from google.oauth2.credentials import Credentials

from conftest import says

FILLER = """The market opens at eight on weekdays. A new roof was put on the school last year. Most visitors come by train
from the coast. The library keeps a map of the old harbour. Rain is common in the hills during autumn. The baker sells out
before noon on Saturdays. A stone bridge crosses the river near the mill. Two ferries leave every hour in summer. The choir
meets in the town hall on Mondays. Farmers bring apples and cheese from the valley. The clock tower was painted green."""
SENTENCES = [" ".join(sentence.split()) + "." for sentence in FILLER.replace("\n", " ").split(".") if sentence.strip()]

# Of twenty things: the fact, the question, the answer that rests on it.
FACTS = [
    (f"The password of the {gate} gate is {word}.", f"What is the password of the {gate} gate?", word)
    for gate, word in zip(
        "north south east west upper lower old new inner outer first second royal silver wooden iron garden river castle sea".split(),
        "marigold anchor velvet thunder copper walnut lantern saffron glacier pepper violin compass amber falcon ribbon orchid"
        " candle harvest meadow pebble".split(),
    )
]


def context(fact: str, place: int) -> tuple[str, int]:
    """A long text that states the fact once, and which sentence that is."""
    place %= len(SENTENCES)
    return " ".join(SENTENCES[:place] + [fact] + SENTENCES[place:]), place


def explained(client, model, content, answer=None, **how):
    """The explanation of a chat's answer."""
    reply = client.chat.completions.create(
        model=model, messages=says(content), temperature=0, max_tokens=12, extra_body={"explain": how or True}
    )
    return reply, reply.explanation


@pytest.fixture(scope="module")
def vertex(server, smol):
    """Google's library, pointed at the server, and the endpoint of the model."""
    aiplatform.init(
        project="default", location="us-central1", api_endpoint=server.url, api_transport="rest",
        credentials=Credentials(token=server.key),
    )
    return aiplatform.Endpoint(smol)


def test_an_answer_says_what_it_rests_on(client, smol):
    reply = client.chat.completions.create(
        model=smol, messages=says("Name the capital of France."), temperature=0, max_tokens=12, logprobs=True,
        extra_body={"explain": {"spans": "word"}},
    )
    found = reply.explanation
    assert found["answer"] == reply.choices[0].message.content
    assert found["method"] == "leave_one_out"
    assert [span["text"] for span in found["spans"]] == ["Name", " the", " capital", " of", " France."]
    assert {span["message"] for span in found["spans"]} == {0}
    chosen = reply.choices[0].logprobs.content
    assert math.isclose(found["log_probability"], sum(token.logprob for token in chosen), abs_tol=1e-3)
    assert found["baseline_log_probability"] < found["log_probability"]
    assert max(found["spans"], key=lambda span: span["value"])["text"] == " France."
    test = found["deletion_test"]
    assert test["spans_removed"] == 1 and test["loss"] >= test["random_loss"] > -50
    gap = found["log_probability"] - found["baseline_log_probability"] - sum(span["value"] for span in found["spans"])
    whole = abs(found["log_probability"] - found["baseline_log_probability"])
    assert math.isclose(found["approximation_error"], abs(gap) / whole, rel_tol=1e-6)
    assert found["usage"]["prompt_tokens"] > found["usage"]["cached_tokens"] > 0


def test_leaving_out_is_what_it_says(vertex):
    """A part's value is what the answer's log-probability loses when the part was never said."""
    parts = ["The cat is black.", " The dog is white.", " What colour is the dog?"]
    ask = lambda text: vertex.explain([{"prompt": text, "answer": " White."}], parameters={"spans": "sentence"})
    found = ask("".join(parts)).explanations[0].attributions[0]
    shares = dict(found.feature_attributions)
    assert list(shares["prompt_tokens"]) == parts
    for place, value in enumerate(shares["prompt"]):
        without = ask("".join(parts[:place] + parts[place + 1:])).explanations[0].attributions[0]
        assert math.isclose(value, found.instance_output_value - without.instance_output_value, abs_tol=1e-4)


def test_a_decisive_span_is_found(server, vertex):
    """A fact that is stated once in a long text: the explanation ranks its sentence first."""
    firsts = {"leave_one_out": 0, "hidden": 0}
    for number, (fact, question, answer) in enumerate(FACTS):
        text, place = context(fact, number * 3)
        messages = [{"role": "user", "content": f"{text} {question}"}]
        for method in firsts:
            reply = vertex.explain(
                [{"messages": messages, "answer": answer}], parameters={"spans": "sentence", "method": method}
            )
            values = list(dict(reply.explanations[0].attributions[0].feature_attributions)["messages[0]"])
            assert len(values) == len(SENTENCES) + 2
            # The question itself is no part of the text.
            firsts[method] += max(range(len(values) - 1), key=values.__getitem__) == place
    assert firsts["leave_one_out"] >= 18, firsts
    assert firsts["hidden"] >= 15, firsts


def test_a_stream_ends_with_its_reasons(client, smol):
    wanted = {"model": smol, "messages": says("Say hello."), "temperature": 0, "max_tokens": 8}
    body = {"explain": {"method": "shapley", "paths": 4, "seed": 7}}
    whole = client.chat.completions.create(**wanted, extra_body=body).explanation
    chunks = list(client.chat.completions.create(
        **wanted, extra_body=body, stream=True, stream_options={"include_usage": True}
    ))
    told = [chunk.explanation for chunk in chunks if getattr(chunk, "explanation", None)]
    assert chunks[-1].usage.completion_tokens > 0
    [streamed] = told
    for same in ("answer", "spans", "log_probability", "baseline_log_probability", "deletion_test"):
        assert streamed[same] == whole[same]
    assert whole["method"] == "shapley" and whole["approximation_error"] < 1e-6, "all orders sum to the whole"


def test_the_fast_way_computes_the_prompt_once(client, smol):
    text = " ".join(SENTENCES) + " Sum that up."
    reply, found = explained(client, smol, text, method="hidden", spans="sentence")
    usage = found["usage"]
    computed = usage["prompt_tokens"] - usage["cached_tokens"]
    assert found["deletion_test"] is None
    assert computed < usage["prompt_tokens"] / 5, usage
    _, tested = explained(client, smol, text, method="hidden", spans="sentence", deletion_test=True)
    assert tested["deletion_test"]["spans_removed"] == math.ceil(len(found["spans"]) / 5)
    assert [span["value"] for span in tested["spans"]] == [span["value"] for span in found["spans"]]


def test_messages_and_tokens_are_parts_too(vertex, client, smol):
    chat = [
        {"role": "system", "content": "You speak of rivers."},
        {"role": "user", "content": "Which one is yours?"},
    ]
    found = client.chat.completions.create(
        model=smol, messages=chat, temperature=0, max_tokens=8, extra_body={"explain": {"spans": "message"}}
    ).explanation
    assert [(span["message"], span["text"]) for span in found["spans"]] == [
        (0, "You speak of rivers."), (1, "Which one is yours?"),
    ]
    reply = vertex.explain([{"prompt": "émigré 👩‍🚀", "answer": "!"}], parameters={"spans": "token"})
    parts = dict(reply.explanations[0].attributions[0].feature_attributions)["prompt_tokens"]
    assert "".join(parts) == "émigré 👩‍🚀" and len(parts) > 2


def test_googles_sampled_shapley_is_understood(server, vertex):
    client = aiplatform.gapic.PredictionServiceClient(
        client_options={"api_endpoint": server.url}, transport="rest", credentials=Credentials(token=server.key)
    )
    request = aiplatform_v1.ExplainRequest(
        endpoint=vertex.resource_name,
        explanation_spec_override={"parameters": {"sampled_shapley_attribution": {"path_count": 3}}},
    )
    request.instances.append("Say hello.")
    reply = client.explain(request=request)
    assert reply.predictions[0]["method"] == "shapley"
    found = reply.explanations[0].attributions[0]
    assert found.output_name == "log_probability" and found.approximation_error < 1e-6


@pytest.mark.parametrize(
    ("instance", "parameters", "says_so"),
    [
        ("hi", {"method": "gradients"}, "method"),
        ("hi", {"spans": "paragraph"}, "spans"),
        ("hi", {"method": "shapley", "paths": 51}, "1 to 50"),
        ("hi", {"paths": 5}, "shapley"),
        ("hi", {"frobnicate": 1}, "frobnicate"),
        ("hi", {"max_tokens": 100000}, "512"),
        ("word " * 600, {}, "512"),
        ({"prompt": "a", "messages": []}, {}, "both"),
        ({"prompt": "hi", "answer": ""}, {}, "1 to 512"),
        ({"answer": "hi"}, {}, "prompt"),
        ({"prompt": "hi", "whatever": 1}, {}, "whatever"),
        (7, {}, "instances[0]"),
    ],
)
def test_what_cannot_be_explained_is_refused(vertex, instance, parameters, says_so):
    with pytest.raises(exceptions.BadRequest) as refused:
        vertex.explain([instance], parameters=parameters)
    assert says_so in str(refused.value)


def test_a_chat_refuses_what_it_cannot_explain(client, smol):
    ask = lambda **more: client.chat.completions.create(model=smol, messages=says("hi"), **more)
    for more in (
        {"n": 2, "extra_body": {"explain": True}},
        {"extra_body": {"explain": {"method": "magic"}}},
        {"extra_body": {"explain": 5}},
    ):
        with pytest.raises(openai.BadRequestError) as refused:
            ask(**more)
        assert refused.value.param == "explain", refused.value
    assert ask(max_tokens=2).choices[0].message.content


def test_the_command_draws_it(server, smol):
    drawn = server.command("explain", smol, "Name the capital of France.").stdout
    assert "log-probability" in drawn and "deletion test" in drawn and "France." in drawn
    told = json.loads(server.command("explain", smol, "Name a river.", "--answer", " Meuse", "--spans", "token", "--json").stdout)
    assert told["predictions"][0]["answer"] == " Meuse"
