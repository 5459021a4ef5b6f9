"""Networks made elsewhere: requests a second and latency of our server beside FastAPI + uvicorn + onnxruntime.

    cargo xtask bench tensor [--rounds 3] [--seconds 4] [--models MLP,MiniLM,vision] [--json FILE]

A dense network (100-64-64-10), MiniLM on 128 tokens, and a small convolutional network on a 48x192 image, one row a
request. Ours is asked through KServe v2 with binary tensors, the peers with the same bytes and nothing around them. Our
server runs twice: as it comes, and with ONNX Runtime's library, that of the peers (`meuse serve --onnxruntime`). All
share two cores with the load generator. Every answer is compared with onnxruntime's before anything is measured.

At one connection, what is beyond the network's own time is the server's: our median latency less the mean time that a
run took by its own metrics, of which the load generator's part is some.
"""

import argparse
import contextlib
import json
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import common  # noqa: E402

import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402

from models import all_of  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
LOADS = {"alone": 1, "busy": 64}
KSERVE = {np.dtype(np.float32): "FP32", np.dtype(np.int64): "INT64"}


class Peer(common.Process):
    """uvicorn with one of the servers beside this file."""

    def __init__(self, name, module, model, *options):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        self.name, self.url, self.path = name, f"http://127.0.0.1:{port}", "/predict"
        self.headers = {"content-type": "application/octet-stream"}
        command = [sys.executable, "-m", "uvicorn", f"{module}:app", "--app-dir", str(HERE), "--port", str(port)]
        ports = [{"name": n, "type": str(v.dtype), "shape": v.shape} for n, v in model.inputs.items()]
        super().__init__([*command, *options], {"MODEL": str(model.path), "PORTS": json.dumps(ports)})
        self.body = b"".join(value.tobytes() for value in model.inputs.values())

    def __enter__(self):
        self.wait_for(lambda: common.answers(self.url), "answer")
        return self

    def inside_us(self):
        return None


class Ours(common.Meuse):
    """Our server, asked through KServe v2."""

    def __init__(self, name, model, library=None):
        super().__init__(*(["--onnxruntime", str(library)] if library else []))
        self.name, self.model = name, model

    def __enter__(self):
        super().__enter__()
        self.deploy(self.import_model(self.model.path, "measured"))
        self.path = "/v2/models/measured/infer"
        inputs = [
            {
                "name": name,
                "datatype": KSERVE[value.dtype],
                "shape": value.shape,
                "parameters": {"binary_data_size": value.nbytes},
            }
            for name, value in self.model.inputs.items()
        ]
        outputs = [{"name": self.model.output, "parameters": {"binary_data": True}}]
        head = json.dumps({"inputs": inputs, "outputs": outputs}).encode()
        self.body = head + b"".join(value.tobytes() for value in self.model.inputs.values())
        self.headers = {"inference-header-content-length": str(len(head)), "authorization": f"Bearer {self.key}"}
        return self

    def inside_us(self):
        """Runs so far, and the microseconds that they took."""
        headers = {"authorization": f"Bearer {self.key}"}
        text = common.request(self.url, "GET", "/metrics", None, headers)[1].decode()
        figure = lambda name: float(re.search(rf"^nv_inference_{name}\{{[^}}]*\}} (\S+)", text, re.M).group(1))
        return figure("exec_count"), figure("compute_infer_duration_us")


def ask(server):
    status, answer, headers = common.exchange(server.url, "POST", server.path, server.body, server.headers)
    assert status == 200, f"{server.name}: {status} {answer[:500]}"
    length = headers.get("inference-header-content-length")
    return np.frombuffer(answer[int(length) :] if length else answer, np.float32)


def measure(server, body_file, connections, seconds):
    command = [common.LOAD, "load", server.url + server.path, "--body", str(body_file)]
    command += ["--connections", str(connections), "--seconds", str(seconds)]
    for name, value in server.headers.items():
        command += ["--header", f"{name}: {value}"]
    before = server.inside_us()
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{server.name}: {done.stderr}")
    figures = json.loads(done.stdout)
    if figures["errors"]:
        raise SystemExit(f"{server.name}: {figures['errors']} of {figures['requests']} requests failed")
    if before:
        runs, took = (after - earlier for after, earlier in zip(server.inside_us(), before))
        figures["run_ms"] = took / max(runs, 1) / 1000
    return figures


class InProcess:
    """onnxruntime in Python, one thread, no server."""

    name = "onnxruntime in Python"

    def __init__(self, model):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(model.path), options, providers=["CPUExecutionProvider"])
        self.inputs = model.inputs

    def answer(self):
        return self.session.run(None, self.inputs)[0]

    def measure(self, seconds):
        took, until = [], time.perf_counter() + seconds
        while time.perf_counter() < until:
            begun = time.perf_counter()
            self.answer()
            took.append(time.perf_counter() - begun)
        return {"p50_ms": common.median(took) * 1000}


def run(args, model, directory):
    library = next(pathlib.Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*"))
    raw = InProcess(model)
    expected = raw.answer().ravel()
    tuned = ("--workers", "2", "--no-access-log", "--log-level", "warning")
    with contextlib.ExitStack() as stack:
        servers = [
            Peer("FastAPI, plain", "plain_server", model),
            Peer("FastAPI, tuned", "tuned_server", model, *tuned),
            Ours("meuse", model),
            Ours("meuse with the library", model, library),
        ]
        rounds = {server.name: {load: [] for load in LOADS} for server in servers}
        rounds[raw.name] = {"alone": []}
        bodies = {}
        for server in servers:
            stack.enter_context(server)
            found = ask(server)
            assert np.allclose(found, expected, rtol=1e-3, atol=1e-4), f"{server.name} answers something else"
            bodies[server.name] = directory / f"{len(bodies)}.body"
            bodies[server.name].write_bytes(server.body)
        for number in range(args.rounds):
            rounds[raw.name]["alone"].append(raw.measure(args.seconds / 2))
            for server in servers[number % len(servers) :] + servers[: number % len(servers)]:
                for load, connections in LOADS.items():
                    figures = measure(server, bodies[server.name], connections, args.seconds)
                    rounds[server.name][load].append(figures)
                    common.note(f"{model.name}, round {number + 1}, {server.name}, {load}: {figures}")
    return rounds


def report(model, rounds):
    middle = lambda name, load, key: common.median([r[key] for r in rounds[name][load]])
    rows = [("", "alone p50 ms", "of it the network", "beyond it us", "busy requests/s", "p99 ms", "times plain", "times tuned")]
    rows.append(("onnxruntime in Python", f"{middle('onnxruntime in Python', 'alone', 'p50_ms'):.3f}", *[""] * 6))
    plain, tuned = (middle(f"FastAPI, {kind}", "busy", "requests_per_second") for kind in ["plain", "tuned"])
    for name in (name for name in rounds if "busy" in rounds[name]):
        alone, rate = middle(name, "alone", "p50_ms"), middle(name, "busy", "requests_per_second")
        inside = middle(name, "alone", "run_ms") if "run_ms" in rounds[name]["alone"][0] else None
        beyond = ("", "") if inside is None else (f"{inside:.3f}", f"{(alone - inside) * 1000:.0f}")
        rows.append(
            (name, f"{alone:.3f}", *beyond, f"{rate:.0f}", f"{middle(name, 'busy', 'p99_ms'):.1f}", f"{rate / plain:.2f}", f"{rate / tuned:.2f}")
        )
    print(f"\n{model.name}")
    common.table(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--models", default="MLP,MiniLM,vision")
    parser.add_argument("--json", type=pathlib.Path, help="also write the figures here")
    args = parser.parse_args()
    common.use_two_cores()
    machine, figures = common.machine(), {}
    print(f"one row a request, {args.rounds} interleaved rounds of {args.seconds:g} s, {machine['cores']} cores shared with the load generator, {machine['cpu']}")
    with tempfile.TemporaryDirectory(prefix="bench-tensor-") as directory:
        directory = pathlib.Path(directory)
        for model in all_of(directory):
            if model.name in args.models.split(","):
                figures[model.name] = run(args, model, directory)
                report(model, figures[model.name])
    if args.json:
        args.json.write_text(json.dumps({"machine": machine, "options": vars(args), "figures": figures}, default=str))


if __name__ == "__main__":
    main()
