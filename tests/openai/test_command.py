"""`meuse chat`, as a person and as a program use it."""

import json
import signal
import subprocess
import time

from conftest import BINARY, environment


def test_one_question_one_answer(server, client, smol):
    done = server.command("chat", smol, "What", "is", "gravity?", "--temperature", "0", "--max-tokens", "20")
    messages = [{"role": "user", "content": "What is gravity?"}]
    answer = client.chat.completions.create(model=smol, messages=messages, temperature=0, max_tokens=20)
    assert done.stdout == answer.choices[0].message.content + "\n"
    told = json.loads(server.command("chat", smol, "What is gravity?", "--temperature", "0", "--max-tokens", "20", "--json").stdout)
    assert told["content"] == answer.choices[0].message.content
    assert told["usage"]["completion_tokens"] == 20 and told["finish_reason"] == "length"


def test_what_was_said_is_remembered(server, smol):
    done = server.command("chat", smol, "--json", "--temperature", "0", "--max-tokens", "8", "--system", "Be kind.", stdin="Hello\n\nAnd again\n")
    first, second = map(json.loads, done.stdout.splitlines())
    assert second["usage"]["prompt_tokens"] > first["usage"]["prompt_tokens"] + first["usage"]["completion_tokens"]


def test_an_unknown_model_is_an_error(server, smol):
    for more in ([], ["hello"]):
        assert "nothing" in server.command("chat", "nothing", *more, code=1).stderr


def test_ctrl_c_stops_the_answer_and_not_the_program(server, smol):
    env = environment() | {"MEUSE_URL": server.url, "MEUSE_API_KEY": server.key}
    chat = subprocess.Popen(
        [BINARY, "chat", smol, "--max-tokens", "4000", "--temperature", "1.5"],
        env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )
    try:
        chat.stdin.write("Write a very long story, of a thousand words or more.\n")
        chat.stdin.flush()
        assert chat.stdout.read(1), "it answers"
        chat.send_signal(signal.SIGINT)
        deadline = time.monotonic() + 20
        while server.figure("num_requests_running", smol) > 0:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert chat.poll() is None, "it still runs"
        before = server.figure("e2e_request_latency_seconds_count", smol)
        chat.stdin.write("Say hi.\n")
        chat.stdin.flush()
        while server.figure("num_requests_running", smol) == 0 and server.figure("e2e_request_latency_seconds_count", smol) == before:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        chat.send_signal(signal.SIGINT)
        chat.stdin.close()
        chat.stdin = None
        chat.communicate(timeout=60)
        assert chat.returncode == 0
    finally:
        chat.kill()
        chat.wait()
