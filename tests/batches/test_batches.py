"""Files and batches as the `openai` library sees them."""

import json
import time

import openai
import pytest

from conftest import COMPLETIONS, MODEL, begin, line, outcomes, text, until, upload

CHAT = "/v1/chat/completions"
RESPONSES = "/v1/responses"


def says(content: str) -> list[dict]:
    return [{"role": "user", "content": content}]


def test_each_line_is_answered_as_online(client):
    asked = {f"chat-{n}": says(f"What comes after {n}?") for n in range(5)}
    lines = [line(name, CHAT, messages=said, max_tokens=6, temperature=0) for name, said in asked.items()]
    lines.insert(2, line("wrong", CHAT, messages=says("x"), max_tokens=-1))
    lines.insert(4, line("unknown", CHAT, messages=says("x"), frobnicate=1))
    batch = begin(client, text(lines), CHAT, metadata={"for": "a test"})
    assert (batch.object, batch.status, batch.endpoint) == ("batch", "validating", CHAT)
    assert batch.expires_at - batch.created_at == 24 * 60 * 60

    done = until(client, batch)
    assert (done.status, done.errors, done.metadata) == ("completed", None, {"for": "a test"})
    assert done.created_at <= done.in_progress_at <= done.finalizing_at <= done.completed_at
    answers, errors = outcomes(client, done)
    assert list(answers) == list(asked), "in the order of the lines"
    for name, said in asked.items():
        outcome = answers[name]
        assert outcome["id"].startswith("batch_req_") and outcome["error"] is None
        assert outcome["response"]["status_code"] == 200 and outcome["response"]["request_id"]
        online = client.chat.completions.create(model=MODEL, messages=said, max_tokens=6, temperature=0)
        body = openai.types.chat.ChatCompletion.model_validate(outcome["response"]["body"])
        assert body.choices == online.choices and body.usage.completion_tokens == online.usage.completion_tokens
    assert errors.keys() == {"wrong", "unknown"}
    for name, field in (("wrong", "max_tokens"), ("unknown", "frobnicate")):
        response = errors[name]["response"]
        assert response["status_code"] == 400 and response["body"]["error"]["param"] == field
    output = client.files.retrieve(done.output_file_id)
    assert output.purpose == "batch_output" and output.bytes == len(client.files.content(output.id).content)


@pytest.mark.parametrize(
    "endpoint, body, kind",
    [
        (COMPLETIONS, {"prompt": ["One", "Two"], "max_tokens": 2}, "text_completion"),
        (RESPONSES, {"input": "Hello", "max_output_tokens": 4}, "response"),
    ],
)
def test_other_endpoints(client, endpoint, body, kind):
    done = until(client, begin(client, text([line("one", endpoint, **body)]), endpoint))
    answers, errors = outcomes(client, done)
    assert not errors and answers["one"]["response"]["body"]["object"] == kind


GOOD = line("good", prompt="x", max_tokens=1)


@pytest.mark.parametrize(
    "content, code, at",
    [
        (text([GOOD]) + b"{\n", "invalid_json_line", 2),
        (text([GOOD]) + b'{"custom_id": "\xff\xfe"}\n', "invalid_json_line", 2),
        (text([GOOD, GOOD]), "duplicate_custom_id", 2),
        (text([GOOD, line("b", CHAT, messages=says("x"))]), "url_mismatch", 2),
        (text([GOOD, line("b", method="GET", prompt="x")]), "invalid_request", 2),
        (text([GOOD, line("b", prompt="x", stream=True)]), "invalid_request", 2),
        (text([GOOD, line("b", prompt="x" * (5 << 20))]), "invalid_request", 2),
        (text([GOOD, line("b", prompt="x") | {"body": {"model": "other", "prompt": "x"}}]), "model_mismatch", 2),
        (text([line("a", prompt="x") | {"body": {"model": "nobody", "prompt": "x"}}]), "model_not_found", 1),
        (b"\n\n", "empty_batch", None),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_faulty_file_is_refused_with_its_lines(client, content, code, at):
    failed = until(client, begin(client, content))
    assert failed.status == "failed" and failed.failed_at
    assert [(fault.code, fault.line) for fault in failed.errors.data] == [(code, at)]
    assert not failed.output_file_id and not failed.error_file_id and failed.request_counts.total == 0


def many(count: int) -> bytes:
    return text([line(str(n), prompt=f"Once upon a time {n}", max_tokens=48) for n in range(count)])


def test_a_cancelled_batch_keeps_what_it_has(client):
    batch = begin(client, many(1500))
    until(client, batch, lambda batch: batch.request_counts.completed > 0)
    stopping = client.batches.cancel(batch.id)
    assert stopping.status in ("cancelling", "cancelled") and stopping.cancelling_at
    done = until(client, batch)
    assert done.status == "cancelled" and done.cancelled_at
    answers, errors = outcomes(client, done)
    assert answers and len(answers) + len(errors) == 1500
    assert {outcome["error"]["code"] for outcome in errors.values()} == {"batch_cancelled"}
    assert all(outcome["response"] is None for outcome in errors.values())


def test_what_is_not_answered_in_time_expires(client):
    done = until(client, begin(client, many(1500), window="3s"))
    assert done.status == "expired" and done.expired_at
    answers, errors = outcomes(client, done)
    assert len(answers) + len(errors) == 1500
    assert {outcome["error"]["code"] for outcome in errors.values()} == {"batch_expired"}


def test_a_file_is_not_deleted_under_a_batch(client):
    batch = begin(client, many(500))
    with pytest.raises(openai.ConflictError):
        client.files.delete(batch.input_file_id)
    client.batches.cancel(batch.id)
    until(client, batch)
    assert client.files.delete(batch.input_file_id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.content(batch.input_file_id)


def test_files_are_listed_by_pages(client):
    files = [upload(client, b"{}\n" * (n + 1), f"ä {n}.jsonl") for n in range(5)]
    newest = client.files.list(limit=2)
    assert [file.id for file in newest.data] == [files[4].id, files[3].id] and newest.has_more
    listed = [file.id for file in client.files.list(limit=2, order="asc", purpose="batch")]
    assert [name for name in listed if name in {file.id for file in files}] == [file.id for file in files]
    assert not [file for file in client.files.list(purpose="batch_output") if file.purpose != "batch_output"]
    found = client.files.retrieve(files[2].id)
    assert (found.filename, found.bytes, found.status) == ("ä 2.jsonl", 9, "processed")
    assert client.files.content(found.id).content == b"{}\n" * 3
    with pytest.raises(openai.BadRequestError):
        client.files.list(after="file-1")


def test_batches_are_listed_by_pages(client):
    made = [until(client, begin(client, text([GOOD]))).id for _ in range(3)]
    assert [batch.id for batch in client.batches.list(limit=2).data] == made[:0:-1]
    following = client.batches.list(limit=1, after=made[1])
    assert [batch.id for batch in following.data] == made[:1]


def test_what_is_not_honoured_is_refused_by_name(client):
    file = upload(client, text([GOOD]))
    for refused, field in (
        ({"endpoint": "/v1/moderations"}, "endpoint"),
        ({"completion_window": "48h"}, "completion_window"),
        ({"input_file_id": "file-1"}, "input_file_id"),
        ({"metadata": {"a": "x" * 600}}, "metadata"),
        ({"extra_body": {"output_expires_after": {"anchor": "created_at", "seconds": 3600}}}, "output_expires_after"),
    ):
        options = {"input_file_id": file.id, "endpoint": COMPLETIONS, "completion_window": "24h"} | refused
        with pytest.raises(openai.APIStatusError) as caught:
            client.batches.create(**options)
        assert caught.value.status_code in (400, 404) and caught.value.body["param"] == field
    with pytest.raises(openai.BadRequestError, match="purpose"):
        client.files.create(file=("a.jsonl", b"{}"), purpose="fine-tune")
    with pytest.raises(openai.BadRequestError, match="expires_after"):
        client.files.create(
            file=("a.jsonl", b"{}"), purpose="batch", expires_after={"anchor": "created_at", "seconds": 3600}
        )


def test_another_project_sees_nothing(server, client):
    batch = begin(client, text([GOOD]))
    other = server.client(server.new_key("admin", "other"))
    assert not list(other.files.list()) and not list(other.batches.list())
    for ask in (
        lambda: other.files.retrieve(batch.input_file_id),
        lambda: other.files.content(batch.input_file_id),
        lambda: other.files.delete(batch.input_file_id),
        lambda: other.batches.retrieve(batch.id),
        lambda: other.batches.cancel(batch.id),
        lambda: other.batches.create(
            input_file_id=batch.input_file_id, endpoint=COMPLETIONS, completion_window="24h"
        ),
    ):
        with pytest.raises(openai.NotFoundError):
            ask()
    assert until(client, batch).status == "completed"


def test_roles_are_checked(server, client):
    batch = until(client, begin(client, text([GOOD])))
    viewer = server.client(server.new_key("viewer"))
    assert viewer.files.retrieve(batch.output_file_id).bytes and viewer.batches.retrieve(batch.id)
    deployer = server.client(server.new_key("deployer"))
    assert deployer.files.content(batch.output_file_id).text
    for ask in (
        lambda: viewer.files.content(batch.output_file_id),
        lambda: upload(viewer, b"{}"),
        lambda: viewer.files.delete(batch.input_file_id),
        lambda: viewer.batches.cancel(batch.id),
        lambda: viewer.batches.create(
            input_file_id=batch.input_file_id, endpoint=COMPLETIONS, completion_window="24h"
        ),
    ):
        with pytest.raises(openai.PermissionDeniedError):
            ask()


def test_interactive_answers_come_while_a_batch_runs(client):
    batch = begin(client, many(300))
    until(client, batch, lambda batch: batch.status == "in_progress")
    begun = time.monotonic()
    client.chat.completions.create(model=MODEL, messages=says("Hello"), max_tokens=4)
    took = time.monotonic() - begun
    standing = client.batches.cancel(batch.id)
    assert standing.request_counts.completed < 300 and took < 10, json.dumps({"seconds": took})
    until(client, batch)
