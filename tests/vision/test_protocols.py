"""The same answers to every client, in batches and in evaluations."""

import csv
import json

import numpy as np
import pytest
from google.cloud import aiplatform
from google.oauth2.credentials import Credentials

from conftest import b64
from pipeline import page, written


@pytest.fixture(scope="module")
def file() -> bytes:
    return written(page(90), "PNG")


@pytest.fixture(scope="module")
def expected(server, orientation, file) -> dict:
    return server.predict(orientation, {"b64": b64(file)})[0]


def agrees(expected, label, scores) -> bool:
    confidences = sorted(scores, reverse=True)[:3]
    return label == expected["displayNames"][0] and np.allclose(confidences, expected["confidences"], atol=1e-7)


def test_vertex_takes_an_image_in_each_of_its_forms(server, orientation, file, expected):
    aiplatform.init(
        project="default", location="us-central1", api_endpoint=server.url, api_transport="rest",
        credentials=Credentials(token=server.key),
    )
    endpoint = aiplatform.Endpoint(orientation)
    content = b64(file)
    forms = [
        {"content": content}, {"content": content, "mimeType": "image/png"}, {"b64": content}, content,
        {"image": content}, {"image": {"b64": content}}, f"data:image/png;base64,{content}",
    ]
    answer = endpoint.predict(forms)
    assert answer.predictions == [expected] * len(forms)


def test_tensorflow_serving_and_mlflow_take_bytes_in_base64(server, orientation, file, expected):
    row = {"b64": b64(file)}
    for body in ({"instances": [row]}, {"instances": [{"image": row}]}, {"inputs": {"image": [row]}}, {"inputs": [row]}):
        reply = server.post(f"/v1/models/{orientation}:predict", body).json()
        assert "error" not in reply, reply
        told = reply["predictions"][0] if "predictions" in reply else {n: v[0] for n, v in reply["outputs"].items()}
        assert agrees(expected, told["label"], told["scores"]), reply
    split = {"columns": ["image"], "data": [[b64(file)]]}
    for body in ({"dataframe_split": split}, {"instances": [row]}, {"inputs": {"image": [b64(file)]}}):
        reply = server.post(f"/mlflow/{orientation}/invocations", body).json()
        told = reply["predictions"][0]
        assert agrees(expected, told["label"], told["scores"]), reply


def test_kserve_takes_a_tensor_of_bytes(server, orientation, file, expected):
    metadata = server.ask("GET", f"/v2/models/{orientation}").json()
    assert metadata["platform"] in ("onnx", "onnxruntime_onnx")
    assert metadata["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [-1, 1]}]
    tensor = {"name": "image", "shape": [1, 1], "datatype": "BYTES"}
    header = json.dumps({"inputs": [tensor | {"parameters": {"binary_data_size": len(file) + 4}}]}).encode()
    binary = header + len(file).to_bytes(4, "little") + file
    sizes = {"inference-header-content-length": str(len(header)), "content-type": "application/octet-stream"}
    for body, headers in (
        (json.dumps({"inputs": [tensor | {"data": [b64(file)]}]}).encode(), {"content-type": "application/json"}),
        (binary, sizes),
    ):
        reply = server.ask("POST", f"/v2/models/{orientation}/infer", data=body, headers=headers)
        assert reply.status_code == 200, reply.text
        outputs = {output["name"]: output["data"] for output in reply.json()["outputs"]}
        assert agrees(expected, outputs["label"][0], outputs["scores"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of pages, with the truth beside them; one is broken."""
    directory = tmp_path_factory.mktemp("pages")
    (directory / "deep").mkdir()
    rows = []
    for i, (turned, form) in enumerate([(0, "png"), (90, "webp"), (180, "jpeg"), (270, "png"), (0, "jpg")]):
        name = f"{'deep/' if i > 2 else ''}{i}.{form}"
        (directory / name).write_bytes(written(page(turned, seed=i), "JPEG" if form == "jpg" else form))
        # What the model says of a page that was turned the other way round than it counts.
        rows.append((name, str((360 - turned) % 360), "odd" if i % 2 else "even"))
    (directory / "broken.png").write_bytes(b"\x89PNG and no more")
    with open(directory / "truth.csv", "w", newline="") as table:
        csv.writer(table).writerows([("image", "turn", "kind"), *rows, ("broken.png", "0", "odd"), ("gone.png", "0", "odd")])
    return directory


def lines(directory, part: str) -> list[dict]:
    texts = [path.read_text() for path in sorted(directory.rglob("*")) if path.is_file() and part in path.name]
    return [json.loads(line) for text in texts for line in text.splitlines()]


@pytest.mark.parametrize("place", ["here", "bucket"])
def test_a_folder_of_images_is_a_batch(server, orientation, folder, tmp_path, place):
    source = f"{folder}/"
    if place == "bucket":
        for path in folder.rglob("*.*"):
            if path.is_file():
                server.put("pages", f"all/{path.relative_to(folder)}", path.read_bytes())
        source = "gs://pages/all/"
    server.command("batch", orientation, "--input", source, "--output", tmp_path / "out")
    done = lines(tmp_path / "out", "results")
    names = [row["instance"]["content"].rsplit("/", 1)[-1] for row in done]
    assert names == ["0.png", "1.webp", "2.jpeg", "3.png", "4.jpg"]
    assert done[1]["instance"]["mimeType"] == "image/webp"
    for row, path in zip(done, ("0.png", "1.webp", "2.jpeg", "deep/3.png", "deep/4.jpg")):
        assert row["prediction"] == server.predict(orientation, {"b64": b64((folder / path).read_bytes())})[0]
    failed = lines(tmp_path / "out", "error")
    assert len(failed) == 1 and "PNG file cannot be read" in failed[0]["reason"], failed


def test_a_folder_without_images_is_refused(server, orientation, tmp_path):
    server.put("pages", "texts/a.txt", b"no image")
    refused = server.command("batch", orientation, "--input", "gs://pages/texts/", "--output", tmp_path, code=1)
    assert "an image (.png, .jpg, .jpeg or .webp) below `gs://pages/texts/`" in refused.stderr


def test_vertex_describes_images_in_jsonl(server, orientation, folder, tmp_path):
    server.put("pages", "one.png", (folder / "0.png").read_bytes())
    rows = [{"content": "gs://pages/one.png", "mimeType": "image/png"}, {"content": "gs://pages/absent.png"}]
    server.put("pages", "rows.jsonl", "\n".join(map(json.dumps, rows)).encode())
    server.command("batch", orientation, "--input", "gs://pages/rows.jsonl", "--output", tmp_path / "out")
    done = lines(tmp_path / "out", "results")
    assert [row["instance"] for row in done] == rows[:1]
    assert done[0]["prediction"] == server.predict(orientation, {"b64": b64((folder / "0.png").read_bytes())})[0]


def test_labelled_images_measure_a_model(server, orientation, folder):
    """The table lies beside its images, here or in a bucket; what cannot be read is left out and listed."""
    for path in folder.rglob("*.*"):
        if path.is_file():
            server.put("labelled", str(path.relative_to(folder)), path.read_bytes())
    with open(folder / "truth.csv") as table:
        rows = [json.dumps(row) for row in csv.DictReader(table)]
    server.put("labelled", "truth.jsonl", "\n".join(rows).encode())
    (folder / "truth.jsonl").write_text("\n".join(rows))
    for data in (folder / "truth.csv", folder / "truth.jsonl", "gs://labelled/truth.csv", "gs://labelled/truth.jsonl"):
        made = server.json("evaluate", orientation, "--data", data, "--target", "turn", "--slice-by", "kind")
        assert (made["metadata"]["rows"], made["metadata"]["skippedRows"]) == (5, 2), made["metadata"]
        labels = [spec["displayName"] for spec in made["metrics"]["confusionMatrix"]["annotationSpecs"]]
        assert labels == ["0", "90", "180", "270"]
        right = sum(row[i] for i, row in enumerate(made["metrics"]["confusionMatrix"]["rows"]))
        assert right == 5, made["metrics"]["confusionMatrix"]
        assert len([s for s in made["slices"] if s["slice"]["dimension"] == "kind"]) == 2
