"""Every command on a running server: what it prints, and that it did what it says."""

import csv
import json

import pytest
from conftest import DATA, Cli

BEE = "a small striped insect that lives in a hive and makes honey"


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_train_shows_epochs_and_registers(cli, model):
    done = cli.run("train", DATA / "train.csv", "--name", "fresh", "--label", "class", "--text", "text", "--epochs", 2)
    assert "Registered fresh version 1" in done.stdout
    assert "epoch  1/2" in done.stderr and "epoch  2/2" in done.stderr
    assert "loss" in done.stderr and "accuracy" in done.stderr
    job = cli.json("train", DATA / "train.csv", "--name", "fresh", "--label", "class", "--text", "text", "--epochs", 2)
    assert job["state"] == "PIPELINE_STATE_SUCCEEDED"
    assert [v["versionId"] for v in cli.json("models", "fresh")["models"]] in (["1", "2"], ["2", "1"])


def test_train_by_yaml_and_by_keras(cli, tmp_path):
    spec = tmp_path / "spec.yaml"
    spec.write_text(
        "label: class\nfeatures: [{text: text, width: 100}]\nlayers:\n"
        "  - {dense: 64, activation: relu}\n  - {dense: labels, activation: softmax}\nepochs: 1\n"
    )
    assert "version 1" in cli.run("train", DATA / "train.csv", "--name", "by-yaml", "--spec", spec).stdout
    dense = lambda units, activation: {"class_name": "Dense", "config": {"units": units, "activation": activation}}
    keras = tmp_path / "keras.json"
    keras.write_text(
        json.dumps({"class_name": "Sequential", "config": {"name": "s", "layers": [dense(32, "relu"), dense(10, "softmax")]}})
    )
    done = cli.run(
        "train", DATA / "train.csv", "--name", "by-keras", "--spec", keras, "--label", "class", "--text", "text", "--epochs", 1
    )
    assert "version 1" in done.stdout


def test_train_without_waiting(cli):
    done = cli.run(
        "train", DATA / "train.csv", "--name", "later", "--label", "class", "--text", "text", "--epochs", 1, "--no-wait"
    )
    job = done.stderr.split("meuse jobs ")[1].split()[0]
    cli.run("jobs", job, "--watch")
    assert cli.json("jobs", job)["jobs"][0]["state"] == "PIPELINE_STATE_SUCCEEDED"


def test_models(cli, model):
    table = cli.run("models").stdout
    assert "MODEL" in table and "nouns" in table
    versions = cli.run("models", "nouns").stdout
    assert "nouns 90 %" in versions and "nouns 10 %" in versions and "default" in versions
    text = cli.error("models", "absent")
    assert "no model called absent" in text and "meuse models" in text
    assert "no version 9" in cli.error("models", "nouns@9")


def test_endpoints(cli, model):
    table = cli.run("endpoints", "nouns").stdout
    assert "90 %" in table and "10 %" in table
    endpoint = cli.json("endpoints", "nouns")["endpoints"][0]
    assert sorted(endpoint["trafficSplit"].values()) == [10, 90]
    assert "no endpoint" in cli.error("endpoints", "absent")


def test_traffic_is_shifted_without_deploying_again(cli, model):
    before = cli.json("endpoints", model)["endpoints"][0]["deployedModels"]
    endpoint = cli.json("deploy", "nouns@2", "--traffic", 50)
    assert sorted(endpoint["trafficSplit"].values()) == [50, 50]
    assert [d["id"] for d in endpoint["deployedModels"]] == [d["id"] for d in before]
    endpoint = cli.json("deploy", "nouns@2", "--traffic", 10)
    assert sorted(endpoint["trafficSplit"].values()) == [10, 90]


def test_deploy_and_undeploy(cli, model):
    cli.run("deploy", "nouns@1", "--endpoint", "spare")
    assert "leave --traffic out" in cli.error("deploy", "nouns@1", "--endpoint", "spare", "--traffic", 10, code=2)
    cli.run("deploy", "nouns@2", "--endpoint", "spare")
    assert sorted(cli.json("endpoints", "spare")["endpoints"][0]["trafficSplit"].values())[-1] == 100
    cli.run("undeploy", "nouns@2", "--endpoint", "spare")
    cli.run("undeploy", "nouns", "--endpoint", "spare")
    assert "nothing deployed" in cli.run("endpoints", "spare").stdout
    assert "not deployed at spare" in cli.error("undeploy", "nouns", "--endpoint", "spare")
    assert cli.error("predict", "spare", "text")


def test_predict_in_every_way(cli, model, tmp_path):
    done = cli.run("predict", model, BEE)
    assert done.stdout.splitlines()[0].split() == ["LABEL", "SCORE", "INSTANCE"]
    reply = cli.json("predict", model, BEE, "the capital of France")
    assert len(reply["predictions"]) == 2
    assert set(reply["predictions"][0]) == {"label", "classes", "scores"}
    assert abs(sum(reply["predictions"][0]["scores"]) - 1) < 1e-4
    assert reply["modelVersionId"] in ("1", "2")
    lines = cli.json("predict", model, stdin=f"{BEE}\n\nthe capital of France\n")
    assert len(lines["predictions"]) == 2
    assert cli.json("predict", model, "--instance", json.dumps(BEE))["predictions"]
    (tmp_path / "some.jsonl").write_text(json.dumps(BEE) + "\n" + json.dumps({"text": BEE}) + "\n")
    one, two = cli.json("predict", model, "--file", tmp_path / "some.jsonl")["predictions"]
    # The two may come from two versions; each is a distribution over the same classes.
    assert one["classes"] == two["classes"]
    found = cli.json("predict", model, "--file", DATA / "heldout.csv")["predictions"]
    truth = rows(DATA / "heldout.csv")
    assert len(found) == len(truth) == 1000
    right = sum(p["label"] == t["class"] for p, t in zip(found, truth))
    assert right > 500


def test_predict_says_what_is_wrong(cli, model):
    assert "no endpoint or model called absent" in cli.error("predict", "absent", "text")
    assert "nothing to predict" in cli.error("predict", model, code=2)
    cli.run("train", DATA / "train.csv", "--name", "idle", "--label", "class", "--text", "text", "--epochs", 1)
    assert "meuse deploy idle" in cli.error("predict", "idle", "text")
    assert cli.error("predict", model, "--instance", "[1, 2]").strip()


def test_batch_of_a_file_into_a_directory(cli, model, tmp_path):
    done = cli.run("batch", model, "--input", DATA / "heldout.csv", "--output", tmp_path / "out")
    assert "Predicted 1,000 rows" in done.stdout
    written = [r for path in sorted((tmp_path / "out").glob("prediction.results-*")) for r in rows(path)]
    assert len(written) == 1000


def test_batch_of_a_bucket_into_a_bucket(cli, model, tmp_path):
    (tmp_path / "two.jsonl").write_text(json.dumps(BEE) + "\n" + json.dumps(BEE) + "\n")
    job = cli.json("batch", "nouns@1", "--input", tmp_path / "two.jsonl", "--output", "gs://meuse-results/mine")
    assert job["state"] == "JOB_STATE_SUCCEEDED"
    assert job["outputInfo"]["gcsOutputDirectory"].startswith("gs://meuse-results/mine")
    assert int(job["completionStats"]["successfulCount"]) == 2
    text = cli.error("batch", model, "--input", "gs://absent-bucket/x.csv", "--output", "gs://meuse-results/mine")
    assert "absent-bucket" in text


def test_evaluate(cli, model):
    done = cli.run("evaluate", "nouns@1", "--data", DATA / "heldout.csv", "--target", "class")
    assert "nouns version 1" in done.stdout and "accuracy" in done.stdout
    assert "animal" in done.stdout and "RECALL" in done.stdout
    made = cli.json("evaluate", "nouns@1", "--data", DATA / "heldout.csv", "--target", "class", "--slice-by", "class")
    assert "/evaluations/" in made["name"] and made["metrics"]
    assert len(made["slices"]) == 10
    text = cli.error("evaluate", model, "--data", DATA / "heldout.csv", "--target", "absent")
    assert "absent" in text


def test_evaluate_against_another_version(cli, model):
    args = ("evaluate", "nouns@2", "--against", "nouns@1", "--data", DATA / "heldout.csv", "--label", "class")
    made = cli.json(*args)
    found = made["metadata"]["comparison"]
    assert found["rowCount"] == 1000 and found["against"].endswith("@1")
    accuracy = found["figures"][0]
    assert accuracy["value"] == made["metrics"]["accuracy"]
    first = cli.json("evaluate", "nouns@1", "--data", DATA / "heldout.csv", "--label", "class")
    assert accuracy["against"] == first["metrics"]["accuracy"]
    assert accuracy["interval"]["low"] <= accuracy["difference"] <= accuracy["interval"]["high"]
    done = cli.run(*args).stdout
    assert "@2" in done and "@1" in done and "95 % INTERVAL" in done
    says = {"undecided": "no difference can be told from 1,000 rows", "better": "@2 is better", "worse": "@1 is better"}
    assert says[found["verdict"]] in done
    assert "itself" in cli.error("evaluate", "nouns@1", "--against", "nouns@1", "--data", DATA / "heldout.csv")
    assert "absent" in cli.error("evaluate", "nouns@1", "--against", "absent", "--data", DATA / "heldout.csv")


@pytest.mark.parametrize("method", ["shapley", "integrated-gradients"])
def test_explain_adds_up(cli, model, method):
    reply = cli.json("explain", model, BEE, "--method", method)
    attribution = reply["explanations"][0]["attributions"][0]
    numbers, tokens = (attribution["featureAttributions"][name] for name in ("text", "text_tokens"))
    assert len(numbers) == len(tokens) and "honey" in tokens
    gap = attribution["instanceOutputValue"] - attribution["baselineOutputValue"]
    assert abs(sum(numbers) - gap) < 0.1
    done = cli.run("explain", model, BEE, "--method", method)
    assert attribution["outputDisplayName"] == "animal" and done.stdout.startswith("animal: ")
    assert "[+" in done.stdout and "approximation error" in done.stdout


def test_explain_of_a_chosen_label(cli, model):
    attribution = cli.json("explain", model, BEE, "--label", "food")["explanations"][0]["attributions"][0]
    assert attribution["outputDisplayName"] == "food"
    text = cli.error("explain", model, BEE, "--label", "fish")
    assert "no class `fish`" in text and "`animal`" in text


def test_jobs(cli, model):
    table = cli.run("jobs").stdout
    assert "train" in table and "succeeded" in table
    jobs = cli.json("jobs")["jobs"]
    finished = jobs[0]["name"].rsplit("/", 1)[-1]
    assert cli.json("jobs", finished)["jobs"][0]["name"] == jobs[0]["name"]
    assert "no job absent" in cli.error("jobs", "absent")


def test_a_failed_job_says_why(cli, tmp_path):
    (tmp_path / "one.csv").write_text("text,class\n" + "same,only\n" * 50)
    text = cli.error("train", tmp_path / "one.csv", "--name", "hopeless", "--label", "class", "--text", "text")
    assert "train job" in text and "failed" in text


def test_cancel(cli):
    done = cli.run(
        "train", DATA / "train.csv", "--name", "long", "--label", "class", "--text", "text", "--epochs", 500, "--no-wait"
    )
    job = done.stderr.split("meuse jobs ")[1].split()[0]
    assert "Asked" in cli.run("jobs", job, "--cancel").stderr
    assert "cancelled" in cli.error("jobs", job, "--watch")


def test_keys(cli, server, tmp_path):
    key = cli.run("keys", "create", "--role", "viewer", "--expires", "1h").stdout.strip()
    stranger = Cli(tmp_path, MEUSE_URL=server.url, MEUSE_API_KEY=key)
    assert stranger.run("models").returncode == 0
    assert "role" in stranger.error("keys", "create", "--role", "viewer")
    listed = cli.json("keys", "list")["keys"]
    mine = next(k for k in listed if k["role"] == "viewer")
    assert key not in json.dumps(listed)
    cli.run("keys", "delete", mine["id"])
    assert "refused the key" in stranger.error("models")
    made = cli.json("keys", "create", "--project", "other", "--role", "deployer")
    assert made["key"] and made["project"] == "other" and made["role"] == "deployer"
    other = Cli(tmp_path, MEUSE_URL=server.url, MEUSE_API_KEY=made["key"])
    assert "project" in other.error("models")
    assert other.json("models", "--project", "other") == {"models": []}
    assert "refused the key" in Cli(tmp_path, MEUSE_URL=server.url, MEUSE_API_KEY="wrong").error("models")
    assert "--key" in Cli(tmp_path, MEUSE_URL=server.url).error("models")


def test_import(cli, tmp_path):
    onnx = pytest.importorskip("onnx")
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 3])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 3])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "relu.onnx")
    assert "Registered relu version 1" in cli.run("import", tmp_path / "relu.onnx", "--name", "relu").stdout
    cli.run("import", tmp_path, "--name", "relu")
    cli.run("deploy", "relu@2")
    assert cli.json("predict", "relu", "--instance", "[-1, 2, 3]")["predictions"] == [[0, 2, 3]]
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "model.pkl").write_bytes(b"\x80\x04.")
    text = cli.error("import", tmp_path / "bad", "--name", "bad")
    assert "model.pkl" in text or "pickle" in text
    assert "there is no file" in cli.error("import", tmp_path / "absent.onnx", "--name", "absent")


def test_doctor(cli, server):
    done = cli.run("doctor")
    assert f"ready at {server.url}" in done.stdout and "✓ key" in done.stdout and "✗" not in done.stdout
    assert cli.json("doctor")["healthy"] is True


def test_output_survives_a_closed_pipe(cli, model):
    import subprocess

    from conftest import BIN

    listing = subprocess.Popen([BIN, "models"], cwd=cli.home, env=cli.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    listing.stdout.close()
    assert b"panicked" not in listing.stderr.read()
    assert listing.wait(timeout=60) == 0
