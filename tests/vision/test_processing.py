"""Files in, labels out: what the declared steps make of pictures, texts and cells is what Python makes of them."""

import io

import numpy as np
import pytest
from PIL import Image

import pipeline
import served
from conftest import b64
from pipeline import LABELS, page, written

# What a decoder may round otherwise; everything after it is Pillow's arithmetic, to the bit.
LOSSLESS, LOSSY = 1e-4, 1e-2


def ranked(prediction) -> dict[str, float]:
    assert prediction["confidences"] == sorted(prediction["confidences"], reverse=True)
    assert [LABELS[int(place)] for place in prediction["ids"]] == prediction["displayNames"]
    return dict(zip(prediction["displayNames"], prediction["confidences"]))


def files():
    for turned in (0, 90, 180, 270):
        yield f"png-{turned}", written(page(turned), "PNG"), LOSSLESS
    yield "webp", written(page(90), "WEBP", lossless=True), LOSSLESS
    yield "gray", written(page(180).convert("L"), "PNG"), LOSSLESS
    yield "palette", written(page(0).convert("P"), "PNG"), LOSSLESS
    yield "opacity", written(page(0).convert("RGBA"), "PNG"), LOSSLESS
    yield "small", written(page(0).resize((90, 70)), "PNG"), LOSSLESS
    yield "wide", written(page(0, size=(900, 300)), "PNG"), LOSSLESS
    yield "jpeg", written(page(270, seed=2), "JPEG", quality=90), LOSSY
    yield "progressive", written(page(90, seed=3), "JPEG", quality=75, progressive=True), LOSSY
    yield "lossy-webp", written(page(0, seed=4), "WEBP", quality=80), LOSSY


def test_a_real_model_says_what_the_python_pipeline_says(server, orientation, session):
    names, contents, bounds = zip(*files())
    predictions = server.predict(orientation, *[{"b64": b64(file)} for file in contents])
    expected = session.run(None, {"x": np.stack([pipeline.pixels(file) for file in contents])})[0]
    found = {}
    for name, prediction, scores, bound in zip(names, predictions, expected, bounds):
        confidences = ranked(prediction)
        assert len(confidences) == 3 and next(iter(confidences)) == LABELS[int(scores.argmax())], name
        gap = max(abs(confidences[label] - scores[LABELS.index(label)]) for label in confidences)
        assert gap <= bound, (name, gap)
        found[name] = gap
    print(found)
    # As text is turned, so it is told.
    assert [max(ranked(p), key=ranked(p).get) for p in predictions[:4]] == [LABELS[i] for i in expected[:4].argmax(1)]
    assert len({p["displayNames"][0] for p in predictions[:4]}) == 4


def test_its_network_answers_as_onnxruntime_does(server, orientation_file, session):
    name = server.serves(orientation_file, "orientation-raw")
    rows = np.stack([pipeline.pixels(written(page(turned), "PNG")) for turned in (0, 270)])
    answers = server.predict(name, *rows.tolist())
    assert np.allclose(answers, session.run(None, {"x": rows})[0], rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def photo() -> bytes:
    """Noise of an odd size, which a camera held upside down."""
    noise = np.random.default_rng(5).integers(0, 256, (61, 87, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    return written(Image.fromarray(noise), "PNG", exif=exif)


def test_pixels_are_pillows_to_the_bit(server, photo, tmp_path):
    """Bicubic and framed as transformers' files say; upright, blue first and side by side as our own document says."""
    pipeline.mirror(tmp_path / "model.onnx", (3, 48, 64))
    server.made("framed", tmp_path, preprocessor_config__json={
        "image_processor_type": "CLIPImageProcessor", "do_resize": True, "size": {"shortest_edge": 40}, "resample": 3,
        "do_center_crop": True, "crop_size": {"height": 48, "width": 64}, "do_rescale": True,
        "rescale_factor": 1 / 255, "do_normalize": True, "image_mean": [0.5, 0.25, 0.75], "image_std": [0.5, 1.0, 2.0],
    })
    image = pipeline.shortest(Image.open(io.BytesIO(photo)).convert("RGB"), 40, Image.Resampling.BICUBIC)
    framed = np.asarray(pipeline.middle(image, 48, 64)).astype(np.float64) / 255
    expected = ((framed - [0.5, 0.25, 0.75]) / [0.5, 1.0, 2.0]).transpose(2, 0, 1)
    assert np.allclose(server.predict("framed", {"b64": b64(photo)})[0], expected, atol=1e-6)

    upright = tmp_path / "upright"
    upright.mkdir()
    pipeline.mirror(upright / "model.onnx", (40, 30, 3))
    document = "image: {resize: [40, 30], filter: lanczos, rescale: 1, channels: bgr, layout: nhwc, orientation: exif}"
    server.made("upright", upright, processing__yaml=document)
    image = pipeline.upright(photo).resize((30, 40), Image.Resampling.LANCZOS)
    expected = np.asarray(image)[:, :, ::-1]
    assert np.array_equal(server.predict("upright", {"b64": b64(photo)})[0], expected)


def test_decoders_of_lossy_files_stay_close_to_pillows(server, tmp_path):
    """Not to the bit: they may round otherwise."""
    pipeline.mirror(tmp_path / "model.onnx", (96, 80, 3))
    server.made("decoded", tmp_path, processing__yaml="image: {crop: [96, 80], rescale: 1, layout: nhwc}")
    smooth = Image.fromarray(np.random.default_rng(8).integers(0, 256, (12, 10, 3), np.uint8)).resize((80, 96))
    for form, options in (
        ("JPEG", {"quality": 95, "subsampling": 0}), ("JPEG", {"quality": 75}), ("WEBP", {"quality": 80}),
    ):
        file = written(smooth, form, **options)
        gaps = np.abs(server.predict("decoded", {"b64": b64(file)})[0] - np.asarray(Image.open(io.BytesIO(file)), float))
        print(form, options, gaps.max(), gaps.mean())
        assert gaps.max() <= 4 and gaps.mean() <= 0.6, (form, options, gaps.max(), gaps.mean())


def test_a_file_of_labels_alone_names_what_a_network_says(server, tmp_path):
    pipeline.mirror(tmp_path / "model.onnx", (3,))
    server.made("named", tmp_path, labels__txt="cat\ndog\nbee\n")
    told = {"ids": ["2", "0", "1"], "displayNames": ["bee", "cat", "dog"], "confidences": [0.75, 0.25, 0.0]}
    assert server.predict("named", [0.25, 0, 0.75]) == [told]


def test_texts_become_tokens(server, tmp_path):
    """With MiniLM's own tokenizer, filled up to one length."""
    tokenizer = served.model_file("minilm").with_name("tokenizer.json")
    (tmp_path / "tokenizer.json").write_bytes(tokenizer.read_bytes())
    pipeline.tokens(tmp_path / "model.onnx", 8)
    server.made("tokens", tmp_path, processing__yaml="text: {max_length: 8}")
    rows = server.predict("tokens", "Hello world", {"text": "hello"})
    assert rows == [[101, 7592, 2088, 102, 0, 0, 0, 0], [101, 7592, 102, 0, 0, 0, 0, 0]]
    refused = server.predict("tokens", "hello " * 9, status=400)
    assert "instance 0: `text`: the text has 11 tokens; this model takes 8 at most" in refused


def test_cells_become_numbers(server, tmp_path):
    pipeline.mirror(tmp_path / "model.onnx", (3,))
    document = "table: {columns: [age, {name: city, categories: [Liège, Namur]}, {name: rooms, missing: 2}]}"
    server.made("cells", tmp_path, processing__yaml=document)
    rows = server.predict("cells", {"rooms": None, "age": 30, "city": "Namur"}, [31, "Liège", 4])
    assert rows == [[30, 1, 2], [31, 0, 4]]
    refused = server.predict("cells", [31, "Huy", 4], status=400)
    assert "instance 0: `city`: `Huy` is none of its 2 categories" in refused
    explained = server.explain("cells", [30, "Namur", 4], parameters={"label": "0"})
    attribution = explained["explanations"][0]["attributions"][0]
    assert attribution["featureAttributions"] == {"age": 30, "city": 0, "rooms": 0}
    arguments = ("--instance", '[30, "Namur", 4]', "--label", "0", "--heatmap", tmp_path / "shown.png")
    assert "has no picture" in server.command("explain", "cells", *arguments, code=1).stderr


def test_a_document_that_does_not_fit_is_refused_with_what_is_wrong(server, tmp_path, orientation_file):
    for document, said in (
        ("image: {crop: 224, sharpen: 1}", "image.sharpen: is not an option here"),
        ("image: {resize: 100}", "rows of shape [3, 100, 100], which the input `x: float32[?, 3, 224, 224]`"),
        ("image: {crop: 224}\noutput: {labels: [a, b]}", "2 labels, and the output `fetch_name_0: float32[?, 4]`"),
    ):
        (tmp_path / "p.yaml").write_text(document)
        arguments = ("import", orientation_file, "--name", "wrong", "--processing", tmp_path / "p.yaml")
        refused = server.command(*arguments, code=2 if "sharpen" in document else 1)
        assert said in refused.stderr, refused.stderr
