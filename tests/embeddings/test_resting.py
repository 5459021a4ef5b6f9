"""Encoders that nobody asks give their memory back, and answer the next request as before."""

import time

import pytest

import graph
import tiny
from conftest import Server
from served import model_file

SOON_SECONDS = 30


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("resting") / "data", "--unload-idle", "1s")
    yield server
    assert server.stop() == 0, server.stderr()


def loaded(server, name: str) -> str:
    lines = server.ask("GET", "/metrics").text.splitlines()
    (line,) = [line for line in lines if line.startswith("meuse_encoder_loaded{") and f'"{name}"' in line]
    return line.rsplit(" ", 1)[1]


def until_it_rests(server, name: str):
    deadline = time.monotonic() + SOON_SECONDS
    while loaded(server, name) != "0":
        assert time.monotonic() < deadline, "it is still in memory"
        time.sleep(0.2)


def rank(server, name: str):
    told = server.post("rerank", {"model": name, "query": "the river", "documents": ["water flows", "a stone"]})
    return told.status_code, told.json()


@pytest.mark.parametrize("made", ["safetensors", "graph"])
def test_an_encoder_rests_and_comes_back(small, tmp_path, made):
    directory = tiny.write(tmp_path / made)
    if made == "graph":
        directory = graph.export(model_file("minilm").parent, tmp_path / "minilm-graph")
    small.serves(directory, made)

    def asked():
        if made == "graph":
            return small.post("embeddings", {"model": made, "input": ["the river", "a stone"]}).json()["data"]
        return rank(small, made)[1]["results"]

    before = asked()
    assert loaded(small, made) == "1"
    for _ in range(2):
        until_it_rests(small, made)
        assert asked() == before
        assert loaded(small, made) == "1"


def test_one_whose_files_were_changed_does_not_come_back(small, tmp_path):
    small.serves(tiny.write(tmp_path / "changed"), "changed")
    assert rank(small, "changed")[0] == 200
    until_it_rests(small, "changed")
    for path in (small.data / "artifacts").glob("*/files/config.json"):
        path.write_text(path.read_text() + " ")
    status, told = rank(small, "changed")
    assert status == 500 and "deploy it again" in str(told), told
