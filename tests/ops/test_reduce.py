# SPDX-License-Identifier: Apache-2.0
"""Reductions against numpy in float64 and the onnx reference."""

from __future__ import annotations

import numpy as np
import pytest

from pyneo.errors import Error
from tests.ops.cases import FLOATS, INTS, check, evaluate, onnx_reference, sample

WIDE_INTS = [d for d in INTS if d.itemsize >= 4]


def log_sum_exp(x, axis, keepdims):
    top = x.max(axis=axis, keepdims=True)
    y = np.log(np.exp(x - top).sum(axis=axis, keepdims=True)) + top
    return y if keepdims else np.squeeze(y, axis)


REDUCTIONS = {
    "ReduceSum": lambda x, a, k: x.sum(axis=a, keepdims=k),
    "ReduceMean": lambda x, a, k: x.mean(axis=a, keepdims=k),
    "ReduceMax": lambda x, a, k: x.max(axis=a, keepdims=k),
    "ReduceMin": lambda x, a, k: x.min(axis=a, keepdims=k),
    "ReduceProd": lambda x, a, k: x.prod(axis=a, keepdims=k),
    "ReduceL1": lambda x, a, k: np.abs(x).sum(axis=a, keepdims=k),
    "ReduceL2": lambda x, a, k: np.sqrt((x * x).sum(axis=a, keepdims=k)),
    "ReduceSumSquare": lambda x, a, k: (x * x).sum(axis=a, keepdims=k),
    "ReduceLogSum": lambda x, a, k: np.log(x.sum(axis=a, keepdims=k)),
    "ReduceLogSumExp": log_sum_exp,
}
CASES = [
    ((), []),
    ((7,), [0]),
    ((3, 4), [1]),
    ((3, 4), [0]),
    ((3, 4), [-1, 0]),
    ((2, 3, 4, 5), [1, 3]),
    ((2, 3, 4, 5), [0, 2]),
    ((2, 1, 4, 1), [1, 2]),
    ((2, 600, 3), [1]),
    ((2, 3, 600), [2]),
    ((3, 2, 300), [0]),
    ((40, 30, 41), [0, 1]),
    ((2, 3, 2, 3, 2, 3, 2), [0, 2, 4, 6]),
]


def reduce(op, x, axes, **attrs):
    return evaluate(op, [x, np.array(axes, np.int64)], **attrs)[0]


@pytest.mark.parametrize(("shape", "axes"), CASES, ids=str)
@pytest.mark.parametrize("op", REDUCTIONS)
def test_float32_over_every_pattern_of_axes(op, shape, axes):
    low, high = (0.5, 2.0) if op in ("ReduceLogSum",) else (0.9, 1.1) if op == "ReduceProd" else (-4.0, 4.0)
    x = sample(shape, np.float32, 1, low, high)
    for keep in (0, 1):
        expected = REDUCTIONS[op](x.astype(np.float64), tuple(axes) or None, bool(keep)).astype(np.float32)
        # Products of thousands of factors amplify the factors' own rounding; sums here are exact in double.
        check(reduce(op, x, axes, keepdims=keep), expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("op", REDUCTIONS)
def test_every_float_dtype(op, dtype):
    x = sample((3, 5, 300), dtype, 1, 0.9, 1.1)
    for axes in ([1], [2], [0, 2]):
        expected = REDUCTIONS[op](x.astype(np.float64), tuple(axes), True).astype(dtype)
        check(reduce(op, x, axes), expected)


@pytest.mark.parametrize("dtype", WIDE_INTS, ids=str)
@pytest.mark.parametrize(
    "op", ["ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceSumSquare"]
)
def test_integers_wrap_around(op, dtype):
    x = sample((3, 5, 30), dtype, 1)
    x[x == 0] = 1
    for axes in ([1], [0, 2]):
        with np.errstate(over="ignore"):
            expected = REDUCTIONS[op](x, tuple(axes), True).astype(dtype)
        check(reduce(op, x, axes), expected)


@pytest.mark.parametrize("dtype", WIDE_INTS, ids=str)
def test_means_and_norms_of_integers_truncate(dtype):
    x = sample((3, 5, 30), dtype, 1)
    total = x.astype(np.int64).sum(axis=1, keepdims=True)
    check(reduce("ReduceMean", x, [1]), np.trunc(total / 5).astype(dtype))
    norm = np.sqrt((x.astype(np.float64) ** 2).sum(axis=1, keepdims=True))
    check(reduce("ReduceL2", x, [1]), norm.astype(dtype))


@pytest.mark.parametrize("dtype", [np.dtype(t) for t in ("int8", "uint8", "bool")], ids=str)
def test_extremes_of_bytes_and_bools(dtype):
    x = sample((4, 5, 6), dtype, 2)
    for axes in ([0], [1, 2]):
        check(reduce("ReduceMax", x, axes), x.max(axis=tuple(axes), keepdims=True))
        check(reduce("ReduceMin", x, axes), x.min(axis=tuple(axes), keepdims=True))


def test_axes_may_be_absent_or_empty():
    x = sample((2, 3), np.float32)
    check(evaluate("ReduceSum", [x])[0], x.sum(keepdims=True))
    check(evaluate("ReduceSum", [x], keepdims=0)[0], x.sum())
    check(reduce("ReduceSum", x, []), x.sum(keepdims=True))
    check(evaluate("ReduceSum", [x], noop_with_empty_axes=1)[0], x)
    check(evaluate("ReduceSumSquare", [x], noop_with_empty_axes=1)[0], x * x)
    check(evaluate("ReduceL1", [x, None], noop_with_empty_axes=1)[0], np.abs(x))


@pytest.mark.parametrize(
    "op", ["ReduceSum", "ReduceProd", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceLogSumExp"]
)
@pytest.mark.parametrize("dtype", ["float32", "int32"])
def test_reductions_of_nothing(op, dtype):
    if (op, dtype) == ("ReduceLogSumExp", "int32"):
        dtype = "float64"
    x = np.zeros((2, 0, 4), dtype)
    floats = np.dtype(dtype).kind == "f"
    info = np.finfo(dtype) if floats else np.iinfo(dtype)
    empty = {
        "ReduceProd": 1,
        "ReduceMax": -np.inf if floats else info.min,
        "ReduceMin": np.inf if floats else info.max,
        "ReduceLogSumExp": -np.inf,
    }.get(op, 0)
    check(reduce(op, x, [1], keepdims=0), np.full((2, 4), empty, dtype))
    check(reduce(op, x, [0]), np.full((1, 0, 4), empty, dtype))
    check(reduce("ReduceMean", x, [0, 2], keepdims=0), np.zeros(0, dtype))


def test_nan_and_infinities():
    x = np.array(
        [[np.nan, 1, 2], [np.inf, -np.inf, 1], [-np.inf, -np.inf, -np.inf], [1e4, -1e4, 9e3]], np.float32
    )
    for op in ("ReduceMax", "ReduceMin", "ReduceSum", "ReduceL1"):
        with np.errstate(invalid="ignore"):
            check(reduce(op, x, [1], keepdims=0), REDUCTIONS[op](x, (1,), False))
    expected = np.array([np.nan, np.inf, -np.inf, 1e4], np.float32)
    check(reduce("ReduceLogSumExp", x, [1], keepdims=0), expected)
    check(reduce("ReduceLogSumExp", np.ascontiguousarray(x.T), [0], keepdims=0), expected)


def test_a_million_float32_are_summed_without_drift():
    x = np.full(1_000_000, 0.1, np.float32)
    check(reduce("ReduceSum", x, [0], keepdims=0), np.float32(x.astype(np.float64).sum()), rtol=1e-7)


def test_bad_axes_are_named():
    x = np.zeros((2, 3), np.float32)
    with pytest.raises(Error, match="axis 2"):
        reduce("ReduceSum", x, [2])
    with pytest.raises(Error, match="axis -3"):
        reduce("ReduceSum", x, [0, -3])


@pytest.mark.parametrize("op", ["ReduceSum", "ReduceL2", "ReduceLogSumExp", "ReduceMean"])
def test_against_the_onnx_reference(op):
    inputs = [sample((3, 4, 5), np.float32, 9), np.array([-1, 0], np.int64)]
    opset = 18
    check(evaluate(op, inputs)[0], onnx_reference(op, inputs, opset=opset)[0])
