# SPDX-License-Identifier: Apache-2.0
"""Where, Clip and the variadic operators against numpy and ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

from pyneo.errors import Error
from tests.ops.cases import BF16, FLOATS, INTS, check, evaluate, ort, sample


@pytest.mark.parametrize("dtype", [*FLOATS, *INTS, np.dtype(np.bool_)], ids=str)
@pytest.mark.parametrize(
    "shapes",
    [((3, 1), (4,), (1,)), ((), (2, 3), (3,)), ((0,), (1,), ()), ((2, 300), (2, 1), (300,))],
    ids=str,
)
def test_where(dtype, shapes):
    condition = sample(shapes[0], np.bool_, 1)
    a, b = sample(shapes[1], dtype, 2), sample(shapes[2], dtype, 3)
    check(evaluate("Where", [condition, a, b])[0], np.where(condition, a, b))


@pytest.mark.parametrize("dtype", [*FLOATS, *INTS], ids=str)
def test_clip(dtype):
    x = sample((3, 300), dtype, 1)
    low, high = np.array(2, dtype), np.array(3, dtype)
    check(evaluate("Clip", [x, low, high])[0], np.minimum(np.maximum(x, low), high))
    check(evaluate("Clip", [x, high, low])[0], np.full_like(x, low))
    check(evaluate("Clip", [x, None, high])[0], np.minimum(x, high))
    check(evaluate("Clip", [x, low])[0], np.maximum(x, low))
    check(evaluate("Clip", [x])[0], x)


def test_clip_passes_nan_and_refuses_bounds_of_several_elements():
    x = np.array([np.nan, np.inf, -np.inf], np.float32)
    check(evaluate("Clip", [x, np.float32(-1), np.float32(1)])[0], np.array([np.nan, 1, -1], np.float32))
    with pytest.raises(Error, match="one element"):
        evaluate("Clip", [x, np.zeros(2, np.float32)])


@pytest.mark.parametrize(("op", "f"), [("Max", np.maximum), ("Min", np.minimum)])
@pytest.mark.parametrize("dtype", [*FLOATS, *INTS], ids=str)
def test_max_and_min_of_many(op, f, dtype):
    inputs = [sample(s, dtype, i) for i, s in enumerate([(3, 1, 90), (4, 1), (), (3, 4, 90)])]
    expected = inputs[0]
    for x in inputs[1:]:
        expected = f(expected, x)
    check(evaluate(op, inputs)[0], expected)
    check(evaluate(op, inputs[:1])[0], inputs[0])


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("count", [1, 2, 3, 40])
def test_sum_and_mean_of_many_are_rounded_once(dtype, count):
    inputs = [sample((1 + i % 2, 65), dtype, i) for i in range(count)]
    total = sum(np.broadcast_to(x.astype(np.float64), (1 + (count > 1), 65)) for x in inputs)
    # float32 accumulation of 40 values rounds 40 times; the narrow dtypes only at the end.
    rtol = {"float32": 1e-5, "float64": 1e-12, "float16": 1e-3, "bfloat16": 8e-3}[dtype.name]
    check(evaluate("Sum", inputs)[0], total.astype(dtype), rtol=rtol, atol=1e-5 if dtype != BF16 else 1e-2)
    check(
        evaluate("Mean", inputs)[0],
        (total / count).astype(dtype),
        rtol=rtol,
        atol=1e-5 if dtype != BF16 else 1e-2,
    )


@pytest.mark.parametrize("op", ["Max", "Min", "Sum", "Mean"])
def test_special_values_match_onnx_runtime(op):
    values = np.array([np.nan, np.inf, -np.inf, 0.0, 1.0, -2.5], np.float32)
    inputs = [values[:, None], values[None, :]]
    check(evaluate(op, inputs)[0], ort(op, inputs)[0])
