# SPDX-License-Identifier: Apache-2.0
"""The memory plan of a graph: the core's planner over the values that live in the arena."""

from __future__ import annotations

from dataclasses import dataclass, field

from pyneo import _core
from pyneo.compiler import core
from pyneo.compiler.ir.graph import DType, Graph, Node, Value
from pyneo.compiler.lower.views import Views, stored_bytes


@dataclass
class MemoryPlan:
    """Where everything lives: `values` in plan order with an arena offset each (0 outside the arena)."""

    values: list[Value]
    offsets: list[int]
    arena_bytes: int
    lower_bound: int
    scratch: dict[Node, int] = field(default_factory=dict)  # node -> index of its scratch value
    # first, last, offset, bytes, name
    spans: list[tuple[int, int, int, int, str]] = field(default_factory=list)


def plan_memory(graph: Graph, views: Views, scratch_bytes: dict[Node, int]) -> MemoryPlan:
    """Places every value of the graph; `scratch_bytes` is what each node's kernel wants besides."""
    nodes = [n for n in graph.nodes if id(n) not in views.gone]
    values = _values(graph, nodes, views)
    scratch: dict[Node, int] = {}
    for n in nodes:
        if scratch_bytes.get(n, 0) > 0:
            scratch[n] = len(values)
            values.append(Value(f"{n.name}/scratch", DType.U8, (scratch_bytes[n],)))
    index = {id(v): i for i, v in enumerate(values)}
    outside = {id(v) for v in [*graph.inputs, *graph.outputs]}

    buffers = []
    for v in values:
        size = stored_bytes(v)
        alias, at = views.alias.get(v, (None, 0))
        fixed = v.const is not None or id(views.root(v)) in outside or size == 0
        buffers.append((size, -1 if alias is None else index[id(alias)], fixed, at))
    steps = []
    for n in nodes:
        info = core.op_info(n.op)
        in_place = (info[0] & 3) if info else 0
        ins = [-1 if v is None else index[id(v)] for v in n.inputs]
        outs = [-1 if v is None else index[id(v)] for v in n.outputs]
        steps.append((ins, outs, scratch.get(n, -1), in_place))
    offsets, arena, bound = _core.plan_memory(buffers, steps, [])
    plan = MemoryPlan(values, [max(o, 0) for o in offsets], arena, bound, scratch)
    plan.spans = _spans(plan, views, steps, buffers)
    return plan


def list_values(graph: Graph) -> MemoryPlan:
    """The plan of a dynamic graph: the values of all its graphs, without places."""
    found: dict[int, Value] = {}
    for part in graph.walk():
        found.update((id(v), v) for v in _values(part, part.nodes, Views()))
    values = list(found.values())
    return MemoryPlan(values, [0] * len(values), 0, 0)


def _values(graph: Graph, nodes: list[Node], views: Views) -> list[Value]:
    """Inputs, outputs, then what nodes touch in order, each with the values it is a view of."""
    found: dict[int, Value] = {}

    def add(v: Value | None) -> None:
        while v is not None:
            found.setdefault(id(v), v)
            v = views.alias[v][0] if v in views.alias else None

    for v in [*graph.inputs, *graph.outputs]:
        add(v)
    for n in nodes:
        for operand in [*n.inputs, *n.outputs]:
            add(operand)
    return list(found.values())


def _spans(
    plan: MemoryPlan,
    views: Views,
    steps: list[tuple[list[int], list[int], int, int]],
    buffers: list[tuple[int, int, bool, int]],
) -> list[tuple[int, int, int, int, str]]:
    """Life of every root in the arena, for the picture in the report."""
    root = list(range(len(buffers)))
    for i, (_, alias, _, _) in enumerate(buffers):
        at = i
        while buffers[at][1] >= 0:
            at = buffers[at][1]
        root[i] = at if alias >= 0 else i
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for t, (ins, outs, scratch, _) in enumerate(steps):
        for operand in [*ins, *outs, scratch]:
            if operand >= 0 and not buffers[root[operand]][2]:
                first.setdefault(root[operand], t)
                last[root[operand]] = t
    return [(first[r], last[r], plan.offsets[r], buffers[r][0], plan.values[r].name) for r in sorted(first)]
