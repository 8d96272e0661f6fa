# SPDX-License-Identifier: Apache-2.0
"""Chains: element-wise nodes whose results nothing else reads become one `Eltwise` (csrc/ops/eltwise.h).

Its kernel runs all steps over a tile that stays in L1, so that intermediate results never reach memory.
Chains are made last, when every pass has had its patterns and every epilogue its activation. Static graphs
only.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pyneo.compiler import core
from pyneo.compiler.ir.graph import DType, Graph, Layout, Node, Value
from pyneo.compiler.passes.epilogue import as_activation
from pyneo.compiler.passes.match import Readers, scalar
from pyneo.compiler.targets.target import Target

_MOST_STEPS = 16
_MOST_INPUTS = 8
_RESULT = 8  # operands from here on are results of earlier steps
_UNARY = ("Exp", "Log", "Sqrt", "Abs", "Neg", "Reciprocal", "Erf", "Floor", "Ceil", "Round")
_BINARY = ("Add", "Sub", "Mul", "Div", "Max", "Min")


@dataclass
class _Program:
    """The attributes of an `Eltwise`, step by step."""

    inputs: list[Value] = field(default_factory=list)
    fns: list[str] = field(default_factory=list)
    args: list[int] = field(default_factory=list)
    params: list[float] = field(default_factory=list)
    made: dict[Value, int] = field(default_factory=dict)

    def operand(self, v: Value) -> int:
        if v in self.made:
            return self.made[v]
        if v not in self.inputs:
            self.inputs.append(v)
        return self.inputs.index(v)

    def step(self, fn: str, a: int, b: int = -1, alpha: float = 0.0, beta: float = 0.0) -> int:
        self.fns.append(fn)
        self.args += [a, b]
        self.params += [alpha, beta]
        return _RESULT + len(self.fns) - 1

    def add(self, node: Node) -> None:
        """The node's steps: itself, and the activation it carries."""
        first = self.operand(_value(node, 0))
        if node.op in _BINARY:
            last = self.step(node.op.lower(), first, self.operand(_value(node, 1)))
            if node.attrs.get("act"):
                alpha, beta = node.float_attr("act_alpha", 0), node.float_attr("act_beta", 0)
                last = self.step(node.str_attr("act", ""), last, -1, alpha, beta)
        elif node.op in _UNARY:
            last = self.step(node.op.lower(), first)
        elif node.op == "Pow":
            last = self.step("square", first)
        else:
            found = as_activation(node)
            assert found is not None
            last = self.step(found[0], first, -1, found[1] or 0.0, found[2] or 0.0)
        self.made[node.output] = last


def fuse_chains(graph: Graph, target: Target) -> None:
    """Makes chains of two nodes and more, as long as possible from their ends on."""
    readers = Readers(graph)
    position = {id(n): i for i, n in enumerate(graph.nodes)}
    taken: set[int] = set()
    for end in reversed(list(graph.nodes)):
        if id(end) in taken or not _fits(end):
            continue
        members = _members(end, readers, position)
        if len(members) < 2:
            continue
        program = _Program()
        for node in members:
            program.add(node)
        result = Value("", end.output.dtype, end.output.shape)
        chain = Node("Eltwise", end.name, list(program.inputs), [result])
        chain.attrs = {"fns": program.fns, "args": program.args, "params": program.params}
        if len(program.fns) > _MOST_STEPS or len(program.inputs) > _MOST_INPUTS:
            continue
        if not _runs_where_they_do(chain, members, target):
            continue
        taken |= {id(n) for n in members}
        chain.outputs = [end.output]
        end.output.producer = chain
        graph.nodes[graph.nodes.index(end)] = chain
        graph.remove(members)


def _members(end: Node, readers: Readers, position: dict[int, int]) -> list[Node]:
    """`end` and the nodes before it that only the chain reads, in the order of the graph."""
    found = [end]
    waiting = [end]
    while waiting:
        node = waiting.pop()
        for v in node.inputs:
            p = v.producer if v is not None else None
            if p is None or v is None or id(p) not in position or p in found or len(found) == _MOST_STEPS:
                continue
            if _fits(p) and v.shape == end.output.shape and readers.only(v) is node:
                found.append(p)
                waiting.append(p)
    return sorted(found, key=lambda n: position[id(n)])


def _value(node: Node, i: int) -> Value:
    v = node.inputs[i]
    assert v is not None
    return v


def _fits(node: Node) -> bool:
    """Whether the node is a step of a chain: float32, not empty, with a function that chains have."""
    values = [v for v in [*node.inputs, *node.outputs] if v is not None]
    if len(node.outputs) != 1 or any(v.dtype is not DType.F32 or not v.is_static for v in values):
        return False
    if 0 in node.output.dims or node.attrs.get("post_act"):
        return False
    if node.op in _BINARY:
        return len(node.inputs) == 2
    if node.op == "Pow":
        # The step takes x alone: an exponent of more axes would add them.
        return scalar(node.input(1)) == 2.0 and values[0].shape == node.output.shape
    return node.op in _UNARY or as_activation(node) is not None


def _runs_where_they_do(chain: Node, members: list[Node], target: Target) -> bool:
    """Whether the chain has a kernel in every layout in which all members have one, and in one at least."""
    layouts = [Layout.PLAIN, Layout(target.block)]
    able = [layout for layout in layouts if all(_has_kernel(n, layout, target) for n in members)]
    return bool(able) and all(_has_kernel(chain, layout, target) for layout in able)


def _has_kernel(node: Node, layout: Layout, target: Target) -> bool:
    operands = {v: v.layout for v in [*node.inputs, *node.outputs] if v is not None and not v.is_const}
    for v in operands:
        v.layout = layout if len(v.dims) >= 3 else Layout.PLAIN
    found = node.output.layout is layout and core.kernels(node, target.native)
    for v, before in operands.items():
        v.layout = before
    return bool(found)
