"""Batches of requests: what people who wait for an answer notice of one.

    cargo xtask bench batches [--rounds 8] [--asks 40] [--pause 0.3] [--prompt 200] [--tokens 24] [--json FILE]

One server with one language model, on two cores that it shares with this script. A person asks, streamed, every prompt
different from all others, and asks again a random time (`--pause` on average) after the answer. In interleaved rounds,
the order turning, they do so while nothing else runs and while a batch of thousands of requests runs. Time to first
token: from sending the request to the first piece of text. The batch's own rate is given beside it, and what it reaches
while nobody asks.
"""

import argparse
import json
import pathlib
import random
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import common  # noqa: E402
import people  # noqa: E402

LINES = 20_000


class Service:
    """Our server with its model, and the numbers of the prompts not yet used."""

    def __init__(self, meuse):
        self.meuse, self.number = meuse, 0

    def prompt(self, words):
        self.number += 1
        return people.prompt(self.number, words)

    def ask(self, words, tokens):
        first = people.ask(self.meuse.url, self.meuse.key, self.prompt(words), tokens)
        assert first is not None, "a question was refused"
        return first

    def begin(self, words, tokens):
        """A batch that runs, some of it answered."""
        bodies = (
            {"model": people.MODEL, "max_tokens": tokens, "messages": [{"role": "user", "content": self.prompt(words)}]}
            for _ in range(LINES)
        )
        lines = "".join(
            json.dumps({"custom_id": str(n), "method": "POST", "url": "/v1/chat/completions", "body": body}) + "\n"
            for n, body in enumerate(bodies)
        )
        form = (
            '--x\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
            f'--x\r\ncontent-disposition: form-data; name="file"; filename="lines.jsonl"\r\n\r\n{lines}\r\n--x--\r\n'
        )
        file = self.meuse.api("POST", "/v1/files", raw=form.encode(), content_type="multipart/form-data; boundary=x")
        batch = {"input_file_id": file["id"], "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        batch = self.meuse.api("POST", "/v1/batches", batch)["id"]
        while self.answered(batch) == 0:
            time.sleep(0.1)
        return batch

    def answered(self, batch):
        return self.meuse.api("GET", f"/v1/batches/{batch}")["request_counts"]["completed"]

    def end(self, batch):
        self.meuse.api("POST", f"/v1/batches/{batch}/cancel", {})
        while self.meuse.api("GET", f"/v1/batches/{batch}")["status"] != "cancelled":
            time.sleep(0.1)

    def rate(self, batch, work):
        """Lines that the batch answers a second while `work` goes on."""
        before, begun = self.answered(batch), time.perf_counter()
        done = work()
        return (self.answered(batch) - before) / (time.perf_counter() - begun), done


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--asks", type=int, default=40, help="questions in a round, each way")
    parser.add_argument("--pause", type=float, default=0.3, help="seconds between an answer and the next question")
    parser.add_argument("--prompt", type=int, default=200, help="words in a question")
    parser.add_argument("--tokens", type=int, default=24, help="tokens in an answer")
    parser.add_argument("--json", type=pathlib.Path, help="also write every figure here")
    args = parser.parse_args()
    common.use_two_cores()
    pauses, first, rates = random.Random(1), {"alone": [], "beside a batch": []}, []

    with common.Meuse() as meuse:
        people.serve(meuse)
        service = Service(meuse)

        def questions():
            taken = []
            for _ in range(args.asks):
                time.sleep(pauses.expovariate(1 / args.pause))
                taken.append(service.ask(args.prompt, args.tokens))
            return taken

        def beside():
            batch = service.begin(40, args.tokens)
            rate, taken = service.rate(batch, questions)
            rates.append(rate)
            service.end(batch)
            return taken

        service.ask(args.prompt, args.tokens)
        for number in range(args.rounds):
            ways = [("alone", questions), ("beside a batch", beside)]
            for name, way in ways if number % 2 == 0 else reversed(ways):
                taken = way()
                first[name] += taken
                common.note(f"round {number + 1}, {name}: p50 {statistics.median(taken):.0f} ms, most {max(taken):.0f} ms")
        batch = service.begin(40, args.tokens)
        alone, _ = service.rate(batch, lambda: time.sleep(15))
        service.end(batch)

    rows = [("time to first token, ms", "p50", "p99")]
    rows += [(name, f"{statistics.median(taken):.0f}", f"{people.ninety_ninth(taken):.0f}") for name, taken in first.items()]
    without, beside = first.values()
    times = [f"{of(beside) / of(without):.2f}" for of in (statistics.median, people.ninety_ninth)]
    common.table(rows + [("times", *times)])
    share = statistics.mean(rates)
    print(f"\n{len(without)} questions each way; the batch: {share:.1f} lines/s beside them, {alone:.1f} alone")
    if args.json:
        args.json.write_text(json.dumps({"first_ms": first, "lines_per_second": {"beside": rates, "alone": alone}}))


if __name__ == "__main__":
    main()
