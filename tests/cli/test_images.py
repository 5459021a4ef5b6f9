"""Models that take image files: trained from names in a table, asked with the files themselves."""

import base64
import csv
import io
import random
import urllib.error
import urllib.request

import pytest
from PIL import Image

SPEC = """\
label: shape
features: [{image: photo, shape: [8, 8, 1]}]
layers:
  - {conv2d: 4, kernel_size: 3, activation: relu}
  - flatten
  - {dense: labels, activation: softmax}
epochs: 30
learning_rate: 0.01
seed: 1
"""


def stripes(direction: str, seed: int, size=(24, 20)) -> Image.Image:
    """A noisy picture of bars that stand or lie, wider than the network's input."""
    draw = random.Random(seed)
    image = Image.new("RGB", size)
    phase = draw.randrange(2)
    for x in range(size[0]):
        for y in range(size[1]):
            bar = 4 * x // size[0] if direction == "standing" else 4 * y // size[1]
            lit = (bar + phase) % 2
            image.putpixel((x, y), tuple(180 * lit + draw.randrange(60) for _ in range(3)))
    return image


def written(image: Image.Image, form: str) -> bytes:
    file = io.BytesIO()
    image.save(file, form)
    return file.getvalue()


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """`rows.csv` with the pictures it names beside it; one is missing, one is no picture."""
    directory = tmp_path_factory.mktemp("pictures")
    (directory / "photos").mkdir()
    rows = []
    for i in range(60):
        shape, form = ("standing", "lying")[i % 2], ("png", "jpeg")[i // 2 % 2]
        name = f"photos/{i}.{form}"
        (directory / name).write_bytes(written(stripes(shape, i), form))
        rows.append((name, shape))
    (directory / "photos" / "broken.png").write_bytes(b"\x89PNG and no more")
    rows.append(("photos/broken.png", "lying"))
    with open(directory / "rows.csv", "w", newline="") as file:
        csv.writer(file).writerows([("photo", "shape"), *rows])
    (directory / "spec.yaml").write_text(SPEC)
    return directory


@pytest.fixture(scope="module")
def model(cli, table):
    done = cli.json("train", table / "rows.csv", "--name", "bars", "--spec", table / "spec.yaml")
    faults = str(done)
    assert "row 60" in faults and "PNG file cannot be read" in faults, faults
    cli.run("deploy", "bars")
    return "bars"


def test_pictures_are_told_apart(cli, model, tmp_path):
    for shape in ("standing", "lying"):
        for form in ("png", "jpeg"):
            file = tmp_path / f"{shape}.{form}"
            file.write_bytes(written(stripes(shape, 99, (30, 40)), form))
            reply = cli.json("predict", model, "--image", file)
            assert reply["predictions"][0]["label"] == shape, (shape, form, reply)
            text = base64.b64encode(file.read_bytes()).decode()
            for instance in (f'"{text}"', f'{{"photo": "{text}"}}', f'"data:image/{form};base64,{text}"'):
                assert cli.json("predict", model, "--instance", instance)["predictions"] == reply["predictions"]


def put(cli, server, bucket: str, name: str, content: bytes) -> None:
    """Stores an object through the storage API, as `google-cloud-storage` would."""
    key = (cli.home / "meuse-data" / "admin.key").read_text().strip()
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}

    def post(path, body):
        request = urllib.request.Request(server.url + path, body, headers, method="POST")
        try:
            urllib.request.urlopen(request, timeout=30).read()
        except urllib.error.HTTPError as error:
            assert error.code == 409, error.read()

    post("/storage/v1/b?project=default", f'{{"name": "{bucket}"}}'.encode())
    post(f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={name}", content)


def test_a_batch_reads_its_pictures_from_buckets_and_keeps_their_names(cli, server, model, table, tmp_path):
    """By address and beside the table, or the file itself; what cannot be read is a failed row."""
    picture = (table / "photos" / "0.png").read_bytes()
    put(cli, server, "pictures", "elsewhere.png", picture)
    put(cli, server, "pictures", "table/beside.png", picture)
    lines = ["photo", "gs://pictures/elsewhere.png", "beside.png", base64.b64encode(picture).decode()]
    lines += ["absent.png", "no picture"]
    put(cli, server, "pictures", "table/rows.csv", "\n".join(lines).encode() + b"\n")
    cli.run("batch", model, "--input", "gs://pictures/table/rows.csv", "--output", tmp_path / "out")
    results = {path.name: path.read_text() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    rows = list(csv.DictReader(io.StringIO("".join(text for name, text in results.items() if "results" in name))))
    assert [row["photo"] for row in rows] == lines[1:4]
    assert [row["predicted_shape"] for row in rows] == ["standing"] * 3
    failed = "".join(text for name, text in results.items() if "error" in name)
    assert failed.count("\n") == 2 and "absent.png" in failed and "expected an image file" in failed, failed


def test_explained_pixel_by_pixel(cli, model, table):
    text = base64.b64encode((table / "photos" / "0.png").read_bytes()).decode()
    for method, values in (("integrated-gradients", 64), ("shapley", 1)):
        reply = cli.json("explain", model, "--instance", f'"{text}"', "--method", method)
        attribution = reply["explanations"][0]["attributions"][0]
        share = attribution["featureAttributions"]["photo"]
        share = share if isinstance(share, list) else [share]
        assert len(share) == values
        gap = attribution["instanceOutputValue"] - attribution["baselineOutputValue"]
        assert abs(sum(share) - gap) < 0.05, (method, sum(share), gap)


def test_what_is_no_picture_is_refused(cli, model):
    for instance, said in (('"cat"', "in base64"), ("5", "found a number"), ('"R0lGODlh"', "neither PNG, JPEG nor WebP")):
        text = cli.error("predict", model, "--instance", instance)
        assert "photo" in text and said in text, text
