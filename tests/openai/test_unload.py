"""A model that nobody asks for gives its memory back, and answers as before when somebody does."""

import pathlib
import re
import time

import requests

from conftest import Server, model_file

PATIENCE_SECONDS = 60


def metric(server: Server, name: str) -> float:
    headers = {"authorization": f"Bearer {server.key}"}
    text = requests.get(f"{server.url}/metrics", headers=headers, timeout=10).text
    return float(re.search(rf"^meuse:{name}\{{[^}}]*\}} (\S+)$", text, re.MULTILINE)[1])


def loaded(server: Server) -> bool:
    return metric(server, "model_loaded") == 1


def resident_mib(server: Server) -> float:
    status = pathlib.Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) / 1024


def wait_until_unloaded(server: Server):
    until = time.monotonic() + PATIENCE_SECONDS
    while loaded(server):
        assert time.monotonic() < until, "it stays loaded"
        time.sleep(0.2)


def test_an_idle_model_is_unloaded_and_loaded_again(tmp_path):
    server = Server(tmp_path / "data", "--unload-idle", "2s")
    try:
        name = server.serves(model_file("smollm2-135m"), "smol")
        ask = lambda: server.client().completions.create(model=name, prompt="Once upon a time", max_tokens=12, seed=1)
        before = ask()
        assert loaded(server)
        assert 0 < metric(server, "model_load_seconds") < PATIENCE_SECONDS
        with_model = resident_mib(server)
        wait_until_unloaded(server)
        # The engine's thread frees its memory after saying that it has ended.
        time.sleep(1)
        assert resident_mib(server) < with_model - 50
        again = ask()
        assert again.choices[0].text == before.choices[0].text
        assert again.system_fingerprint == before.system_fingerprint
        assert loaded(server)

        wait_until_unloaded(server)
        file = next(path for path in (tmp_path / "data" / "artifacts").rglob("*.gguf"))
        file.chmod(0o644)
        with open(file, "r+b") as damaged:
            damaged.seek(-1000, 2)
            damaged.write(b"\0" * 1000)
        refused = server.post("completions", '{"model": "smol", "prompt": "Once", "max_tokens": 4}')
        assert refused.status_code == 503, refused.text
        assert "not loaded" in refused.json()["error"]["message"]
        assert "changed since they were verified" in server.stderr()
        assert requests.get(f"{server.url}/health/ready", timeout=10).status_code == 200
    finally:
        server.stop()
