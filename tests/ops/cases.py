# SPDX-License-Identifier: Apache-2.0
"""One operator at a time: pyneo's reference kernel beside ONNX Runtime and the onnx reference evaluator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
from onnx import helper
from onnx.reference import ReferenceEvaluator

from pyneo import _core
from pyneo.compiler.lower.attrs import pack_attrs

Arrays = Sequence["np.ndarray | None"]
BF16 = np.dtype(ml_dtypes.bfloat16)
FLOATS = [np.dtype(t) for t in ("float32", "float64", "float16")] + [BF16]
INTS = [np.dtype(t) for t in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")]
DOMAIN_OPSETS = {"ai.onnx.ml": 5}
# Relative and absolute error that one rounding to the dtype plus a float32 computation leaves.
TOLERANCE = {
    "float32": (2e-6, 1e-6),
    "float64": (1e-12, 1e-13),
    "float16": (2e-3, 1e-3),
    "bfloat16": (1.6e-2, 8e-3),
}


def evaluate(op: str, inputs: Arrays, outputs: int = 1, **attrs: Any) -> list[np.ndarray]:
    """Outputs of pyneo's reference kernel. bfloat16 arrays (ml_dtypes) come and go as such."""
    blob = pack_attrs({k: v if isinstance(v, (str, list)) else [v] for k, v in attrs.items()})
    inputs = [None if x is None else np.asarray(x) for x in inputs]
    carried = [x.view(np.uint16) if x is not None and x.dtype == BF16 else x for x in inputs]
    dtypes = [16 if x is not None and x.dtype == BF16 else 0 for x in inputs]
    found = _core.op_infer(op, blob, carried, dtypes, outputs)
    ys = _core.op_eval(op, blob, carried, dtypes, outputs)
    return [y.view(BF16) if dtype == 16 else y for y, (dtype, _) in zip(ys, found, strict=True)]


def model(
    op: str, inputs: Arrays, outputs: int = 1, opset: int | None = None, **attrs: Any
) -> onnx.ModelProto:
    """An ONNX model of one node ("com.microsoft.Gelu" carries its domain) whose inputs fit the arrays."""
    domain, name = op.rsplit(".", 1) if "." in op else ("", op)
    names = ["" if x is None else f"x{i}" for i, x in enumerate(inputs)]
    node = helper.make_node(name, names, [f"y{i}" for i in range(outputs)], domain=domain, **attrs)
    values = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for n, x in zip(names, inputs, strict=True)
        if x is not None
    ]
    results = [onnx.ValueInfoProto(name=f"y{i}") for i in range(outputs)]
    imports = [helper.make_opsetid("", opset or 22)]
    if domain:
        imports.append(helper.make_opsetid(domain, DOMAIN_OPSETS.get(domain, 1)))
    return helper.make_model(
        helper.make_graph([node], "case", values, results), opset_imports=imports, ir_version=10
    )


def feed(inputs: Arrays) -> dict[str, np.ndarray]:
    return {f"x{i}": np.asarray(x) for i, x in enumerate(inputs) if x is not None}


def ort(
    op: str, inputs: Arrays, outputs: int = 1, opset: int | None = None, **attrs: Any
) -> list[np.ndarray]:
    """What ONNX Runtime computes, without its graph optimisations."""
    return run_ort(model(op, inputs, outputs, opset, **attrs), inputs)


def run_ort(made: onnx.ModelProto, inputs: Arrays) -> list[np.ndarray]:
    """What ONNX Runtime computes of a model of `model`'s form."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    data = made.SerializeToString()
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"]).run(
        None, feed(inputs)
    )


def onnx_reference(
    op: str, inputs: Arrays, outputs: int = 1, opset: int | None = None, **attrs: Any
) -> list[np.ndarray]:
    """What the onnx package's own evaluator computes."""
    return ReferenceEvaluator(model(op, inputs, outputs, opset, **attrs)).run(None, feed(inputs))


def check(found: np.ndarray, expected: Any, rtol: float | None = None, atol: float | None = None) -> None:
    """Shape, dtype and values agree; floats to what the dtype can hold unless told otherwise."""
    expected = np.asarray(expected)
    assert found.dtype == expected.dtype
    assert found.shape == expected.shape
    if found.dtype.name not in TOLERANCE:
        np.testing.assert_array_equal(found, expected)
        return
    r, a = TOLERANCE[found.dtype.name]
    wide = np.float64
    np.testing.assert_allclose(
        found.astype(wide),
        expected.astype(wide),
        rtol=r if rtol is None else rtol,
        atol=a if atol is None else atol,
    )


def sample(
    shape: Sequence[int], dtype: Any = np.float32, seed: int = 0, low: float = -4, high: float = 4
) -> np.ndarray:
    """Random values of a dtype: floats in [low, high), integers over the range cut to +-100, bools."""
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype == np.bool_:
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return rng.integers(max(info.min, -100), min(info.max, 100), shape).astype(dtype)
    return np.asarray(rng.uniform(low, high, shape)).astype(dtype)


def check_all(
    found: Sequence[np.ndarray], expected: Sequence[Any], rtol: float | None = 1e-5, atol: float | None = 2e-5
) -> None:
    """`check` for each output; tolerances for sums of products, which engines add up in different orders."""
    assert len(found) == len(expected)
    for f, e in zip(found, expected, strict=True):
        check(f, e, rtol, atol)


def normal(*shape: int, seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    """Normal random numbers of that shape, the same on every call."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def same(found: Sequence[np.ndarray], expected: Sequence[Any]) -> None:
    """Every output equal to the last bit: what only moves elements rounds nothing."""
    check_all(found, expected, 0, 0)
