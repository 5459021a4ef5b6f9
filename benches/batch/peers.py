"""The scripts that people write for batch prediction, each run as its own process by run.py.

    python peers.py numeric|numeric-tuned|text INPUT.csv OUTPUT.csv MODEL.onnx [--keep-inputs] [--vectoriser FILE]

Reads the CSV, predicts, writes a CSV of the label and the scores. Imports and loading the model are not timed. Prints
one line of JSON: seconds, rows, peak resident memory in MiB.
"""

import argparse
import json
import pickle
import resource
import time

import numpy as np
import onnxruntime
import pandas as pd

SLICE = 65_536
NAMES = [f"class_{i}" for i in range(10)]


def result(outputs):
    frame = pd.DataFrame(outputs, columns=NAMES)
    frame.insert(0, "label", outputs.argmax(axis=1))
    return frame


def numeric(args, session):
    """pandas for the CSV, onnxruntime in slices."""
    frame = pd.read_csv(args.input)
    inputs = frame.to_numpy(np.float32)
    slices = (inputs[start : start + SLICE] for start in range(0, len(inputs), SLICE))
    outputs = np.concatenate([session.run(None, {"input": part})[0] for part in slices])
    predictions = result(outputs)
    if args.keep_inputs:
        predictions = pd.concat([frame, predictions], axis=1)
    predictions.to_csv(args.output, index=False)
    return len(frame)


def numeric_tuned(args, session):
    """Arrow's CSV reader and writer around onnxruntime, streaming."""
    import pyarrow as pa
    from pyarrow import csv

    rows = 0
    writer = None
    with csv.open_csv(args.input, read_options=csv.ReadOptions(block_size=16 << 20)) as reader:
        for batch in reader:
            inputs = np.empty((len(batch), batch.num_columns), np.float32)
            for index, column in enumerate(batch.columns):
                inputs[:, index] = column.to_numpy()
            outputs = session.run(None, {"input": inputs})[0]
            predictions = pa.table({"label": outputs.argmax(axis=1)} | dict(zip(NAMES, outputs.T.copy())))
            if args.keep_inputs:
                kept = pa.Table.from_batches([batch])
                for name in predictions.column_names:
                    kept = kept.append_column(name, predictions[name])
                predictions = kept
            if writer is None:
                writer = csv.CSVWriter(args.output, predictions.schema)
            writer.write_table(predictions)
            rows += len(batch)
    writer.close()
    return rows


def text(args, session):
    """scikit-learn's TF-IDF vectoriser in front of onnxruntime."""
    with open(args.vectoriser, "rb") as file:
        vectoriser = pickle.load(file)
    frame = pd.read_csv(args.input)
    outputs = []
    for start in range(0, len(frame), SLICE):
        features = vectoriser.transform(frame["text"][start : start + SLICE])
        outputs.append(session.run(None, {"input": features.toarray().astype(np.float32)})[0])
    predictions = result(np.concatenate(outputs))
    if args.keep_inputs:
        predictions = pd.concat([frame, predictions], axis=1)
    predictions.to_csv(args.output, index=False)
    return len(frame)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["numeric", "numeric-tuned", "text"])
    parser.add_argument("input")
    parser.add_argument("output")
    parser.add_argument("model")
    parser.add_argument("--keep-inputs", action="store_true")
    parser.add_argument("--vectoriser")
    args = parser.parse_args()
    options = onnxruntime.SessionOptions()
    if args.kind == "numeric-tuned":
        # The network is too small to share out; waiting threads would only take time from the CSV.
        options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(args.model, options, providers=["CPUExecutionProvider"])
    run = {"numeric": numeric, "numeric-tuned": numeric_tuned, "text": text}[args.kind]
    begun = time.perf_counter()
    rows = run(args, session)
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds, "rows": rows, "peak_mib": peak}))


if __name__ == "__main__":
    main()
