# SPDX-License-Identifier: Apache-2.0
"""ArgMax, ArgMin, CumSum, CumProd against numpy and the onnx reference."""

from __future__ import annotations

import numpy as np
import pytest

from pyneo.errors import Error
from tests.ops.cases import BF16, FLOATS, INTS, check, evaluate, onnx_reference, sample

SHAPES = [(5,), (3, 4), (2, 3, 4), (2, 700), (700, 2), (3, 2, 300), (2, 0, 3), (1, 1)]


@pytest.mark.parametrize("dtype", [*FLOATS, *INTS], ids=str)
@pytest.mark.parametrize("last", [0, 1])
def test_arg_takes_the_first_or_last_of_equals(dtype, last):
    x = (sample((6, 40, 7), dtype, 1).astype(np.float64) // 8).astype(dtype)
    wide = x.astype(np.float64)
    for op, f in [("ArgMax", np.argmax), ("ArgMin", np.argmin)]:
        for axis in (0, 1, 2, -1):
            expected = (
                wide.shape[axis] - 1 - f(np.flip(wide, axis), axis=axis) if last else f(wide, axis=axis)
            )
            attrs = {"axis": axis, "select_last_index": last}
            check(evaluate(op, [x], keepdims=0, **attrs)[0], expected)
            check(evaluate(op, [x], **attrs)[0], np.expand_dims(expected, axis))


def test_arg_of_nan_and_long_axes():
    x = np.array([[1, np.nan, 3, np.nan], [-np.inf, -np.inf, -np.inf, -np.inf]], np.float32)
    check(evaluate("ArgMax", [x], axis=1, keepdims=0)[0], np.argmax(x, 1))
    check(evaluate("ArgMin", [x.T], axis=0, keepdims=0)[0], np.argmin(x, 1))
    for shape in [(2, 70001), (70001, 2)]:
        y = sample(shape, np.float32, 3)
        check(evaluate("ArgMax", [y], axis=0, keepdims=0)[0], np.argmax(y, 0))
        check(evaluate("ArgMin", [y], axis=1, keepdims=0)[0], np.argmin(y, 1))


def test_arg_of_scalars_empty_outputs_and_empty_axes():
    check(evaluate("ArgMax", [np.float32(3)])[0], np.int64(0))
    check(evaluate("ArgMax", [np.zeros((0, 3), np.float32)], axis=1)[0], np.zeros((0, 1), np.int64))
    with pytest.raises(Error, match="axis 0"):
        evaluate("ArgMax", [np.zeros((0, 3), np.float32)], axis=0)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("op", ["CumSum", "CumProd"])
def test_scans_match_the_onnx_reference(op, shape):
    x = sample(shape, np.float32, 1, 0.9, 1.1)
    for axis in range(-1, len(shape)):
        for exclusive in (0, 1):
            for reverse in (0, 1):
                attrs = {"exclusive": exclusive, "reverse": reverse}
                wide = x.astype(np.float64)
                wide = np.flip(wide, axis) if reverse else wide
                y = np.cumsum(wide, axis) if op == "CumSum" else np.cumprod(wide, axis)
                if exclusive and y.size:
                    y = np.roll(y, 1, axis)
                    np.moveaxis(y, axis, 0)[0] = 0 if op == "CumSum" else 1
                y = np.flip(y, axis) if reverse else y
                inputs = [x, np.array(axis, np.int64)]
                check(evaluate(op, inputs, **attrs)[0], y.astype(np.float32))
                if op == "CumSum" and x.size:
                    check(
                        evaluate(op, inputs, **attrs)[0], onnx_reference(op, inputs, **attrs)[0], 1e-5, 1e-5
                    )


@pytest.mark.parametrize("dtype", [*FLOATS, *[d for d in INTS if d.itemsize >= 4]], ids=str)
def test_scans_in_every_dtype(dtype):
    x = sample((5, 40), dtype, 2, 0.9, 1.1)
    wide = x if dtype.kind in "iu" else x.astype(np.float64)
    with np.errstate(over="ignore"):
        for axis in (0, 1):
            a = np.array([axis], np.int32)
            tolerance = 1e-2 if dtype == BF16 else None
            check(
                evaluate("CumSum", [x, a])[0],
                np.cumsum(wide, axis, dtype=wide.dtype).astype(dtype),
                tolerance,
            )
            check(
                evaluate("CumProd", [x, a])[0],
                np.cumprod(wide, axis, dtype=wide.dtype).astype(dtype),
                tolerance,
            )


def test_the_axis_is_data_and_is_checked_when_it_runs():
    with pytest.raises(Error, match="axis 7"):
        evaluate("CumSum", [np.zeros((2, 3), np.float32), np.array(7, np.int64)])
