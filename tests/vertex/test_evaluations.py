"""Evaluations of numbers and of images, and two versions compared, against scikit-learn, scipy and numpy."""

import csv
import io
import json
import time

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from scipy.stats import binomtest
from sklearn import metrics as reference

from models import FEATURES, SLOPES, linear_onnx, linear_scores, numbers_onnx

LOCAL_IMAGE = "gcr.io/cloud-aiplatform/prediction/sklearn-cpu.1-0:latest"
REGRESSION = "gs://google-cloud-aiplatform/schema/modelevaluation/regression_metrics_1.0.0.yaml"
EXACT = dict(rel=1e-9, abs=1e-12)


def upload(aip, name, paths):
    """One model with a version of each path; its resource name."""
    first = aip.Model.upload(display_name=name, artifact_uri=str(paths[0]), serving_container_image_uri=LOCAL_IMAGE)
    for path in paths[1:]:
        aip.Model.upload(
            parent_model=first.resource_name, artifact_uri=str(path), serving_container_image_uri=LOCAL_IMAGE,
            is_default_version=False,
        )
    return first.resource_name


def evaluate(server, model, **body):
    """The operation when it has ended."""
    made = server.call("POST", f"/v1/{model}:evaluate", json=body)
    assert made.status_code == 200, made.text
    operation, deadline = made.json(), time.monotonic() + 120
    while not operation.get("done"):
        assert time.monotonic() < deadline
        operation = server.call("POST", f"/v1/{operation['name']}:wait", json={"timeout": "10s"}).json()
    return operation


def table(header, rows) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()


@pytest.fixture(scope="module")
def numbers(aip, bucket, tmp_path_factory):
    """Two versions of a model of numbers, and rows whose truths are near the first one's answers. Every input is a
    multiple of a power of two, so that what the models answer is exact."""
    home = tmp_path_factory.mktemp("numbers")
    model = upload(aip, "numbers", [numbers_onnx(home / "one", 20.0), numbers_onnx(home / "two", 20.5)])
    random = np.random.default_rng(3)
    inputs = random.integers(-16, 17, (400, FEATURES)) / 8
    answers = (inputs @ SLOPES.astype(float))[:, 0] + 20
    truths = answers + random.normal(0, 1, 400)
    colours = random.choice(["red", "blue"], 400)
    rows = [[*x, repr(float(t)), c] for x, t, c in zip(inputs.tolist(), truths, colours)]
    bucket.blob("numbers.csv").upload_from_string(table(["a", "b", "c", "d", "price", "colour"], rows))
    lines = [json.dumps({"instance": x, "price": float(t)}) for x, t in zip(inputs.tolist(), truths)]
    bucket.blob("numbers.jsonl").upload_from_string("\n".join(lines) + "\n")
    return model, answers, truths, colours


def regression_figures(truths, answers):
    return {
        "rootMeanSquaredError": reference.root_mean_squared_error(truths, answers),
        "meanAbsoluteError": reference.mean_absolute_error(truths, answers),
        "meanAbsolutePercentageError": reference.mean_absolute_percentage_error(truths, answers),
        "rSquared": reference.r2_score(truths, answers),
        "rootMeanSquaredLogError": reference.root_mean_squared_log_error(truths, answers),
        "rowCount": len(truths),
    }


def test_figures_of_numbers_are_scikit_learns(server, aip, gapic, numbers):
    model, answers, truths, colours = numbers
    source = {"gcsSource": {"uris": ["gs://rows/numbers.csv"]}, "targetColumn": "price"}
    done = evaluate(server, f"{model}@1", sliceBy=["colour"], **source)
    name = done["response"]["name"]
    read = aip.Model(model).get_model_evaluation(name.split("/")[-1])
    assert read.gca_resource.metrics_schema_uri == REGRESSION
    assert dict(read.metrics) == pytest.approx(regression_figures(truths, answers), **EXACT)
    slices = {s.slice_.value: s for s in gapic("Model").list_model_evaluation_slices(parent=name)}
    assert set(slices) == {"red", "blue"}
    for colour, part in slices.items():
        chosen = colours == colour
        assert dict(part.metrics) == pytest.approx(regression_figures(truths[chosen], answers[chosen]), **EXACT)
    lines = evaluate(server, f"{model}@1", targetColumn="price", instancesFormat="jsonl",
                     gcsSource={"uris": ["gs://rows/numbers.jsonl"]})
    assert lines["response"]["metrics"] == pytest.approx(regression_figures(truths, answers), **EXACT)


def test_versions_of_a_model_of_numbers_are_compared(server, aip, numbers):
    model, answers, truths, _ = numbers
    # Models that take columns in their order are not shown those that it is sliced by, the second one neither.
    source = {"gcsSource": {"uris": ["gs://rows/numbers.csv"]}, "targetColumn": "price", "sliceBy": ["colour"]}
    done = evaluate(server, f"{model}@1", against=f"{model}@2", **source)
    found = done["response"]["metadata"]["comparison"]
    assert found["against"] == f"{model}@2" and found["rowCount"] == 400 and found["verdict"] == "better"
    assert "mcNemar" not in found
    errors = np.stack([answers - truths, answers + 0.5 - truths])
    values = {"rootMeanSquaredError": np.sqrt((errors**2).mean(1)), "meanAbsoluteError": np.abs(errors).mean(1)}
    random = np.random.default_rng(1)
    weights = random.poisson(1.0, (20_000, 400))
    resampled = {
        "rootMeanSquaredError": np.sqrt(weights @ (errors**2).T / weights.sum(1, keepdims=True)),
        "meanAbsoluteError": weights @ np.abs(errors).T / weights.sum(1, keepdims=True),
    }
    assert [figure["figure"] for figure in found["figures"]] == list(values)
    for figure in found["figures"]:
        first, second = values[figure["figure"]]
        assert (figure["value"], figure["against"]) == pytest.approx((first, second), **EXACT)
        assert figure["difference"] == pytest.approx(first - second, **EXACT)
        differences = resampled[figure["figure"]] @ [1, -1]
        low, high = np.quantile(differences, [0.025, 0.975])
        # Ends of an interval by 1000 resamplings vary by 0.08 of these.
        near = 0.3 * differences.std()
        assert figure["interval"] == {
            "confidence": 0.95, "low": pytest.approx(low, abs=near), "high": pytest.approx(high, abs=near)}
    # It stays with the evaluation, and the other way round is the opposite.
    read = aip.Model(model).get_model_evaluation(done["response"]["name"].split("/")[-1])
    assert dict(read.gca_resource.metadata)["comparison"]["verdict"] == "better"
    back = evaluate(server, f"{model}@2", against=f"{model}@1", **source)["response"]["metadata"]["comparison"]
    assert back["verdict"] == "worse"
    for one, other in zip(found["figures"], back["figures"]):
        assert other["difference"] == pytest.approx(-one["difference"], **EXACT)
        assert other["interval"]["low"] == pytest.approx(-one["interval"]["high"], **EXACT)


def test_classifiers_are_compared(server, aip, bucket, tmp_path, numbers):
    # The second is the first turned upside down, so it is right elsewhere.
    model = upload(aip, "compared", [linear_onnx(tmp_path / "one"), linear_onnx(tmp_path / "two", -0.05)])
    random = np.random.default_rng(5)
    inputs = random.normal(0, 1, (300, FEATURES)).astype(np.float32)
    scores = [linear_scores(inputs), linear_scores(inputs, -0.05)]
    truths = np.where(random.random(300) < 0.6, scores[0].argmax(1), random.integers(0, 3, 300))
    rows = [[*map(str, x), t] for x, t in zip(inputs, truths)]
    # One row that neither can measure.
    rows.append([0, 0, 0, 0, "7"])
    bucket.blob("compared.csv").upload_from_string(table(["a", "b", "c", "d", "class"], rows))
    source = {"gcsSource": {"uris": ["gs://rows/compared.csv"]}, "targetColumn": "class"}
    done = evaluate(server, f"{model}@1", against=f"{model}@2", **source)["response"]
    found = done["metadata"]["comparison"]
    assert found["rowCount"] == 300 and done["metadata"]["skippedRows"] == 1 and found["verdict"] == "better"
    right = [s.argmax(1) == truths for s in scores]
    only_first, only_second = int((right[0] & ~right[1]).sum()), int((~right[0] & right[1]).sum())
    assert found["mcNemar"] == {
        "onlyThisRight": only_first, "onlyAgainstRight": only_second,
        "pValue": pytest.approx(binomtest(only_second, only_first + only_second, 0.5).pvalue, rel=1e-9),
    }
    accuracy, loss = found["figures"]
    assert (accuracy["figure"], loss["figure"]) == ("accuracy", "logLoss")
    assert (accuracy["value"], accuracy["against"]) == pytest.approx([r.mean() for r in right], **EXACT)
    assert accuracy["value"] == pytest.approx(done["metrics"]["accuracy"], **EXACT)
    # float32 arithmetic of two libraries.
    expected = [reference.log_loss(truths, s.astype(float) / s.sum(1, keepdims=True)) for s in scores]
    assert (loss["value"], loss["against"]) == pytest.approx(expected, rel=1e-5)
    deviation = (right[0].astype(float) - right[1]).std() / np.sqrt(300)
    width = accuracy["interval"]["high"] - accuracy["interval"]["low"]
    assert width == pytest.approx(2 * 1.96 * deviation, rel=0.15)

    for against, says in [
        (f"{model}@1", "itself"), ("projects/other/locations/us-central1/models/1", "must be in"), ("nonsense", "nonsense"),
        (f"{model}@9", "9"),
    ]:
        bad = server.call("POST", f"/v1/{model}@1:evaluate", json={"against": against, **source})
        assert bad.status_code in (400, 404) and says in bad.json()["error"]["message"], bad.text
    mixed = evaluate(server, f"{model}@1", against=f"{numbers[0]}@1", **source)
    assert "cannot be compared" in mixed["error"]["message"]


SPEC = {
    "label": "shade", "features": [{"image": "photo", "shape": [4, 4, 1]}],
    "layers": ["flatten", {"dense": "labels", "activation": "softmax"}], "epochs": 30, "learning_rate": 0.05, "seed": 1,
}


def test_images_in_a_bucket_are_measured(server, gapic, aip, bucket):
    """Trained here on pictures that a table names; measured on others, of which one is missing."""
    rows = []
    for i in range(40):
        shade, file = ("dark", "light")[i % 2], io.BytesIO()
        Image.new("L", (6, 6), 200 * (i % 2) + i).save(file, "PNG")
        bucket.blob(f"shades/{i}.png").upload_from_string(file.getvalue())
        rows.append((f"{i}.png", shade))
    bucket.blob("shades/train.csv").upload_from_string(table(["photo", "shade"], rows))
    # Half under their names, half under their addresses, the last two told wrongly.
    held = [(name if i < 10 else f"gs://rows/shades/{name}", shade) for i, (name, shade) in enumerate(rows[:20])]
    held[18:] = [(held[18][0], "light"), (held[19][0], "dark")]
    bucket.blob("shades/held.csv").upload_from_string(table(["photo", "shade"], [*held, ("none.png", "dark")]))
    data = aip.TabularDataset.create(display_name="shades", gcs_source="gs://rows/shades/train.csv")
    pipeline = server.call("POST", f"/v1/{data.resource_name.rsplit('/datasets/', 1)[0]}/trainingPipelines", json={
        "displayName": "shades", "modelToUpload": {"displayName": "shades"},
        "trainingTaskDefinition": "gs://meuse/schema/trainingjob/definition/network_1.0.0.yaml",
        "trainingTaskInputs": SPEC, "inputDataConfig": {"datasetId": data.name},
    })
    assert pipeline.status_code == 200, pipeline.text
    deadline = time.monotonic() + 120
    while (job := server.call("GET", f"/v1/{pipeline.json()['name']}").json())["state"].endswith(("RUNNING", "PENDING")):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert job["state"] == "PIPELINE_STATE_SUCCEEDED", job
    done = evaluate(server, job["modelToUpload"]["name"], gcsSource={"uris": ["gs://rows/shades/held.csv"]})["response"]
    assert done["metrics"]["accuracy"] == 0.9, done
    assert done["metadata"]["rows"] == 20 and done["metadata"]["skippedRows"] == 1
    assert "none.png" in str(done["metadata"]["skippedReasons"])


LABELS = ["river", "stone", "rain"]


def labels_onnx(path):
    """The sigmoid of x · identity: a score for each of three labels."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["product"]), helper.make_node("Sigmoid", ["product"], ["scores"])]
    graph = helper.make_graph(
        nodes, "labels",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(np.eye(3, dtype=np.float32), "w")],
    )
    path.mkdir(parents=True)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path / "model.onnx")
    return path


@pytest.fixture(scope="module")
def label_sets(aip, bucket, tmp_path_factory):
    """A model of three labels, and rows with sets of them in a table and as lists."""
    model = upload(aip, "label-sets", [labels_onnx(tmp_path_factory.mktemp("labels") / "one")])
    random = np.random.default_rng(5)
    inputs = random.integers(-16, 17, (300, 3)) / 8
    truths = (inputs + random.normal(0, 1, inputs.shape)) > 0.3
    names = [[label for label, has in zip(LABELS, row) if has] for row in truths]
    places = random.choice(["north", "south"], 300)
    rows = [[*x, "; ".join(sets), place] for x, sets, place in zip(inputs.tolist(), names, places)]
    bucket.blob("sets.csv").upload_from_string(table(["a", "b", "c", "what", "where"], rows))
    lines = [json.dumps({"instance": x, "what": sets}) for x, sets in zip(inputs.tolist(), names)]
    bucket.blob("sets.jsonl").upload_from_string("\n".join(lines) + "\n")
    scores = (1 / (1 + np.exp(-inputs.astype(np.float32)))).astype(np.float32)
    return model, truths.astype(int), scores, places


def check_sets(found, truths, scores, threshold):
    predicted = (scores >= threshold).astype(int)
    assert found["subsetAccuracy"] == pytest.approx(reference.accuracy_score(truths, predicted), **EXACT)
    assert found["hammingLoss"] == pytest.approx(reference.hamming_loss(truths, predicted), **EXACT)
    assert found["rowCount"] == len(truths)
    for average in ("micro", "macro", "weighted"):
        expected = reference.precision_recall_fscore_support(truths, predicted, average=average, zero_division=0)
        figures = found[average]
        assert [figures[name] for name in ("precision", "recall", "f1Score")] == pytest.approx(expected[:3], **EXACT)
        assert figures["auPrc"] == pytest.approx(reference.average_precision_score(truths, scores, average=average), rel=1e-9)
        assert figures["auRoc"] == pytest.approx(reference.roc_auc_score(truths, scores, average=average), rel=1e-9)
    each = zip(*reference.precision_recall_fscore_support(truths, predicted, zero_division=0))
    for label, figures, (precision, recall, f1, support) in zip(LABELS, found["perClass"], each):
        assert figures["displayName"] == label and figures["support"] == support
        assert [figures[name] for name in ("precision", "recall", "f1Score")] == pytest.approx([precision, recall, f1], **EXACT)


def test_sets_of_labels_as_scikit_learn_measures_them(server, label_sets):
    model, truths, scores, places = label_sets
    sets = {"separator": ";", "threshold": 0.6, "labels": LABELS}
    body = {"gcsSource": {"uris": ["gs://rows/sets.csv"]}, "targetColumn": "what", "multiLabel": sets, "sliceBy": ["where"]}
    made = evaluate(server, f"{model}@1", **body)["response"]
    check_sets(made["metrics"], truths, scores, 0.6)
    slices = server.call("GET", f"/v1/{made['name']}/slices").json()["modelEvaluationSlices"]
    north = next(s for s in slices if s["slice"] == s["slice"] | {"dimension": "where", "value": "north"})
    check_sets(north["metrics"], truths[places == "north"], scores[places == "north"], 0.6)
    lists = body | {"gcsSource": {"uris": ["gs://rows/sets.jsonl"]}, "instancesFormat": "jsonl", "sliceBy": []}
    lists["multiLabel"] = {"labels": LABELS}
    check_sets(evaluate(server, f"{model}@1", **lists)["response"]["metrics"], truths, scores, 0.5)


def test_sets_of_labels_on_the_command_line(server, label_sets):
    model = label_sets[0].rsplit("/", 1)[1]
    said = server.command(
        "evaluate", model, "--data", "gs://rows/sets.csv", "--target", "what", "--slice-by", "where",
        "--multi-label", "--separator", ";", "--labels", ",".join(LABELS), "--project", "demo",
    ).stdout
    assert "subset accuracy" in said and "macro F1" in said
    assert [line.split()[0] for line in said.splitlines() if line.split()[:1] and line.split()[0] in LABELS] == LABELS


@pytest.mark.parametrize("sets, words", [
    ({"labels": ["river", "stone"]}, "2 labels"),
    ({"labels": ["river", "stone", "moss"]}, "none of the 300 rows|none of the model's classes"),
    ({"labels": LABELS, "separator": ""}, "separator"),
    ({"labels": ["a", "a", "b"]}, "twice"),
])
def test_sets_of_labels_that_do_not_fit_are_refused(server, label_sets, sets, words):
    body = {"gcsSource": {"uris": ["gs://rows/sets.csv"]}, "targetColumn": "what", "multiLabel": {"separator": ";"} | sets, "sliceBy": ["where"]}
    made = server.call("POST", f"/v1/{label_sets[0]}@1:evaluate", json=body)
    if made.status_code == 200:
        operation, deadline = made.json(), time.monotonic() + 120
        while not operation.get("done"):
            assert time.monotonic() < deadline
            operation = server.call("POST", f"/v1/{operation['name']}:wait", json={"timeout": "10s"}).json()
        said = json.dumps(operation.get("error") or operation["response"]["metadata"])
    else:
        assert made.status_code == 400
        said = made.text
    assert any(word in said for word in words.split("|")), said
