"""What the measurements share: our server, processes, the network that is measured, tables of results."""

import contextlib
import hashlib
import http.client
import json
import os
import pathlib
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = os.environ.get("MEUSE_BIN", str(ROOT / "target/release/meuse"))
LOAD = os.environ.get("MEUSE_LOAD", str(ROOT / "target/release/xtask"))
PARENT = "projects/default/locations/us-central1"


def note(text):
    print(text, file=sys.stderr, flush=True)


def use_two_cores():
    """Servers, jobs and load generators share the first two cores this process may use; children inherit it."""
    cores = sorted(os.sched_getaffinity(0))[:2]
    os.sched_setaffinity(0, cores)
    return cores


def machine():
    model = platform.processor()
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as info:
        model = next((line.split(":", 1)[1].strip() for line in info if line.startswith("model name")), model)
    return {"cpu": model, "cores": len(os.sched_getaffinity(0)), "python": platform.python_version()}


class Process:
    """A child process, stopped when the block ends. Its output goes to a log that is shown if it fails."""

    def __init__(self, command, environment=None):
        self.log = tempfile.NamedTemporaryFile(prefix="bench-", suffix=".log", delete=False)
        environment = {**os.environ, **(environment or {})}
        self.child = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT, env=environment)
        self.command = command

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(15)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
        os.unlink(self.log.name)

    def output(self):
        return pathlib.Path(self.log.name).read_text(errors="replace")

    def wait_for(self, found, what, seconds=60):
        """Polls until `found()` is true."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.child.poll() is not None:
                raise SystemExit(f"{self.command[0]} ended before {what}:\n{self.output()}")
            result = found()
            if result:
                return result
            time.sleep(0.05)
        raise SystemExit(f"{self.command[0]}: no {what} within {seconds} s:\n{self.output()}")

    def processor_seconds(self):
        """The time of processors that it and its children have taken so far."""
        ticks, processes = 0, [self.child.pid]
        while processes:
            process = pathlib.Path(f"/proc/{processes.pop()}")
            fields = (process / "stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
            for thread in (process / "task").iterdir():
                processes += (thread / "children").read_text().split()
        return ticks / os.sysconf("SC_CLK_TCK")

    def peak_memory_mib(self):
        """The most resident memory so far."""
        status = pathlib.Path(f"/proc/{self.child.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) / 1024


def answers(url, path="/"):
    """Whether the server at `url` answers 200."""
    try:
        return request(url, "GET", path)[0] == 200
    except OSError:
        return False


def request(url, method, path, body=None, headers=None):
    """(status, body) of one HTTP request. A file is sent from disk."""
    return exchange(url, method, path, body, headers)[:2]


def exchange(url, method, path, body=None, headers=None):
    """(status, body, headers) of one HTTP request."""
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=600)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        return response.status, response.read(), response.headers
    finally:
        connection.close()


class Meuse(Process):
    """Our server, on an empty data directory and a free port."""

    def __init__(self, *options, program=BINARY):
        self.directory = tempfile.TemporaryDirectory(prefix="bench-meuse-")
        self.data = pathlib.Path(self.directory.name)
        command = [program, "serve", "--data", str(self.data), "--listen", "127.0.0.1:0", *options]
        super().__init__(command, {"MEUSE_LOG": "warn"})

    def __enter__(self):
        found = self.wait_for(lambda: re.search(r"listening on (http://\S+)", self.output()), "address")
        self.url = found.group(1)
        self.wait_for(lambda: answers(self.url, "/health/ready"), "readiness")
        self.key = (self.data / "admin.key").read_text().strip()
        return self

    def __exit__(self, *arguments):
        super().__exit__(*arguments)
        self.directory.cleanup()

    def api(self, method, path, body=None, raw=None, content_type="application/json"):
        headers = {"authorization": f"Bearer {self.key}", "content-type": content_type}
        payload = raw if raw is not None else json.dumps(body) if body is not None else None
        status, answer = request(self.url, method, path, payload, headers)
        if status >= 300:
            raise SystemExit(f"{method} {path}: {status} {answer.decode(errors='replace')}")
        return json.loads(answer) if answer else None

    def operate(self, path, body):
        """Starts a long-running operation and waits for its response."""
        operation = self.api("POST", path, body)
        while not operation.get("done"):
            time.sleep(0.02)
            operation = self.api("GET", f"/v1/{operation['name']}")
        if "error" in operation:
            raise SystemExit(f"{path}: {operation['error']}\n{self.output()}")
        return operation["response"]

    def import_model(self, path, name):
        """Registers an ONNX file: the model's resource name."""
        uri = self.put_object("models", f"{name}/model.onnx", path).rsplit("/", 1)[0]
        body = {"model": {"displayName": name, "artifactUri": uri}}
        return self.operate(f"/v1/{PARENT}/models:upload", body)["model"]

    def deploy(self, model):
        """Puts a model behind a new endpoint: the endpoint's resource name."""
        endpoint = self.operate(f"/v1/{PARENT}/endpoints", {"displayName": "bench"})["name"]
        deployed = {"model": model, "dedicatedResources": {"minReplicaCount": 1}}
        split = {"deployedModel": deployed, "trafficSplit": {"0": 100}}
        self.operate(f"/v1/{endpoint}:deployModel", split)
        return endpoint

    def train(self, path, name, specification):
        """Trains a model on a CSV file: its resource name."""
        uri = self.put_object("rows", f"{name}.csv", path)
        dataset = self.operate(
            f"/v1/{PARENT}/datasets",
            {
                "displayName": name,
                "metadataSchemaUri": "gs://google-cloud-aiplatform/schema/dataset/metadata/tabular_1.0.0.yaml",
                "metadata": {"inputConfig": {"gcsSource": {"uri": [uri]}}},
            },
        )["name"]
        job = self.api(
            "POST",
            f"/v1/{PARENT}/trainingPipelines",
            {
                "displayName": name,
                "trainingTaskDefinition": "gs://meuse/schema/trainingjob/definition/network_1.0.0.yaml",
                "trainingTaskInputs": specification,
                "inputDataConfig": {"datasetId": dataset.rsplit("/", 1)[1]},
                "modelToUpload": {"displayName": name},
            },
        )
        return self.finished(job)["modelToUpload"]["name"]

    def finished(self, job):
        """The job once it has succeeded."""
        done = {"JOB_STATE_SUCCEEDED", "PIPELINE_STATE_SUCCEEDED", 4}
        failed = {"JOB_STATE_FAILED", "PIPELINE_STATE_FAILED", 5, "JOB_STATE_CANCELLED", "PIPELINE_STATE_CANCELLED", 7}
        while job["state"] not in done:
            if job["state"] in failed:
                raise SystemExit(f"{job['name']} ended as {job['state']}: {job.get('error')}\n{self.output()}")
            time.sleep(0.02)
            job = self.api("GET", f"/v1/{job['name']}")
        return job

    def put_object(self, bucket, name, path):
        """Copies a file into a local bucket."""
        headers = {"authorization": f"Bearer {self.key}", "content-type": "application/json"}
        request(self.url, "POST", "/storage/v1/b?project=default", json.dumps({"name": bucket}), headers)
        target = f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={urllib.parse.quote(name, safe='')}"
        with open(path, "rb") as file:
            self.api("POST", target, raw=file, content_type="application/octet-stream")
        return f"gs://{bucket}/{name}"

    def batch(self, model, uri, output_prefix):
        """Runs a batch prediction to its end: (seconds, job)."""
        begun = time.perf_counter()
        job = self.api(
            "POST",
            f"/v1/{PARENT}/batchPredictionJobs",
            {
                "displayName": "bench",
                "model": model,
                "inputConfig": {"instancesFormat": "csv", "gcsSource": {"uris": [uri]}},
                "outputConfig": {
                    "predictionsFormat": "csv",
                    "gcsDestination": {"outputUriPrefix": output_prefix},
                },
            },
        )
        job = self.finished(job)
        return time.perf_counter() - begun, job

    def objects(self, uri_prefix):
        """The names of the objects under a `gs://` prefix."""
        bucket, prefix = uri_prefix.removeprefix("gs://").split("/", 1)
        listed = self.api("GET", f"/storage/v1/b/{bucket}/o?prefix={urllib.parse.quote(prefix, safe='')}")
        return [item["name"] for item in listed.get("items", [])]


def write_network(path, seed=0):
    """Dense 64 relu on 100 inputs, dense 64 relu, dense 10 softmax, as ONNX with an open batch dimension."""
    random = np.random.default_rng(seed)
    sizes = [100, 64, 64, 10]
    nodes, weights = [], []
    current = "input"
    for layer, (inputs, outputs) in enumerate(zip(sizes, sizes[1:])):
        scale = np.sqrt(6.0 / (inputs + outputs))
        kernel = random.uniform(-scale, scale, (inputs, outputs)).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"kernel{layer}"))
        weights.append(numpy_helper.from_array(np.zeros(outputs, np.float32), f"bias{layer}"))
        nodes.append(helper.make_node("Gemm", [current, f"kernel{layer}", f"bias{layer}"], [f"dense{layer}"]))
        last = layer == len(sizes) - 2
        current = "output" if last else f"relu{layer}"
        options = {"axis": -1} if last else {}
        nodes.append(helper.make_node("Softmax" if last else "Relu", [f"dense{layer}"], [current], **options))
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 100])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 10])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def sha256(content):
    """The SHA-256 of bytes, in lower-case hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def median(values):
    return statistics.median(values)


def table(rows):
    """Prints rows of text under a head, aligned."""
    widths = [max(len(str(row[i])) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = (str(cell).ljust(width) if i == 0 else str(cell).rjust(width) for i, (cell, width) in enumerate(zip(row, widths)))
        print("  ".join(cells))
