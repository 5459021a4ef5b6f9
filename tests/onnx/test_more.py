"""Support vectors, missing values, constants in files beside the graph, graphs of texts: answers are onnxruntime's."""

import warnings

import numpy as np
import onnx
import pytest
from lightgbm import LGBMClassifier
from onnx import TensorProto, helper, numpy_helper
import onnxmltools
from onnxmltools.convert.common.data_types import FloatTensorType as LightGbmFloats
from skl2onnx import to_onnx
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR, NuSVC, OneClassSVM

from test_made_elsewhere import DIABETES, IRIS, WINE, check_classifier, check_regressor, floats, of_runtime, save

warnings.filterwarnings("ignore")

MACHINES = {
    "rbf": lambda **more: SVC(kernel="rbf", random_state=1, **more),
    "poly": lambda **more: SVC(kernel="poly", coef0=0.5, random_state=1, **more),
    "sigmoid": lambda **more: SVC(kernel="sigmoid", gamma=0.01, random_state=1, **more),
    "linear": lambda **more: SVC(kernel="linear", random_state=1, **more),
    "nu": lambda **more: NuSVC(nu=0.2, random_state=1, **more),
}


@pytest.mark.parametrize("probability", [True, False], ids=["probabilities", "votes"])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kind", MACHINES)
def test_support_vector_classifiers(server, tmp_path, kind, classes, probability):
    chosen = IRIS.target < classes if classes == 3 else IRIS.target > 0
    x, y = floats(IRIS.data[chosen]), IRIS.target[chosen]
    fitted = make_pipeline(StandardScaler(), MACHINES[kind](probability=probability)).fit(x, y)
    model = to_onnx(fitted, x[:1], options={"zipmap": False})
    deployed = server.deploy(f"svc-{kind}-{classes}-{probability}".lower(), save(model, tmp_path / "model.onnx"))
    x = x[::7]
    if probability or classes == 2:
        check_classifier(deployed, model, {"X": x}, x.tolist(), fitted.classes_)
        return
    # The exporter adds up the votes itself, so that no score is known to be a class'.
    label, scores = of_runtime(model, {"X": x}).values()
    predictions = deployed.predict(x.tolist())
    assert [p["label"] for p in predictions] == label.tolist()
    np.testing.assert_allclose([p["probabilities"] for p in predictions], scores, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["rbf", "poly", "linear"])
def test_support_vector_regressors(server, tmp_path, kind):
    x = floats(DIABETES.data)
    fitted = SVR(kernel=kind, gamma="scale", C=100).fit(x, DIABETES.target)
    model = to_onnx(fitted, x[:1])
    deployed = server.deploy(f"svr-{kind}", save(model, tmp_path / "model.onnx"))
    check_regressor(deployed, model, {"X": x[:40]}, x[:40].tolist())


def test_one_class(server, tmp_path):
    x = floats(IRIS.data[:50])
    model = to_onnx(OneClassSVM(gamma=0.1, nu=0.2).fit(x), x[:1])
    deployed = server.deploy("one-class", save(model, tmp_path / "model.onnx"))
    asked = floats(IRIS.data[::10])
    label, score = of_runtime(model, {"X": asked}).values()
    predictions = deployed.predict(asked.tolist())
    names = list(of_runtime(model, {"X": asked}))
    assert np.ravel([p[names[0]] for p in predictions]).tolist() == np.ravel(label).tolist()
    np.testing.assert_allclose(np.ravel([p[names[1]] for p in predictions]), np.ravel(score), rtol=1e-4, atol=1e-5)


def with_holes(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x[np.random.default_rng(7).random(x.shape) < 0.2] = np.nan
    return x


def as_json(x: np.ndarray) -> list:
    return [[None if np.isnan(cell) else float(cell) for cell in row] for row in x]


MISSING = {
    "imputed": lambda: make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression()),
    "scaled": lambda: make_pipeline(StandardScaler(), SimpleImputer(strategy="median"), LogisticRegression()),
    "forest": lambda: RandomForestClassifier(10, random_state=1),
}


@pytest.mark.parametrize("kind", MISSING)
def test_missing_values(server, tmp_path, kind):
    x = with_holes(floats(IRIS.data))
    fitted = MISSING[kind]().fit(x, IRIS.target)
    model = to_onnx(fitted, x[:1], options={"zipmap": False})
    deployed = server.deploy(f"missing-{kind}", save(model, tmp_path / "model.onnx"))
    x = x[::5]
    check_classifier(deployed, model, {"X": x}, as_json(x), fitted.classes_)


def test_missing_values_of_lightgbm_and_of_a_table(server, tmp_path):
    x = with_holes(floats(WINE.data))
    fitted = LGBMClassifier(n_estimators=15, verbose=-1).fit(x, WINE.target)
    model = onnxmltools.convert_lightgbm(fitted, initial_types=[("x", LightGbmFloats([None, x.shape[1]]))])
    deployed = server.deploy("missing-boosted", save(model, tmp_path / "model.onnx"))
    x = x[::5]
    check_classifier(deployed, model, {"x": x}, as_json(x), fitted.classes_)
    rows = [",".join("" if np.isnan(cell) else repr(float(cell)) for cell in row) for row in x]
    table = tmp_path / "rows.csv"
    table.write_text("\n".join([",".join(f"c{i}" for i in range(x.shape[1])), *rows]) + "\n")
    server.command("batch", "missing-boosted", "--input", table, "--output", tmp_path / "out")
    out = "".join(path.read_text() for path in sorted((tmp_path / "out").glob("prediction.results*")))
    label, _ = of_runtime(model, {"x": x}).values()
    assert len(out.splitlines()) == len(x) + 1, out
    column = out.splitlines()[0].split(",").index("predicted_class")
    assert [line.split(",")[column] for line in out.splitlines()[1:]] == [str(given) for given in label]


def test_a_missing_value_is_refused_where_nothing_is_made_of_it(server, tmp_path):
    x = floats(IRIS.data)
    model = to_onnx(make_pipeline(StandardScaler(), LogisticRegression()).fit(x, IRIS.target), x[:1])
    deployed = server.deploy("not-missing", save(model, tmp_path / "model.onnx"))
    answer = deployed.ask([[1, 2, None, 4]])
    assert answer.status_code == 400 and "missing" in answer.text and "instance 0" in answer.text, answer.text


def constant(name: str, value) -> TensorProto:
    return numpy_helper.from_array(np.asarray(value), name)


def test_constants_beside_the_graph(server, tmp_path):
    nodes = [
        helper.make_node("Scaler", ["x"], ["scaled"], domain="ai.onnx.ml", offset=[1.0], scale=[2.0]),
        helper.make_node("MatMul", ["scaled", "weights"], ["y"]),
    ]
    weights = np.arange(400, dtype=np.float32).reshape(4, 100) / 100
    graph = helper.make_graph(
        nodes, "beside",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 100])],
        [constant("weights", weights)],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    directory = tmp_path / "model"
    directory.mkdir()
    x = np.ones((3, 4), np.float32) * [[1], [2], [3]]
    want = ((x - 1) * 2) @ weights
    onnx.save(
        model, directory / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0,
        convert_attribute=False,
    )
    deployed = server.deploy("beside", directory)
    np.testing.assert_allclose(deployed.predict(x.tolist()), want, rtol=1e-5)
    (directory / "weights.bin").write_bytes(b"short")
    assert "beyond the end" in server.refusal("beside-short", directory)
    (directory / "weights.bin").unlink()
    assert "weights.bin" in server.refusal("beside-none", directory)


def test_a_graph_of_texts_without_learning(server, tmp_path):
    """Answers `yes` where both texts are the same."""
    nodes = [
        helper.make_node("Equal", ["a", "b"], ["same"]),
        helper.make_node("Where", ["same", "yes", "no"], ["answer"]),
    ]
    ports = [helper.make_tensor_value_info(name, TensorProto.STRING, ["n", 1]) for name in ("a", "b", "answer")]
    words = [helper.make_tensor(name, TensorProto.STRING, [1], [name]) for name in ("yes", "no")]
    graph = helper.make_graph(nodes, "texts", ports[:2], ports[2:], words)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=9)
    deployed = server.deploy("texts-alone", save(model, tmp_path / "model.onnx"))
    instances = [{"a": "Maas", "b": "Maas"}, {"a": "Maas", "b": "Meuse"}]
    feed = {name: np.array([[row[name]] for row in instances], dtype=object) for name in ("a", "b")}
    (want,) = of_runtime(model, feed).values()
    assert np.ravel(deployed.predict(instances)).tolist() == np.ravel(want).tolist() == ["yes", "no"]
