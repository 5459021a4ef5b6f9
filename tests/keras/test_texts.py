"""Archives that take texts: TensorFlow, which Keras needs for these layers, saved and computed them (texts/make.py)."""

import json
import pathlib
import zipfile

import numpy as np
import pytest

TEXTS = pathlib.Path(__file__).resolve().parent / "texts"
NAMES = ["sentences", "letters", "bag", "columns"]


def instances(inputs: dict) -> list:
    """One for each row: texts stand in a list of one, as the network takes them."""
    rows = list(zip(*([[v] if isinstance(v, str) else v for v in values] for values in inputs.values())))
    return [dict(zip(inputs, row)) if len(inputs) > 1 else row[0] for row in rows]


@pytest.mark.parametrize("name", NAMES)
def test_answers_are_those_of_keras(server, name):
    expected = json.loads((TEXTS / f"{name}.json").read_text())
    server.serves(TEXTS / f"{name}.keras", f"texts-{name}")
    rows = instances(expected["inputs"])
    told = server.post(f"/v1/models/texts-{name}:predict", {"instances": rows})["predictions"]
    np.testing.assert_allclose(told, expected["output"], rtol=1e-4, atol=1e-5)
    # Alone as in company.
    alone = server.post(f"/v1/models/texts-{name}:predict", {"instances": rows[:1]})["predictions"]
    assert alone == told[:1]


def test_kserve_takes_texts(server):
    expected = json.loads((TEXTS / "sentences.json").read_text())
    server.serves(TEXTS / "sentences.keras", "texts-by-name")
    [taken] = server.ask("GET", "/v2/models/texts-by-name").json()["inputs"]
    assert (taken["name"], taken["datatype"], taken["shape"]) == ("text", "BYTES", [-1, 1])
    data = expected["inputs"]["text"]
    body = {"inputs": [{"name": "text", "shape": [len(data), 1], "datatype": "BYTES", "data": data}]}
    [given] = server.post("/v2/models/texts-by-name/infer", body)["outputs"]
    np.testing.assert_allclose(np.reshape(given["data"], given["shape"]), expected["output"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("option, value, said", [
    ("output_sequence_length", None, "output_sequence_length"),
    ("ngrams", 2, "ngrams"),
    ("output_mode", "tf_idf", "tf_idf"),
    ("split", "sentences", "sentences"),
    ("vocabulary", None, "neither here nor among"),
])
def test_what_is_not_read_is_refused_by_name(server, tmp_path, option, value, said):
    with zipfile.ZipFile(TEXTS / "sentences.keras") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(parts["config.json"])
    layer = next(layer for layer in config["config"]["layers"] if layer["class_name"] == "TextVectorization")
    layer["config"][option] = value
    if option == "vocabulary":
        parts = {name: content for name, content in parts.items() if not name.startswith("assets/")}
    with zipfile.ZipFile(tmp_path / "changed.keras", "w") as archive:
        for name, content in (parts | {"config.json": json.dumps(config).encode()}).items():
            archive.writestr(name, content)
    assert said in server.refusal(tmp_path / "changed.keras")
    assert server.ask("GET", "/health/ready").status_code == 200


def test_instances_that_are_no_texts(server):
    server.serves(TEXTS / "sentences.keras", "texts-strict")
    for wrong in [[[1.5, 2]], [["a", "b"]], [{"text": []}]]:
        answer = server.ask("POST", "/v1/models/texts-strict:predict", json={"instances": wrong})
        assert answer.status_code == 400, (wrong, answer.text)
