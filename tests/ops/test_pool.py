# SPDX-License-Identifier: Apache-2.0
"""Pools against ONNX Runtime (onnx.reference where ONNX Runtime has no kernel)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pyneo.errors
from tests.ops.cases import check_all, evaluate, normal, onnx_reference, ort

# x shape, attributes that every windowed pool takes
WINDOWS: list[tuple[tuple[int, ...], dict[str, Any]]] = [
    ((1, 3, 8, 8), {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ((2, 3, 9, 7), {"kernel_shape": [3, 2], "strides": [2, 3], "pads": [1, 0, 2, 1]}),
    ((1, 2, 7, 7), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    ((1, 2, 8, 6), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1}),
    ((1, 1, 6, 6), {"kernel_shape": [2, 2], "strides": [3, 3], "pads": [1, 1, 0, 0], "ceil_mode": 1}),
    ((1, 2, 4, 4), {"kernel_shape": [1, 1], "strides": [2, 2], "ceil_mode": 1}),
    ((1, 2, 11, 9), {"kernel_shape": [3, 3], "dilations": [2, 3]}),
    ((1, 2, 8, 7), {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    ((1, 2, 8, 7), {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"}),
    ((1, 2, 8, 7), {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "VALID"}),
    ((2, 2, 17), {"kernel_shape": [4], "strides": [3], "pads": [1, 2]}),
    ((1, 2, 5, 6, 7), {"kernel_shape": [2, 3, 2], "strides": [1, 2, 2], "pads": [1, 1, 0, 0, 1, 1]}),
    ((1, 2, 5, 5), {"kernel_shape": [5, 5]}),
    ((0, 2, 5, 5), {"kernel_shape": [2, 2]}),
]


@pytest.mark.parametrize(("shape", "attrs"), WINDOWS)
@pytest.mark.parametrize("order", [0, 1])
def test_max_pool_and_its_indices(shape: Any, attrs: dict[str, Any], order: int) -> None:
    x, attrs = normal(*shape), {**attrs, "storage_order": order}
    check_all(evaluate("MaxPool", [x], 2, **attrs), ort("MaxPool", [x], 2, **attrs))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.float64, np.float16])
def test_max_pool_dtypes(dtype: Any) -> None:
    x = (normal(1, 2, 7, 7) * 40).astype(np.int32).astype(dtype)
    attrs = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}
    want = ort("MaxPool", [x.astype(np.float32)], **attrs)[0].astype(dtype)
    check_all(evaluate("MaxPool", [x], **attrs), [want])


def test_max_pool_keeps_nan_and_minus_infinity() -> None:
    x = np.array([[[np.nan, 1, 2, -np.inf, -np.inf, np.nan]]], np.float32)
    got = evaluate("MaxPool", [x], kernel_shape=[2], strides=[2])[0]
    np.testing.assert_array_equal(got, np.array([[[np.nan, 2, np.nan]]], np.float32))
    inf = np.full((1, 1, 2), -np.inf, np.float32)
    assert evaluate("MaxPool", [inf], kernel_shape=[2])[0][0, 0, 0] == -np.inf


@pytest.mark.parametrize(("shape", "attrs"), WINDOWS)
@pytest.mark.parametrize("include", [0, 1])
def test_average_pool(shape: Any, attrs: dict[str, Any], include: int) -> None:
    x, attrs = normal(*shape), {**attrs, "count_include_pad": include}
    check_all(evaluate("AveragePool", [x], **attrs), ort("AveragePool", [x], **attrs))


@pytest.mark.parametrize(("shape", "attrs"), WINDOWS)
@pytest.mark.parametrize("p", [1, 2, 3])
def test_lp_pool(shape: Any, attrs: dict[str, Any], p: int) -> None:
    x, attrs = normal(*shape), {**attrs, "p": p}
    check_all(evaluate("LpPool", [x], **attrs), ort("LpPool", [x], **attrs))


@pytest.mark.parametrize("shape", [(2, 3, 5, 7), (1, 2, 9), (1, 3, 2, 3, 4), (2, 1, 1, 1), (0, 3, 4, 4)])
@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"])
def test_global_pools(op: str, shape: Any) -> None:
    x = normal(*shape)
    check_all(evaluate(op, [x]), ort(op, [x], opset=21))
    double = evaluate(op, [x.astype(np.float64)])[0]
    assert double.dtype == np.float64
    np.testing.assert_allclose(double, evaluate(op, [x])[0], rtol=1e-5, atol=1e-6)


def test_max_unpool_undoes_max_pool() -> None:
    x = normal(2, 3, 6, 8)
    attrs = {"kernel_shape": [2, 2], "strides": [2, 2]}
    y, at = evaluate("MaxPool", [x], 2, **attrs)
    check_all(evaluate("MaxUnpool", [y, at], **attrs), onnx_reference("MaxUnpool", [y, at], **attrs))
    check_all(evaluate("MaxUnpool", [y, at], **attrs), ort("MaxUnpool", [y, at], **attrs))


def test_max_unpool_to_a_given_shape() -> None:
    x = np.abs(normal(1, 2, 7, 5))
    attrs = {"kernel_shape": [2, 2], "strides": [2, 2]}
    y, at = evaluate("MaxPool", [x], 2, **attrs)
    inputs = [y, at, np.array(x.shape, np.int64)]
    got = evaluate("MaxUnpool", inputs, **attrs)
    check_all(got, ort("MaxUnpool", inputs, **attrs))
    check_all(evaluate("MaxPool", got, **attrs), [y])


@pytest.mark.parametrize("index", [-1, 36, 2**62])
def test_max_unpool_refuses_an_index_outside_the_output(index: int) -> None:
    y, at = normal(1, 1, 3, 3), np.arange(9, dtype=np.int64).reshape(1, 1, 3, 3)
    at[0, 0, 1, 1] = index
    with pytest.raises(pyneo.errors.Error, match=str(index)):
        evaluate("MaxUnpool", [y, at], kernel_shape=[2, 2], strides=[2, 2])


@pytest.mark.parametrize(
    ("attrs", "names"),
    [
        ({}, "kernel_shape"),
        ({"kernel_shape": [2]}, "kernel_shape"),
        ({"kernel_shape": [0, 2]}, "kernel_shape"),
        ({"kernel_shape": [2, 2], "strides": [0, 1]}, "strides"),
        ({"kernel_shape": [2, 2], "dilations": [-1, 1]}, "dilations"),
        ({"kernel_shape": [2, 2], "pads": [0, 0, 2**31 - 1, 0]}, "pads"),
        ({"kernel_shape": [9, 2]}, "kernel"),
        ({"kernel_shape": [2, 2], "p": 0}, "p is 0"),
    ],
)
def test_impossible_windows_are_refused(attrs: dict[str, Any], names: str) -> None:
    with pytest.raises(pyneo.errors.Error, match=names):
        evaluate("LpPool", [normal(1, 2, 5, 5)], **attrs)
