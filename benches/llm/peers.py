"""The servers that benches/llm measures: ours, llama.cpp's and OpenVINO GenAI's, each on a free port."""

import hashlib
import os
import pathlib
import re
import socket
import subprocess
import sys
import tarfile
import urllib.request

import common

HERE = pathlib.Path(__file__).resolve().parent
BUILD = common.ROOT / "target" / "bench-llm"
# llama.cpp travels in this source distribution on PyPI.
SOURCE = ("llama-cpp-python", "0.3.36", "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def llama_server():
    """The path of `llama-server`, built for this CPU where that has not been done; `LLAMA_SERVER` names another."""
    if "LLAMA_SERVER" in os.environ:
        return os.environ["LLAMA_SERVER"]
    name, version, digest = SOURCE
    program = BUILD / f"llama.cpp-{version}" / "bin" / "llama-server"
    if program.exists():
        return str(program)
    common.note("building llama.cpp for this CPU, once (about twenty minutes on two cores)")
    BUILD.mkdir(parents=True, exist_ok=True)
    archive = BUILD / f"llama_cpp_python-{version}.tar.gz"
    if not archive.exists():
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-build-isolation"]
        download += ["--no-binary", name, "--dest", str(BUILD), f"{name}=={version}"]
        subprocess.run(download, check=True)
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    if found != digest:
        raise SystemExit(f"{archive} has the SHA-256 {found}, not {digest}; delete it")
    with tarfile.open(archive) as tar:
        tar.extractall(BUILD, filter="data")
    tools = pathlib.Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
    source = BUILD / f"llama_cpp_python-{version}" / "vendor" / "llama.cpp"
    tree = program.parent.parent
    options = ["CMAKE_BUILD_TYPE=Release", "GGML_NATIVE=ON", "BUILD_SHARED_LIBS=OFF", "LLAMA_CURL=OFF"]
    options += ["LLAMA_BUILD_TESTS=OFF", "LLAMA_BUILD_EXAMPLES=OFF"]
    configure = ["cmake", "-G", "Ninja", "-S", str(source), "-B", str(tree), *(f"-D{option}" for option in options)]
    for command in [configure, ["ninja", "-C", str(tree), "llama-server"]]:
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return str(program)


class Meuse(common.Meuse):
    """Our server with the file deployed as `model`."""

    name = "meuse"

    def __init__(self, path, _streams, _context):
        super().__init__()
        self.path = path

    def __enter__(self):
        super().__enter__()
        environment = {**os.environ, "MEUSE_URL": self.url, "MEUSE_API_KEY": self.key}
        for command in [["import", str(self.path), "--name", "model"], ["deploy", "model"]]:
            subprocess.run([common.BINARY, *command], env=environment, check=True, stdout=subprocess.DEVNULL)
        return self

    def load_seconds(self):
        """How long the file took to load; it had just been stored, so that the page cache held it."""
        request = urllib.request.Request(f"{self.url}/metrics", headers={"authorization": f"Bearer {self.key}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return float(re.search(rb"^meuse:model_load_seconds\{.*\} (\S+)$", answer.read(), re.MULTILINE)[1])


class LlamaServer(common.Process):
    """llama.cpp's server: a slot for each stream, both cores for both phases."""

    name = "llama-server"
    key = None

    def __init__(self, path, streams, context):
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        threads = str(len(os.sched_getaffinity(0)))
        command = [llama_server(), "--model", str(path), "--host", "127.0.0.1", "--port", str(port)]
        command += ["--parallel", str(streams), "--ctx-size", str(streams * context)]
        command += ["--threads", threads, "--threads-batch", threads, "--log-disable"]
        super().__init__(command)

    def __enter__(self):
        self.wait_for(lambda: common.answers(self.url, "/health"), "readiness", 300)
        return self


class OpenVino(common.Process):
    """OpenVINO GenAI's continuous batching behind `openvino_server.py`."""

    name = "OpenVINO GenAI"
    key = None

    def __init__(self, path, _streams, _context):
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        super().__init__([sys.executable, str(HERE / "openvino_server.py"), str(path), str(port)])

    def __enter__(self):
        self.wait_for(lambda: common.answers(self.url), "readiness", 600)
        return self


SERVERS = {"meuse": Meuse, "llama-server": LlamaServer, "openvino": OpenVino}
