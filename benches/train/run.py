#!/usr/bin/env python3
"""Training time and accuracy beside Keras and PyTorch, in one interleaved run.

    python3 benches/train/run.py [--seeds 5] [--rows 20000] [--epochs 10]

The network is dense 64 relu, dense 64 relu, dense 10 softmax on 100 numbers; Adam at 1e-3, batches of
32. All three see the same rows, already scaled. For each seed the three run one after the other, so that
whatever else the machine does falls on all. An epoch's time is the median over epochs and seeds; PyTorch
runs with one thread and with as many as it likes, and the faster counts. Prints a table and writes
target/bench-train/result.json.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
WORK = ROOT / "target" / "bench-train"
VENV = WORK / "venv"
SPEC = """label: label
features: [{numeric: "x*", standardize: false}]
layers:
  - {dense: 64, activation: relu}
  - {dense: 64, activation: relu}
  - {dense: labels, activation: softmax}
epochs: EPOCHS
"""


def enter_venv():
    """Runs this file again inside its own environment, made on the first run."""
    python = VENV / "bin" / "python"
    if Path(sys.prefix).resolve() == VENV.resolve():
        return
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(VENV)], check=True)
    wanted = (HERE / "requirements.txt").read_text()
    stamp = VENV / "requirements.txt"
    if not stamp.exists() or stamp.read_text() != wanted:
        install = ["-m", "pip", "install", "--quiet", "-r", str(HERE / "requirements.txt")]
        subprocess.run([str(python), *install], check=True)
        stamp.write_text(wanted)
    os.execv(python, [str(python), __file__, *sys.argv[1:]])


def rows(count):
    """Ten overlapping clouds, three to a class, pushed through a fixed random rotation and a fold."""
    import numpy as np

    random = np.random.default_rng(0)
    centres = random.normal(size=(30, 100)) * 0.42
    which = random.integers(0, 30, size=count)
    x = centres[which] + random.normal(size=(count, 100))
    x = np.tanh(x @ np.linalg.qr(random.normal(size=(100, 100)))[0])
    return x.astype("float32"), (which % 10).astype("int64")


def write_csv(path, x, y):
    with open(path, "w") as file:
        file.write(",".join(f"x{i}" for i in range(x.shape[1])) + ",label\n")
        for row, label in zip(x, y):
            file.write(",".join(repr(float(v)) for v in row) + f",{label}\n")


def ours(binary, seed):
    command = [str(binary), str(WORK / "spec.yaml"), str(WORK / "train.csv"), str(WORK / "test.csv"), str(seed)]
    result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return result["epoch_seconds"], result["accuracy"]


def keras_run(data, seed, epochs):
    import time

    import keras

    (x, y), (tx, ty) = data
    keras.utils.set_random_seed(seed)
    dense = keras.layers.Dense
    model = keras.Sequential(
        [keras.Input((100,)), dense(64, "relu"), dense(64, "relu"), dense(10, "softmax")]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    seconds = []

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.begin = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            seconds.append(time.perf_counter() - self.begin)

    model.fit(x, y, batch_size=32, epochs=epochs, verbose=0, callbacks=[Clock()])
    return seconds, float(model.evaluate(tx, ty, batch_size=1024, verbose=0)[1])


def torch_run(data, seed, epochs, threads):
    import time

    import torch

    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    (x, y), (tx, ty) = [[torch.from_numpy(part) for part in pair] for pair in data]
    linear, relu = torch.nn.Linear, torch.nn.ReLU
    model = torch.nn.Sequential(linear(100, 64), relu(), linear(64, 64), relu(), linear(64, 10))
    for layer in model:
        if isinstance(layer, linear):
            torch.nn.init.xavier_uniform_(layer.weight)
            torch.nn.init.zeros_(layer.bias)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-7)
    cross_entropy = torch.nn.CrossEntropyLoss()
    seconds = []
    for _ in range(epochs):
        begin = time.perf_counter()
        order = torch.randperm(len(x))
        for i in range(0, len(x), 32):
            batch = order[i : i + 32]
            optimizer.zero_grad()
            cross_entropy(model(x[batch]), y[batch]).backward()
            optimizer.step()
        seconds.append(time.perf_counter() - begin)
    with torch.no_grad():
        accuracy = (model(tx).argmax(1) == ty).float().mean().item()
    return seconds, accuracy


def child(name, seed, epochs, threads=0):
    """Runs one library in a process of its own: two of them in one process do not get along."""
    command = [sys.executable, __file__, "--child", name, str(seed), str(epochs), str(threads)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def run_child(name, seed, epochs, threads):
    import numpy as np

    stored = np.load(WORK / "rows.npz")
    data = [(stored["x"], stored["y"]), (stored["tx"], stored["ty"])]
    run = keras_run(data, seed, epochs) if name == "keras" else torch_run(data, seed, epochs, threads)
    print(json.dumps(run))


def main():
    import numpy as np

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--binary", type=Path, help="a train_bench that is already built")
    args = parser.parse_args()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    binary = args.binary
    if binary is None:
        # With the program, so that it shares the libraries which that was built from.
        build = ["cargo", "build", "--release", "-p", "meuse", "-p", "train", "--example", "train_bench"]
        subprocess.run(build, cwd=ROOT, check=True)
        binary = ROOT / "target" / "release" / "examples" / "train_bench"
    x, y = rows(args.rows + 5_000)
    data = [(x[: args.rows], y[: args.rows]), (x[args.rows :], y[args.rows :])]
    np.savez(WORK / "rows.npz", x=data[0][0], y=data[0][1], tx=data[1][0], ty=data[1][1])
    write_csv(WORK / "train.csv", *data[0])
    write_csv(WORK / "test.csv", *data[1])
    (WORK / "spec.yaml").write_text(SPEC.replace("EPOCHS", str(args.epochs)))

    cores = len(os.sched_getaffinity(0))
    runs = {
        "meuse": lambda seed: ours(binary, seed),
        "keras": lambda seed: child("keras", seed, args.epochs),
        "torch, 1 thread": lambda seed: child("torch", seed, args.epochs, 1),
        f"torch, {cores} threads": lambda seed: child("torch", seed, args.epochs, cores),
    }
    seconds = {name: [] for name in runs}
    accuracy = {name: [] for name in runs}
    for seed in range(args.seeds):
        for name, run in runs.items():
            times, score = run(seed)
            seconds[name].extend(times)
            accuracy[name].append(score)
    own = statistics.median(seconds["meuse"])
    result = {
        name: {
            "epoch_ms": 1e3 * statistics.median(seconds[name]),
            "times_meuse": statistics.median(seconds[name]) / own,
            "accuracy": statistics.fmean(accuracy[name]),
            "accuracies": accuracy[name],
        }
        for name in runs
    }
    print(f"{args.rows} rows of 100 numbers, batch 32, {args.epochs} epochs, {args.seeds} seeds, {cores} cores")
    print(f"{'':18}{'epoch':>10}{'times ours':>12}{'accuracy':>10}")
    for name, r in result.items():
        print(f"{name:18}{r['epoch_ms']:8.1f}ms{r['times_meuse']:11.1f}x{r['accuracy']:10.4f}")
    (WORK / "result.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    enter_venv()
    if sys.argv[1:2] == ["--child"]:
        name, *numbers = sys.argv[2:]
        run_child(name, *map(int, numbers))
    else:
        main()
