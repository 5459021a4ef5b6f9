"""Completions and responses with the real library."""

import openai
import pytest


def test_a_text_is_continued(client, smol):
    wanted = {"model": smol, "prompt": "Gravity is", "temperature": 0, "max_tokens": 12}
    whole = client.completions.create(**wanted)
    assert whole.object == "text_completion" and whole.choices[0].finish_reason == "length"
    assert whole.usage.completion_tokens == 12
    told = "".join(c.choices[0].text for c in client.completions.create(**wanted, stream=True) if c.choices)
    assert told == whole.choices[0].text
    echoed = client.completions.create(**wanted, echo=True).choices[0].text
    assert echoed == "Gravity is" + whole.choices[0].text


def test_several_texts_and_answers(client, smol):
    prompts = ["The Meuse flows", "Once upon a time"]
    whole = client.completions.create(model=smol, prompt=prompts, n=2, seed=3, max_tokens=6)
    assert [c.index for c in whole.choices] == [0, 1, 2, 3]
    alone = client.completions.create(model=smol, prompt=prompts[1], n=2, seed=3, max_tokens=6)
    assert [c.text for c in whole.choices[2:]] == [c.text for c in alone.choices]


def test_tokens_are_a_prompt(client, smol):
    answer = client.completions.create(model=smol, prompt=[504, 1038, 314], max_tokens=2, logprobs=2, temperature=0)
    assert answer.usage.prompt_tokens == 3
    ranked = answer.choices[0].logprobs
    assert "".join(ranked.tokens) == answer.choices[0].text and len(ranked.token_logprobs) == 2
    assert ranked.text_offset[0] == 0 and all(len(top) == 2 for top in ranked.top_logprobs)


@pytest.mark.parametrize(
    "more", [{"suffix": "x"}, {"best_of": 3}, {"prompt": []}, {"prompt": [{}]}, {"prompt": [4294967295]}, {"echo": True, "logprobs": 1}]
)
def test_what_is_not_honoured_is_named(client, smol, more):
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(**{"model": smol, "prompt": "x"} | more)
    assert caught.value.param in more


def test_a_response_is_whole(client, smol):
    wanted = {"model": smol, "input": "What is gravity?", "instructions": "Be brief.", "temperature": 0, "max_output_tokens": 30, "metadata": {"a": "b"}}
    response = client.responses.create(**wanted)
    assert response.object == "response" and response.output_text and response.to_dict()["store"] is False
    assert response.status in ("completed", "incomplete")
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
    assert response.metadata == {"a": "b"} and response.instructions == "Be brief."
    chat = client.chat.completions.create(
        model=smol, temperature=0, max_tokens=30,
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is gravity?"}],
    )
    assert response.output_text == chat.choices[0].message.content


def test_a_response_is_told_event_by_event(client, smol):
    wanted = {"model": smol, "input": [{"role": "user", "content": [{"type": "input_text", "text": "Hi!"}]}], "temperature": 0, "max_output_tokens": 20}
    events = list(client.responses.create(**wanted, stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    kinds = [event.type for event in events]
    assert kinds[:4] == ["response.created", "response.in_progress", "response.output_item.added", "response.content_part.added"]
    assert kinds[-4:-1] == ["response.output_text.done", "response.content_part.done", "response.output_item.done"]
    assert kinds[-1] in ("response.completed", "response.incomplete")
    final = events[-1].response
    told = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert told == final.output_text == client.responses.create(**wanted).output_text
    with client.responses.stream(**wanted) as stream:
        assert stream.get_final_response() if kinds[-1] == "response.completed" else list(stream)


@pytest.mark.parametrize(
    "more", [{"store": True}, {"previous_response_id": "resp_1"}, {"background": True}, {"truncation": "auto"}, {"max_tool_calls": 2}, {"reasoning": {"effort": "low"}}, {"include": ["file_search_call.results"]}, {"conversation": "c"}]
)
def test_responses_refuse_what_they_do_not_honour(client, smol, more):
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(**{"model": smol, "input": "x"} | more)
    assert caught.value.param in more
