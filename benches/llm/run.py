"""Language models: what streams get, over HTTP, from our server beside llama.cpp's and OpenVINO GenAI's.

    cargo xtask bench llm [--model smollm2-135m] [--streams 1,4,8,16,32] [--rounds 3] [--peers llama-server,openvino]
                          [--prompt 512] [--tokens 96] [--json FILE]

All servers hold the same GGUF file and share two cores with the load generator (`cargo xtask streams`), which sends
N chat completions at the same moment, greedy, streamed, every prompt different from all others. Two measurements for
each N, in interleaved rounds with the servers in turning order; medians over rounds:

- prefill: prompts of about `--prompt` tokens, one token of answer. Prompt tokens a second: all of them over the time
  until the last stream has its token. Time to first token: the median stream's.
- decode: short prompts, `--tokens` tokens of answer (the model's end tokens are forbidden). Tokens a second of all
  streams, from when the last has its first text to when the first ends: while all of them are under way.

The two limits of the machine are probed before and after (`meuse bench machine`), and our figures given as shares of
them: for one stream's decode the memory bandwidth over the file's bytes, for everything else the 8-bit integer rate
over two operations a weight and token.
"""

import argparse
import contextlib
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import common  # noqa: E402
import peers  # noqa: E402

# The file of tests/models/fetch.py: its tokens that end an answer, and its weights that a token is multiplied with.
MODELS = {
    "smollm2-135m": ("SmolLM2-135M-Instruct.Q4_1.gguf", [0, 2], 134.5e6),
    "qwen2.5-coder-0.5b": ("Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf", [151643, 151645], 494e6),
}
WORDS = """time year people way day man thing woman life child world school state family student group country problem
hand part place case week company system program question work government number night point home water room mother area
money story fact month lot right study book eye job word business issue side kind head house service friend father power
hour game line end member law car city community name president team minute idea body information back parent face level
office door health person art war history party result change morning reason research girl guy moment air teacher force
""".split()


def prompt(seed, words):
    """Words in an order of their own from the first on, so that no server can share a part of two prompts."""
    chosen = random.Random(seed)
    return f"{seed}: " + " ".join(chosen.choice(WORDS) for _ in range(words)) + "."


def body(seed, words, max_tokens, ends):
    return json.dumps(
        {
            "model": "model",
            "messages": [{"role": "user", "content": prompt(seed, words)}],
            "max_tokens": max_tokens,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
            "logit_bias": {str(token): -100 for token in ends},
        }
    )


class Run:
    """The servers under measurement, and the seeds of the prompts not yet used."""

    def __init__(self, args, servers, ends):
        self.args, self.servers, self.ends = args, servers, ends
        self.seed = 0

    def streams(self, server, count, words, max_tokens):
        """The streams' figures, by `cargo xtask streams`."""
        with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
            for _ in range(count):
                self.seed += 1
                file.write(body(self.seed, words, max_tokens, self.ends) + "\n")
            file.flush()
            command = [common.LOAD, "streams", f"{server.url}/v1/chat/completions", "--bodies", file.name]
            if server.key:
                command += ["--bearer", server.key]
            done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{server.name}: {done.stderr}\n{server.output()[-4000:]}")
        streams = json.loads(done.stdout)["streams"]
        short = [s for s in streams if s["completion_tokens"] < max_tokens]
        assert not short, f"{server.name}: {len(short)} answers are shorter than {max_tokens} tokens"
        return streams

    def prefill(self, server, count):
        streams = self.streams(server, count, self.args.prompt - 40, 1)
        last = max(s["end_ms"] for s in streams)
        return {
            "prefill": sum(s["prompt_tokens"] for s in streams) / last * 1e3,
            "first_ms": common.median([s["end_ms"] for s in streams]),
        }

    def decode(self, server, count):
        streams = self.streams(server, count, 8, self.args.tokens)
        begin, end = max(s["text_ms"][0] for s in streams), min(s["text_ms"][-1] for s in streams)
        assert begin < end, f"{server.name}: no moment at which all {count} streams were under way; more --tokens"
        # An event may bring several tokens: of a stream's tokens, the share of its events.
        tokens = sum(
            s["completion_tokens"] * sum(begin < at <= end for at in s["text_ms"]) / len(s["text_ms"]) for s in streams
        )
        return {"decode": tokens / (end - begin) * 1e3}

    def rounds(self):
        """{(server, streams): [figures of each round]}"""
        found = {}
        for number in range(self.args.rounds):
            for count in self.args.streams:
                turn = number % len(self.servers)
                for server in self.servers[turn:] + self.servers[:turn]:
                    figures = {**self.decode(server, count), **self.prefill(server, count)}
                    found.setdefault((server.name, count), []).append(figures)
                    common.note(
                        f"round {number + 1}, {count} streams, {server.name}: decode {figures['decode']:.0f}, "
                        f"prefill {figures['prefill']:.0f} tokens/s, first token {figures['first_ms']:.0f} ms"
                    )
        return found


def machine_limits():
    done = subprocess.run([common.BINARY, "bench", "machine", "--json"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def report(args, path, weights, limits, found, memory, loaded):
    middle = {
        key: {name: common.median([r[name] for r in rounds]) for name in rounds[0]} for key, rounds in found.items()
    }
    bandwidth = max(limit["bytesPerSecond"] for limit in limits)
    rate = max(limit["int8OperationsPerSecond"] for limit in limits)
    by_memory, by_arithmetic = bandwidth / path.stat().st_size, rate / (2 * weights)
    machine = common.machine()
    print(
        f"{path.name}, {args.rounds} interleaved rounds, {machine['cores']} cores shared with the load generator, "
        f"{machine['cpu']}, {limits[0]['instructionSet']}\n"
        f"limits: {bandwidth / 1e9:.1f} GB/s read, so {by_memory:.0f} tokens/s a stream; "
        f"{rate / 1e9:.0f} int8 GOP/s, so {by_arithmetic:.0f} tokens/s in all\n"
    )
    rows = [("", "streams", "decode t/s", "times", "prefill t/s", "times", "first token ms", "of decode's limit", "of prefill's")]
    for (name, count), figures in sorted(middle.items(), key=lambda item: (item[0][1], item[0][0])):
        ours = middle.get(("meuse", count))
        ratio = lambda key: f"{ours[key] / figures[key]:.2f}" if ours else ""  # noqa: E731
        limit = min(by_memory * count, by_arithmetic)
        rows.append(
            (
                name,
                count,
                f"{figures['decode']:.0f}",
                ratio("decode"),
                f"{figures['prefill']:.0f}",
                ratio("prefill"),
                f"{figures['first_ms']:.0f}",
                f"{figures['decode'] / limit:.0%}",
                f"{figures['prefill'] / by_arithmetic:.0%}",
            )
        )
    common.table(rows)
    print("\ntimes: ours over theirs\n")
    common.table([("peak memory", "MiB")] + [(name, f"{value:.0f}") for name, value in memory.items()])
    print(f"\nmeuse loads the file in {loaded:.2f} s, the page cache warm")
    if args.json:
        rounds = [{"server": name, "streams": count, "rounds": r} for (name, count), r in found.items()]
        args.json.write_text(
            json.dumps({"machine": machine, "limits": limits, "options": vars(args), "figures": rounds, "memory_mib": memory, "load_seconds": loaded}, default=str)
        )


def main():
    numbers = lambda text: [int(part) for part in text.split(",")]  # noqa: E731
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="smollm2-135m")
    parser.add_argument("--streams", type=numbers, default=[1, 4, 8, 16, 32])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peers", type=lambda text: [p for p in text.split(",") if p], default=["llama-server", "openvino"])
    parser.add_argument("--prompt", type=int, default=512, help="tokens of a long prompt, about")
    parser.add_argument("--tokens", type=int, default=96, help="tokens of an answer")
    parser.add_argument("--json", type=pathlib.Path, help="also write every round's figures here")
    args = parser.parse_args()
    common.use_two_cores()
    file, ends, weights = MODELS[args.model]
    models = pathlib.Path(os.environ.get("MEUSE_TEST_MODELS", common.ROOT / "target" / "models"))
    fetch = [sys.executable, str(common.ROOT / "tests/models/fetch.py"), args.model]
    subprocess.run(fetch, check=True, stdout=subprocess.DEVNULL)
    path = models / file
    context = args.prompt + args.tokens + 64
    limits = [machine_limits()]
    with contextlib.ExitStack() as stack:
        servers = []
        for name in ["meuse", *args.peers]:
            common.note(f"starting {name}")
            servers.append(stack.enter_context(peers.SERVERS[name](path, max(args.streams), context)))
        run = Run(args, servers, ends)
        loaded = servers[0].load_seconds()
        for server in servers:
            run.decode(server, 2)
        found = run.rounds()
        memory = {server.name: server.peak_memory_mib() for server in servers}
    limits.append(machine_limits())
    report(args, path, weights, limits, found, memory, loaded)


if __name__ == "__main__":
    main()
