# SPDX-License-Identifier: Apache-2.0
"""Element-wise operators of several tensors against numpy, ONNX Runtime and the onnx reference."""

from __future__ import annotations

import numpy as np
import pytest

from pyneo.errors import Error
from tests.ops.cases import FLOATS, INTS, check, evaluate, onnx_reference, ort, sample

SHAPES = [
    ((), ()),
    ((3,), ()),
    ((), (2, 3)),
    ((2, 3), (2, 3)),
    ((0, 3), (3,)),
    ((1, 0), (4, 1)),
    ((5, 1, 7), (1, 6, 7)),
    ((2, 3, 4, 5), (3, 1, 5)),
    ((2, 1, 1, 300), (1, 4, 2, 1)),
    ((70000,), (1,)),
    ((1, 3, 1, 5, 1, 2, 1, 3), (2, 1, 4, 1, 3, 1, 2, 1)),
    ((129, 3), (3,)),
    ((3, 129), (3, 1)),
]


def pair(shapes, dtype, seed=0, low=-4.0, high=4.0):
    return sample(shapes[0], dtype, seed, low, high), sample(shapes[1], dtype, seed + 1, low, high)


@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize(
    ("op", "f"), [("Add", np.add), ("Sub", np.subtract), ("Mul", np.multiply), ("Div", np.divide)]
)
def test_float32_broadcasting(op, f, shapes):
    a, b = pair(shapes, np.float32, low=0.5)
    check(evaluate(op, [a, b])[0], f(a, b))
    check(evaluate(op, [b, a])[0], f(b, a))


@pytest.mark.parametrize("dtype", FLOATS + INTS, ids=str)
def test_arithmetic_and_comparisons_in_every_dtype(dtype):
    a, b = pair(((3, 1, 50), (4, 1)), dtype)
    b = np.where(b == 0, np.ones_like(b), b)
    for op, f in [("Add", np.add), ("Sub", np.subtract), ("Mul", np.multiply)]:
        check(evaluate(op, [a, b])[0], f(a, b))
    expected = (
        a / b
        if dtype.kind not in "iu"
        else np.trunc(a.astype(np.float64) / b.astype(np.float64)).astype(dtype)
    )
    check(evaluate("Div", [a, b])[0], expected)
    a.ravel()[::3] = np.broadcast_to(b, np.broadcast_shapes(a.shape, b.shape))[:, 0].ravel()[::3][
        : a.ravel()[::3].size
    ]
    comparisons = {
        "Equal": np.equal,
        "Greater": np.greater,
        "Less": np.less,
        "GreaterOrEqual": np.greater_equal,
        "LessOrEqual": np.less_equal,
    }
    for op, f in comparisons.items():
        check(evaluate(op, [a, b])[0], f(a, b))


@pytest.mark.parametrize("dtype", INTS, ids=str)
def test_integers_wrap_around_at_the_ends_of_their_range(dtype):
    info = np.iinfo(dtype)
    ends = np.array([info.min, info.min + 1, info.max - 1, info.max, 1, 2], dtype)
    a, b = ends[:, None], ends[None, :]
    with np.errstate(over="ignore"):
        check(evaluate("Add", [a, b])[0], a + b)
        check(evaluate("Sub", [a, b])[0], a - b)
        check(evaluate("Mul", [a, b])[0], a * b)
    check(evaluate("Less", [a, b])[0], a < b)
    check(evaluate("Max", [a, b])[0], np.maximum(a, b))
    check(evaluate("Min", [a, b])[0], np.minimum(a, b))


@pytest.mark.parametrize("dtype", INTS, ids=str)
def test_integer_division_truncates_and_never_traps(dtype):
    info = np.iinfo(dtype)
    a = np.array([info.min, info.min, info.max, info.max, 7, 100], dtype)
    b = np.array([1, -1 if info.min < 0 else 1, 2, 3, info.max, 9], dtype)
    wide = [
        int(p) // int(q) if (p >= 0) == (q >= 0) else -(-int(p) // int(q)) for p, q in zip(a, b, strict=True)
    ]
    wrapped = [(v - info.min) % (info.max - info.min + 1) + info.min for v in wide]
    check(evaluate("Div", [a, b])[0], np.array(wrapped, dtype))
    check(evaluate("Mod", [a, b])[0], np.array([int(p) % int(q) for p, q in zip(a, b, strict=True)], dtype))
    for op, attrs in [("Div", {}), ("Mod", {}), ("Mod", {"fmod": 1})]:
        with pytest.raises(Error, match="zero"):
            evaluate(op, [a, np.zeros_like(b)], **attrs)


@pytest.mark.parametrize("dtype", [*FLOATS, *INTS], ids=str)
def test_mod(dtype):
    a, b = sample((400,), dtype, 1, -20, 20), sample((400,), dtype, 2, -6, 6)
    b[b == 0] = 3
    check(evaluate("Mod", [a, b], fmod=1)[0], np.fmod(a, b), rtol=0, atol=0)
    if dtype.kind in "iu":
        check(evaluate("Mod", [a, b])[0], np.mod(a, b))
    else:
        check(evaluate("Mod", [a, b])[0], np.mod(a.astype(np.float64), b.astype(np.float64)).astype(dtype))


def test_mod_of_special_floats_follows_the_definition():
    values = np.array([0.0, -0.0, 1.5, -1.5, np.inf, -np.inf, np.nan], np.float64)
    a, b = values[:, None], values[None, :]
    with np.errstate(invalid="ignore"):
        y, expected = evaluate("Mod", [a, b])[0], np.mod(a, b)
    np.testing.assert_array_equal(y, expected)
    zero = (expected == 0) & np.isfinite(b)
    np.testing.assert_array_equal(np.signbit(y[zero]), np.signbit(expected[zero]))


POW = [
    ("float32", "float32"),
    ("float32", "int64"),
    ("float32", "int32"),
    ("float32", "uint8"),
    ("float64", "float32"),
    ("float64", "int64"),
    ("float16", "float16"),
    ("int32", "int32"),
    ("int64", "int64"),
    ("int64", "float32"),
    ("int32", "float64"),
    ("int64", "uint64"),
]


@pytest.mark.parametrize(("base", "exponent"), POW)
def test_pow(base, exponent):
    x = sample((3, 40), np.dtype(base), 3, 0.5, 3)
    x = x % 7 if x.dtype.kind == "i" else x
    e = np.arange(40, dtype=np.float64).reshape(1, 40) % 5
    e = (e if exponent.startswith("f") else np.floor(e)).astype(exponent)
    check(evaluate("Pow", [x, e])[0], np.power(x.astype(np.float64), e.astype(np.float64)).astype(base))


def test_pow_of_integers_wraps_and_refuses_zero_to_a_negative_power():
    x = np.array([3, -3, 10], np.int64)
    check(
        evaluate("Pow", [x, np.array([41, 41, 19], np.int64)])[0],
        np.array([3, -3, 10]) ** np.array([41, 41, 19]),
    )
    check(evaluate("Pow", [np.array([1, -1, -1, 5]), np.array([-3, -3, -2, -1])])[0], np.array([1, -1, 1, 0]))
    with pytest.raises(Error, match="zero"):
        evaluate("Pow", [np.array([0]), np.array([-1])])


@pytest.mark.parametrize(
    ("op", "f"), [("And", np.logical_and), ("Or", np.logical_or), ("Xor", np.logical_xor)]
)
def test_logic(op, f):
    a, b = pair(((3, 1, 90), (7, 1)), np.bool_)
    check(evaluate(op, [a, b])[0], f(a, b))
    check(evaluate("Equal", [a, b])[0], a == b)


@pytest.mark.parametrize("dtype", INTS, ids=str)
def test_bits(dtype):
    a, b = pair(((3, 1, 90), (7, 1)), dtype)
    for op, f in [
        ("BitwiseAnd", np.bitwise_and),
        ("BitwiseOr", np.bitwise_or),
        ("BitwiseXor", np.bitwise_xor),
    ]:
        check(evaluate(op, [a, b])[0], f(a, b))


@pytest.mark.parametrize("dtype", INTS, ids=str)
def test_shifts_by_any_amount_are_defined(dtype):
    info, width = np.iinfo(dtype), np.iinfo(dtype).bits
    x = np.array([info.min, info.max, 1, 5, info.max // 3], dtype)[:, None]
    amounts = [0, 1, width - 1, width, info.max] + ([-1, info.min] if info.min < 0 else [])
    y = np.array(amounts, dtype)[None, :]

    def shifted(v: int, by: int, left: bool) -> int:
        inside = 0 <= by < width
        if left:
            return ((v << by) - info.min) % (1 << width) + info.min if inside else 0
        return v >> by if inside else (-1 if v < 0 else 0)

    for direction in ("LEFT", "RIGHT"):
        expected = [[shifted(int(v), int(by), direction == "LEFT") for by in y[0]] for v in x[:, 0]]
        check(evaluate("BitShift", [x, y], direction=direction)[0], np.array(expected, dtype))


@pytest.mark.parametrize(
    "dtype", [*FLOATS, np.dtype(np.int32), np.dtype(np.int64), np.dtype(np.uint64)], ids=str
)
def test_prelu(dtype):
    x, slope = sample((2, 5, 30), dtype, 1), sample((5, 1), dtype, 2)
    check(evaluate("PRelu", [x, slope])[0], np.where(x < 0, x * slope, x))
    with pytest.raises(Error, match="broadcast"):
        evaluate("PRelu", [slope, x])


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_swiglu(dtype, alpha):
    a, b = sample((3, 100), dtype, 1), sample((3, 100), dtype, 2)
    wide, gate = b.astype(np.float64), a.astype(np.float64)
    check(
        evaluate("SwiGLU", [a, b], alpha=alpha)[0], (gate / (1 + np.exp(-alpha * gate)) * wide).astype(dtype)
    )


@pytest.mark.parametrize("op", ["Add", "Mul"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_fused_activation_is_the_activation_of_the_result(op, dtype):
    a, b = pair(((3, 1, 50), (4, 1)), np.dtype(dtype))
    plain = evaluate(op, [a.astype(np.float32), b.astype(np.float32)])[0]
    check(evaluate(op, [a, b], act="relu")[0], evaluate("Relu", [plain])[0].astype(dtype))
    clipped = np.clip(plain, np.float32(-0.5), np.float32(0.25))
    check(evaluate(op, [a, b], act="clip", act_alpha=-0.5, act_beta=0.25)[0], clipped.astype(dtype))
    with pytest.raises(Error, match="int32"):
        evaluate(op, [np.ones(3, np.int32), np.ones(3, np.int32)], act="relu")
    with pytest.raises(Error, match="swagger"):
        evaluate(op, [a, b], act="swagger")


def test_shapes_that_do_not_broadcast_are_named():
    with pytest.raises(Error, match=r"\[2, 3\].*\[4\]"):
        evaluate("Add", [np.zeros((2, 3), np.float32), np.zeros(4, np.float32)])
    with pytest.raises(Error, match="float64"):
        evaluate("Add", [np.zeros(4, np.float64), np.zeros(4, np.float32)])


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Equal", "Less", "Greater"])
def test_special_values_match_onnx_runtime(op):
    values = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -2.5, 1e-42, 3e38], np.float32)
    inputs = [values[:, None], values[None, :]]
    check(evaluate(op, inputs)[0], ort(op, inputs)[0])


def test_mod_matches_the_onnx_reference():
    a, b = sample((64,), np.dtype(np.int32), 5), sample((64,), np.dtype(np.int32), 6)
    b[b == 0] = 1
    check(evaluate("Mod", [a, b])[0], onnx_reference("Mod", [a, b])[0])
