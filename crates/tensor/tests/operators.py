"""Writes the node tests that the `onnx` package carries into a directory: a model, its inputs and its outputs each."""

import pathlib
import shutil
import sys
import warnings

import numpy as np
from onnx import TensorProto, numpy_helper

warnings.filterwarnings("ignore")
from onnx.backend.test.case.node import collect_testcases  # noqa: E402


def main(directory: pathlib.Path) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    for case in collect_testcases(None):
        # Functions written out in other operators are those operators' tests once more.
        if case.model is None or "expanded" in case.name:
            continue
        for i, (inputs, outputs) in enumerate(case.data_sets):
            place = directory / f"{case.name}.{i}"
            place.mkdir()
            (place / "model.onnx").write_bytes(case.model.SerializeToString())
            for side, values in (("input", inputs), ("output", outputs)):
                for k, value in enumerate(values):
                    # What is no tensor, or of strings, gets an empty file: it is not carried.
                    tensor = value if isinstance(value, TensorProto) else None
                    if isinstance(value, (np.ndarray, np.generic)) and np.asarray(value).dtype.kind in "fiub":
                        tensor = numpy_helper.from_array(np.asarray(value))
                    (place / f"{side}_{k}.pb").write_bytes(tensor.SerializeToString() if tensor is not None else b"")


main(pathlib.Path(sys.argv[1]))
