# SPDX-License-Identifier: Apache-2.0
"""Softmax, LogSoftmax, Hardmax against numpy in float64 and ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

from pyneo.errors import Error
from tests.ops.cases import FLOATS, check, evaluate, ort, sample

SHAPES = [
    (1,),
    (7,),
    (3, 5),
    (2, 3, 4),
    (2, 700),
    (700, 3),
    (2, 5, 300),
    (0, 3),
    (3, 0),
    (2, 3, 4, 5),
    (3, 30011),
]


def softmax(x, axis):
    e = np.exp(x - x.max(axis=axis, keepdims=True, initial=-1e30))
    return e / e.sum(axis=axis, keepdims=True)


def hardmax(x, axis):
    y = np.zeros_like(x)
    if x.size:
        np.put_along_axis(y, np.expand_dims(x.argmax(axis), axis), 1, axis)
    return y


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_axis(shape, dtype):
    x = sample(shape, dtype, 1, -20, 20)
    wide = x.astype(np.float64)
    for axis in range(-1, len(shape)):
        probabilities = softmax(wide, axis)
        check(evaluate("Softmax", [x], axis=axis)[0], probabilities.astype(dtype))
        check(evaluate("LogSoftmax", [x], axis=axis)[0], np.log(probabilities).astype(dtype))
        check(evaluate("Hardmax", [x], axis=axis)[0], hardmax(wide, axis).astype(dtype))


def test_scalars_and_defaults():
    x = sample((3, 4), np.float32)
    check(evaluate("Softmax", [x])[0], softmax(x, -1))
    check(evaluate("Softmax", [np.float32(5)])[0], np.float32(1))
    check(evaluate("Hardmax", [np.array([2, 7, 7, 1], np.float32)])[0], np.array([0, 1, 0, 0], np.float32))
    with pytest.raises(Error, match="axis 2"):
        evaluate("Softmax", [x], axis=2)


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
def test_large_values_and_infinities_match_onnx_runtime(op):
    x = np.array([[1e4, -1e4, 9.999e3], [3e38, 1, 2], [0, -np.inf, 1], [np.nan, 1, 2]], np.float32)
    check(evaluate(op, [x])[0], ort(op, [x])[0])
    check(evaluate(op, [np.ascontiguousarray(x.T)], axis=0)[0], ort(op, [x])[0].T)
