"""People who ask a language model and wait for the first piece of its answer."""

import http.client
import json
import os
import pathlib
import random
import subprocess
import sys
import time
import urllib.parse

import common

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL = "smollm2"
WORDS = """time year people way day man thing woman life child world school state family student group country problem
hand part place case week company system program question work government number night point home water room mother area
""".split()


def serve(meuse, *projects):
    """Puts the model behind an endpoint of each project."""
    models = pathlib.Path(os.environ.get("MEUSE_TEST_MODELS", common.ROOT / "target" / "models"))
    fetch = [sys.executable, str(common.ROOT / "tests/models/fetch.py"), "smollm2-135m"]
    subprocess.run(fetch, check=True, stdout=subprocess.DEVNULL)
    for project in projects or ("default",):
        for command in (["import", str(models / FILE), "--name", MODEL], ["deploy", MODEL]):
            command_line(meuse, *command, "--project", project)


def command_line(meuse, *command):
    """What the program prints, asked of this server."""
    environment = {**os.environ, "MEUSE_URL": meuse.url, "MEUSE_API_KEY": meuse.key}
    done = subprocess.run([common.BINARY, *command], env=environment, check=True, capture_output=True, text=True)
    return done.stdout


def prompt(number, words):
    """A question like no other."""
    chosen = random.Random(number)
    return f"{number}: " + " ".join(chosen.choice(WORDS) for _ in range(words)) + "."


def ask(url, key, text, tokens):
    """Milliseconds until the first text of an answer, all of which is read; `None` if it was refused."""
    body = {
        "model": MODEL, "max_tokens": tokens, "stream": True, "seed": 1,
        "messages": [{"role": "user", "content": text}],
    }
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=600)
    begun = time.perf_counter()
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    response, first = connection.getresponse(), None
    for line in response:
        if first is None and line.startswith(b"data: {"):
            choices = json.loads(line[6:])["choices"]
            if choices and choices[0]["delta"].get("content"):
                first = (time.perf_counter() - begun) * 1e3
    connection.close()
    return first if response.status == 200 else None


def ninety_ninth(values):
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.99))]
