"""Which parts of a picture moved a model: values by area, and a picture that shows them."""

import base64
import io

import numpy as np
from PIL import Image

from conftest import PARENT, b64
from pipeline import page, written

SIDE = 64


def noise() -> bytes:
    pixels = np.random.default_rng(3).integers(0, 90, (SIDE, SIDE, 3), np.uint8)
    pixels[: SIDE // 2, : SIDE // 2] += 150
    return written(Image.fromarray(pixels), "PNG")


def drawn(share: dict) -> np.ndarray:
    image = Image.open(io.BytesIO(base64.b64decode(share["b64_png"])))
    assert image.format == "PNG" and image.mode == "RGB"
    return np.asarray(image).astype(int)


def redness(picture: np.ndarray) -> np.ndarray:
    return picture[:, :, 0] - picture[:, :, 2]


def test_the_part_that_the_network_looks_at_is_shown(server, corner):
    half = SIDE // 2
    for label, sign in (("bright", 1), ("dark", -1)):
        reply = server.explain(corner, {"b64": b64(noise())}, parameters={"label": label})
        attribution = reply["explanations"][0]["attributions"][0]
        assert attribution["outputDisplayName"] == label
        share = attribution["featureAttributions"]["image"]
        gap = attribution["instanceOutputValue"] - attribution["baselineOutputValue"]
        assert abs(sum(share["values"]) - gap) < 1e-4 and sign * gap > 0.05
        assert 20 <= len(share["values"]) <= 80
        red = sign * redness(drawn(share))
        assert red.shape == (SIDE, SIDE)
        inside, outside = red[:half, :half], np.concatenate([red[half:].ravel(), red[:half, half:].ravel()])
        # An area may reach a pixel or two over the edge.
        assert inside.mean() > 20 and abs(outside).mean() < inside.mean() / 8, (inside.mean(), outside.mean())


def test_it_is_the_same_each_time_and_counts_with_the_effort(server, corner):
    ask = lambda paths: server.explain(  # noqa: E731
        corner, {"b64": b64(noise())},
        explanationSpecOverride={"parameters": {"sampledShapleyAttribution": {"pathCount": paths}}},
    )["explanations"]
    assert ask(2) == ask(2)
    refused = server.post(
        f"/v1/{PARENT}/endpoints/{corner}:explain",
        {"instances": [{"b64": b64(noise())}], "explanationSpecOverride": {
            "metadata": {"inputs": {"image": {"inputBaselines": ["x"]}}}}},
    )
    assert refused.status_code == 400 and "measured from its mean colour" in refused.json()["error"]["message"]


def test_a_real_model_is_explained_at_the_command_line(server, orientation, tmp_path):
    file, shown = tmp_path / "page.webp", tmp_path / "shown.png"
    file.write_bytes(written(page(90), "WEBP", lossless=True))
    told = server.command(
        "explain", orientation, "--image", file, "--heatmap", shown, "--method", "shapley", "--effort", "2"
    )
    assert "areas:" in told.stdout and "for its mean colour alone" in told.stdout, told.stdout
    picture = np.asarray(Image.open(shown)).astype(int)
    assert picture.shape == (224, 224, 3) and abs(redness(picture)).max() > 50
