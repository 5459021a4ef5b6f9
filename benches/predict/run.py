"""Online prediction: requests a second and latency of our server beside FastAPI + uvicorn + onnxruntime.

    cargo xtask bench predict [--rounds 5] [--seconds 6] [--connections 64] [--instances 1] [--quota] [--against PROGRAM] [--wrk] [--json FILE]

The same ONNX network (100-64-64-10), the same JSON body over kept-alive connections, one instance a request. All
servers and the load generator share two cores. Rounds are interleaved: each server once a round, in turning order;
the medians over rounds are reported. Every server's answer is compared with onnxruntime's before anything is measured.

The peers: `plain`, the usual FastAPI server, run as `uvicorn` runs it by default; and `tuned`, with uvloop, httptools,
orjson, no validation, no access log, and two workers for the two cores. With `--against` there is one peer in their
place: another build of this program, say of the commit before a change, and what counts is the ratio in each round.
"""

import argparse
import contextlib
import json
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import common  # noqa: E402
import people  # noqa: E402

import numpy as np  # noqa: E402
import onnxruntime  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Peer(common.Process):
    """uvicorn with one of the servers beside this file."""

    def __init__(self, module, model, *options):
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "uvicorn", f"{module}:app", "--app-dir", str(HERE), "--port", str(port)]
        super().__init__([*command, *options], {"MODEL": str(model)})

    def __enter__(self):
        self.wait_for(lambda: common.answers(self.url), "answer")
        return self


class Target:
    """Something to measure: a URL that takes the body."""

    def __init__(self, name, process, path, key=None):
        self.name, self.process, self.path, self.key = name, process, path, key
        self.url = process.url
        self.rounds = []

    def predict(self, body):
        headers = {"content-type": "application/json"}
        if self.key:
            headers["authorization"] = f"Bearer {self.key}"
        status, answer = common.request(self.url, "POST", self.path, body, headers)
        assert status == 200, f"{self.name}: {status} {answer[:500]}"
        return json.loads(answer)["predictions"]

    def measure(self, body_file, args):
        """One round: what the generator saw, and the microseconds of processors that the server took for a request."""
        before = self.process.processor_seconds()
        figures = wrk(self, body_file, args) if args.wrk else self.load(body_file, args)
        took = self.process.processor_seconds() - before
        return {**figures, "processor_us": took * 1e6 / (figures["requests"] + figures["unmeasured"])}

    def load(self, body_file, args):
        command = [common.LOAD, "load", self.url + self.path, "--body", str(body_file)]
        command += ["--connections", str(args.connections), "--seconds", str(args.seconds)]
        if self.key:
            command += ["--bearer", self.key]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{self.name}: {done.stderr}")
        return json.loads(done.stdout)


def wrk(target, body_file, args):
    """The same through Debian's `wrk`, with two threads."""
    script = f"""
wrk.method = "POST"
local file = io.open("{body_file}", "rb")
wrk.body = file:read("*a")
wrk.headers["content-type"] = "application/json"
{f'wrk.headers["authorization"] = "Bearer {target.key}"' if target.key else ""}
done = function(summary, latency)
  io.write(string.format("RESULT %d %f %f %f %d\\n", summary.requests, summary.requests / summary.duration * 1e6,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout))
end
"""
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script)
        file.flush()
        command = ["wrk", "-t2", f"-c{args.connections}", f"-d{max(1, round(args.seconds))}s", "-s", file.name, target.url + target.path]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"RESULT (\S+) (\S+) (\S+) (\S+) (\d+)", done.stdout)
    requests, rate, p50, p99, errors = (float(value) for value in found.groups())
    figures = {"requests_per_second": rate, "p50_ms": p50, "p99_ms": p99, "errors": int(errors)}
    return {"requests": requests, "unmeasured": 0, **figures}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=6)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--instances", type=int, default=1, help="rows a request")
    parser.add_argument("--quota", action="store_true", help="ask ours also with a project's key under quotas and a price")
    parser.add_argument("--against", type=pathlib.Path, metavar="PROGRAM", help="another build of meuse, in place of the peers")
    parser.add_argument("--wrk", action="store_true", help="generate the load with wrk instead of xtask")
    parser.add_argument("--peers-only", action="store_true", help="leave our server out")
    parser.add_argument("--json", type=pathlib.Path, help="also write the figures here")
    args = parser.parse_args()
    if args.wrk and not shutil.which("wrk"):
        raise SystemExit("wrk is not installed (Debian: apt-get install wrk); leave --wrk out to use ours")
    common.use_two_cores()
    with tempfile.TemporaryDirectory(prefix="bench-predict-") as directory:
        report(args, run(args, pathlib.Path(directory)))


def run(args, directory):
    model = directory / "network.onnx"
    common.write_network(model)
    rows = np.random.default_rng(1).normal(size=(args.instances, 100)).round(4)
    body = json.dumps({"instances": rows.tolist()})
    body_file = directory / "body.json"
    body_file.write_text(body)
    expected = onnxruntime.InferenceSession(str(model)).run(None, {"input": rows.astype(np.float32)})[0]

    with contextlib.ExitStack() as stack:
        start = stack.enter_context
        if args.against:
            targets = [deployed(f"against {args.against.name}", start(common.Meuse(program=args.against.resolve())), model)]
        else:
            targets = [
                Target("FastAPI, plain", start(Peer("plain_server", model)), "/predict"),
                Target(
                    "FastAPI, tuned",
                    start(Peer("tuned_server", model, "--workers", "2", "--no-access-log", "--log-level", "warning")),
                    "/predict",
                ),
            ]
        if not args.peers_only:
            ours = deployed("meuse", start(common.Meuse()), model)
            targets.append(ours)
            if args.quota:
                targets.append(Target("meuse, with quotas", ours.process, ours.path, limited_key(ours.process)))
        for target in targets:
            found = np.array(target.predict(body))
            assert np.allclose(found, expected, atol=1e-5), f"{target.name} answers something else"
        for number in range(args.rounds):
            for target in targets[number % len(targets) :] + targets[: number % len(targets)]:
                figures = target.measure(body_file, args)
                target.rounds.append(figures)
                common.note(f"round {number + 1}: {target.name}: {figures['requests_per_second']:.0f} requests/s")
        return [(target.name, target.rounds) for target in targets]


def deployed(name, meuse, model):
    """A server of ours behind whose endpoint the model is, asked with the key that it made at its first start."""
    endpoint = meuse.deploy(meuse.import_model(model, "network"))
    return Target(name, meuse, f"/v1/{endpoint}:predict", meuse.key)


def limited_key(meuse):
    """A key that stands under quotas, and whose project does, none of which this measurement reaches."""
    key = json.loads(people.command_line(meuse, "keys", "create", "--role", "invoker", "--project", "default", "--json"))
    limits = ["--requests-per-minute", "1000000000", "--concurrent-requests", "100000", "--monthly-budget", "1000000"]
    for scope in ["projects/default", f"keys/{key['id']}"]:
        people.command_line(meuse, "quota", "set", scope, *limits)
    people.command_line(meuse, "quota", "price", "network", "--predictions", "0.0001")
    return key["key"]


def report(args, measured):
    figures = {}
    for name, rounds in measured:
        middle = {
            key: common.median([r[key] for r in rounds])
            for key in ["requests_per_second", "p50_ms", "p99_ms", "processor_us"]
        }
        figures[name] = {**middle, "errors": sum(r["errors"] for r in rounds), "rounds": rounds}
    peers = [name for name in figures if not name.startswith("meuse")]
    rows = [("", "requests/s", "p50 ms", "p99 ms", "processor us", "errors", *(f"times {peer}" for peer in peers))]
    for name, f in figures.items():
        cells = [f"{f['requests_per_second']:.0f}", *(f"{f[key]:.2f}" for key in ["p50_ms", "p99_ms", "processor_us"])]
        ratios = [f"{common.median(times(f, figures[peer])):.{2 if args.against else 1}f}" for peer in peers]
        rows.append((name, *cells, f["errors"], *ratios))
    machine = common.machine()
    generator = "wrk" if args.wrk else "xtask load"
    print(
        f"{args.instances} row(s) a request, {args.connections} connections, {args.rounds} interleaved rounds of "
        f"{args.seconds:g} s, {machine['cores']} cores shared with {generator}, {machine['cpu']}\n"
    )
    common.table(rows)
    if args.against:
        print()
        for name in figures:
            by_round = " ".join(f"{ratio:.3f}" for ratio in times(figures[name], figures[peers[0]]))
            print(f"{name}: {by_round} times {peers[0]} in each round")
    if args.json:
        args.json.write_text(json.dumps({"machine": machine, "options": vars(args), "figures": figures}, default=str))


def times(figures, others):
    """How many times the requests a second of others, in each round."""
    rounds = zip(figures["rounds"], others["rounds"])
    return [ours["requests_per_second"] / theirs["requests_per_second"] for ours, theirs in rounds]


if __name__ == "__main__":
    main()
