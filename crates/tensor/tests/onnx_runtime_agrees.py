"""Checks exported networks: python onnx_runtime_agrees.py STEM..., each with STEM.onnx, STEM.in, STEM.out.

The files beside a model hold an input batch and the output that Meuse computed, as raw little-endian
elements of the types that the model declares.
"""

import sys

import numpy as np
import onnx
import onnxruntime

for stem in sys.argv[1:]:
    model = onnx.load(stem + ".onnx")
    onnx.checker.check_model(model, full_check=True)
    session = onnxruntime.InferenceSession(stem + ".onnx", providers=["CPUExecutionProvider"])
    (declared,) = session.get_inputs()
    dtype = {"tensor(float)": np.float32, "tensor(int32)": np.int32}[declared.type]
    batch = np.fromfile(stem + ".in", dtype=dtype).reshape([-1, *declared.shape[1:]])
    (wanted,) = session.run(["output"], {"input": batch})
    got = np.fromfile(stem + ".out", dtype=np.float32).reshape(wanted.shape)
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5, err_msg=stem)
