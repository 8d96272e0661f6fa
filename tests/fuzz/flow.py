# SPDX-License-Identifier: Apache-2.0
"""Branches, loops and scans with captures, inside one another; shapes that a run decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.fuzz import general
from tests.fuzz.maker import Maker, Unfit, Val

_DEPTH = 3
_MOST = 2e4


def started(m: Maker) -> Val:
    dtype = m.pick(*[TensorProto.FLOAT] * 6, TensorProto.INT64, TensorProto.BOOL)
    return m.input([m.pick(1, 2, 3, 4, 5) for _ in range(m.pick(0, 1, 2, 2, 3))], dtype)


def _graph(
    m: Maker, takes: Sequence[Val], fill: Callable[[], list[Val]], fixed: bool = False
) -> tuple[onnx.GraphProto, list[Val]]:
    """A subgraph of what `fill` appends; its values are its own, its constants the model's or its own."""
    outer, seen = m.nodes, set(m.values)
    m.nodes = []
    for v in takes:
        m.values[v.name] = v
    try:
        gives = [_own(m, v) for v in fill()]
        info = helper.make_tensor_value_info
        told = fixed or m.chance(0.3)  # onnxruntime wants to be told the shapes of what a Scan stacks
        graph = helper.make_graph(
            m.nodes,
            m.name("g"),
            [info(v.name, v.dtype, v.shape) for v in takes],
            [info(v.name, v.dtype, v.shape if told else None) for v in gives],
        )
    finally:
        made = {o for n in m.nodes for o in n.output} | {v.name for v in takes}
        m.nodes = outer
        m.values = {n: v for n, v in m.values.items() if n in seen or n not in made}
        for n in made:
            m.constants.pop(n, None)
    return graph, gives


def _own(m: Maker, v: Val) -> Val:
    """v if a node of this graph makes it, else its copy; each result once."""
    made = {o for n in m.nodes for o in n.output}
    if v.name in made and v.name not in m.constants:
        return m.op("Identity", v) if m.chance(0.1) else v
    return m.op("Identity", v)


def _steps(m: Maker, x: Val, depth: int) -> Val:
    for _ in range(m.whole(0, 3)):
        y = m.pick(_step, _step, _step, flowing)(m, x, depth)
        if y.shape is not None and np.prod(y.shape, dtype=np.float64) > _MOST:
            raise Unfit
        x = y
        if x.shape is None:
            break
    return x


def _step(m: Maker, x: Val, _: int) -> Val:
    mark = len(m.nodes)
    try:
        if m.chance(0.25):
            return general.moved(m, x)
        if m.chance(0.15):
            return general.reduced(m, x)
        return general.elementwise_step(m, x)
    except (Unfit, ValueError, IndexError):
        for n in m.nodes[mark:]:
            for o in n.output:
                m.values.pop(o, None)
                m.constants.pop(o, None)
        del m.nodes[mark:]
        return x


def _same(m: Maker, x: Val, depth: int) -> Val:
    """A value of x's shape and type, made of x."""
    for _ in range(m.whole(1, 3)):
        y = _step(m, x, depth) if m.chance(0.8) or depth <= 0 else flowing(m, x, depth)
        if y.shape == x.shape and y.dtype == x.dtype:
            x = y
    return x


def _truth(m: Maker, x: Val, flat: bool = True) -> Val:
    """A condition: constant, given, or of the data of a number."""
    how = m.whole(0, 3)
    yes = np.array(m.chance(0.5))
    yes = yes.reshape(1) if flat and m.chance(0.2) else yes
    if how == 0:
        return m.const(yes)
    if how == 1 or x.dtype == TensorProto.BOOL or x.shape is None or 0 in x.dims:
        return m.input(yes.shape, TensorProto.BOOL, yes)
    total = m.op("ReduceSum", x, keepdims=0) if x.rank else x
    return m.op(m.pick("Greater", "Less"), total, m.like(x, m.pick(0, 2)))


def flowing(m: Maker, x: Val, depth: int = _DEPTH) -> Val:
    if depth <= 0 or x.shape is None:
        raise Unfit
    return m.pick(_if, _if, _loop, _loop, _scan)(m, x, depth - 1)


def _if(m: Maker, x: Val, depth: int) -> Val:
    condition = _truth(m, x)
    count = m.pick(1, 1, 2)
    keep = m.chance(0.7)

    def branch() -> tuple[onnx.GraphProto, list[Val]]:
        def fill() -> list[Val]:
            found = []
            for _ in range(count):
                source = m.const(m.data(x.dims, x.dtype)) if m.chance(0.1) else x
                found.append(_same(m, source, depth) if keep else _steps(m, source, depth))
            return found

        return _graph(m, [], fill)

    (yes, a), (no, b) = branch(), branch()
    if any(p.dtype != q.dtype for p, q in zip(a, b, strict=True)):
        raise Unfit
    kinds = [(p.shape if p.shape == q.shape else None, p.dtype) for p, q in zip(a, b, strict=True)]
    found = m.raw("If", [condition], kinds, then_branch=yes, else_branch=no)
    return m.pick(*found)


def _loop(m: Maker, x: Val, depth: int) -> Val:
    count = np.array(m.whole(0, 4), np.int64)
    count = count.reshape(1) if m.chance(0.2) else count
    trips: Val | None = m.const(count) if m.chance(0.5) else m.input(count.shape, TensorProto.INT64, count)
    first = None if m.chance(0.4) else _truth(m, x, False)
    ends = first is not None and m.chance(0.4)  # the condition turns false
    trips = None if ends and m.chance(0.3) else trips
    states = [x] * m.whole(0, 2) if m.chance(0.8) else [x, m.const(m.data((2,)))]
    stacked = m.whole(0 if states else 1, 2)
    grows = bool(states) and x.rank > 0 and m.chance(0.2)
    step, go = Val(m.name("i"), (), TensorProto.INT64), Val(m.name("b"), (), TensorProto.BOOL)
    takes = [Val(m.name("s"), None if grows and k == 0 else v.shape, v.dtype) for k, v in enumerate(states)]

    def fill() -> list[Val]:
        found = []
        for k, s in enumerate(takes):
            if grows and k == 0:
                found.append(m.op("Concat", s, x, axis=0))
            elif m.chance(0.15) and s.dtype == x.dtype and x.dtype == TensorProto.FLOAT:
                found.append(m.op("Add", s, m.op("Cast", step, to=TensorProto.FLOAT)))
            else:
                found.append(_same(m, s, depth))
        if (
            len(found) == 2
            and takes[0].shape == takes[1].shape
            and takes[0].dtype == takes[1].dtype
            and m.chance(0.3)
        ):
            found.reverse()
        rows = []
        for _ in range(stacked):
            source = m.pick(x, *[t for t in takes if t.shape is not None])
            rows.append(_steps(m, source, depth) if m.chance(0.5) else _same(m, source, depth))
        if ends:
            on = m.op("Less", step, m.const(np.array(m.whole(0, 3), np.int64)))
            on = m.op("And", on, go) if m.chance(0.4) else on
        else:
            on = go
        return [on, *found, *rows]

    body, gives = _graph(m, [step, go, *takes], fill)
    if any(g.dtype != s.dtype for g, s in zip(gives[1:], states, strict=False)):
        raise Unfit
    kinds = [(None if grows and k == 0 else s.shape, s.dtype) for k, s in enumerate(states)]
    kinds += [(None, v.dtype) for v in gives[1 + len(states) :]]
    found = m.raw("Loop", [trips, first, *states], kinds, body=body)
    return m.pick(*found)


def _scan(m: Maker, x: Val, depth: int) -> Val:
    if x.rank == 0:
        raise Unfit
    length = m.pick(1, 2, 3, 5)
    states = [m.operand([2, 3]) for _ in range(m.whole(0, 2))]
    axes, ways, takes, slices = [], [], [], []
    for _ in range(m.whole(1, 2)):
        shape = [m.whole(1, 3) for _ in range(m.whole(0, 2))]
        axis = m.whole(0, len(shape))
        axes.append(axis - len(shape) - 1 if m.chance(0.3) else axis)
        ways.append(m.pick(0, 0, 1))
        slices.append(Val(m.name("e"), tuple(shape), TensorProto.FLOAT))
        takes.append(m.operand([*shape[:axis], length, *shape[axis:]], fixed=0.3))
    count = m.whole(0 if states else 1, 2)
    inner = [Val(m.name("s"), v.shape, v.dtype) for v in states]
    ranks = []

    def fill() -> list[Val]:
        found = [_same(m, s, depth) for s in inner]
        for _ in range(count):
            y = _same(m, m.pick(*slices, *inner), depth)
            if m.chance(0.3) and x.dtype == TensorProto.FLOAT:
                y = m.op("Add", y, m.op("ReduceMean", x, keepdims=0))
            ranks.append(y.rank)
            found.append(y)
        return found

    body, gives = _graph(m, [*inner, *slices], fill, True)
    if any(g.shape != s.shape or g.dtype != s.dtype for g, s in zip(gives, states, strict=False)):
        raise Unfit
    attrs: dict[str, object] = {"num_scan_inputs": len(takes)}
    if m.chance(0.8) or any(axes):
        attrs["scan_input_axes"] = axes
    if m.chance(0.5):
        attrs["scan_input_directions"] = ways
    out = [m.whole(-r - 1, r) if m.chance(0.4) else 0 for r in ranks]
    if any(out) and count:
        attrs["scan_output_axes"] = out
    if m.chance(0.3) and count:
        attrs["scan_output_directions"] = [m.pick(0, 1) for _ in ranks]
    kinds = [(s.shape, s.dtype) for s in states] + [(None, v.dtype) for v in gives[len(states) :]]
    found = m.raw("Scan", [*states, *takes], kinds, body=body, **attrs)
    return m.pick(*found)


def flow(m: Maker, x: Val) -> Val:
    return flowing(m, x)


PATTERNS = (flow,)
