"""Batch prediction: seconds and memory of our server beside the scripts that people write.

    cargo xtask bench batch [--rows 1000000] [--rounds 3] [--kinds numeric,text] [--json FILE]

- `numeric`: a CSV of 100 numeric columns through the ONNX network 100-64-64-10. Peers: pandas + onnxruntime, and a tuned
  script that streams with Arrow's CSV reader and writer.
- `text`: a CSV of one text column of about twelve words through a text classifier trained here (the TF-IDF of 100 words,
  the same network). Peer: scikit-learn's TfidfVectorizer, fitted on the same rows to 100 features, + pandas +
  onnxruntime. A second line of ours has the features that a specification gets when it names none (`evidence`: words,
  pairs and parts of words), which tell more and cost more.

The data are made by this script. Ours is timed from creating the job to seeing it done, over HTTP, objects in a local
bucket; a peer from opening its input to closing its output, without imports. Both write the same columns. Rounds are
interleaved and everything runs on the same two cores. Peak memory is that of the whole process.
"""

import argparse
import contextlib
import json
import pathlib
import pickle
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import common  # noqa: E402

import numpy as np  # noqa: E402

HERE = pathlib.Path(__file__).resolve().parent
BUCKET = "bench"
TEXT_FEATURES = {"meuse": {"text": "text", "method": "terms"}, "meuse, evidence": {"text": "text"}}
#: Rows that are made; a larger file repeats them in another order.
DISTINCT = 20_000


def write_rows(path, head, lines, rows, seed):
    """`rows` lines, drawn from `lines`."""
    random = np.random.default_rng(seed)
    with open(path, "w") as file:
        file.write(head + "\n")
        left = rows
        while left > 0:
            order = random.permutation(len(lines))[:left]
            file.write("".join(lines[i] for i in order))
            left -= len(order)


def numeric_data(directory, rows):
    random = np.random.default_rng(2)
    values = random.normal(size=(min(rows, DISTINCT), 100))
    lines = [",".join(f"{value:.6g}" for value in row) + "\n" for row in values]
    path = directory / "numeric.csv"
    write_rows(path, ",".join(f"f{i}" for i in range(100)), lines, rows, 3)
    return path


def text_data(directory, rows):
    """Texts of ten classes: words as frequent as in a language, a third of them typical of the class."""
    random = np.random.default_rng(4)
    consonants, vowels = "bcdfglmnprstv", "aeiou"
    syllables = [c + v for c in consonants for v in vowels]
    words = sorted({"".join(random.choice(syllables, random.integers(1, 5))) for _ in range(20_000)})
    random.shuffle(words)
    frequency = 1.0 / np.arange(1, len(words) + 1)
    frequency /= frequency.sum()
    count = max(5_000, min(rows, DISTINCT))
    lines, labelled = [], []
    for label, length in zip(random.integers(0, 10, count), random.integers(6, 19, count)):
        common_words = random.choice(len(words), length, p=frequency)
        typical = random.integers(0, 30, length) + 50 + 30 * label
        chosen = np.where(random.random(length) < 0.33, typical, common_words)
        line = " ".join(words[i] for i in chosen)
        lines.append(line + "\n")
        labelled.append(f"{line},class_{label}\n")
    write_rows(directory / "text.csv", "text", lines, rows, 5)
    write_rows(directory / "labelled.csv", "text,label", labelled[:5_000], 5_000, 6)
    return directory / "text.csv"


def fit_vectoriser(directory):
    import pandas as pd
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectoriser = TfidfVectorizer(max_features=100).fit(pd.read_csv(directory / "labelled.csv")["text"])
    path = directory / "vectoriser.pickle"
    path.write_bytes(pickle.dumps(vectoriser))
    return path


class Peer:
    def __init__(self, name, kind, *options):
        self.name, self.kind, self.options = name, kind, options

    def run(self, data, directory):
        command = [sys.executable, str(HERE / "peers.py"), self.kind, str(data), str(directory / "out.csv")]
        command += [str(directory / "network.onnx"), *self.options]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"{self.name}: {done.stderr}")
        return json.loads(done.stdout)


class Ours:
    runs = 0

    def __init__(self, name, meuse, model, uri):
        self.name, self.meuse, self.model, self.uri = name, meuse, model, uri

    def run(self, data, directory):
        Ours.runs += 1
        seconds, job = self.meuse.batch(self.model, self.uri, f"gs://{BUCKET}/out/{Ours.runs}")
        self.output = job["outputInfo"]["gcsOutputDirectory"]
        done = int(job["completionStats"]["successfulCount"])
        return {"seconds": seconds, "rows": done, "peak_mib": self.meuse.peak_memory_mib()}

    def keeps_inputs(self):
        """Whether the written predictions repeat the input's columns, told from the first object's head."""
        bucket, prefix = self.output.removeprefix("gs://").split("/", 1)
        names = [name for name in self.meuse.objects(f"gs://{bucket}/{prefix}") if "prediction.results-" in name]
        path = f"/storage/v1/b/{bucket}/o/{names[0].replace('/', '%2F')}?alt=media"
        headers = {"authorization": f"Bearer {self.meuse.key}", "range": "bytes=0-2000"}
        head = common.request(self.meuse.url, "GET", path, headers=headers)[1].decode(errors="replace")
        first = head.split("\n", 1)[0].split(",")[0]
        return first in ("f0", "text")


def text_model(meuse, directory, name, feature):
    specification = {"label": "label", "features": [feature], "epochs": 2}
    return meuse.train(directory / "labelled.csv", "".join(c for c in name if c.isalpha()), specification)


def prepare(kind, args, directory, start):
    """Our side and the peers of one kind, with its data."""
    common.note(f"{kind}: making {args.rows} rows")
    data = (numeric_data if kind == "numeric" else text_data)(directory, args.rows)
    sample = directory / f"sample-{data.name}"
    with open(data) as file, open(sample, "w") as short:
        short.writelines(line for _, line in zip(range(1001), file))
    contestants, keep = [], []
    if not args.peers_only:
        meuse = start(common.Meuse())
        if kind == "numeric":
            models = {"meuse": meuse.import_model(directory / "network.onnx", "network")}
        else:
            models = {name: text_model(meuse, directory, name, feature) for name, feature in TEXT_FEATURES.items()}
        whole, head = (meuse.put_object(BUCKET, name, path) for name, path in [(data.name, data), ("sample.csv", sample)])
        for name, model in models.items():
            trial = Ours(name, meuse, model, head)
            trial.run(sample, directory)
            keep = ["--keep-inputs"] if trial.keeps_inputs() else []
            contestants.append(Ours(name, meuse, model, whole))
    if kind == "numeric":
        contestants.append(Peer("pandas + onnxruntime", "numeric", *keep))
        contestants.append(Peer("arrow + onnxruntime, tuned", "numeric-tuned", *keep))
    else:
        vectoriser = ["--vectoriser", str(fit_vectoriser(directory))]
        contestants.append(Peer("scikit-learn + onnxruntime", "text", *vectoriser, *keep))
    return data, contestants


def measure(kind, args, directory):
    with contextlib.ExitStack() as stack:
        data, contestants = prepare(kind, args, directory, stack.enter_context)
        rounds = {contestant.name: [] for contestant in contestants}
        for number in range(args.rounds):
            turn = number % len(contestants)
            for contestant in contestants[turn:] + contestants[:turn]:
                figures = contestant.run(data, directory)
                assert figures["rows"] == args.rows, f"{contestant.name} predicted {figures['rows']} rows"
                rounds[contestant.name].append(figures)
                common.note(f"{kind}, round {number + 1}: {contestant.name}: {figures['seconds']:.1f} s")
        return {"bytes": data.stat().st_size, "rounds": rounds}


def report(kind, measured, args):
    print(f"\n{kind}: {args.rows} rows, {measured['bytes'] / 1e6:.0f} MB of CSV, {args.rounds} interleaved rounds\n")
    rows = [("", "seconds", "rows/s", "peak MiB", "times as fast")]
    seconds = {name: common.median([r["seconds"] for r in rounds]) for name, rounds in measured["rounds"].items()}
    ours = seconds.get("meuse")
    for name, rounds in measured["rounds"].items():
        peak = max(r["peak_mib"] for r in rounds)
        ratio = "" if ours is None or name.startswith("meuse") else f"{seconds[name] / ours:.1f}"
        rows.append((name, f"{seconds[name]:.1f}", f"{args.rows / seconds[name]:.0f}", f"{peak:.0f}", ratio))
    common.table(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kinds", default="numeric,text")
    parser.add_argument("--peers-only", action="store_true", help="leave our server out")
    parser.add_argument("--json", type=pathlib.Path, help="also write the figures here")
    args = parser.parse_args()
    common.use_two_cores()
    machine = common.machine()
    print(f"{machine['cores']} cores, {machine['cpu']}; ours is `times as fast` as the peer of that line")
    figures = {}
    for kind in args.kinds.split(","):
        with tempfile.TemporaryDirectory(prefix="bench-batch-") as directory:
            directory = pathlib.Path(directory)
            common.write_network(directory / "network.onnx")
            figures[kind] = measure(kind, args, directory)
        report(kind, figures[kind], args)
    if args.json:
        args.json.write_text(json.dumps({"machine": machine, "options": vars(args), "figures": figures}, default=str))


if __name__ == "__main__":
    main()
