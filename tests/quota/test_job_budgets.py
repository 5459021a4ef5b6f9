"""What jobs cost: reserved ahead of the work, refused where the budget ends, paid once through kills."""

from decimal import Decimal

import pytest

from conftest import LONG, PROJECT, SPECIFICATION, jobs, state_of, train, until, used

BUCKET = "trains-out"
# Rows that are reserved at a time.
SLICE = 2048


@pytest.fixture
def topics(own, tmp_path, rows):
    """A server with a model whose predictions cost a unit each."""
    train(own, tmp_path, rows, "topics", SPECIFICATION)
    assert own.json("quota", "price", "topics", "--predictions", "1000")["rowsThousand"] == "1000"
    assert own.ask("POST", f"/storage/v1/b?project={PROJECT}", json={"name": BUCKET}).status_code == 200
    return own


def limit(server, budget):
    server.command("quota", "set", f"projects/{PROJECT}", "--monthly-budget", budget)


def spent(server) -> Decimal:
    return Decimal(server.json("quota", "get", f"projects/{PROJECT}")["spentThisMonth"])


def batch(server, tmp_path, count: int, *flags, code: int = 0):
    file = tmp_path / "batch.csv"
    file.write_text("text,class\n" + "a bee,animal\n" * count)
    to = ("--output", f"gs://{BUCKET}/x", "--project", PROJECT)
    return server.command("batch", "topics", "--input", file, *to, *flags, code=code)


def predicted(server) -> int:
    return used(server)["topics"]["rows"]


def test_a_batch_ends_where_the_budget_does_and_what_it_did_stays_paid(topics, tmp_path):
    limit(topics, 8000)
    assert f"project {PROJECT} has used up its budget of 8000" in batch(topics, tmp_path, 20_000, code=1).stderr
    [job] = jobs(topics, "batchPredictionJobs")
    assert (job["state"], job["error"]["code"]) == ("JOB_STATE_FAILED", 8)  # RESOURCE_EXHAUSTED
    assert 8000 - SLICE < predicted(topics) <= 8000
    assert spent(topics) == predicted(topics) == Decimal(used(topics)["topics"]["cost"])
    assert topics.ask("GET", f"/storage/v1/b/{BUCKET}/o").json()["items"] == []
    # What was reserved and not used is had again.
    left = 8000 - predicted(topics)
    batch(topics, tmp_path, left)
    assert spent(topics) == 8000
    # Not even begun.
    assert "has used up its budget" in batch(topics, tmp_path, 1, code=1).stderr
    assert len(jobs(topics, "batchPredictionJobs")) == 2
    limit(topics, 8001)
    batch(topics, tmp_path, 1)


def test_a_batch_is_paid_as_it_goes_and_once_through_kills(topics, tmp_path):
    limit(topics, 2_200_000)
    batch(topics, tmp_path, 2_500_000, "--no-wait")
    before = 0
    for _ in range(2):
        # While it runs, and right after the kill, before anything is done again.
        before = until(lambda: (now := spent(topics)) > before and now)
        topics.kill()
        topics.start()
        assert spent(topics) >= before
    [job] = until(lambda: [job for job in jobs(topics, "batchPredictionJobs") if job["state"].endswith("FAILED")])
    assert "has used up its budget" in job["error"]["message"]
    assert 2_200_000 - SLICE < predicted(topics) <= 2_200_000
    assert spent(topics) == predicted(topics)


def test_training_costs_what_it_takes_in_every_attempt(own, tmp_path, rows):
    price = own.json("quota", "price", "*", "--training", "60")
    assert price["trainingMinute"] == "60"
    assert "TRAINING/MINUTE" in own.command("quota", "prices").stdout
    seconds = lambda: used(own).get("long", {}).get("trainingSeconds", 0)  # noqa: E731
    train(own, tmp_path, rows, "long", LONG, "--no-wait")
    before = until(seconds)
    own.kill()
    own.start()
    assert seconds() >= before
    before = until(lambda: (now := seconds()) >= before + 2 and now)
    # The server is stopped in good order: not even the last two seconds are lost.
    own.stop()
    own.start()
    until(lambda: seconds() >= before + 2)
    limit(own, seconds() + 6)
    until(lambda: state_of(own, "long") == "PIPELINE_STATE_FAILED")
    [job] = jobs(own, "trainingPipelines")
    assert job["error"]["code"] == 8 and "has used up its budget" in job["error"]["message"]
    budget = Decimal(own.json("quota", "get", f"projects/{PROJECT}")["monthlyBudget"])
    # A step that was begun is ended.
    assert budget <= seconds() <= budget + 2
    assert spent(own) == seconds() == Decimal(used(own)["long"]["cost"])
    assert "has used up its budget" in train(own, tmp_path, rows, "more", LONG, code=1).stderr


def test_an_evaluation_pays_the_rows_of_each_model_that_it_asks(topics, tmp_path, rows):
    train(topics, tmp_path, rows, "topics", SPECIFICATION)
    train(topics, tmp_path, rows, "other", SPECIFICATION)
    topics.command("quota", "price", "other", "--predictions", "2000")
    data = tmp_path / "heldout.csv"
    data.write_text("text,class\n" + "a bee,animal\na rose,plant\n" * 20)
    evaluate = lambda *what, code=0: topics.command(  # noqa: E731
        "evaluate", *what, "--data", data, "--target", "class", "--project", PROJECT, code=code
    )
    evaluate("topics")
    assert (predicted(topics), spent(topics)) == (40, 40)
    evaluate("topics@2", "--against", "topics@1")
    assert (predicted(topics), spent(topics)) == (120, 120)
    evaluate("topics", "--against", "other")
    assert (predicted(topics), used(topics)["other"]["rows"], spent(topics)) == (160, 40, 240)
    limit(topics, 279)
    assert "has used up its budget" in evaluate("topics", code=1).stderr
    assert spent(topics) == 240
    limit(topics, 240)
    assert "has used up its budget" in evaluate("topics", code=1).stderr
    limit(topics, 280)
    evaluate("topics")
    assert spent(topics) == 280
    topics.kill()
    topics.start()
    assert (predicted(topics), spent(topics)) == (200, 280)
