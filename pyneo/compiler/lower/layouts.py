# SPDX-License-Identifier: Apache-2.0
"""Kernel and layout choice: every node gets a kernel, every value a layout, with reorders where they meet.

Each node has a few options: a kernel with the layout of its activations on the way in and out. The choice
minimises the sum of kernel costs and reorder costs over the whole graph: it starts from blocked layouts
wherever a kernel takes them and then improves one node at a time until nothing gets cheaper. Costs are the
core's estimates; with a tuner, times measured on this machine.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from pyneo.compiler import core
from pyneo.compiler.ir.graph import DType, Graph, Layout, Node, Value, captured
from pyneo.compiler.lower.tune import Tuner, reorder_node
from pyneo.compiler.passes.slices import slice_run
from pyneo.compiler.targets.target import Target

_SWEEPS = 30
_GROUP = 12  # most nodes that change their layouts together
# Without a fast kernel the portable reference runs: a price per byte, and where kernels for other layouts
# show how much work each byte means, at least so many times theirs.
_REFERENCE_US_PER_BYTE = 2e-3
# What only copies runs of bytes: a price per byte and per run.
_COPY_US_PER_BYTE = 6e-5
_COPY_US_PER_RUN = 0.02
_COPIES = ("Pad", "Slice")
_REFERENCE_TIMES_KERNEL = 10.0
_REORDER_US_PER_BYTE = 6e-5
_BLOCKS_PAY = 1.25  # times as fast
# What the tuner times of a node in one pair of layouts: estimates beyond this many times the least, and
# kernels beyond so many, are not worth a measurement.
_TUNE_WITHIN = 6.0
_TUNE_AT_MOST = 6


@dataclass(frozen=True)
class Option:
    """One way to run a node: kernel None is the reference kernel."""

    layout_in: Layout
    layout_out: Layout
    kernel: core.Kernel | None
    cost_us: float  # what the choice goes by
    estimate_us: float  # what the core's cost model says


class Swap(NamedTuple):
    """A node for which the measured times changed the choice: kernel names and the two measured times."""

    node: str
    op: str
    estimated: str
    measured: str
    estimated_us: float
    measured_us: float


@dataclass(frozen=True)
class Tuning:
    """What tuning found: times of the whole graph as the cost model chooses, and as the measurements do."""

    estimated_us: float
    measured_us: float
    swaps: tuple[Swap, ...]


@dataclass
class Choice:
    """What was decided, for lowering and for the report."""

    options: dict[Node, list[Option]] = field(default_factory=dict)
    picked: dict[Node, Option] = field(default_factory=dict)
    reorders: int = 0
    tuning: Tuning | None = None


def assign(graph: Graph, target: Target, tuner: Tuner | None = None) -> Choice:
    """Picks a kernel for every node and inserts the Reorder nodes that the picks need."""
    block = Layout(target.block)
    choice = Choice()
    reorders = _Reorders(target, tuner)
    for part in graph.walk():  # outer graphs first: what an inner one reads of them is row-major
        for node in part.nodes:
            choice.options[node] = _options(node, block, target, tuner)
        _choose(part, choice, lambda o: o.estimate_us, reorders.estimate)
        if tuner is not None:
            _tune(part, choice, reorders)
        _apply(part, choice, target)
    return choice


def _tune(graph: Graph, choice: Choice, reorders: _Reorders) -> None:
    """Picks again by measured times, and notes what that changed."""
    estimated = dict(choice.picked)
    _choose(graph, choice, lambda o: o.cost_us, reorders.measured)
    if _total(graph, choice.picked, reorders.measured) > _total(graph, estimated, reorders.measured):
        choice.picked = dict(estimated)  # both searches are local: the better of their ends
    found = _compare(graph, estimated, choice.picked, reorders.measured)
    before = choice.tuning or Tuning(0.0, 0.0, ())
    choice.tuning = Tuning(
        before.estimated_us + found.estimated_us,
        before.measured_us + found.measured_us,
        before.swaps + found.swaps,
    )


def _blocked(o: Option) -> bool:
    return o.layout_in is not Layout.PLAIN and o.layout_out is not Layout.PLAIN


def blockable(v: Value | None) -> bool:
    """Whether a value may take a channel-blocked layout: a float32 activation with spatial dims."""
    if v is None or v.shape is None or v.is_const or v.dtype is not DType.F32:
        return False
    return len(v.shape) >= 3


def free_reorder(v: Value, block: int) -> bool:
    """Whether plain and blocked forms have the same bytes: whole blocks, one pixel."""
    dims = v.dims
    pixels = 1
    for d in dims[2:]:
        pixels *= d
    return pixels == 1 and dims[1] % block == 0


def are_runs(whole: Value, parts: list[Value], axis: int) -> bool:
    """Whether parts along `axis` are contiguous runs of the whole, in their present layouts."""
    if any(p.layout is not whole.layout for p in parts) or math.prod(whole.dims[:axis]) != 1:
        return False
    if whole.layout is Layout.PLAIN:
        return True
    return axis == 0 or (axis == 1 and all(p.dims[1] % int(whole.layout) == 0 for p in parts))


def _moves_nothing(node: Node) -> bool:
    """Whether outputs are the bytes of inputs in their present layouts (lower/views.py, and the binding)."""
    if node.op in ("Concat", "Split"):
        wholes, parts = (
            (node.outputs, node.inputs) if node.op == "Concat" else (node.inputs[:1], node.outputs)
        )
        present = [v for v in [*wholes, *parts] if v is not None]
        axis = node.int_attr("axis", 0) % len(present[0].dims)
        return are_runs(present[0], present[1:], axis)
    x, run = node.input(0), slice_run(node)
    if x is not None and run is not None:
        return x.layout is Layout.PLAIN and are_runs(x, [node.output], run[0])
    info = core.op_info(node.op)
    return info is not None and bool(info[0] & core.VIEW)


def _bound(node: Node) -> bool:
    """Whether shapes alone decide what the node computes: the reference kernel does it, once."""
    outputs = [v for v in node.outputs if v is not None]
    return not node.subgraphs and all(v.samples and v.samples[0].value is not None for v in outputs)


def _open_to_choice(node: Node) -> bool:
    """Whether a kernel can be chosen now; where a type or a rank is open, the runtime chooses."""
    operands = [v for v in [*node.inputs, *node.outputs] if v is not None]
    return not node.subgraphs and node.is_known and all(v.dtype is not DType.NONE for v in operands)


def _options(node: Node, block: Layout, target: Target, tuner: Tuner | None) -> list[Option]:
    if _bound(node) or not _open_to_choice(node):
        return [Option(Layout.PLAIN, Layout.PLAIN, None, 0.0, 0.0)]
    inputs = [v for v in node.inputs if blockable(v)]
    outputs = [v for v in node.outputs if blockable(v)]
    combos = [(Layout.PLAIN, Layout.PLAIN)]
    if inputs and outputs:
        combos = [(block, block), (Layout.PLAIN, block), (block, Layout.PLAIN), *combos]
    elif inputs:
        combos = [(block, Layout.PLAIN), *combos]
    options = []
    for layout_in, layout_out in combos:
        _set_layouts(node, layout_in, layout_out)
        found = [k for k in core.kernels(node, target.native) if _packable(node, k)]
        if _moves_nothing(node) and (found or layout_in is layout_out is Layout.PLAIN):
            options.append(Option(layout_in, layout_out, found[0] if found else None, 0.0, 0.0))
        elif found and tuner is None:
            options.append(Option(layout_in, layout_out, found[0], found[0].cost_us, found[0].cost_us))
        elif found and tuner is not None:
            near = [k for k in found if k.cost_us <= found[0].cost_us * _TUNE_WITHIN][:_TUNE_AT_MOST]
            times = tuner.times(node, near)
            options += [Option(layout_in, layout_out, k, times[k.name], k.cost_us) for k in near]
        elif layout_in is layout_out is Layout.PLAIN:
            moved = sum(_bytes(v) for v in [*node.inputs, *node.outputs] if v is not None)
            cost = estimate = moved * _REFERENCE_US_PER_BYTE
            if node.op in _COPIES:
                cost = estimate = moved * _COPY_US_PER_BYTE + _runs(node) * _COPY_US_PER_RUN
            if options and node.op not in _COPIES:
                cost = max(cost, _REFERENCE_TIMES_KERNEL * min(o.cost_us for o in options))
                estimate = max(estimate, _REFERENCE_TIMES_KERNEL * min(o.estimate_us for o in options))
            options.append(Option(layout_in, layout_out, None, cost, estimate))
    _set_layouts(node, Layout.PLAIN, Layout.PLAIN)
    return options


def _runs(node: Node) -> int:
    """How many runs of elements a part of a tensor, or something around it, keeps together."""
    x, y = node.inputs[0], node.output
    axes = [i for i, d in enumerate(y.dims) if x is not None and x.dims[i] != d]
    return math.prod(y.dims[: axes[-1]]) if axes else 1


def _packable(node: Node, kernel: core.Kernel) -> bool:
    """Whether the operand that the kernel wants packed, if any, is a constant."""
    return kernel.packed_input < 0 or node.const(kernel.packed_input) is not None


def _set_layouts(node: Node, layout_in: Layout, layout_out: Layout) -> None:
    # A residual (an operand beyond the first of Conv and its like) has the output's layout: kernels that
    # change the layout refuse a blocked residual, and the plain one is what their `accepts` sees.
    for v in node.inputs:
        if v is not None:
            v.layout = layout_in if blockable(v) else Layout.PLAIN
    for v in node.outputs:
        if v is not None:
            v.layout = layout_out if blockable(v) else Layout.PLAIN


def _bytes(v: Value) -> int:
    n = v.dtype.size
    for d in v.dims:
        n *= d
    return n


class _Reorders:
    """Prices of layout changes: (value, from, to) -> microseconds."""

    def __init__(self, target: Target, tuner: Tuner | None) -> None:
        self._target = target
        self._tuner = tuner

    def estimate(self, v: Value, frm: Layout, to: Layout) -> float:
        if free_reorder(v, max(frm, to)):
            return 0.0
        block, channels = max(frm, to, 1), max(v.dims[1], 1)
        padded = -(-channels // block) * block
        # Fewer channels than a block are moved one by one.
        rate = _REORDER_US_PER_BYTE * (2 if channels < block else 1)
        return 0.5 + _bytes(v) * (1 + padded / channels) * rate

    def measured(self, v: Value, frm: Layout, to: Layout) -> float:
        if self._tuner is None or free_reorder(v, max(frm, to)):
            return self.estimate(v, frm, to)
        node = reorder_node(v, frm, to)
        return min(self._tuner.times(node, core.kernels(node, self._target.native)).values())


_Reorder = Callable[[Value, Layout, Layout], float]
_Cost = Callable[[Option], float]


def _layout_of(picked: Mapping[Node, Option], v: Value) -> Layout:
    return picked[v.producer].layout_out if v.producer is not None else Layout.PLAIN


def _choose(graph: Graph, choice: Choice, cost: _Cost, reorder: _Reorder) -> None:
    """Picks an option for every node: the cheapest alone, blocked where that pays, then improved.

    What is as fast without blocks starts with the layout it is given: blocks on both sides are no gain.
    """
    for node in graph.nodes:
        options = choice.options[node]
        rows, blocks = ([cost(o) for o in options if _blocked(o) is b] for b in (False, True))
        if not blocks or not rows or min(rows) > _BLOCKS_PAY * min(blocks):
            choice.picked[node] = min(options, key=lambda o: (not _blocked(o), cost(o)))
            continue
        given = node.input(0)
        at = Layout.PLAIN if given is None else _layout_of(choice.picked, given)
        choice.picked[node] = min(options, key=lambda o, at=at: (o.layout_in is not at, cost(o)))  # type: ignore[misc]
    _improve(graph, choice, cost, reorder)
    if _improve_groups(graph, choice, cost, reorder):
        _improve(graph, choice, cost, reorder)


def _total(graph: Graph, picked: Mapping[Node, Option], reorder: _Reorder) -> float:
    """Microseconds of the picks and of the layout changes between them."""
    us = sum(picked[n].cost_us for n in graph.nodes)
    seen: set[tuple[int, Layout]] = set()
    readers = [(v, picked[n].layout_in) for n in graph.nodes for v in n.inputs if v is not None]
    for v, layout in [*readers, *((v, Layout.PLAIN) for v in graph.outputs)]:
        if blockable(v) and layout is not _layout_of(picked, v) and (id(v), layout) not in seen:
            seen.add((id(v), layout))
            us += reorder(v, _layout_of(picked, v), layout)
    return us


def _compare(
    graph: Graph, estimated: Mapping[Node, Option], measured: Mapping[Node, Option], reorder: _Reorder
) -> Tuning:
    def name(o: Option) -> str:
        return o.kernel.name if o.kernel else ""

    swaps = tuple(
        Swap(n.name, n.op, name(estimated[n]), name(measured[n]), estimated[n].cost_us, measured[n].cost_us)
        for n in graph.nodes
        if name(estimated[n]) != name(measured[n])
    )
    return Tuning(_total(graph, estimated, reorder), _total(graph, measured, reorder), swaps)


def _improve(graph: Graph, choice: Choice, cost: _Cost, reorder: _Reorder) -> None:
    users = graph.users()
    outputs = {id(v) for v in graph.outputs}

    def price(node: Node, o: Option) -> float:
        total = cost(o)
        for v in node.inputs:
            if v is not None and blockable(v):
                made = _layout_of(choice.picked, v)
                if made is not o.layout_in:
                    total += reorder(v, made, o.layout_in)
        for v in node.outputs:
            if v is None or not blockable(v):
                continue
            wanted = {choice.picked[u].layout_in for u in users.get(v, [])}
            if id(v) in outputs:
                wanted.add(Layout.PLAIN)
            for layout in wanted - {o.layout_out}:
                total += reorder(v, o.layout_out, layout)
        return total

    for _ in range(_SWEEPS):
        changed = False
        for node in [*graph.nodes, *reversed(graph.nodes)]:
            options = choice.options[node]
            if len(options) < 2:
                continue
            best = min(options, key=lambda o, n=node: price(n, o))  # type: ignore[misc]
            if price(node, best) < price(node, choice.picked[node]) - 1e-9:
                choice.picked[node] = best
                changed = True
        if not changed:
            return


def _improve_groups(graph: Graph, choice: Choice, cost: _Cost, reorder: _Reorder) -> bool:
    """Changes neighbours together where no change of one alone gets cheaper; True if there was any.

    From each node on the group grows across the layout changes that it makes; its best size is kept. Its
    nodes have the layout on both sides, or may be where it ends.
    """
    users, outputs = graph.users(), {id(v) for v in graph.outputs}
    picked, mine, changed = choice.picked, set(graph.nodes), False

    def values_of(node: Node) -> list[Value]:
        return [v for v in {*node.inputs, *node.outputs} if v is not None and blockable(v)]

    def price(node: Node, option: Option) -> float:
        """The node run so, and all layout changes of what it reads and writes."""
        picked[node] = option
        us = cost(option)
        for v in values_of(node):
            wanted = {picked[u].layout_in for u in users.get(v, [])}
            if id(v) in outputs:
                wanted.add(Layout.PLAIN)
            made = _layout_of(picked, v)
            us += sum(reorder(v, made, layout) for layout in wanted - {made})
        return us

    blocks = {o.layout_out for n in graph.nodes for o in choice.options[n]} - {Layout.PLAIN}
    for layout, through in itertools.product([Layout.PLAIN, *blocks], (True, False)):
        for seed in graph.nodes:
            group: dict[Node, Option] = {}  # and what was picked before
            waiting, saved, best, keep = [seed], 0.0, 1e-6, 0
            while waiting and len(group) < _GROUP:
                node = waiting.pop(0)
                now = picked[node]
                sides = [(o, (o.layout_in, o.layout_out)) for o in choice.options[node]]
                able = [o for o, ends in sides if (ends == (layout, layout) if through else layout in ends)]
                if node in group or not able or now.layout_in is layout is now.layout_out:
                    continue
                group[node] = now
                saved += price(node, now)
                prices = [price(node, o) for o in able]
                picked[node] = able[prices.index(min(prices))]
                saved -= min(prices)
                if saved > best:
                    best, keep = saved, len(group)
                for v in values_of(node):
                    waiting += [
                        n for n in users.get(v, []) if n in mine and picked[n].layout_in is not layout
                    ]
                    if v.producer in mine and _layout_of(picked, v) is not layout:
                        waiting.append(v.producer)
            for node in list(group)[keep:]:
                picked[node] = group[node]
            changed |= keep > 0
    return changed


def _apply(graph: Graph, choice: Choice, target: Target) -> None:
    """Writes layouts into the values and inserts Reorder nodes, one per value and layout."""
    for node in graph.nodes:
        for v in node.outputs:
            if v is not None:
                v.layout = choice.picked[node].layout_out if blockable(v) else Layout.PLAIN
    for v in graph.inputs:
        v.layout = Layout.PLAIN
    converted: dict[tuple[int, Layout], Value] = {}
    nodes: list[Node] = []

    def convert(v: Value, layout: Layout) -> Value:
        key = (id(v), layout)
        if key not in converted:
            y = Value(graph.fresh_name(v.name), v.dtype, v.shape, layout=layout, samples=v.samples)
            node = Node("Reorder", graph.fresh_name(f"{v.name}/reorder"), [v], [y])
            found = core.kernels(node, target.native)
            picked = Option(v.layout, layout, found[0], found[0].cost_us, found[0].cost_us)
            node.kernel = found[0].name
            choice.picked[node] = picked
            choice.reorders += 1
            nodes.append(node)
            converted[key] = y
        return converted[key]

    for node in graph.nodes:
        picked = choice.picked[node]
        for i, v in enumerate(node.inputs):
            if v is not None and blockable(v) and v.layout is not picked.layout_in:
                node.inputs[i] = convert(v, picked.layout_in)
        for v in captured(node):
            if v.layout is not Layout.PLAIN:
                plain = convert(v, Layout.PLAIN)
                for sub in node.subgraphs:
                    sub.replace(v, plain)
        node.kernel = picked.kernel.name if picked.kernel else ""
        nodes.append(node)
    for i, v in enumerate(graph.outputs):
        if v.layout is not Layout.PLAIN:
            y = convert(v, Layout.PLAIN)
            # The public name belongs to the graph's output.
            y.name, v.name = v.name, y.name
            graph.outputs[i] = y
    graph.nodes = nodes
