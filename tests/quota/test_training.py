"""What jobs take: minutes of training against a limit, and seconds and rows in the ledger, once each through kills."""

import math
import time

from conftest import JOB_SECONDS, LONG, PROJECT, SPECIFICATION, jobs, state_of, train, until, used

ROWS = 2_000_000


def test_a_training_is_stopped_at_the_limit_and_says_so(own, tmp_path, rows):
    limit = own.json("quota", "set", f"projects/{PROJECT}", "--training-minutes", 1)
    assert (limit["trainingMinutes"], limit["trainedSecondsThisMonth"]) == (1, 0)
    # What a training takes that is cancelled is counted, too.
    train(own, tmp_path, rows, "first", LONG, "--no-wait")
    until(lambda: state_of(own, "first") == "PIPELINE_STATE_RUNNING")
    time.sleep(2)
    [first] = jobs(own, "trainingPipelines")
    own.ask("POST", f"/v1/{first['name']}:cancel")
    until(lambda: state_of(own, "first") == "PIPELINE_STATE_CANCELLED")
    taken = used(own)["first"]["trainingSeconds"]
    assert 2 <= taken <= 30
    began = time.monotonic()
    for name in ("second", "third"):
        train(own, tmp_path, rows, name, LONG, "--no-wait")
    for name in ("second", "third"):
        until(lambda: state_of(own, name) == "PIPELINE_STATE_FAILED")
    went = time.monotonic() - began
    assert (60 - taken) / 2 - 3 <= went <= (60 - taken) / 2 + 15, (taken, went)
    errors = [job["error"] for job in jobs(own, "trainingPipelines") if job["state"] == "PIPELINE_STATE_FAILED"]
    assert len(errors) == 2
    for error in errors:
        assert error["code"] == 8  # RESOURCE_EXHAUSTED
        assert "has used up its 1 minutes of training for this month" in error["message"]
    total = sum(row["trainingSeconds"] for row in used(own).values())
    assert 60 <= total <= 63
    # Nothing is left: not even begun, and after a restart neither.
    for _ in range(2):
        assert "has used up" in train(own, tmp_path, rows, "fourth", LONG, code=1).stderr
        assert own.json("quota", "get", f"projects/{PROJECT}")["trainedSecondsThisMonth"] == total
        assert len(jobs(own, "trainingPipelines")) == 3
        own.kill()
        own.start()
    own.command("quota", "set", f"projects/{PROJECT}", "--training-minutes", 2)
    train(own, tmp_path, rows, "fourth", SPECIFICATION)


def test_jobs_are_counted_once_through_kills(own, tmp_path, rows):
    own.command("quota", "price", "topics", "--predictions", "10")
    train(own, tmp_path, rows, "topics", SPECIFICATION.replace("epochs: 1", "epochs: 200"), "--no-wait")
    for _ in range(3):
        time.sleep(0.7)
        own.kill()
        own.start()
    until(lambda: state_of(own, "topics") == "PIPELINE_STATE_SUCCEEDED")
    own.kill()
    own.start()
    [job] = jobs(own, "trainingPipelines")
    seconds = used(own)["topics"]["trainingSeconds"]
    assert 1 <= seconds <= math.ceil(JOB_SECONDS)
    body = {"name": "trains-out"}
    assert own.ask("POST", f"/storage/v1/b?project={PROJECT}", json=body).status_code == 200
    large = tmp_path / "large.csv"
    large.write_text("text,class\n" + "a bee,animal\n" * ROWS)
    own.command(
        "batch", "topics", "--input", large, "--output", "gs://trains-out/x", "--project", PROJECT, "--no-wait"
    )
    predicted = lambda: int(jobs(own, "batchPredictionJobs")[0].get("completionStats", {}).get("successfulCount", 0))  # noqa: E731
    # In the middle of it, with rows that the next process does not do again.
    until(predicted)
    own.kill()
    own.start()
    [batch] = until(
        lambda: [job for job in jobs(own, "batchPredictionJobs") if job["state"] == "JOB_STATE_SUCCEEDED"]
    )
    row = used(own)["topics"]
    assert row["rows"] == int(batch["completionStats"]["successfulCount"]) == ROWS
    assert (row["trainingSeconds"], row["requests"], row["cost"], row["key"]) == (seconds, 0, str(ROWS // 100), "")
    assert own.json("quota", "get", f"projects/{PROJECT}")["spentThisMonth"] == str(ROWS // 100)
    # Jobs that end are counted; forgetting them forgets nothing of it.
    own.ask("DELETE", f"/v1/{batch['name']}")
    own.ask("DELETE", f"/v1/{job['name']}")
    own.kill()
    own.start()
    assert used(own)["topics"] == row
    assert own.json("quota", "get", f"projects/{PROJECT}")["spentThisMonth"] == str(ROWS // 100)
    text = own.command("usage", "--by", "project,model", "--csv", "--only", PROJECT).stdout
    assert text.splitlines()[0] == "project,model,requests,promptTokens,cachedTokens,outputTokens,rows,trainingSeconds,cost"
    assert "(jobs)" in own.command("usage", "--by", "key", "--only", PROJECT).stdout


def test_keys_have_no_such_limits(server, key):
    for flag, value in (("--stored-bytes", "1GiB"), ("--training-minutes", 5)):
        refused = server.command("quota", "set", f"keys/{key.id}", flag, value, code=1)
        assert "limits of projects" in refused.stderr
    server.command("quota", "set", "projects/default", "--stored-bytes", "1 furlong", code=2)
