"""Vertex AI's generation with the real libraries: `google-genai`, and the generated client of `google-cloud-aiplatform`."""

import json

import pytest
from google import genai
from google.api_core import exceptions
from google.cloud import aiplatform_v1
from google.genai import errors, types
from google.oauth2.credentials import Credentials

from conftest import ANSWER_SECONDS

PARENT = "projects/default/locations/us-central1"
GRAVITY = "What is gravity? Answer in one sentence."
GREEDY = {"temperature": 0, "max_output_tokens": 40}
WEATHER = {
    "name": "get_weather",
    "description": "The weather in a city now.",
    "parameters": {
        "type": "OBJECT",
        "properties": {"city": {"type": "STRING"}, "unit": {"type": "STRING", "enum": ["celsius", "fahrenheit"]}},
        "required": ["city", "unit"],
    },
}
TOOLS = [{"function_declarations": [WEATHER]}]
ASKED = "What is the weather in Paris, in celsius?"


def client_of(server, key: str | None = None, project: str = "default", **options) -> genai.Client:
    options = {"base_url": server.url, "timeout": ANSWER_SECONDS * 1000} | options
    return genai.Client(
        vertexai=True, project=project, location="us-central1", credentials=Credentials(token=key or server.key),
        http_options=types.HttpOptions(**options),
    )


@pytest.fixture(scope="module")
def client(server) -> genai.Client:
    return client_of(server)


@pytest.fixture(scope="module")
def gapic(server) -> aiplatform_v1.PredictionServiceClient:
    transport = aiplatform_v1.services.prediction_service.transports.PredictionServiceRestTransport
    host = server.url.removeprefix("http://")
    return aiplatform_v1.PredictionServiceClient(
        transport=transport(host=host, credentials=Credentials(token=server.key), url_scheme="http")
    )


def endpoint(model: str) -> str:
    return f"{PARENT}/endpoints/{model}"


def said_by_chat(chat, model, messages, **more):
    return chat.chat.completions.create(model=model, messages=messages, temperature=0, **{"max_tokens": 40} | more)


def merged(chunks) -> dict[int, list]:
    """The parts of each candidate of a stream, neighbouring texts joined, empty ones left out."""
    told: dict[int, list] = {}
    for chunk in chunks:
        for candidate in chunk.candidates or []:
            parts = told.setdefault(candidate.index or 0, [])
            for part in candidate.content.parts:
                if part.function_call:
                    parts.append(part.function_call.model_dump(include={"name", "args"}))
                elif parts and isinstance(parts[-1], str):
                    parts[-1] += part.text
                elif part.text:
                    parts.append(part.text)
    return told


def test_an_answer_is_whole_and_what_a_chat_completion_says(client, chat, smol):
    answer = client.models.generate_content(model=smol, contents=GRAVITY, config=GREEDY)
    same = said_by_chat(chat, smol, [{"role": "user", "content": GRAVITY}])
    assert answer.text == same.choices[0].message.content
    [candidate] = answer.candidates
    assert candidate.content.role == "model"
    assert candidate.finish_reason == {"stop": "STOP", "length": "MAX_TOKENS"}[same.choices[0].finish_reason]
    usage = answer.usage_metadata
    assert (usage.prompt_token_count, usage.candidates_token_count) == (same.usage.prompt_tokens, same.usage.completion_tokens)
    assert usage.total_token_count == same.usage.total_tokens
    assert answer.model_version == "smol@1" and answer.response_id and answer.create_time
    by_endpoint = client.models.generate_content(model=endpoint(smol), contents=GRAVITY, config=GREEDY)
    assert by_endpoint.text == answer.text


def test_a_stream_says_what_the_whole_says(client, smol):
    whole = client.models.generate_content(model=smol, contents=GRAVITY, config=GREEDY)
    chunks = list(client.models.generate_content_stream(model=smol, contents=GRAVITY, config=GREEDY))
    assert len(chunks) > 3 and "".join(chunk.text for chunk in chunks) == whole.text
    assert {chunk.response_id for chunk in chunks} == {chunks[0].response_id}
    assert [chunk.candidates[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1].candidates[0].finish_reason == whole.candidates[0].finish_reason
    told, usage = chunks[-1].usage_metadata, whole.usage_metadata
    assert (told.prompt_token_count, told.candidates_token_count) == (usage.prompt_token_count, usage.candidates_token_count)


def test_a_reply_fits_the_published_description(server, smol):
    body = {
        "contents": [{"role": "user", "parts": [{"text": GRAVITY}]}],
        "generation_config": {"temperature": 0, "max_output_tokens": 5, "response_logprobs": True, "logprobs": 2},
    }
    address = f"v1/{endpoint(smol)}"
    reply = server.post(f"{address}:generateContent", body)
    strict = aiplatform_v1.GenerateContentResponse.from_json(reply.text, ignore_unknown_fields=False)
    listed = server.post(f"{address}:streamGenerateContent", body)
    assert listed.headers["content-type"] == "application/json"
    items = [aiplatform_v1.GenerateContentResponse.from_json(json.dumps(item), ignore_unknown_fields=False) for item in listed.json()]
    text = strict.candidates[0].content.parts[0].text
    assert text and "".join(item.candidates[0].content.parts[0].text for item in items) == text
    events = server.post(f"{address}:streamGenerateContent?alt=sse", body)
    assert events.headers["content-type"].startswith("text/event-stream")
    lines = [line for line in events.text.split("\n") if line]
    told = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert "".join(item["candidates"][0]["content"]["parts"][0]["text"] for item in told) == text
    assert server.post(f"{address}:streamGenerateContent?alt=proto", body).status_code == 400


def test_tokens_are_counted_as_they_are_read(client, smol, qwen):
    for model, more in [(smol, {}), (qwen, {"tools": TOOLS})]:
        config = {"system_instruction": "Be brief."} | more
        counted = client.models.count_tokens(model=model, contents=GRAVITY, config=types.CountTokensConfig(**config)).total_tokens
        answer = client.models.generate_content(model=model, contents=GRAVITY, config={"max_output_tokens": 1} | config)
        assert counted == answer.usage_metadata.prompt_token_count


def test_contents_in_all_their_forms(client, chat, smol):
    contents = [
        {"role": "user", "parts": [{"text": "The capital of "}, {"text": "France?"}]},
        {"role": "model", "parts": [{"text": "Paris"}]},
        {"role": "user", "parts": [{"text": "And of Italy?"}]},
    ]
    config = {"system_instruction": "Answer with one word.", "temperature": 0, "max_output_tokens": 5, "labels": {"team": "a"}}
    answer = client.models.generate_content(model=smol, contents=contents, config=config)
    turns = [
        {"role": "system", "content": "Answer with one word."},
        {"role": "user", "content": "The capital of France?"},
        {"role": "assistant", "content": "Paris"},
        {"role": "user", "content": "And of Italy?"},
    ]
    same = said_by_chat(chat, smol, turns, max_tokens=5)
    assert answer.text == same.choices[0].message.content
    assert answer.usage_metadata.prompt_token_count == same.usage.prompt_tokens
    conversation = client.chats.create(model=smol, config={"temperature": 0, "max_output_tokens": 5})
    first = conversation.send_message("The capital of France?").text
    second = conversation.send_message("And of Italy?").text
    turns = [{"role": "user", "content": "The capital of France?"}, {"role": "assistant", "content": first}, turns[3]]
    assert second == said_by_chat(chat, smol, turns, max_tokens=5).choices[0].message.content


def test_an_answer_ends_where_it_should(client, smol):
    counting = "Count from one to ten, with commas."
    free = client.models.generate_content(model=smol, contents=counting, config=GREEDY).text
    stop = free[8:12]
    stopped = client.models.generate_content(model=smol, contents=counting, config=GREEDY | {"stop_sequences": [stop]})
    assert stopped.text == free[: free.index(stop)] and stopped.candidates[0].finish_reason == "STOP"
    short = client.models.generate_content(model=smol, contents=counting, config=GREEDY | {"max_output_tokens": 3})
    assert short.candidates[0].finish_reason == "MAX_TOKENS" and short.usage_metadata.candidates_token_count == 3


def test_sampling_is_honoured(client, smol):
    def drawn(**config):
        config = {"max_output_tokens": 12, "temperature": 1.2} | config
        return client.models.generate_content(model=smol, contents="Invent a name for a river.", config=config)

    assert drawn(seed=1).text == drawn(seed=1).text
    assert len({drawn(seed=seed).text for seed in range(5)}) > 1
    assert drawn(top_k=1).text == drawn(top_p=0).text == drawn(temperature=0).text
    many = drawn(candidate_count=3, seed=7)
    assert [candidate.index for candidate in many.candidates] == [0, 1, 2]
    texts = [candidate.content.parts[0].text for candidate in many.candidates]
    assert len(set(texts)) > 1
    config = {"max_output_tokens": 12, "temperature": 1.2, "candidate_count": 3, "seed": 7}
    chunks = client.models.generate_content_stream(model=smol, contents="Invent a name for a river.", config=config)
    assert merged(chunks) == {place: [text] for place, text in enumerate(texts)}
    repeating = {"contents": "Say: ha ha ha ha ha ha ha ha ha ha", "model": smol}
    free = client.models.generate_content(**repeating, config=GREEDY).text
    assert client.models.generate_content(**repeating, config=GREEDY | {"frequency_penalty": 1.9, "presence_penalty": 1.9}).text != free


def test_log_probabilities(client, chat, smol):
    config = GREEDY | {"max_output_tokens": 6, "response_logprobs": True, "logprobs": 3}
    candidate = client.models.generate_content(model=smol, contents=GRAVITY, config=config).candidates[0]
    same = said_by_chat(chat, smol, [{"role": "user", "content": GRAVITY}], max_tokens=6, logprobs=True, top_logprobs=3)
    places = same.choices[0].logprobs.content
    chosen = candidate.logprobs_result.chosen_candidates
    assert [(place.token, place.log_probability) for place in chosen] == [(place.token, place.logprob) for place in places]
    tops = [[top.token for top in place.candidates] for place in candidate.logprobs_result.top_candidates]
    assert tops == [[top.token for top in place.top_logprobs] for place in places]
    mean = sum(place.logprob for place in places) / len(places)
    assert candidate.avg_logprobs == pytest.approx(mean, rel=1e-5)


def test_answers_keep_a_form(client, smol):
    wanted = {"model": smol, "contents": "Describe a person named Ada, 36 years old, as JSON."}
    config = GREEDY | {"max_output_tokens": 120, "response_mime_type": "application/json"}
    own = {
        "type": "OBJECT", "properties": {"name": {"type": "STRING"}, "age": {"type": "INTEGER"}},
        "required": ["name", "age"], "propertyOrdering": ["name", "age"],
    }
    held = client.models.generate_content(**wanted, config=config | {"response_schema": own})
    assert held.candidates[0].finish_reason == "STOP"
    assert list(json.loads(held.text)) == ["name", "age"] and isinstance(json.loads(held.text)["age"], int)
    own["propertyOrdering"] = ["age", "name"]
    turned = client.models.generate_content(**wanted, config=config | {"response_schema": own})
    assert list(json.loads(turned.text)) == ["age", "name"]
    other = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"], "additionalProperties": False}
    held = client.models.generate_content(**wanted, config=config | {"response_json_schema": other})
    assert isinstance(json.loads(held.text)["age"], int)
    free = client.models.generate_content(**wanted, config=config)
    if free.candidates[0].finish_reason == "STOP":
        assert isinstance(json.loads(free.text), dict | list)


def test_a_call_that_must_come_comes(client, qwen):
    config = {"temperature": 0, "max_output_tokens": 60, "tools": TOOLS}

    def forced(*names):
        calling = {"mode": "ANY", "allowed_function_names": list(names) or None}
        return config | {"tool_config": {"function_calling_config": calling}}

    answer = client.models.generate_content(model=qwen, contents=ASKED, config=forced("get_weather"))
    [call] = answer.function_calls
    assert call.name == "get_weather" and set(call.args) == {"city", "unit"}
    assert call.args["unit"] in ("celsius", "fahrenheit") and answer.candidates[0].finish_reason == "STOP"
    chunks = client.models.generate_content_stream(model=qwen, contents=ASKED, config=forced("get_weather"))
    assert merged(chunks) == {0: [call.model_dump(include={"name", "args"})]}
    any_of = client.models.generate_content(model=qwen, contents=ASKED, config=forced())
    assert any_of.function_calls[0] == call


def test_a_result_goes_back(client, qwen):
    contents = [
        {"role": "user", "parts": [{"text": ASKED}]},
        {"role": "model", "parts": [{"function_call": {"name": "get_weather", "args": {"city": "Paris", "unit": "celsius"}}}]},
        {"role": "user", "parts": [{"function_response": {"name": "get_weather", "response": {"degrees": 31, "sky": "clear"}}}]},
    ]
    config = {"temperature": 0, "max_output_tokens": 60, "tools": TOOLS}
    answer = client.models.generate_content(model=qwen, contents=contents, config=config)
    assert "31" in answer.text


def test_a_function_is_called_for_the_program(client, qwen):
    asked = []

    def get_weather(city: str) -> str:
        """The weather in a city now.

        Args:
            city: The city's name.
        """
        asked.append(city)
        return "31 degrees, clear"

    config = types.GenerateContentConfig(
        temperature=0, max_output_tokens=100, tools=[get_weather],
        automatic_function_calling=types.AutomaticFunctionCallingConfig(maximum_remote_calls=2),
    )
    answer = client.models.generate_content(model=qwen, contents="What is the weather in Paris? Use the tool.", config=config)
    # A small model may answer in words; what it calls is called, and its result is read.
    assert answer.text if not asked else "Paris" in asked[0]


def test_the_generated_client(gapic, client, smol, qwen):
    contents = [{"role": "user", "parts": [{"text": GRAVITY}]}]
    config = {"temperature": 0, "max_output_tokens": 40}
    answer = gapic.generate_content(request={"model": endpoint(smol), "contents": contents, "generation_config": config})
    same = client.models.generate_content(model=smol, contents=GRAVITY, config=GREEDY)
    assert answer.candidates[0].content.parts[0].text == same.text
    assert answer.candidates[0].finish_reason.name == same.candidates[0].finish_reason.name
    chunks = gapic.stream_generate_content(request={"model": endpoint(smol), "contents": contents, "generation_config": config})
    assert "".join(part.text for chunk in chunks for part in chunk.candidates[0].content.parts) == same.text
    forced = {"function_calling_config": {"mode": "ANY"}}
    asked = {
        "model": endpoint(qwen), "contents": [{"role": "user", "parts": [{"text": ASKED}]}], "tools": TOOLS,
        "tool_config": forced, "generation_config": {"temperature": 0, "max_output_tokens": 60},
    }
    call = gapic.generate_content(request=asked).candidates[0].content.parts[0].function_call
    assert call.name == "get_weather" and set(call.args) == {"city", "unit"}


def test_raw_predictions_take_a_chat(server, gapic, chat, smol):
    body = {"messages": [{"role": "user", "content": GRAVITY}], "temperature": 0, "max_tokens": 40}
    same = said_by_chat(chat, smol, body["messages"])
    reply = server.post(f"v1/{endpoint(smol)}:rawPredict", body)
    assert reply.json()["choices"][0]["message"]["content"] == same.choices[0].message.content
    assert reply.headers["x-vertex-ai-model-version-id"] == "1" and reply.headers["x-vertex-ai-deployed-model-id"]
    wrapped = {"content_type": "application/json", "data": json.dumps(body).encode()}
    raw = gapic.raw_predict(request={"endpoint": endpoint(smol), "http_body": wrapped})
    assert json.loads(raw.data)["usage"] == reply.json()["usage"] | {"prompt_tokens_details": json.loads(raw.data)["usage"]["prompt_tokens_details"]}
    # The library of the container's own protocol, at the endpoint.
    stream = server.post(f"v1/{endpoint(smol)}:streamRawPredict", body)
    lines = [line.removeprefix("data: ") for line in stream.text.split("\n") if line]
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks) == same.choices[0].message.content
    pieces = b"".join(piece.data for piece in gapic.stream_raw_predict(request={"endpoint": endpoint(smol), "http_body": wrapped}))
    assert pieces.decode().count("data: ") == len(lines)


def test_anthropics_library_for_vertex(server, smol):
    anthropic = pytest.importorskip("anthropic")
    client = anthropic.AnthropicVertex(
        region="us-central1", project_id="default", access_token=server.key, base_url=f"{server.url}/v1", max_retries=0
    )
    wanted = {"model": smol, "max_tokens": 40, "messages": [{"role": "user", "content": GRAVITY}], "extra_body": {"temperature": 0}}
    message = client.messages.create(**wanted)
    assert message.type == "message" and message.content[0].text
    with client.messages.stream(**wanted) as stream:
        assert stream.get_final_text() == message.content[0].text


def refused(client, code: int, status: str, **wanted):
    with pytest.raises(errors.APIError) as caught:
        client.models.generate_content(**wanted)
    assert (caught.value.code, caught.value.status) == (code, status), caught.value
    return caught.value.message


def test_a_wrong_model_and_a_wrong_key(server, client, smol):
    assert "gemini-9" in refused(client, 404, "NOT_FOUND", model="gemini-9", contents="x")
    refused(client, 404, "NOT_FOUND", model=endpoint("nothing"), contents="x")
    refused(client_of(server, "mk_wrong"), 401, "UNAUTHENTICATED", model=smol, contents="x")
    refused(client_of(server, server.new_key("viewer")), 403, "PERMISSION_DENIED", model=smol, contents="x")
    stranger = server.new_key("invoker", "elsewhere")
    refused(client_of(server, stranger), 403, "PERMISSION_DENIED", model=smol, contents="x")
    refused(client_of(server, stranger, "elsewhere"), 404, "NOT_FOUND", model=smol, contents="x")


BAD = [
    ({"temperature": 3}, "generationConfig.temperature"),
    ({"top_k": 1.5}, "generationConfig.topK"),
    ({"candidate_count": 0}, "generationConfig.candidateCount"),
    ({"max_output_tokens": 100_000}, "generationConfig.maxOutputTokens"),
    ({"stop_sequences": [""]}, "generationConfig.stopSequences"),
    ({"logprobs": 2}, "generationConfig.logprobs"),
    ({"response_mime_type": "text/x.enum"}, "generationConfig.responseMimeType"),
    ({"response_modalities": ["IMAGE"]}, "generationConfig.responseModalities"),
    ({"thinking_config": {"thinking_budget": 100}}, "generationConfig.thinkingConfig"),
    ({"safety_settings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_ONLY_HIGH"}]}, "safetySettings[0].threshold"),
    ({"cached_content": f"{PARENT}/cachedContents/1"}, "cachedContent"),
    ({"tools": [{"google_search": {}}]}, "tools[0].googleSearch"),
    ({"tools": TOOLS}, "tools"),
    ({"tool_config": {"function_calling_config": {"mode": "ANY", "allowed_function_names": ["get_lost"]}}}, "toolConfig.functionCallingConfig"),
]


@pytest.mark.parametrize("config, named", BAD, ids=[f"{i}-{named}" for i, (_, named) in enumerate(BAD)])
def test_what_is_not_honoured_is_named(client, smol, config, named):
    message = refused(client, 400, "INVALID_ARGUMENT", model=smol, contents="x", config={"max_output_tokens": 2} | config)
    assert f"`{named}`" in message


def test_what_asks_for_no_filter_is_taken(client, smol):
    off = [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": threshold} for threshold in ("OFF", "BLOCK_NONE")]
    assert client.models.generate_content(model=smol, contents="x", config={"max_output_tokens": 1, "safety_settings": off}).candidates


BODIES = [
    ({}, "contents"),
    ({"contents": []}, "contents"),
    ({"contents": [{"parts": []}]}, "contents[0].parts"),
    ({"contents": [{"role": "wizard", "parts": [{"text": "x"}]}]}, "contents[0].role"),
    ({"contents": [{"parts": [{"inlineData": {"mimeType": "image/png", "data": ""}}]}]}, "contents[0].parts[0].inlineData"),
    ({"contents": [{"parts": [{"text": "x"}]}, {"role": "model", "parts": [{"text": "y"}]}]}, "contents"),
    ({"contents": [{"parts": [{"text": "x"}]}], "frobnicate": 1}, "frobnicate"),
    ({"contents": [{"parts": [{"text": "x"}]}], "generationConfig": {"frobnicate": 1}}, "generationConfig.frobnicate"),
]


@pytest.mark.parametrize("body, named", BODIES, ids=range(len(BODIES)))
def test_a_wrong_body_is_refused(server, smol, body, named):
    for verb in ("generateContent", "streamGenerateContent"):
        reply = server.post(f"v1/{endpoint(smol)}:{verb}", body)
        assert reply.status_code == 400 and f"`{named}`" in reply.json()["error"]["message"], reply.text


def test_what_does_not_fit_is_refused_and_never_cut(client, smol):
    assert "8192" in refused(client, 400, "INVALID_ARGUMENT", model=smol, contents="river " * 9000)


def test_who_leaves_is_not_answered_further(server, client, smol):
    story = "Write the numbers from one to a thousand, in words."
    stream = client.models.generate_content_stream(model=smol, contents=story, config={"max_output_tokens": 4000, "temperature": 0})
    for _, _ in zip(range(5), stream):
        pass
    assert server.running(smol) >= 1
    stream.close()
    assert server.is_soon_idle(smol)
