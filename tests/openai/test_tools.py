"""Tools, on a model whose template knows them."""

import json

import openai
import pytest

from conftest import says

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city now.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"enum": ["celsius", "fahrenheit"]}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}
TIME = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}}}
ASKED = says("What is the weather in Paris, in celsius?")


def wanted(model, **more):
    return {"model": model, "messages": ASKED, "tools": [WEATHER], "temperature": 0, "max_tokens": 200} | more


def check(call):
    arguments = json.loads(call.function.arguments)
    assert call.type == "function" and call.id and call.function.name == "get_weather"
    assert set(arguments) == {"city", "unit"} and arguments["unit"] in ("celsius", "fahrenheit")


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_a_call_that_must_come_comes(client, qwen, choice):
    answer = client.chat.completions.create(**wanted(qwen, tool_choice=choice, parallel_tool_calls=False)).choices[0]
    assert answer.finish_reason == "tool_calls" and answer.message.content is None
    [call] = answer.message.tool_calls
    check(call)


def test_calls_are_streamed_as_they_are_whole(client, qwen):
    choice = {"type": "function", "function": {"name": "get_weather"}}
    whole = client.chat.completions.create(**wanted(qwen, tool_choice=choice)).choices[0]
    told, ends, text = {}, [], ""
    for chunk in client.chat.completions.create(**wanted(qwen, tool_choice=choice), stream=True):
        delta = chunk.choices[0].delta
        text += delta.content or ""
        for call in delta.tool_calls or []:
            entry = told.setdefault(call.index, {"name": "", "arguments": ""})
            entry["name"] += call.function.name or ""
            entry["arguments"] += call.function.arguments or ""
        ends += [chunk.choices[0].finish_reason] if chunk.choices[0].finish_reason else []
    assert text == "" and ends == ["tool_calls"]
    assert list(told.values()) == [c.function.model_dump(include={"name", "arguments"}) for c in whole.message.tool_calls]


def test_the_model_chooses(client, qwen):
    answer = client.chat.completions.create(**wanted(qwen, tools=[WEATHER, TIME])).choices[0]
    # A small model may answer in words; what looks like a call must not remain in them.
    if answer.finish_reason == "tool_calls":
        assert {call.function.name for call in answer.message.tool_calls} <= {"get_weather", "get_time"}
        assert all(json.loads(call.function.arguments) is not None for call in answer.message.tool_calls)
    else:
        assert "<tool_call>" not in answer.message.content
    silent = client.chat.completions.create(**wanted(qwen, tool_choice="none", max_tokens=20))
    untold = client.chat.completions.create(model=qwen, messages=ASKED, temperature=0, max_tokens=20)
    assert silent.usage.prompt_tokens == untold.usage.prompt_tokens and not silent.choices[0].message.tool_calls


def test_a_result_goes_back(client, qwen):
    choice = {"type": "function", "function": {"name": "get_weather"}}
    first = client.chat.completions.create(**wanted(qwen, tool_choice=choice)).choices[0].message
    [call] = first.tool_calls
    result = {"role": "tool", "tool_call_id": call.id, "content": '{"degrees": 31, "sky": "clear"}'}
    answer = client.chat.completions.create(
        model=qwen, messages=[*ASKED, first, result], tools=[WEATHER], temperature=0, max_tokens=60
    )
    assert "31" in answer.choices[0].message.content


def test_responses_call_too(client, qwen):
    flat = {"type": "function", **WEATHER["function"], "strict": None}
    wanted = {"model": qwen, "input": ASKED[0]["content"], "tools": [flat], "tool_choice": "required", "temperature": 0, "parallel_tool_calls": False, "max_output_tokens": 200}
    response = client.responses.create(**wanted)
    [call] = response.output
    assert call.type == "function_call" and call.name == "get_weather" and set(json.loads(call.arguments)) == {"city", "unit"}
    events = list(client.responses.create(**wanted, stream=True))
    [done] = [event for event in events if event.type == "response.function_call_arguments.done"]
    assert done.arguments == call.arguments
    result = '{"degrees": 31, "sky": "clear"}'
    follow = [*ASKED, call.model_dump(exclude_none=True), {"type": "function_call_output", "call_id": call.call_id, "output": result}]
    answer = client.responses.create(model=qwen, input=follow, tools=[flat], temperature=0, max_output_tokens=40)
    # The same conversation as a chat.
    made = {"id": call.call_id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
    turns = [*ASKED, {"role": "assistant", "tool_calls": [made]}, {"role": "tool", "tool_call_id": call.call_id, "content": result}]
    chat = client.chat.completions.create(model=qwen, messages=turns, tools=[WEATHER], temperature=0, max_tokens=40)
    assert answer.usage.input_tokens == chat.usage.prompt_tokens
    assert answer.output_text == chat.choices[0].message.content


def test_what_cannot_be_kept_is_said(client, smol, qwen):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(**wanted(smol))
    assert caught.value.param == "tools"
    cases = [
        ({"tool_choice": "sometimes"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "get_lost"}}}, "tool_choice"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
    ]
    for more, param in cases:
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(**wanted(qwen, **more))
        assert caught.value.param == param, more
