# SPDX-License-Identifier: Apache-2.0
"""Element-wise operators of one tensor against numpy (in float64) and ONNX Runtime."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from pyneo.errors import Error
from tests.ops.cases import BF16, FLOATS, INTS, check, evaluate, onnx_reference, ort, sample

erf = np.vectorize(math.erf, otypes=[np.float64])


def logistic(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(x, 0)


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


# name, numpy in float64, range of the inputs
FLOAT_OPS: list[tuple[str, Callable[[np.ndarray], np.ndarray], float, float]] = [
    ("Abs", np.abs, -9, 9),
    ("Neg", np.negative, -9, 9),
    ("Reciprocal", np.reciprocal, 0.5, 9),
    ("Sqrt", np.sqrt, 0, 9),
    ("Exp", np.exp, -9, 3),
    ("Log", np.log, 0.01, 9),
    ("Floor", np.floor, -9, 9),
    ("Ceil", np.ceil, -9, 9),
    ("Round", np.round, -9, 9),
    ("Sign", np.sign, -9, 9),
    ("Sin", np.sin, -9, 9),
    ("Cos", np.cos, -9, 9),
    ("Tan", np.tan, -1.2, 1.2),
    ("Asin", np.arcsin, -1, 1),
    ("Acos", np.arccos, -1, 1),
    ("Atan", np.arctan, -9, 9),
    ("Sinh", np.sinh, -3, 3),
    ("Cosh", np.cosh, -3, 3),
    ("Tanh", np.tanh, -3, 3),
    ("Asinh", np.arcsinh, -9, 9),
    ("Acosh", np.arccosh, 1.1, 9),
    ("Atanh", np.arctanh, -0.9, 0.9),
    ("Erf", erf, -3, 3),
    ("Sigmoid", logistic, -9, 9),
    ("Relu", lambda x: np.maximum(x, 0), -9, 9),
    ("LeakyRelu", lambda x: np.where(x < 0, np.float64(np.float32(0.01)) * x, x), -9, 9),
    ("Elu", lambda x: np.where(x < 0, np.expm1(x), x), -9, 9),
    (
        "Selu",
        lambda x: 1.05070102214813232421875 * np.where(x > 0, x, 1.67326319217681884765625 * np.expm1(x)),
        -9,
        9,
    ),
    ("Celu", lambda x: np.maximum(x, 0) + np.minimum(0, np.expm1(x)), -9, 9),
    ("ThresholdedRelu", lambda x: np.where(x > 1, x, 0), -9, 9),
    ("HardSigmoid", lambda x: np.clip(np.float64(np.float32(0.2)) * x + 0.5, 0, 1), -9, 9),
    ("HardSwish", lambda x: x * np.clip(x / 6 + 0.5, 0, 1), -9, 9),
    ("Softplus", softplus, -9, 9),
    ("Softsign", lambda x: x / (1 + np.abs(x)), -9, 9),
    ("Gelu", lambda x: 0.5 * x * (1 + erf(x / np.sqrt(2))), -5, 5),
    ("Mish", lambda x: x * np.tanh(softplus(x)), -9, 9),
    ("Swish", lambda x: x * logistic(x), -9, 9),
    ("Shrink", lambda x: np.where(np.abs(x) > 0.5, x, 0), -2, 2),
    ("com.microsoft.Gelu", lambda x: 0.5 * x * (1 + erf(x / np.sqrt(2))), -5, 5),
    ("com.microsoft.FastGelu", gelu_tanh, -5, 5),
    ("com.microsoft.QuickGelu", lambda x: x * logistic(np.float64(np.float32(1.702)) * x), -5, 5),
]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(("op", "f", "low", "high"), FLOAT_OPS, ids=[row[0] for row in FLOAT_OPS])
def test_floats_match_numpy(op, f, low, high, dtype):
    for shape in [(), (1,), (0, 3), (7,), (2, 3, 5), (257,), (1, 40001)]:
        x = sample(shape, dtype, seed=len(shape), low=low, high=high)
        y = evaluate(op, [x])[0]
        check(y, np.asarray(f(x.astype(np.float64))).astype(dtype))


ORT_CASES = [
    ("LeakyRelu", {"alpha": 0.3}),
    ("Elu", {"alpha": 1.5}),
    ("Selu", {"alpha": 1.2, "gamma": 0.9}),
    ("Celu", {"alpha": 2.5}),
    ("ThresholdedRelu", {"alpha": 0.4}),
    ("HardSigmoid", {"alpha": 0.3, "beta": 0.4}),
    ("Gelu", {"approximate": "tanh"}),
    ("Shrink", {"lambd": 0.7, "bias": 0.2}),
]


@pytest.mark.parametrize(("op", "attrs"), ORT_CASES, ids=[row[0] for row in ORT_CASES])
def test_attributes_match_onnx_runtime(op, attrs):
    x = sample((5, 77), np.float32, seed=3)
    check(evaluate(op, [x], **attrs)[0], ort(op, [x], **attrs)[0])


@pytest.mark.parametrize(
    "op", ["Relu", "Abs", "Neg", "Sign", "Floor", "Ceil", "Round", "Sqrt", "Erf", "Tanh", "IsNaN"]
)
def test_special_values_match_onnx_runtime(op):
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 0.5, 1.5, 2.5, -0.5, -1.5, 1e-42, 3e38], np.float32)
    check(evaluate(op, [x])[0], ort(op, [x])[0])


@pytest.mark.parametrize("dtype", [np.dtype(t) for t in ("float32", "float64", "float16")], ids=str)
@pytest.mark.parametrize("attrs", [{}, {"detect_negative": 0}, {"detect_positive": 0}], ids=str)
def test_is_inf_is_nan(dtype, attrs):
    x = np.array([np.nan, np.inf, -np.inf, 0.0, 65504.0, -1.0], dtype)
    signs = (x > 0) * attrs.get("detect_positive", 1) + (x < 0) * attrs.get("detect_negative", 1)
    check(evaluate("IsInf", [x], **attrs)[0], np.isinf(x) & (signs != 0))
    check(evaluate("IsNaN", [x])[0], np.isnan(x))


@pytest.mark.parametrize("dtype", INTS, ids=str)
def test_integers_match_numpy(dtype):
    info = np.iinfo(dtype)
    x = np.concatenate([sample((300,), dtype, seed=5), np.array([info.min, info.max, 0, 1], dtype)])
    check(evaluate("Abs", [x])[0], np.abs(x))
    check(evaluate("Sign", [x])[0], np.sign(x))
    check(evaluate("BitwiseNot", [x])[0], ~x)
    check(
        evaluate("Shrink", [x[:300]], lambd=1.5, bias=1.5)[0],
        onnx_reference("Shrink", [x[:300]], lambd=1.5, bias=1.5)[0],
    )
    if dtype.kind == "i":
        check(evaluate("Neg", [x])[0], np.negative(x))
        check(evaluate("Relu", [x])[0], np.maximum(x, 0))


def test_not():
    x = sample((3, 100), np.bool_)
    check(evaluate("Not", [x])[0], ~x)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_gelu_with_bias(dtype):
    x, b = sample((4, 9, 33), dtype, 1), sample((33,), dtype, 2)
    s = x.astype(np.float64) + b.astype(np.float64)
    check(evaluate("com.microsoft.BiasGelu", [x, b])[0], (0.5 * s * (1 + erf(s / np.sqrt(2)))).astype(dtype))
    check(evaluate("com.microsoft.FastGelu", [x, b])[0], gelu_tanh(s).astype(dtype))


@pytest.mark.parametrize("dtype", [np.dtype(np.float16), BF16], ids=str)
def test_every_16_bit_float_survives_a_round_trip(dtype):
    x = np.arange(65536, dtype=np.uint16).view(dtype)
    y = evaluate("Neg", [x])[0]
    number = ~np.isnan(x.astype(np.float32))
    np.testing.assert_array_equal(y[number].view(np.uint16), x[number].view(np.uint16) ^ 0x8000)
    assert np.isnan(y[~number].astype(np.float32)).all()


@pytest.mark.parametrize(
    ("op", "x", "attrs", "message"),
    [
        ("Sqrt", np.zeros(3, np.int32), {}, "int32"),
        ("Not", np.zeros(3, np.float32), {}, "bool"),
        ("Neg", np.zeros(3, np.uint8), {}, "uint8"),
        ("Gelu", np.zeros(3, np.float32), {"approximate": "sometimes"}, "sometimes"),
    ],
)
def test_wrong_dtypes_and_attributes_are_named(op, x, attrs, message):
    with pytest.raises(Error, match=message):
        evaluate(op, [x], **attrs)
