"""Fairness: what one tenant notices of another's flood.

    cargo xtask bench fairness [--rounds 4] [--asks 30] [--flood 50] [--pause 0.3] [--prompt 60] [--tokens 24] [--json FILE]

One server with one language model that two projects share, on two cores that it shares with this script. In the one, a
person asks, streamed, every prompt different from all others, and asks again a random time (`--pause` on average) after
the answer. In interleaved rounds, the order turning, they do so alone, and while the other project keeps `--flood`
questions of the same length unanswered at any time. Time to first token: from sending the request to the first piece of
text.
"""

import argparse
import itertools
import json
import pathlib
import random
import statistics
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import common  # noqa: E402
import people  # noqa: E402


class Flood:
    """Questions of another project, so many at any time, while the block runs."""

    def __init__(self, url, key, numbers, args):
        self.url, self.key, self.numbers, self.args = url, key, numbers, args
        self.over, self.answered = threading.Event(), 0
        self.threads = [threading.Thread(target=self.keep_asking, daemon=True) for _ in range(args.flood)]

    def keep_asking(self):
        while not self.over.is_set():
            text = people.prompt(next(self.numbers), self.args.prompt)
            if people.ask(self.url, self.key, text, self.args.tokens) is None:
                time.sleep(0.1)
            else:
                self.answered += 1

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        # What floods has begun to be answered.
        while self.answered == 0:
            time.sleep(0.05)
        return self

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--asks", type=int, default=30, help="questions in a round, each way")
    parser.add_argument("--flood", type=int, default=50, help="questions that the other project has unanswered")
    parser.add_argument("--pause", type=float, default=0.3, help="seconds between an answer and the next question")
    parser.add_argument("--prompt", type=int, default=60, help="words in a question")
    parser.add_argument("--tokens", type=int, default=24, help="tokens in an answer")
    parser.add_argument("--json", type=pathlib.Path, help="also write every figure here")
    args = parser.parse_args()
    common.use_two_cores()
    pauses, numbers = random.Random(1), itertools.count(1)
    first = {"alone": [], "beside the flood": []}

    with common.Meuse() as meuse:
        people.serve(meuse, "default", "flood")
        keys = [
            json.loads(people.command_line(meuse, "keys", "create", "--role", "invoker", "--project", project, "--json"))["key"]
            for project in ("default", "flood")
        ]

        def questions():
            taken = []
            for _ in range(args.asks):
                time.sleep(pauses.expovariate(1 / args.pause))
                taken.append(people.ask(meuse.url, keys[0], people.prompt(next(numbers), args.prompt), args.tokens))
            assert None not in taken, "a question was refused"
            return taken

        def beside():
            with Flood(meuse.url, keys[1], numbers, args) as flood:
                began, before = time.perf_counter(), flood.answered
                taken = questions()
                common.note(f"the flood: {(flood.answered - before) / (time.perf_counter() - began):.1f} answers/s")
            return taken

        people.ask(meuse.url, keys[0], people.prompt(next(numbers), args.prompt), args.tokens)
        for number in range(args.rounds):
            ways = [("alone", questions), ("beside the flood", beside)]
            for name, way in ways if number % 2 == 0 else reversed(ways):
                taken = way()
                first[name] += taken
                common.note(f"round {number + 1}, {name}: p50 {statistics.median(taken):.0f} ms, most {max(taken):.0f} ms")

    rows = [("time to first token, ms", "p50", "p99")]
    rows += [(name, f"{statistics.median(taken):.0f}", f"{people.ninety_ninth(taken):.0f}") for name, taken in first.items()]
    without, beside_it = first.values()
    times = [f"{of(beside_it) / of(without):.2f}" for of in (statistics.median, people.ninety_ninth)]
    common.table(rows + [("times", *times)])
    print(f"\n{len(without)} questions each way, {args.flood} of the other project at any time")
    if args.json:
        args.json.write_text(json.dumps({"options": vars(args), "first_ms": first}, default=str))


if __name__ == "__main__":
    main()
