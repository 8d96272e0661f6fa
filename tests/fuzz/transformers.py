# SPDX-License-Identifier: Apache-2.0
"""Patterns of transformers and of quantised models: products, norms, attention, and their near misses."""

from __future__ import annotations

import math

import numpy as np
from onnx import TensorProto

from tests.fuzz.images import activation, fitting, window
from tests.fuzz.maker import Maker, Unfit, Val

WIDTHS = (1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 24, 31, 32, 33, 48, 64)


def rows(m: Maker) -> Val:
    """[..., T, C]"""
    lead = m.pick((), (), (1,), (2,), (2, 3), (1, 1), (3,))
    return m.input((*lead, 0 if m.chance(0.02) else m.whole(1, 13), m.pick(*WIDTHS)))


def product(m: Maker, x: Val) -> Val:
    """MatMul or Gemm by a constant (or not), bias, scale, residual, activation."""
    k, n = x.dims[-1], m.pick(*WIDTHS)
    if x.rank == 2 and m.chance(0.4):
        turn_b, turn_a = m.pick(None, 0, 1), m.pick(None, None, None, 1)
        inner = x.dims[0] if turn_a else k
        b = m.operand((n, inner) if turn_b else (inner, n))
        out = (k if turn_a else x.dims[0], n)
        c = m.operand(m.pick((n,), (1, n), out, (out[0], 1), (1,), (), (1, 1)), fixed=0.85)
        y = m.op("Gemm", x, b, *([c] if m.chance(0.7) else []), transA=turn_a, transB=turn_b,
                 alpha=m.pick(None, 1.0, 0.5, -2.0), beta=m.pick(None, 1.0, 0.25, 0.0))  # fmt: skip
    else:
        lead = x.dims[:-2]
        shape = m.pick(
            (k, n), (k, n), (k, n), (k, n), (*lead, k, n), (*[1] * len(lead), k, n), (k,), (1, 1, k, n)
        )
        w = m.weights(*shape) if m.chance(0.85) else m.operand(shape, fixed=0)
        y = m.op("MatMul", x, w)
    for _ in range(m.pick(0, 1, 1, 2, 3)):
        y = m.pick(row_added, row_added, scaled, residual, activation)(m, y)
    return y


def row_added(m: Maker, y: Val) -> Val:
    n = y.dims[-1] if y.rank else 1
    c = m.operand(m.pick((n,), (n,), (1, n), (1,), (), y.dims, (*y.dims[:-1], 1), (1, 1, n)), fixed=0.85)
    return m.op(m.pick("Add", "Add", "Add", "Sub"), *m.some((y, c), 2))


def scaled(m: Maker, y: Val) -> Val:
    kind = m.pick("Mul", "Div")
    c = m.number(y, m.pick(0.5, 2.0, -3.0, 1.0, 0.0 if kind == "Mul" else 0.1))
    return m.op(kind, *(m.some((y, c), 2) if kind == "Mul" else (y, c)))


def residual(m: Maker, y: Val) -> Val:
    same = [v for v in m.values.values() if v.shape == y.shape and v.dtype == y.dtype and v.name != y.name]
    other = m.pick(*same) if same and m.chance(0.7) else m.input(y.dims)
    return m.op("Add", *m.some((y, other), 2))


def projections(m: Maker, x: Val) -> Val:
    """One product whose columns are taken apart."""
    parts = m.pick(2, 3, 3, 4)
    width = m.pick(8, 32, 33, 64)
    if x.rank < 2:
        raise Unfit
    lead = x.dims[:-1]
    if m.chance(0.5):
        y = m.op("MatMul", x, m.weights(x.dims[-1], parts * width))
        if m.chance(0.5):
            y = row_added(m, y)
        sizes = [width] * parts if m.chance(0.7) else [width + 1, width - 1, *[width] * (parts - 2)]
        pieces = m.split(y, y.rank - 1, sizes)
    else:
        heads = m.pick(1, 2, 4)
        y = m.op("MatMul", x, m.weights(x.dims[-1], parts * width * heads))
        if m.chance(0.5):
            y = row_added(m, y)
        split = m.pick(
            (parts, heads, width), (heads, parts, width), (heads, parts * width), (parts, heads * width)
        )
        y = m.reshape(y, (*lead, *split))
        if m.chance(0.6):
            perm = list(range(y.rank))
            m.rng.shuffle(perm)
            y = m.transpose(y, perm)
        axis = y.dims.index(parts) if parts in y.dims and m.chance(0.8) else m.whole(0, y.rank - 1)
        if m.chance(0.6):
            count = y.dims[axis]
            order = m.some(range(count), count if count <= 4 and m.chance(0.8) else 1)
            pieces = []
            for i in order:
                at = m.const(np.array(i - count if m.chance(0.3) else i, np.int64))
                pieces.append(m.op("Gather", y, at, axis=m.axis(y, axis)))
        else:
            pieces = m.split(y, axis, [1] * y.dims[axis])
            if m.chance(0.6):
                pieces = [m.squeeze(p, axis) for p in pieces]
    if pieces[0].shape == pieces[-1].shape and m.chance(0.6):
        return m.op(m.pick("Add", "Mul"), pieces[0], pieces[-1])
    m.rng.shuffle(pieces)
    for p in pieces[1:]:
        m.op("Neg", p)
    return m.op("Tanh", pieces[0])


def gelu(m: Maker, x: Val) -> Val:
    """x * 0.5 * (1 + erf(x / sqrt 2)) and the tanh form, its numbers and order now and then others."""
    odd = m.chance(0.3)

    def n(usual: float, other: float) -> Val:
        return m.number(x, other if odd and m.chance(0.3) else usual)

    if m.chance(0.6):
        arg = (
            m.op("Div", x, n(math.sqrt(2), 1.5)) if m.chance(0.5) else m.op("Mul", n(math.sqrt(0.5), 0.7), x)
        )
        inner = m.op("Erf", arg)
    else:
        three = n(3.0, 2.0)
        cube = m.op("Pow", x, three) if m.chance(0.5) else m.op("Mul", x, m.op("Mul", x, x))
        plus = m.op("Add", *m.some((x, m.op("Mul", cube, n(0.044715, 0.05))), 2))
        inner = m.op("Tanh", m.op("Mul", plus, n(math.sqrt(2 / math.pi), 0.8)))
    one = m.op("Add", *m.some((inner, n(1.0, 1.0001)), 2))
    how = m.whole(0, 3)
    if how == 0:
        return m.op("Mul", m.op("Mul", x, one), n(0.5, 0.50004))
    if how == 1:
        return m.op("Mul", m.op("Mul", x, n(0.5, 0.6)), one)
    if how == 2:
        return m.op("Mul", x, m.op("Mul", one, n(0.5, 0.49)))
    return m.op("Mul", one, m.op("Div", x, n(2.0, 2.001)))


def layer_norm(m: Maker, x: Val) -> Val:
    """Written out, or the operator; over the last axes or others, by deviations or by roots of squares."""
    if x.rank == 0 or 0 in x.dims:  # means of nothing: onnxruntime gives them odd shapes
        raise Unfit
    first = x.rank - 1 if m.chance(0.7) else m.whole(0, x.rank - 1)
    axes = list(range(first, x.rank))
    if m.chance(0.12):
        axes = [m.whole(0, x.rank - 1)]
    width = x.dims[first:]
    row = m.pick(width, width, width, x.dims[-1:], (1, *width), (), (1,) * x.rank)
    if m.opset >= 17 and m.chance(0.25):
        bias = [m.operand(width)] if m.chance(0.5) else []
        return m.op(
            "LayerNormalization", x, m.operand(width), *bias, axis=m.axis(x, first), epsilon=m.pick(None, 0.1)
        )
    keep = 1 if m.chance(0.93) else 0
    eps = m.number(x, m.pick(1e-5, 1e-5, 1e-2, 1e-12))
    if m.chance(0.35):  # root of mean squares
        square = m.op("Pow", x, m.number(x, 2.0)) if m.chance(0.5) else m.op("Mul", x, x)
        root = m.op("Sqrt", m.op("Add", *m.some((m.reduce("ReduceMean", square, axes, keep), eps), 2)))
        how = m.whole(0, 2)
        if how == 0:
            y = m.op("Div", x, root)
        else:
            over = (
                m.op("Reciprocal", root)
                if how == 1
                else m.op("Div", m.number(x, m.pick(1.0, 1.0, 1.01)), root)
            )
            y = m.op("Mul", *m.some((x, over), 2))
    else:
        mean = m.reduce("ReduceMean", x, axes, keep)
        centred = m.op("Sub", x, mean)
        again = centred if m.chance(0.7) else m.op("Sub", x, mean)
        power = m.number(x, m.pick(2.0, 2.0, 2.0, 4.0))
        square = m.op("Pow", again, power) if m.chance(0.5) else m.op("Mul", again, again)
        variance = m.reduce("ReduceMean", square, axes if m.chance(0.9) else [x.rank - 1], keep)
        y = m.op("Div", centred, m.op("Sqrt", m.op("Add", *m.some((variance, eps), 2))))
    if m.chance(0.7):
        y = m.op("Mul", *m.some((y, m.operand(row, fixed=0.9)), 2))
    if m.chance(0.6):
        y = m.op("Add", *m.some((y, m.operand(row, fixed=0.9)), 2))
    return y


def attention(m: Maker, x: Val) -> Val:
    """Heads by Reshape and Transpose, scores with scale and mask, softmax, context, heads back together."""
    if x.rank != 3 or 0 in x.dims:
        raise Unfit
    b, t, c = x.dims
    heads, d = m.pick(1, 2, 3, 4), m.pick(1, 2, 4, 8, 16, 17)
    s = t if m.chance(0.6) else m.whole(1, 12)
    source = x if s == t else m.input((b, s, c))
    groups = m.pick(1, 1, 1, *[g for g in (2, 3, 4) if heads % g == 0])  # query heads for each of the keys'

    def split(v: Val, count: int, width: int, perm: tuple[int, ...]) -> Val:
        y = m.op("MatMul", v, m.weights(c, count * width))
        if m.chance(0.5):
            y = m.op("Add", y, m.operand((count * width,)))
        if m.chance(0.15):
            y = m.op("Mul", y, m.number(y, 0.7))
        return m.transpose(m.reshape(y, (b, v.dims[1], count, width)), perm)

    def repeat(v: Val) -> Val:
        if groups == 1:
            return v
        n, h, *rest = v.dims
        wide = m.unsqueeze(v, 2) if m.chance(0.5) else m.reshape(v, (n, h, 1, *rest))
        wide = m.op("Expand", wide, m.ints(n, h, groups, *rest))
        return m.reshape(wide, (n, h * groups, *rest))

    value_width = d if m.chance(0.8) else m.pick(1, 3, 8, 20)
    q = split(x, heads, d, (0, 2, 1, 3))
    if m.chance(0.6) or groups > 1:
        k = repeat(split(source, heads // groups, d, (0, 2, 1, 3)))
        k = m.transpose(k, (0, 1, 3, 2))
    else:
        k = split(source, heads, d, (0, 2, 3, 1))
    v = repeat(split(source, heads // groups, value_width, (0, 2, 1, 3)))
    if m.chance(0.3):
        q, k = (m.op("Mul", z, m.number(z, d**-0.25)) for z in (q, k))
    flat = m.chance(0.15)
    if flat:
        q, k, v = (m.reshape(z, (b * heads, *z.dims[2:])) for z in (q, k, v))
    scores = m.op("MatMul", q, k)
    steps = [masked, scaled_down] if m.chance(0.2) else [scaled_down, masked]
    for step in steps:
        if m.chance(0.7):
            scores = step(m, scores, d)
    if not flat and m.chance(0.15):  # talking heads: scores are mixed among the heads
        mixed = m.op("MatMul", m.transpose(scores, (0, 2, 3, 1)), m.weights(heads, heads))
        if m.chance(0.5):
            mixed = m.op("Add", mixed, m.operand((heads,)))
        scores = m.transpose(mixed, (0, 3, 1, 2))
    axis = -1 if m.chance(0.9) else m.whole(0, scores.rank - 1)
    weights = m.op("Softmax", scores, axis=axis)
    if m.chance(0.25):
        zero = m.number(weights, 0.0 if m.chance(0.8) else 0.1)
        weights = m.op("Where", m.op("IsNaN", weights), zero, weights)
    y = m.op("MatMul", weights, v)
    if flat:
        y = m.reshape(y, (b, heads, t, value_width))
    if m.chance(0.85):
        y = m.transpose(y, (0, 2, 1, 3))
        y = m.reshape(y, (b, t, heads * value_width) if m.chance(0.85) else (b * t, heads * value_width))
    return y


def scaled_down(m: Maker, scores: Val, d: int) -> Val:
    n = m.number(scores, d**0.5 if m.chance(0.9) else m.pick(-1.0, 0.5))
    if m.chance(0.5):
        return m.op("Div", *((scores, n) if m.chance(0.95) else (n, scores)))
    return m.op("Mul", *m.some((scores, m.number(scores, d**-0.5)), 2))


def masked(m: Maker, scores: Val, _: int) -> Val:
    dims = scores.dims
    shape = m.pick(dims, dims[-2:], (1,) * (scores.rank - 1) + dims[-1:], (*dims[:1], 1, *dims[2:]),
                   dims[-1:],
                   (*dims[:-1], 1), (1,) * scores.rank)  # fmt: skip
    if m.chance(0.6):
        mask = m.np.random(shape) < 0.3
        mask[..., 0] = False
        data = np.where(mask, np.float32(m.pick(-1e4, -1e9, -3.4e38)), np.float32(0))
        other = m.const(data) if m.chance(0.5) else m.input(shape, data=data)
        return m.op("Add", *m.some((scores, other), 2))
    keep = m.np.random(shape) < 0.7
    keep[..., 0] = True
    condition = m.const(keep) if m.chance(0.3) else m.input(shape, TensorProto.BOOL, keep)
    fill = m.number(scores, m.pick(-1e9, -3.4e38, -math.inf, -5.0))
    return m.op("Where", condition, *((scores, fill) if m.chance(0.9) else (fill, scores)))


def einsum(m: Maker, _: Val) -> Val:
    """Letters with sizes, shared out among one or two operands and the result."""
    letters = m.some("abijkHhGW", m.whole(2, 5))
    size = {c: m.pick(1, 2, 3, 3, 4, 5) for c in letters}
    a = m.some(letters, m.whole(1, len(letters)))
    b = m.some(letters, m.whole(1, len(letters)))
    single = m.chance(0.2)
    seen = [c for c in letters if c in a or (not single and c in b)]
    out = m.some(seen, m.whole(0, len(seen)))
    dots = [m.pick("", "", "", "..."), m.pick("", "", "", "...")]
    lead = {"": (), "...": m.pick((), (2,), (2, 3), (3,))}

    def operand(term: list[str], dot: str) -> Val:
        shape = (*lead[dot], *(size[c] if m.chance(0.97) else 1 for c in term))
        return m.operand(shape, fixed=0.3)

    left = [dots[0] + "".join(a)] + ([] if single else [dots[1] + "".join(b)])
    inputs = [operand(a, dots[0])] + ([] if single else [operand(b, dots[1])])
    arrow = "" if m.chance(0.1) else "->" + ("..." if "..." in "".join(left) else "") + "".join(out)
    return m.op("Einsum", *inputs, equation=",".join(left) + arrow)


def fake_quantised(m: Maker, x: Val) -> Val:
    """QuantizeLinear, something that moves elements, DequantizeLinear; of one scale or of two."""
    kind = m.pick(np.uint8, np.int8)
    scale = m.pick(0.05, 0.1, 0.03125)
    zero = int(m.pick(0, 0, 3, 120)) if kind is np.uint8 else int(m.pick(0, 0, -5))
    shape = m.pick((), (), (1,))

    def parameters(other: bool) -> list[Val]:
        s = np.full(shape, scale * 2 if other else scale, np.float32)
        z = np.full(shape, zero + (1 if other and m.chance(0.5) else 0), kind)
        if zero == 0 and kind is np.uint8 and not other and m.chance(0.4):
            return [m.const(s)]
        return [m.const(s), m.const(z)]

    q = m.op("QuantizeLinear", x, *parameters(False))
    if m.chance(0.4):
        q = m.pick(_moved, _moved, _pooled)(m, q)
    return m.op("DequantizeLinear", q, *parameters(m.chance(0.2)))


def _moved(m: Maker, q: Val) -> Val:
    if m.chance(0.5):
        perm = list(range(q.rank))
        m.rng.shuffle(perm)
        return m.op("Transpose", q, perm=perm)
    return (
        m.reshape(q, (int(np.prod(q.dims)),))
        if m.chance(0.5)
        else m.op("Flatten", q, axis=m.whole(0, q.rank))
    )


def _pooled(m: Maker, q: Val) -> Val:
    if q.rank != 4 or min(q.dims[2:]) < 2:
        raise Unfit
    return m.op(
        "MaxPool", q, kernel_shape=[2, 2], pads=m.pick(None, [1, 1, 0, 0]), strides=m.pick(None, [2, 2])
    )


def integer_product(m: Maker, x: Val) -> Val:
    """MatMulInteger, ConvInteger, QLinearMatMul, QLinearConv and what follows them."""
    a_kind = m.pick(TensorProto.UINT8, TensorProto.UINT8, TensorProto.INT8)
    b_kind = m.pick(TensorProto.UINT8, TensorProto.INT8)
    if x.rank < 2 or 0 in x.dims:
        raise Unfit
    a = m.input(x.dims, a_kind)

    def zero(kind: int, count: int = 1) -> Val:
        shape = (count,) if count > 1 else m.pick((), (1,))
        return m.operand(shape, kind, fixed=0.85)

    def scale(low: float = 0.01, count: int = 1) -> Val:
        shape = (count,) if count > 1 else m.pick((), (1,))
        return m.const((m.np.random(shape) * low + low).astype(np.float32))

    kind = m.pick("MatMulInteger", "QLinearMatMul", "ConvInteger", "QLinearConv")
    if "Conv" in kind:
        axes, c, filters = x.rank - 2, x.dims[1], m.pick(1, 3, 8, 17)
        if axes < 1 or axes > 2:
            raise Unfit
        taps = [m.pick(1, 2, 3)] * axes
        attrs = window(m, x, taps, 2)
        fitting(m, x, taps, attrs)
        w = m.operand((filters, c, *taps), b_kind, fixed=0.9)
        by_filter = filters if m.chance(0.4) else 1
        if kind == "QLinearConv":
            bias = [m.const(m.np.integers(-500, 500, filters).astype(np.int32))] if m.chance(0.5) else []
            y_zero = m.const(np.array(3), helper_type(a_kind))
            w_zero = m.const(np.zeros(by_filter, helper_type(b_kind)))
            return m.op(kind, a, scale(), zero(a_kind), w, scale(0.01, by_filter), w_zero, scale(0.05),
                        y_zero, *bias,
                        **attrs)  # fmt: skip
        zeros = m.pick([], [zero(a_kind)], [zero(a_kind), zero(b_kind)])
        y = m.op(kind, a, w, *zeros, **attrs)
    else:
        n = m.pick(1, 4, 16, 17)
        b = m.operand((x.dims[-1], n), b_kind, fixed=0.8)
        count = n if m.chance(0.3) else 1
        if kind == "QLinearMatMul":
            y_zero = m.const(np.array(3), helper_type(a_kind))
            return m.op(
                kind,
                a,
                scale(),
                zero(a_kind),
                b,
                scale(0.01, count),
                zero(b_kind, count),
                scale(0.05),
                y_zero,
            )
        zeros = m.pick([], [zero(a_kind)], [zero(a_kind), zero(b_kind, count)])
        y = m.op(kind, a, b, *zeros)
    if m.chance(0.8):
        y = m.op("Cast", y, to=TensorProto.FLOAT)
        y = m.op("Mul", y, m.number(y, 0.01))
    return y


def helper_type(kind: int) -> type:
    return np.uint8 if kind == TensorProto.UINT8 else np.int8


PATTERNS = (
    product, product, product, projections, projections, gelu, gelu, layer_norm, layer_norm, attention,
    attention,
    attention, einsum, fake_quantised, integer_product,
)  # fmt: skip
