# SPDX-License-Identifier: Apache-2.0
"""One operator at a time: every type, old operator sets, odd attributes, sizes 0 and 1."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import helper

from tests.fuzz.draw import ANY, FLOATS, NUMBERS, SIGNED, WHOLE, T, dims, partner, value, wide
from tests.fuzz.layers import grid, norms, quantised, resized, windows
from tests.fuzz.maker import Maker, Unfit, Val
from tests.fuzz.movers import gather, made, pads, slices, splits
from tests.fuzz.steps import attention_operator, recurrence, rotary_operator, signals

OPSETS = tuple(range(7, 24))

UNARY = (
    "Abs",
    "Neg",
    "Sign",
    "Floor",
    "Ceil",
    "Round",
    "Sqrt",
    "Reciprocal",
    "Exp",
    "Log",
    "Sin",
    "Cos",
    "Tan",
    "Asin",
    "Acos",
    "Atan",
    "Sinh",
    "Cosh",
    "Asinh",
    "Acosh",
    "Atanh",
    "Erf",
    "Sigmoid",
    "Tanh",
    "Relu",
    "Softplus",
    "Softsign",
    "LeakyRelu",
    "Elu",
    "Selu",
    "Celu",
    "HardSigmoid",
    "ThresholdedRelu",
    "HardSwish",
    "Mish",
    "Gelu",
    "Shrink",
    "IsNaN",
    "IsInf",
    "Not",
    "BitwiseNot",
    "Identity",
)


def unary(m: Maker, _: Val) -> Val:
    kind = m.pick(*UNARY)
    dtype = T.BOOL if kind == "Not" else m.pick(*ANY) if kind == "Identity" else m.pick(*FLOATS, *WHOLE)
    attrs: dict[str, Any] = {}
    if kind == "IsInf":
        attrs = {"detect_negative": m.pick(None, 0, 1), "detect_positive": m.pick(None, 0, 1)}
    elif kind == "Shrink":
        attrs = {"bias": m.pick(None, 0.3), "lambd": m.pick(None, 0.1, 1.5)}
    elif kind in ("LeakyRelu", "Elu", "Selu", "Celu", "HardSigmoid", "ThresholdedRelu"):
        attrs = {"alpha": m.pick(None, 0.3, 2.0, 1.0, -0.5 if kind != "Celu" else 0.7)}
    elif kind == "Gelu":
        attrs = {"approximate": m.pick(None, "none", "tanh")}
    make = wide if m.chance(0.3) and kind not in ("Sin", "Cos", "Tan") else value
    return m.op(kind, make(m, dims(m, 0, 1, 2, 3, 4), dtype), **attrs)


def binary(m: Maker, _: Val) -> Val:
    kind = m.pick(
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Pow",
        "Mod",
        "Mod",
        "BitwiseAnd",
        "BitwiseOr",
        "BitwiseXor",
        "And",
        "Or",
        "Xor",
        "Equal",
        "Equal",
        "Less",
        "Greater",
        "LessOrEqual",
        "GreaterOrEqual",
        "PRelu",
        "Max",
        "Min",
        "Sum",
        "Mean",
    )
    shape = dims(m, 0, 1, 2, 3, 4)
    dtype = m.pick(*NUMBERS)
    attrs: dict[str, Any] = {}
    if kind in ("And", "Or", "Xor"):
        dtype = T.BOOL
    elif kind in ("Sum", "Mean"):
        dtype = m.pick(*FLOATS)
    elif kind == "Equal":
        dtype = m.pick(*ANY)
    a, b = value(m, shape, dtype), value(m, partner(m, shape), dtype)
    if (kind == "Div" and dtype in WHOLE) or kind == "Mod":
        other = m.data(partner(m, shape), dtype)
        other = np.where(other == 0, 3, other).astype(other.dtype)
        b = m.input(other.shape, dtype, other) if m.chance(0.5) else m.const(other)
        if kind == "Mod":
            attrs["fmod"] = 1 if dtype in FLOATS else m.pick(None, 0, 1)
    if kind == "Pow":
        low = np.abs(m.data(shape, dtype)) % 5 + (dtype in FLOATS)
        a = m.input(shape, dtype, low.astype(helper.tensor_dtype_to_np_dtype(dtype)))
        power = m.pick(dtype, dtype, T.FLOAT, T.INT32, T.INT64) if m.opset >= 12 else dtype
        small = m.np.integers(0, 4, partner(m, shape)).astype(helper.tensor_dtype_to_np_dtype(power))
        b = m.const(small) if m.chance(0.5) else m.input(small.shape, power, small)
    if kind in ("Max", "Min", "Sum", "Mean") and m.chance(0.3):
        return m.op(kind, *([a] if m.chance(0.3) else [a, b, value(m, partner(m, shape), dtype)]))
    return m.op(
        kind, *((b, a) if m.chance(0.2) and kind not in ("Div", "Mod", "Pow", "PRelu") else (a, b)), **attrs
    )


def cast(m: Maker, _: Val) -> Val:
    """From any type to any; what does not fit is left out where no one says what it becomes."""
    a, b = m.pick(*ANY, T.BFLOAT16), m.pick(*ANY, T.BFLOAT16)
    shape = dims(m, 0, 1, 2, 3)
    x = value(m, shape, T.FLOAT if a == T.BFLOAT16 else a, 0.2)
    if a in FLOATS or a == T.BFLOAT16:
        x = m.op("Mul", x, m.like(x, m.pick(1.0, 30.0, 0.4)))
        if b not in FLOATS and b not in (T.BOOL, T.BFLOAT16, *SIGNED):
            x = m.op("Abs", x)
    if a == T.BFLOAT16:
        x = m.op("Cast", x, to=T.BFLOAT16)
    y = (
        m.op("CastLike", x, m.const(m.data((2,), b)))
        if m.chance(0.15) and b != T.BFLOAT16
        else m.op("Cast", x, to=b)
    )
    return m.op("Cast", y, to=T.FLOAT) if b == T.BFLOAT16 else y


def reduction(m: Maker, _: Val) -> Val:
    kind = m.pick(
        "ReduceMean",
        "ReduceSum",
        "ReduceMax",
        "ReduceMin",
        "ReduceL1",
        "ReduceL2",
        "ReduceProd",
        "ReduceSumSquare",
        "ReduceLogSumExp",
        "ReduceLogSum",
    )
    shape = dims(m, 0, 1, 2, 3, 4, 5)
    dtype = m.pick(*FLOATS, T.INT32, T.INT64, T.INT8, T.UINT8, T.BOOL)
    if kind in (
        "ReduceLogSumExp",
        "ReduceLogSum",
        "ReduceL2",
        "ReduceMean",
    ):  # how these round to integers no one says
        dtype = m.pick(*FLOATS)
    x = value(m, shape, dtype)
    if kind == "ReduceLogSum":
        x = m.op("Abs", x)
    below = 13 if kind == "ReduceSum" else 18
    keep = m.pick(None, 0, 1)
    r = len(shape)
    axes = [a - r if m.chance(0.4) else a for a in m.some(range(r), m.whole(0, r))]
    if m.opset < below:
        return m.op(kind, x, axes=axes or None, keepdims=keep)
    noop = m.pick(None, None, 0, 1)
    how = m.whole(0, 3)
    if how == 0:
        return m.op(kind, x, keepdims=keep, noop_with_empty_axes=noop)
    listed = np.array(axes, np.int64)
    given = m.input(listed.shape, T.INT64, listed) if how == 1 else m.const(listed)
    return m.op(kind, x, given, keepdims=keep, noop_with_empty_axes=noop)


def arg(m: Maker, _: Val) -> Val:
    shape = [max(1, d) for d in dims(m, 1, 2, 3, 4)]
    x = value(m, shape, m.pick(*FLOATS, T.INT32, T.INT8, T.UINT8, T.INT64))
    attrs = {"axis": m.pick(None, m.axis(x, m.whole(0, x.rank - 1))), "keepdims": m.pick(None, 0, 1)}
    if m.opset >= 12:
        attrs["select_last_index"] = m.pick(None, 0, 1)
    return m.op(m.pick("ArgMax", "ArgMin"), x, **attrs)


def top_k(m: Maker, _: Val) -> Val:
    shape = dims(m, 1, 2, 3)
    axis = m.whole(0, len(shape) - 1)
    k = m.whole(0, shape[axis])
    x = value(m, shape, m.pick(*FLOATS, T.INT64, T.INT32) if m.opset >= 11 else m.pick(*FLOATS))
    attrs: dict[str, Any] = {"axis": axis - len(shape) if m.chance(0.4) and m.opset >= 11 else axis}
    if m.opset >= 11:
        attrs["largest"] = m.pick(None, 0, 1)
    if m.opset < 10:
        if k == 0:
            raise Unfit
        return m.pick(*m.ops("TopK", x, outputs=2, k=k, **attrs))
    count = np.array([k], np.int64)
    return m.pick(
        *m.ops(
            "TopK", x, m.input((1,), T.INT64, count) if m.chance(0.3) else m.const(count), outputs=2, **attrs
        )
    )


def cumulative(m: Maker, _: Val) -> Val:
    shape = dims(m, 1, 2, 3, 4)
    x = value(m, shape, m.pick(*FLOATS, T.INT32, T.INT64))
    axis = np.array(m.axis(x, m.whole(0, x.rank - 1)), m.pick(np.int64, np.int32))
    if m.chance(0.2):
        axis = axis.reshape(1)
    at = (
        m.input(axis.shape, helper.np_dtype_to_tensor_dtype(axis.dtype), axis)
        if m.chance(0.3)
        else m.const(axis)
    )
    return m.op("CumSum", x, at, exclusive=m.pick(None, 0, 1), reverse=m.pick(None, 0, 1))


def products(m: Maker, _: Val) -> Val:
    kind = m.pick("MatMul", "Gemm", "Einsum", "MatMul")
    dtype = m.pick(*FLOATS, T.INT32, T.INT64, T.UINT32)
    a, k, b = (m.pick(0, 1, 1, 2, 3, 4, 5, 8, 17) if m.chance(0.3) else m.whole(1, 9) for _ in range(3))
    if kind == "MatMul":
        lead = dims(m, 0, 0, 1, 2)
        other = partner(m, lead)
        left = m.pick([*lead, a, k], [*lead, a, k], [k])
        right = m.pick([*other, k, b], [k, b], [k])
        return m.op(kind, value(m, left, dtype), value(m, right, dtype, 0.5))
    if kind == "Einsum":
        text = m.pick(
            "ij,jk->ik",
            "ij,jk",
            "bij,bjk->bik",
            "ii->i",
            "ii",
            "ij->ji",
            "i,j->ij",
            "ij,ij->",
            "...ij->...ji",
            "bhqd,bhkd->bhqk",
            "ij,jk,kl->il",
            "...i,i->...",
            "ijk->",
            "i,i",
            "bij,bjk->ikb",
            "a...,b...->ab...",
            "iij->j",
            "i...->...",
        )
        size = {c: m.pick(1, 2, 3, 4) for c in "abhqdkijkl"}
        terms = text.split("->")[0].split(",")
        extra = m.pick([], [2], [2, 3])

        def shape(term: str) -> list[int]:
            front, *back = term.split("...")
            middle = extra if back else []
            return [*(size[c] for c in front), *middle, *(size[c] for c in (back[0] if back else ""))]

        return m.op(kind, *(value(m, shape(t), dtype) for t in terms), equation=text)
    ta, tb = m.pick(None, 0, 1), m.pick(None, 0, 1)
    left, right = value(m, [k, a] if ta else [a, k], dtype), value(m, [b, k] if tb else [k, b], dtype, 0.5)
    c = value(m, m.pick([b], [1, b], [a, b], [a, 1], [1], []), dtype, 0.5)
    rest = [c] if m.opset < 11 or m.chance(0.7) else []
    return m.op(
        kind,
        left,
        right,
        *rest,
        transA=ta,
        transB=tb,
        alpha=m.pick(None, 0.5, 2.0, 0.0),
        beta=m.pick(None, 0.5, 3.0, 0.0),
    )


def shift(m: Maker, _: Val) -> Val:
    dtype = m.pick(T.UINT8, T.UINT16, T.UINT32, T.UINT64)
    shape = dims(m, 0, 1, 2, 3)
    by = m.np.integers(0, 8, partner(m, shape)).astype(helper.tensor_dtype_to_np_dtype(dtype))
    other = m.const(by) if m.chance(0.5) else m.input(by.shape, dtype, by)
    return m.op("BitShift", value(m, shape, dtype), other, direction=m.pick("LEFT", "RIGHT"))


PATTERNS = (
    unary,
    unary,
    binary,
    binary,
    cast,
    reduction,
    arg,
    top_k,
    cumulative,
    gather,
    gather,
    slices,
    pads,
    splits,
    resized,
    resized,
    grid,
    norms,
    norms,
    windows,
    windows,
    products,
    products,
    made,
    made,
    made,
    recurrence,
    quantised,
    signals,
    shift,
    attention_operator,
    rotary_operator,
)
