"""Models of scikit-learn and LightGBM, exported to ONNX: their answers are onnxruntime's."""

import warnings

import numpy as np
import onnxmltools
import onnxruntime
import pandas
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor
from onnxmltools.convert.common.data_types import FloatTensorType as LightGbmFloats
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_iris, load_wine
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.decomposition import PCA
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.multioutput import MultiOutputRegressor
from sklearn.naive_bayes import GaussianNB, MultinomialNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, Normalizer, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

warnings.filterwarnings("ignore")

IRIS = load_iris()
WINE = load_wine()
DIABETES = load_diabetes()
NAMES = np.array(["setosa", "versicolor", "virginica"])
ROWS = 40


def floats(data) -> np.ndarray:
    return np.asarray(data, dtype=np.float32)


def of_runtime(model, feed: dict) -> dict:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip([output.name for output in session.get_outputs()], session.run(None, feed)))


def scores_of(output, classes) -> np.ndarray:
    """Of a tensor, or of a list of maps from class to score."""
    if isinstance(output, list):
        return np.array([[row[label] for label in classes] for row in output])
    return output


def check_classifier(deployed, model, feed: dict, instances: list, classes) -> None:
    label, scores = of_runtime(model, feed).values()
    predictions = deployed.predict(instances)
    assert [p["classes"] for p in predictions] == [[str(c) for c in classes]] * len(instances)
    assert [p["label"] for p in predictions] == [str(given) for given in label]
    found = np.array([p["scores"] for p in predictions])
    np.testing.assert_allclose(found, scores_of(scores, classes), rtol=1e-4, atol=1e-6)
    # A row alone gives the same bits.
    assert deployed.predict(instances[:1]) == predictions[:1]


def check_regressor(deployed, model, feed: dict, instances: list) -> None:
    (want,) = of_runtime(model, feed).values()
    predictions = deployed.predict(instances)
    np.testing.assert_allclose(np.array(predictions).reshape(want.shape), want, rtol=1e-4, atol=1e-5)
    assert deployed.predict(instances[:1]) == predictions[:1]


def save(model, path):
    path.write_bytes(model.SerializeToString())
    return path


CLASSIFIERS = {
    "logistic": lambda: make_pipeline(StandardScaler(), LogisticRegression()),
    "forest": lambda: RandomForestClassifier(20, random_state=1),
    "extra-trees": lambda: ExtraTreesClassifier(10, random_state=1),
    "tree": lambda: DecisionTreeClassifier(random_state=1),
    "boosted": lambda: GradientBoostingClassifier(n_estimators=20, random_state=1),
    "min-max": lambda: make_pipeline(MinMaxScaler(), Normalizer(), PCA(2), LogisticRegression()),
    "bayes": lambda: GaussianNB(),
    "perceptron": lambda: make_pipeline(StandardScaler(), MLPClassifier((8,), max_iter=200, random_state=1)),
}
# The exporter writes their labels in a way that no longer says which score is whose.
WITHOUT_LABELS = {"bayes", "perceptron"}


@pytest.mark.parametrize("zipped", [False, True], ids=["tensor", "zipmap"])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_classifiers(server, tmp_path, kind, classes, zipped):
    chosen = IRIS.target < classes if classes == 3 else IRIS.target > 0
    x = floats(IRIS.data[chosen])
    # Strings of one form, numbers of the other.
    y = NAMES[IRIS.target[chosen]] if zipped else IRIS.target[chosen]
    fitted = CLASSIFIERS[kind]().fit(x, y)
    model = to_onnx(fitted, x[:1], options={"zipmap": zipped})
    name = f"{kind}-{classes}-{'zipmap' if zipped else 'tensor'}"
    deployed = server.deploy(name, save(model, tmp_path / "model.onnx"))
    x = x[:: len(x) // ROWS]
    if kind in WITHOUT_LABELS and not zipped:
        label, scores = of_runtime(model, {"X": x}).values()
        predictions = deployed.predict(x.tolist())
        assert [p["label"] for p in predictions] == label.tolist()
        np.testing.assert_allclose([p["probabilities"] for p in predictions], scores, rtol=1e-4, atol=1e-6)
        return
    check_classifier(deployed, model, {"X": x}, x.tolist(), fitted.classes_)


REGRESSORS = {
    "linear": lambda: LinearRegression(),
    "forest": lambda: RandomForestRegressor(10, random_state=1),
    "tree": lambda: DecisionTreeRegressor(max_depth=6, random_state=1),
    "boosted": lambda: GradientBoostingRegressor(n_estimators=20, random_state=1),
    "scaled": lambda: make_pipeline(StandardScaler(), Ridge()),
}


@pytest.mark.parametrize("kind", REGRESSORS)
def test_regressors(server, tmp_path, kind):
    x = floats(DIABETES.data)
    model = to_onnx(REGRESSORS[kind]().fit(x, DIABETES.target), x[:1])
    deployed = server.deploy(f"regress-{kind}", save(model, tmp_path / "model.onnx"))
    check_regressor(deployed, model, {"X": x[:ROWS]}, x[:ROWS].tolist())


def test_several_targets(server, tmp_path):
    x = floats(DIABETES.data)
    y = np.stack([DIABETES.target, DIABETES.target ** 0.5], axis=1)
    for kind, regressor in {
        "forest": RandomForestRegressor(5, random_state=1),
        "each": MultiOutputRegressor(GradientBoostingRegressor(n_estimators=5)),
    }.items():
        model = to_onnx(regressor.fit(x, y), x[:1])
        deployed = server.deploy(f"two-{kind}", save(model, tmp_path / f"{kind}.onnx"))
        check_regressor(deployed, model, {"X": x[:ROWS]}, x[:ROWS].tolist())


@pytest.mark.parametrize("classes", [2, 3])
def test_lightgbm_classifier(server, tmp_path, classes):
    chosen = WINE.target < classes
    x, y = floats(WINE.data[chosen]), WINE.target[chosen]
    fitted = LGBMClassifier(n_estimators=15, verbose=-1).fit(x, y)
    types = [("x", LightGbmFloats([None, x.shape[1]]))]
    model = onnxmltools.convert_lightgbm(fitted, initial_types=types)
    deployed = server.deploy(f"lightgbm-{classes}", save(model, tmp_path / "model.onnx"))
    check_classifier(deployed, model, {"x": x[:ROWS]}, x[:ROWS].tolist(), fitted.classes_)


def test_lightgbm_regressor(server, tmp_path):
    x = floats(DIABETES.data)
    fitted = LGBMRegressor(n_estimators=15, verbose=-1).fit(x, DIABETES.target)
    model = onnxmltools.convert_lightgbm(fitted, initial_types=[("x", LightGbmFloats([None, x.shape[1]]))])
    deployed = server.deploy("lightgbm-regressor", save(model, tmp_path / "model.onnx"))
    check_regressor(deployed, model, {"x": x[:ROWS]}, x[:ROWS].tolist())


def test_named_columns(server, tmp_path):
    """A pipeline over a table: an input a column, given by name in any order."""
    random = np.random.default_rng(3)
    table = pandas.DataFrame({
        "age": random.uniform(18, 80, 200).astype(np.float32),
        "income": random.uniform(1, 9, 200).astype(np.float32),
        "town": random.choice(["Metz", "Namur", "Verdun"], 200),
        "size": random.choice(["small", "middle", "large"], 200),
        "children": random.integers(0, 4, 200),
    })
    wanted = np.where((table.age > 45) ^ (table.town == "Metz"), "yes", "no")
    columns = ColumnTransformer([
        ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["age", "income"]),
        ("towns", OneHotEncoder(handle_unknown="ignore"), ["town"]),
        ("sizes", OrdinalEncoder(), ["size"]),
        ("counts", OneHotEncoder(handle_unknown="ignore"), ["children"]),
    ])
    fitted = make_pipeline(columns, RandomForestClassifier(10, random_state=1)).fit(table, wanted)
    types = [
        ("age", FloatTensorType([None, 1])), ("income", FloatTensorType([None, 1])),
        ("town", StringTensorType([None, 1])), ("size", StringTensorType([None, 1])),
        ("children", Int64TensorType([None, 1])),
    ]
    model = to_onnx(fitted, initial_types=types, options={"zipmap": False})
    deployed = server.deploy("table", save(model, tmp_path / "model.onnx"))
    head = table.head(ROWS)
    feed = {name: head[[name]].to_numpy(dtype=object if name in ("town", "size") else None) for name in table}
    instances = [dict(reversed(row.items())) for row in head.to_dict("records")]
    check_classifier(deployed, model, feed, instances, fitted.classes_)
    for wrong, words in [
        ({k: v for k, v in instances[0].items() if k != "town"}, "`town` is missing"),
        (instances[0] | {"town": 3}, "`town`"),
        (instances[0] | {"children": 1.5}, "`children`"),
        (instances[0] | {"colour": "red"}, "`colour`"),
    ]:
        answer = deployed.ask([wrong])
        assert answer.status_code == 400 and words in answer.text, answer.text


TEXTS = [
    "The keel lies deep in the harbour", "a rook takes the bishop", "simmer the onion in butter",
    "wind fills the sail again", "the gambit costs a pawn", "flour and butter in the oven",
    "Anchor and mast", "castle before the endgame", "roast the onion slowly",
] * 3
TOPICS = ["sailing", "chess", "cooking"] * 9


@pytest.mark.parametrize("kind", ["tfidf", "counts", "bigrams"])
def test_texts(server, tmp_path, kind):
    pattern = "[a-zA-Z0-9_]+"
    vectorizer, classifier = {
        "tfidf": (TfidfVectorizer(token_pattern=pattern), LogisticRegression()),
        "counts": (CountVectorizer(token_pattern=pattern), MultinomialNB()),
        "bigrams": (TfidfVectorizer(token_pattern=pattern, ngram_range=(1, 2)), LogisticRegression()),
    }[kind]
    fitted = make_pipeline(vectorizer, classifier).fit(TEXTS, TOPICS)
    options = {type(vectorizer): {"tokenexp": pattern, "locale": "C"}, type(classifier): {"zipmap": True}}
    model = to_onnx(fitted, initial_types=[("text", StringTensorType([None, 1]))], options=options)
    deployed = server.deploy(f"texts-{kind}", save(model, tmp_path / "model.onnx"))
    asked = TEXTS[:9] + ["", "nothing of this is known", "Simmer the SAIL"]
    check_classifier(deployed, model, {"text": np.array(asked)[:, None]}, asked, fitted.classes_)
