"""Explaining a language model's answer: what it costs beside the naive way, and how far the fast way can be trusted.

    cargo xtask bench explain [--model smollm2-135m] [--spans 50] [--words 12] [--rounds 3] [--json FILE]

A prompt of `--spans` sentences, about 1,000 tokens, and a given answer. Three ways, in interleaved rounds, every round
with a text of its own, so that no round finds what another computed:

- naive: one request for each sentence, the prompt without it, and one for the whole; each begins with words of its own, so
  that every prompt is computed from its first token. Sixteen at a time, as the other ways have them.
- removal: one call of `explain` by leave-one-out, which computes shared beginnings once.
- hidden: one call of `explain` that computes the prompt once and hides each sentence's keys while the answer is scored.

Both calls are without the deletion test. Reported: medians, ratios to the naive way, and Spearman's rank correlation
between the values of removal and of hidden.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import random
import statistics
import subprocess
import sys
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import common  # noqa: E402

FILES = {
    "smollm2-135m": "SmolLM2-135M-Instruct.Q4_1.gguf",
    "qwen2.5-coder-0.5b": "Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf",
}
PLACES = "market school library harbour bakery bridge mill station valley tower garden castle".split()
THINGS = "apples ropes maps bells lamps coats clocks boats drums kites nails books".split()
WORDS = "old red small heavy quiet bright narrow wooden early famous empty cheap".split()
IN_FLIGHT = 16
ENDPOINT = f"{common.PARENT}/endpoints/model"


def sentences(seed, count, words):
    """Sentences that say different things, the middle one of which the question is about."""
    chosen = random.Random(seed)
    said = [
        f" At the {chosen.choice(PLACES)} number {number} they keep "
        + " ".join(chosen.choice(WORDS) for _ in range(words - 8))
        + f" {chosen.choice(THINGS)}."
        for number in range(count - 1)
    ]
    said.insert(count // 2, f" The password of room {seed} is {chosen.choice(THINGS)}.")
    return said


class Client:
    def __init__(self, server):
        self.server = server

    def post(self, path, body):
        headers = {"authorization": f"Bearer {self.server.key}", "content-type": "application/json"}
        request = urllib.request.Request(f"{self.server.url}{path}", json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=600) as answer:
            return json.load(answer)

    def explain(self, text, answer, method):
        """The sentences' values, and the seconds that it took."""
        parameters = {"spans": "sentence", "method": method, "deletion_test": False}
        body = {"instances": [{"prompt": text, "answer": answer}], "parameters": parameters}
        begun = time.perf_counter()
        reply = self.post(f"/v1/{ENDPOINT}:explain", body)
        took = time.perf_counter() - begun
        return reply["explanations"][0]["attributions"][0]["featureAttributions"]["prompt"], took

    def naive(self, seed, said, question):
        """The seconds that one computed prompt for each sentence and one for the whole take."""
        prompts = ["".join(said)] + ["".join(said[:place] + said[place + 1 :]) for place in range(len(said))]

        def one(numbered):
            number, prompt = numbered
            body = {"model": "model", "prompt": f"Run {seed} of text {number}.{prompt}{question}", "max_tokens": 1}
            return self.post("/v1/completions", {**body, "temperature": 0})["usage"]

        begun = time.perf_counter()
        with concurrent.futures.ThreadPoolExecutor(IN_FLIGHT) as pool:
            usages = list(pool.map(one, enumerate(prompts)))
        took = time.perf_counter() - begun
        shared = max(usage["prompt_tokens_details"]["cached_tokens"] for usage in usages)
        if shared > 32:
            raise SystemExit(f"a naive prompt found {shared} tokens computed: the comparison is not one")
        return usages[0]["prompt_tokens"], took


def ranks(values):
    order = sorted(range(len(values)), key=values.__getitem__)
    found = [0] * len(values)
    for rank, place in enumerate(order):
        found[place] = rank
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=FILES, default="smollm2-135m")
    parser.add_argument("--spans", type=int, default=50)
    parser.add_argument("--words", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=pathlib.Path)
    args = parser.parse_args()
    common.use_two_cores()
    fetch = [sys.executable, str(common.ROOT / "tests" / "models" / "fetch.py"), args.model]
    path = subprocess.run(fetch, check=True, capture_output=True, text=True).stdout.split()[-1]
    rounds = []
    with common.Meuse() as server:
        environment = {**os.environ, "MEUSE_URL": server.url, "MEUSE_API_KEY": server.key}
        for command in [["import", path, "--name", "model"], ["deploy", "model"]]:
            subprocess.run([common.BINARY, *command], env=environment, check=True, stdout=subprocess.DEVNULL)
        client = Client(server)
        for number in range(args.rounds):
            figures = {}
            ways = ["naive", "leave_one_out", "hidden"]
            for way in ways[number % 3 :] + ways[: number % 3]:
                said = sentences(1000 + 10 * number + ways.index(way), args.spans - 1, args.words)
                question = " What is the password?"
                if way == "naive":
                    figures["prompt_tokens"], figures[way] = client.naive(number, [*said, question], "")
                else:
                    _, figures[way] = client.explain("".join(said) + question, " The password is", way)
            # The same text both ways, for their agreement; after the clock.
            said = "".join(sentences(number, args.spans - 1, args.words)) + " What is the password?"
            both = [ranks(client.explain(said, " The password is", way)[0]) for way in ways[1:]]
            figures["rank_correlation"] = statistics.correlation(*both)
            rounds.append(figures)
            common.note(json.dumps(figures))
    median = {name: statistics.median(figures[name] for figures in rounds) for name in rounds[0]}
    print(f"{args.model}, {args.spans} spans, {median['prompt_tokens']:.0f} prompt tokens, {common.machine()['cpu']}")
    print(f"naive    {median['naive']:7.2f} s")
    for way, name in [("leave_one_out", "removal"), ("hidden", "hidden")]:
        ratio = statistics.median(figures["naive"] / figures[way] for figures in rounds)
        print(f"{name:8} {median[way]:7.2f} s, {ratio:.1f} times cheaper")
    print(f"rank correlation of hidden with removal: {median['rank_correlation']:.2f}")
    if args.json:
        args.json.write_text(json.dumps({"machine": common.machine(), "rounds": rounds}, indent=1))


if __name__ == "__main__":
    main()
