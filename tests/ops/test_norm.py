# SPDX-License-Identifier: Apache-2.0
"""Normalisations against numpy in float64 and ONNX Runtime; Dropout."""

from __future__ import annotations

import numpy as np
import pytest

from pyneo.errors import Error
from tests.ops.cases import FLOATS, check, evaluate, onnx_reference, ort, sample

NARROW = {"float16": 4e-3, "bfloat16": 3e-2}


def wide(*arrays):
    return [x.astype(np.float64) for x in arrays]


def close(found, expected, dtype):
    """Several roundings of narrow inputs add up: two ulps."""
    tolerance = NARROW.get(dtype.name)
    check(found, np.asarray(expected).astype(dtype), tolerance, tolerance)


def per_channel(v, rank):
    return v.reshape((1, -1) + (1,) * (rank - 2))


# --- the last axes ---------------------------------------------------------------------------------


def layer_norm(x, scale, bias, axis, epsilon=1e-5):
    axes = tuple(range(axis % x.ndim, x.ndim))
    mean = x.mean(axis=axes, keepdims=True)
    inverse = 1 / np.sqrt(x.var(axis=axes, keepdims=True) + epsilon)
    return (x - mean) * inverse * scale + bias, mean, inverse


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(
    ("shape", "axis"),
    [((7,), 0), ((3, 5), -1), ((2, 3, 300), 2), ((2, 3, 4, 5), 1), ((4, 3, 2), -2), ((0, 3), -1)],
)
def test_layer_normalization_and_its_statistics(shape, axis, dtype):
    x, scale, bias = sample(shape, dtype, 1), sample(shape[axis:], dtype, 2), sample(shape[axis:], dtype, 3)
    y, mean, inverse = layer_norm(*wide(x, scale, bias), axis, epsilon=np.float64(np.float32(1e-3)))
    found = evaluate("LayerNormalization", [x, scale, bias], 3, axis=axis, epsilon=1e-3)
    close(found[0], y, dtype)
    check(found[1], mean.astype(np.float32), 2e-6, 2e-6)
    check(found[2], inverse.astype(np.float32), 2e-6)
    close(
        evaluate("LayerNormalization", [x, scale], axis=axis)[0],
        layer_norm(*wide(x, scale), 0, axis)[0],
        dtype,
    )


def test_layer_normalization_matches_onnx_runtime_and_broadcasts_scale():
    inputs = [sample((2, 40, 96), np.float32, 1), sample((96,), np.float32, 2), sample((96,), np.float32, 3)]
    check(evaluate("LayerNormalization", inputs)[0], ort("LayerNormalization", inputs)[0], 1e-5, 1e-5)
    x, scale, bias = (
        sample((2, 3, 4), np.float32, 1),
        sample((3, 1), np.float32, 2),
        sample((1,), np.float32, 3),
    )
    expected = layer_norm(*wide(x, scale, bias), -1)[0]
    close(evaluate("LayerNormalization", [x, scale, bias])[0], expected, x.dtype)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_rms_normalization(dtype):
    x, scale = sample((3, 4, 70), dtype, 1), sample((70,), dtype, 2)
    a, s = wide(x, scale)
    inverse = 1 / np.sqrt((a * a).mean(axis=-1, keepdims=True) + np.float64(np.float32(1e-5)))
    close(evaluate("RMSNormalization", [x, scale])[0], a * inverse * s, dtype)
    y, statistics = evaluate("SimplifiedLayerNormalization", [x, scale], 2)
    close(y, a * inverse * s, dtype)
    check(statistics, inverse.astype(np.float32), 2e-6)


def test_rms_normalization_gives_the_dtype_of_its_scale():
    x, scale = sample((3, 64), np.float16, 1), sample((64,), np.float32, 2)
    a, s = wide(x, scale)
    expected = a / np.sqrt((a * a).mean(axis=-1, keepdims=True) + 1e-5) * s
    check(evaluate("RMSNormalization", [x, scale])[0], expected.astype(np.float32))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_skip_layer_normalization(dtype):
    x, skip = sample((2, 5, 64), np.dtype(dtype), 1), sample((2, 5, 64), np.dtype(dtype), 2)
    gamma, beta, bias = (sample((64,), np.dtype(dtype), i) for i in (3, 4, 5))
    total = sum(wide(x, skip, bias))
    y, mean, inverse = layer_norm(total, *wide(gamma, beta), -1, epsilon=1e-12)
    found = evaluate("com.microsoft.SkipLayerNormalization", [x, skip, gamma, beta, bias], 4)
    close(found[0], y, x.dtype)
    check(found[1], mean.astype(np.float32), 2e-6, 2e-6)
    check(found[2], inverse.astype(np.float32), 2e-6)
    close(found[3], total, x.dtype)
    rms = total / np.sqrt((total**2).mean(axis=-1, keepdims=True) + 1e-12) * gamma.astype(np.float64)
    found = evaluate("com.microsoft.SkipSimplifiedLayerNormalization", [x, skip, gamma, bias], 1)
    close(found[0], rms, x.dtype)


def test_skip_layer_normalization_matches_onnx_runtime():
    x, skip, gamma, beta = (
        sample(s, np.float32, i) for i, s in enumerate([(2, 5, 64), (1, 5, 64), (64,), (64,)])
    )
    op = "com.microsoft.SkipLayerNormalization"
    check(
        evaluate(op, [x, skip, gamma, beta], epsilon=1e-5)[0],
        ort(op, [x, skip, gamma, beta], epsilon=1e-5)[0],
        1e-5,
        1e-5,
    )


# --- by channels -----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(
    "shape", [(6,), (5, 3), (2, 3, 7), (2, 3, 20, 21), (2, 40, 3, 3, 3), (0, 3, 2)], ids=str
)
def test_batch_normalization(shape, dtype):
    channels = shape[1] if len(shape) > 1 else 1
    x, scale, bias, mean = (sample(s, dtype, i) for i, s in enumerate([shape] + [(channels,)] * 3))
    var = sample((channels,), dtype, 9, 0.5, 2)
    a, s, b, m, v = wide(x, scale, bias, mean, var)
    s, b, m, v = (p if len(shape) == 1 else per_channel(p, len(shape)) for p in (s, b, m, v))
    expected = (a - m) / np.sqrt(v + np.float64(np.float32(1e-3))) * s + b
    close(evaluate("BatchNormalization", [x, scale, bias, mean, var], epsilon=1e-3)[0], expected, dtype)


def test_batch_normalization_in_training_mode_matches_the_onnx_reference():
    x = sample((3, 4, 5, 6), np.float32, 1)
    inputs = [x, *(sample((4,), np.float32, i, 0.5, 2) for i in range(2, 6))]
    attrs = {"training_mode": 1, "momentum": 0.7, "epsilon": 1e-4}
    found = evaluate("BatchNormalization", inputs, 3, **attrs)
    for f, e in zip(found, onnx_reference("BatchNormalization", inputs, 3, opset=15, **attrs), strict=True):
        check(f, e, 1e-5, 1e-5)


def test_batch_normalization_of_mixed_dtypes():
    x, scale, bias = (
        sample((2, 3, 8), np.float16, 1),
        sample((3,), np.float32, 2),
        sample((3,), np.float32, 3),
    )
    mean, var = sample((3,), np.float64, 4), sample((3,), np.float64, 5, 0.5, 2)
    a, s, b, m, v = wide(x, scale, bias, mean, var)
    expected = (a - m[:, None]) / np.sqrt(v[:, None] + 1e-5) * s[:, None] + b[:, None]
    close(evaluate("BatchNormalization", [x, scale, bias, mean, var])[0], expected, x.dtype)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("groups", [1, 2, 3, 6])
def test_group_and_instance_normalization(groups, dtype):
    x, scale, bias = sample((2, 6, 5, 70), dtype, 1), sample((6,), dtype, 2), sample((6,), dtype, 3)
    a, s, b = wide(x, scale, bias)
    g = a.reshape(2, groups, -1)
    normal = (g - g.mean(-1, keepdims=True)) / np.sqrt(
        g.var(-1, keepdims=True) + np.float64(np.float32(1e-5))
    )
    expected = normal.reshape(a.shape) * per_channel(s, 4) + per_channel(b, 4)
    close(evaluate("GroupNormalization", [x, scale, bias], num_groups=groups)[0], expected, dtype)
    if groups == 6:
        close(evaluate("InstanceNormalization", [x, scale, bias])[0], expected, dtype)


def test_instance_normalization_matches_onnx_runtime():
    inputs = [sample((2, 3, 15, 17), np.float32, 1), sample((3,), np.float32, 2), sample((3,), np.float32, 3)]
    check(evaluate("InstanceNormalization", inputs)[0], ort("InstanceNormalization", inputs)[0], 1e-5, 1e-5)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 100, 2**40])
@pytest.mark.parametrize("shape", [(2, 7, 5, 60), (1, 3), (2, 5, 3)], ids=str)
def test_lrn_follows_the_definition(shape, size):
    x = sample(shape, np.float32, 1)
    a = x.astype(np.float64)
    squares = np.zeros_like(a)
    for ch in range(shape[1]):
        low, high = max(0, ch - (size - 1) // 2), min(shape[1] - 1, ch + size // 2)
        squares[:, ch] = (a[:, low : high + 1] ** 2).sum(axis=1)
    expected = a / (1.5 + np.float64(np.float32(0.02)) / size * squares) ** 0.75
    check(evaluate("LRN", [x], size=size, alpha=0.02, bias=1.5)[0], expected.astype(np.float32))


def test_lrn_matches_onnx_runtime():
    x = sample((2, 9, 6, 6), np.float32, 1)
    check(evaluate("LRN", [x], size=5, alpha=0.1)[0], ort("LRN", [x], size=5, alpha=0.1)[0], 1e-5, 1e-5)


# --- over chosen axes ------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("axes", [None, [0], [1, 2], [-1], [0, 1, 2, 3]], ids=str)
def test_mean_variance_normalization(axes, dtype):
    x = sample((3, 4, 5, 6), dtype, 1)
    over, a = tuple(axes or (0, 2, 3)), x.astype(np.float64)
    expected = (a - a.mean(over, keepdims=True)) / (a.std(over, keepdims=True) + 1e-9)
    close(evaluate("MeanVarianceNormalization", [x], **({"axes": axes} if axes else {}))[0], expected, dtype)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("p", [1, 2])
def test_lp_normalization_and_its_zero_lanes(p, dtype):
    x = sample((3, 4, 300), dtype, 1)
    x[1, 2] = 0
    a = x.astype(np.float64)
    for axis in (0, 1, -1):
        norm = np.linalg.norm(a, ord=p, axis=axis, keepdims=True)
        expected = np.divide(a, norm, out=np.zeros_like(a), where=norm != 0)
        close(evaluate("LpNormalization", [x], p=p, axis=axis)[0], expected, dtype)


def test_dropout_is_the_identity_unless_it_trains():
    x = sample((3, 5), np.float32)
    y, mask = evaluate("Dropout", [x], 2)
    check(y, x)
    check(mask, np.ones((3, 5), bool))
    check(evaluate("Dropout", [x, np.float32(0.3), np.bool_(False)])[0], x)
    check(evaluate("Dropout", [x, np.float32(0), np.bool_(True)])[0], x)
    with pytest.raises(Error, match="inference"):
        evaluate("Dropout", [x, np.float32(0.3), np.bool_(True)])


X = np.zeros((2, 6, 3), np.float32)


@pytest.mark.parametrize(
    ("op", "inputs", "attrs", "message"),
    [
        ("GroupNormalization", [X, X[0, :, 0], X[0, :, 0]], {"num_groups": 4}, "num_groups is 4"),
        ("GroupNormalization", [X, X[0, :, 0], X[0, :, 0]], {}, "num_groups is 0"),
        ("GroupNormalization", [X, X[0, :3, 0], X[0, :, 0]], {"num_groups": 2}, r"expected \[6\]"),
        ("InstanceNormalization", [X[0, 0], X[0, 0], X[0, 0]], {}, "rank 1"),
        ("BatchNormalization", [X, *[np.zeros(5, np.float32)] * 4], {}, r"\[5\], expected \[6\]"),
        ("LayerNormalization", [X, np.zeros(4, np.float32)], {}, "broadcast"),
        ("LayerNormalization", [X, np.zeros(3, np.float64)], {}, "float64"),
        ("LayerNormalization", [X, np.zeros(3, np.float32)], {"axis": 3}, "axis 3"),
        ("LayerNormalization", [X, np.zeros(3, np.float32)], {"stash_type": 7}, "stash_type is 7"),
        ("LpNormalization", [X], {"p": 3}, "p is 3"),
        ("LRN", [X], {"size": 0}, "size is 0"),
        ("MeanVarianceNormalization", [X], {}, "axis 3"),
    ],
)
def test_what_does_not_fit_is_named(op, inputs, attrs, message):
    with pytest.raises(Error, match=message):
        evaluate(op, inputs, **attrs)
