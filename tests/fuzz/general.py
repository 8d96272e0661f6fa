# SPDX-License-Identifier: Apache-2.0
"""Patterns of any model: elements moved, chains of element-wise operators, reductions, branches and loops."""

from __future__ import annotations

import itertools

import numpy as np
from onnx import TensorProto, helper

from tests.fuzz.maker import Maker, Unfit, Val

FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
TYPES = (*FLOATS, TensorProto.INT32, TensorProto.INT64, TensorProto.UINT8, TensorProto.INT8, TensorProto.BOOL)


def anything(m: Maker) -> Val:
    """Of any rank and type, sometimes empty."""
    shape = [m.pick(1, 1, 2, 3, 4, 5, 8, 9, 17) for _ in range(m.pick(0, 1, 2, 2, 3, 3, 4, 4, 5))]
    if shape and m.chance(0.04):
        shape[m.whole(0, len(shape) - 1)] = 0
    return m.input(shape, TensorProto.FLOAT if m.chance(0.7) else m.pick(*TYPES))


def moved(m: Maker, x: Val) -> Val:
    """A chain of operators that move, choose or repeat elements, many of them without effect."""
    for _ in range(m.whole(1, 5)):
        x = _move(m, x)
    return x


def _move(m: Maker, x: Val) -> Val:
    kind = m.pick("Reshape", "Reshape", "Transpose", "Transpose", "Squeeze", "Unsqueeze", "Flatten",
                  "Gather", "Slice",
                  "Concat", "Split", "Expand", "Tile", "Pad", "Identity", "neutral", "Cast", "GatherElements",
                  "Reverse", "computed")  # fmt: skip
    r = x.rank
    axis = m.whole(0, r - 1) if r else 0
    if kind == "Reshape":
        return m.reshape(x, refactored(m, x.dims))
    if kind == "Transpose":
        perm = list(range(r))
        m.rng.shuffle(perm)
        return m.transpose(x, perm)
    if kind == "Squeeze":
        ones = [i for i, d in enumerate(x.dims) if d == 1]
        if m.chance(0.3):
            return m.op("Squeeze", x)
        return m.squeeze(x, *m.some(ones, m.whole(1, len(ones)))) if ones else x
    if kind == "Unsqueeze":
        return m.unsqueeze(x, *m.some(range(r + 2), 2)) if m.chance(0.3) else m.unsqueeze(x, m.whole(0, r))
    if kind == "Flatten":
        return m.op("Flatten", x, axis=m.pick(None, m.whole(-r, r)))
    if kind == "Expand":
        shape = [d if d != 1 or m.chance(0.5) else m.whole(1, 3) for d in x.dims]
        return m.op("Expand", x, m.ints(*([2] * m.chance(0.2)), *(1 if m.chance(0.2) else d for d in shape)))
    if kind == "Identity":
        return m.op("Identity", x)
    if kind == "Cast":
        return m.op("Cast", x, to=x.dtype)
    if kind == "computed":
        return m.op("Reshape", x, m.op("Shape", x))
    if r == 0:
        raise Unfit
    size = x.dims[axis]
    if kind == "Gather":
        order = (
            np.arange(size)
            if m.chance(0.4)
            else m.np.integers(-size, size, m.whole(1, 4))
            if size
            else np.arange(0)
        )
        order = order - size * (m.np.random(order.shape) < 0.3) * (order >= 0)
        shape = m.pick((-1,), (-1,), (1, -1), (-1, 1)) if order.size != 1 else m.pick((), (1,), (1, 1))
        kind_of = np.int32 if m.chance(0.2) else np.int64
        return m.op("Gather", x, m.const(order.reshape(shape).astype(kind_of)), axis=m.axis(x, axis))
    if kind == "GatherElements":
        if size == 0:
            raise Unfit
        index = m.np.integers(-size, size, x.dims)
        return m.op("GatherElements", x, m.const(index.astype(np.int64)), axis=m.axis(x, axis))
    if kind == "Slice":
        return sliced(m, x, axis)
    if kind == "Reverse":
        return m.op("Slice", x, m.ints(-1), m.ints(-(2**40)), m.ints(m.axis(x, axis)), m.ints(-1))
    if kind == "Concat":
        same = [v for v in m.values.values()
                if v.dtype == x.dtype and v.shape is not None and v.rank == r
                and all(i == axis or a == b for i, (a, b) in enumerate(zip(v.dims, x.dims,
                                                                           strict=True)))]  # fmt: skip
        parts = [x, *(m.pick(*same) for _ in range(m.whole(0, 2)))]
        m.rng.shuffle(parts)
        return m.op("Concat", *parts, axis=m.axis(x, axis))
    if kind == "Split":
        if size < 2:
            raise Unfit
        first = m.whole(1, size - 1)
        parts = m.split(x, axis, [first, size - first] if m.chance(0.7) or size % 2 else [size // 2] * 2)
        if m.chance(0.3):
            return m.op("Concat", *m.some(parts, len(parts)), axis=axis)
        return m.pick(*parts)
    if kind == "Tile":
        return m.op("Tile", x, m.ints(*(m.pick(1, 1, 1, 2) for _ in range(r))))
    if kind == "Pad":
        if m.chance(0.4):
            return m.pad(x, [0] * (2 * r))
        return m.pad(x, [m.pick(0, 0, 1, 2, -1 if min(x.dims) > 2 else 0) for _ in range(2 * r)])
    return neutral(m, x)


def sliced(m: Maker, x: Val, axis: int) -> Val:
    size = x.dims[axis]
    start, end = (
        m.pick(0, 0, 1, -1, -size, size, m.whole(-size, size)),
        m.pick(size, 2**62, -1, m.whole(-size, size)),
    )
    step = m.pick(1, 1, 1, 2, -1, -2)
    rest = [m.ints(m.axis(x, axis)), m.ints(step)]
    return m.op("Slice", x, m.ints(start), m.ints(end), *(rest if m.chance(0.8) or step != 1 else rest[:1]))


def neutral(m: Maker, x: Val) -> Val:
    """x + 0, x * 1, x / 1 ...: of numbers or of tensors that broadcast, in both orders."""
    if x.dtype == TensorProto.BOOL:
        raise Unfit
    kind = m.pick("Add", "Mul", "Sub", "Div", "Pow")
    if kind == "Pow" and x.dtype not in FLOATS:
        raise Unfit
    value = 0 if kind in ("Add", "Sub") else 1
    c = m.number(x, value if m.chance(0.85) else 1 - value if kind != "Div" else 2)
    swap = m.chance(0.3) and kind in ("Add", "Mul", "Sub")
    return m.op(kind, *((c, x) if swap else (x, c)))


def refactored(m: Maker, dims: tuple[int, ...]) -> list[int]:
    """Another shape of as many elements."""
    left = int(np.prod(dims, dtype=np.int64))
    if left == 0:
        return list(dims)
    found = []
    while left > 1 and len(found) < 4:
        factors = [f for f in range(1, left + 1) if left % f == 0]
        found.append(m.pick(*factors))
        left //= found[-1]
    return [*found, *([left] if left > 1 or m.chance(0.2) else [])]


def joined(m: Maker, x: Val) -> Val:
    """Parts that live inside a larger tensor: splits of it, concatenated again, with views between."""
    if x.rank == 0 or x.dtype == TensorProto.BOOL:
        raise Unfit
    axis = m.pick(0, m.whole(0, x.rank - 1))
    size = x.dims[axis]
    parts = [x]
    if size > 1:
        cut = m.whole(1, size - 1)
        parts = m.split(x, axis, [cut, size - cut])
    parts = [elementwise_step(m, p) if m.chance(0.5) else p for p in parts]
    if m.chance(0.3):
        parts.append(m.pick(*parts))
    if m.chance(0.3):
        m.rng.shuffle(parts)
    y = m.op("Concat", *parts, axis=m.axis(x, axis))
    if m.chance(0.4):
        y = m.reshape(y, refactored(m, y.dims))
    return elementwise_step(m, y) if m.chance(0.5) else y


def sliced_apart(m: Maker, x: Val) -> Val:
    """All of a tensor in Slices, or nearly: one behind the other, with a gap, twice."""
    if x.rank == 0 or x.dtype == TensorProto.BOOL:
        raise Unfit
    axis = m.whole(0, x.rank - 1)
    size = x.dims[axis]
    cuts = sorted({0, size, *(m.whole(0, size) for _ in range(m.whole(1, 3)))})
    runs = list(itertools.pairwise(cuts))
    if m.chance(0.2):
        runs.append(m.pick(*runs))
    if m.chance(0.2):
        runs.pop()
    m.rng.shuffle(runs)
    parts = []
    for first, end in runs:
        start = first - size if m.chance(0.3) else first
        stop = m.pick(end, 2**40) if end == size else end
        step = [] if m.chance(0.5) else [m.ints(1)]
        parts.append(m.op("Slice", x, m.ints(start), m.ints(stop), m.ints(m.axis(x, axis)), *step))
    parts = [elementwise_step(m, p) if m.chance(0.4) else p for p in parts]
    return m.op("Concat", *parts, axis=axis) if m.chance(0.6) else m.pick(*parts)


def expanded(m: Maker, x: Val) -> Val:
    """Expand before what broadcasts anyway, or would give another shape."""
    shape = m.pick(x.dims, (2, *x.dims), x.dims)
    small = m.operand([d if m.chance(0.5) else 1 for d in x.dims], x.dtype, fixed=0.3)
    wide = m.op("Expand", small, m.ints(*shape))
    if x.dtype == TensorProto.BOOL:
        return m.op(m.pick("And", "Or"), wide, x)
    return m.op(m.pick("Add", "Sub", "Mul"), *m.some((wide, small if m.chance(0.2) else x), 2))


UNARY = ("Exp", "Log", "Sqrt", "Abs", "Neg", "Reciprocal", "Erf", "Floor", "Ceil", "Round", "Sign", "Relu",
         "Sigmoid",
         "Tanh", "Softplus", "Elu", "LeakyRelu", "Sin", "Cos", "Atan", "Softsign")  # fmt: skip


def elementwise_step(m: Maker, x: Val) -> Val:
    if x.dtype == TensorProto.BOOL:
        return m.op("Not", x)
    if x.dtype not in FLOATS:
        other = m.operand(broadcast_shape(m, x), x.dtype)
        return m.op(m.pick("Add", "Sub", "Mul", "Max", "Min"), *m.some((x, other), 2))
    kind = m.pick("unary", "unary", "binary", "binary", "binary", "Pow", "Where", "Clip", "many", "Compare")
    if kind == "unary":
        of = m.pick(*UNARY)
        if of in ("Log", "Sqrt", "Reciprocal"):
            x = m.op("Add", m.op("Abs", x), m.number(x, 0.3))
        return m.op(of, x)
    if kind == "Pow":
        return m.op("Pow", x, m.number(x, m.pick(2.0, 2.0, 3.0, 1.0)))
    if kind == "Clip":
        return m.clip(x, *m.pick((0, None), (-1, 1), (None, 0.5), (1, -1)))
    other = m.operand(broadcast_shape(m, x), x.dtype)
    if kind == "Where":
        keep = m.operand(broadcast_shape(m, x), TensorProto.BOOL)
        return m.op("Where", keep, *m.some((x, other), 2))
    if kind == "Compare":
        mask = m.op(m.pick("Less", "Greater"), x, other)
        return m.op("Cast", mask, to=x.dtype)
    if kind == "many":
        return m.op(
            m.pick("Sum", "Max", "Min", "Mean"), x, *([other] * m.chance(0.8)), *([x] * m.chance(0.3))
        )
    of = m.pick("Add", "Sub", "Mul", "Max", "Min", "Div")
    if of == "Div":
        return m.op(of, x, m.op("Add", m.op("Abs", other), m.number(x, 0.5)))
    if m.chance(0.15):
        return m.op(of, x, x)
    return m.op(of, *m.some((x, other), 2))


def broadcast_shape(m: Maker, x: Val) -> tuple[int, ...]:
    shape = [d if m.chance(0.6) else 1 for d in x.dims]
    if m.chance(0.1):
        shape = [1, *shape]
    elif m.chance(0.3):
        shape = shape[m.whole(0, len(shape)) :]
    return tuple(shape)


def elementwise(m: Maker, x: Val) -> Val:
    for _ in range(m.whole(1, 7)):
        x = elementwise_step(m, x)
    return x


def reduced(m: Maker, x: Val) -> Val:
    if x.dtype not in FLOATS or x.rank == 0 or 0 in x.dims:
        raise Unfit
    kind = m.pick("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceProd",
                  "ReduceSumSquare", "ReduceLogSumExp", "ArgMax", "ArgMin", "Softmax", "LogSoftmax",
                  "CumSum", "TopK",
                  "Softmax", "LpNormalization", "Hardmax")  # fmt: skip
    axis = m.whole(0, x.rank - 1)
    if kind in ("ArgMax", "ArgMin"):
        last = m.pick(None, None, 1) if m.opset >= 12 else None
        return m.op(kind, x, axis=m.axis(x, axis), keepdims=m.pick(None, 0, 1), select_last_index=last)
    if kind in ("Softmax", "LogSoftmax", "Hardmax"):
        return m.op(kind, x, axis=m.pick(None, m.axis(x, axis)))
    if kind == "LpNormalization":
        return m.op(kind, x, axis=m.axis(x, axis), p=m.pick(None, 1, 2))
    if kind == "CumSum":
        at = m.const(np.array(m.axis(x, axis), np.int64))
        return m.op(kind, x, at, exclusive=m.pick(None, 1), reverse=m.pick(None, 1))
    if kind == "TopK":
        k = m.ints(m.whole(0, x.dims[axis]))
        return m.ops(kind, x, k, outputs=2, axis=m.axis(x, axis), largest=m.pick(None, 0, 1))[m.pick(0, 0, 1)]
    if m.chance(0.15):
        return m.op(kind, x, keepdims=m.pick(None, 0))
    axes = m.some(range(x.rank), m.whole(1, x.rank))
    return m.reduce(kind, x, axes, m.pick(0, 1))


def shape_arithmetic(m: Maker, x: Val) -> Val:
    """Reshape to a shape computed from a shape, as exporters of open dims write it."""
    if x.rank < 2:
        raise Unfit
    if 0 in x.dims:
        raise Unfit
    shape = m.op("Shape", x)
    first = m.op("Gather", shape, m.const(np.array(0, np.int64)), axis=0)
    rest = m.op("Slice", shape, m.ints(1), m.ints(2**31 - 1), m.ints(0))
    if m.chance(0.5):
        wanted = m.op("Concat", m.unsqueeze(first, 0), m.ints(-1), axis=0)
        return m.sized(m.op("Reshape", x, wanted), (x.dims[0], int(np.prod(x.dims[1:]))))
    count = m.op("ReduceProd", rest, keepdims=1)
    wanted = m.op("Concat", count, m.unsqueeze(first, 0), axis=0)
    return m.sized(m.op("Reshape", x, wanted), (int(np.prod(x.dims[1:])), x.dims[0]))


def chosen(m: Maker, x: Val) -> Val:
    """If, on a constant or on data; a Loop of few iterations."""

    def branch(kind: str, name: str) -> object:
        y = m.name("b")
        node = helper.make_node(kind, [x.name], [y])
        return helper.make_graph([node], name, [], [helper.make_tensor_value_info(y, x.dtype, None)])

    if x.dtype not in FLOATS:
        raise Unfit
    if m.chance(0.6):
        known = m.chance(0.5)
        yes = m.np.random(()) < 0.5
        condition = m.const(np.array(yes)) if known else m.input((), TensorProto.BOOL, np.array(yes))
        name = m.name("v")
        ways = m.some(("Neg", "Abs", "Relu", "Exp"), 2)
        m.nodes.append(helper.make_node("If", [condition.name], [name], name=name,
                                        then_branch=branch(ways[0], "then"),
                                        else_branch=branch(ways[1], "otherwise")))  # fmt: skip
        return m.add(name, x.shape, x.dtype)
    trips = (
        m.const(np.array(m.whole(0, 4), np.int64))
        if m.chance(0.6)
        else m.input((), TensorProto.INT64, np.array(2))
    )
    i, c, s, t = (m.name("b") for _ in range(4))
    body = [helper.make_node("Add", [s, x.name], [t]), helper.make_node("Identity", [c], [c + "o"])]
    info = helper.make_tensor_value_info
    takes = [info(i, TensorProto.INT64, []), info(c, TensorProto.BOOL, []), info(s, x.dtype, x.dims)]
    gives = [info(c + "o", TensorProto.BOOL, []), info(t, x.dtype, x.dims)]
    graph = helper.make_graph(body, "body", takes, gives)
    name = m.name("v")
    m.nodes.append(helper.make_node("Loop", [trips.name, "", x.name], [name], name=name, body=graph))
    return m.add(name, x.shape, x.dtype)


def recurrent(m: Maker, x: Val) -> Val:
    """LSTM, GRU and RNN with what they have of options."""
    if x.rank != 3 or 0 in x.dims or x.dtype != TensorProto.FLOAT:
        raise Unfit
    steps, batch, width = x.dims
    kind = m.pick("LSTM", "GRU", "RNN")
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    way = m.pick(None, "forward", "reverse", "bidirectional")
    d, h = 2 if way == "bidirectional" else 1, m.pick(1, 3, 8, 16, 17)
    w, r = m.weights(d, gates * h, width), m.weights(d, gates * h, h)
    bias = m.pick(None, 1) and m.operand((d, 2 * gates * h))
    lens = m.pick(None, None, 1) and m.const(m.np.integers(1, steps + 1, batch).astype(np.int32))
    h0 = m.pick(None, 1) and m.operand((d, batch, h))
    rest = [m.pick(None, 1) and m.operand((d, batch, h)), m.pick(None, None, 1) and m.operand((d, 3 * h))]
    extra = rest if kind == "LSTM" else []
    attrs = {"hidden_size": h, "direction": way, "clip": m.pick(None, None, 0.5)}
    if kind == "GRU":
        attrs["linear_before_reset"] = m.pick(None, 1)
    outputs = m.ops(kind, x, w, r, bias, lens, h0, *extra, outputs=3 if kind == "LSTM" else 2, **attrs)
    return m.pick(*outputs)


PATTERNS = (
    moved, moved, moved, joined, joined, elementwise, elementwise, sliced_apart, expanded, reduced,
    shape_arithmetic, chosen, recurrent,
)  # fmt: skip
