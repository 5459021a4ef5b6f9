"""Writes the node tests that the `onnx` package carries into a directory: a model, its inputs and its outputs each."""

import pathlib
import shutil
import sys
import warnings

import numpy as np
from onnx import GraphProto, ModelProto, TensorProto, numpy_helper

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
            for side, values in (("inputs", inputs), ("outputs", outputs)):
                constants = [carried(value) for value in values]
                holder = ModelProto(graph=GraphProto(initializer=constants))
                (place / f"{side}.onnx").write_bytes(holder.SerializeToString())


def carried(value) -> TensorProto:
    """The value; without a type if it is no tensor of numbers."""
    if isinstance(value, TensorProto):
        return value
    if isinstance(value, (np.ndarray, np.generic)) and np.asarray(value).dtype.kind in "fiub":
        return numpy_helper.from_array(np.asarray(value))
    return TensorProto()


main(pathlib.Path(sys.argv[1]))
