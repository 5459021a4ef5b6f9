"""How many answers of a model are computed at once: what the operator said, while the others wait."""

import concurrent.futures
import re

import openai
import pytest

from conftest import Server, model_file

ASKING, TOKENS = 5, 60


@pytest.fixture(scope="module")
def bound(tmp_path_factory):
    """A server of its own: the model is in memory twice, for the endpoint with a bound and the other."""
    server = Server(tmp_path_factory.mktemp("concurrency") / "data")
    server.command("import", model_file("smollm2-135m"), "--name", "smol")
    server.command("deploy", "smol", "--endpoint", "two", "--concurrency", 2)
    server.command("deploy", "smol", "--endpoint", "usual")
    yield server
    assert server.stop() == 0, server.stderr()


def most_at_once(server: Server, endpoint: str) -> tuple[int, int]:
    """The most answers that were ever seen to be under way, and to wait, of several asked for at the same time."""
    [deployed] = server.json("endpoints", endpoint)["endpoints"][0]["deployedModels"]

    def figure(name: str) -> int:
        return int(re.search(rf'^vllm:{name}{{[^}}]*engine="{deployed["id"]}"}} (\d+)$', server.metrics(), re.MULTILINE)[1])

    def ask(seed: int):
        prompt = f"Once upon a time, {seed}"
        return server.client().completions.create(model=endpoint, prompt=prompt, max_tokens=TOKENS, seed=seed)

    running = waiting = 0
    with concurrent.futures.ThreadPoolExecutor(ASKING) as asking:
        answers = [asking.submit(ask, seed) for seed in range(ASKING)]
        while not all(answer.done() for answer in answers):
            running, waiting = max(running, figure("num_requests_running")), max(waiting, figure("num_requests_waiting"))
    assert all(answer.result().usage.completion_tokens > 1 for answer in answers)
    return running, waiting


def test_no_more_at_once_than_the_operator_said(bound):
    running, waiting = most_at_once(bound, "two")
    assert running == 2 and waiting >= 1
    running, _ = most_at_once(bound, "usual")
    assert running > 2


def test_more_answers_in_one_request_are_refused(bound):
    with pytest.raises(openai.BadRequestError, match="2"):
        bound.client().completions.create(model="two", prompt="Once", max_tokens=1, n=3)
    assert len(bound.client().completions.create(model="two", prompt="Once", max_tokens=1, n=2).choices) == 2
