# SPDX-License-Identifier: Apache-2.0
"""Sequences and optionals, resolved: a sequence of known length is its tensors, an optional its content.

The core has tensors only. A position that is known at run time only selects by conditionals.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pyneo.compiler.ir.clone import clone_body
from pyneo.compiler.ir.graph import STRUCTURAL, DType, Graph, Node, Value
from pyneo.compiler.passes.match import constant
from pyneo.errors import CompileError

_MOST_PARTS = 4096  # tensors of one sequence


def resolve_sequences(graph: Graph) -> bool:
    """Replaces operators on sequences and optionals whose structure is known; True if there was one."""
    changed = False
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.op == "If":
            changed |= _split_if(graph, node)
        if node.op not in STRUCTURAL:
            nodes.append(node)
            continue
        builder = _Builder(graph, node)
        if _RULES[node.op](builder):
            nodes += builder.nodes
            changed = True
        else:
            nodes.append(node)
    graph.nodes = nodes
    return changed


def refuse_unresolved(graph: Graph) -> None:
    """CompileError naming every operator on sequences or optionals that is left."""
    problems = [
        f"node '{n.name}' ({n.op}): the structure of its sequence or optional is decided at run time; give "
        "the loops that build it a constant trip count, or fix the shapes that it is split from with "
        "shapes={...}"
        for n in graph.all_nodes()
        if n.op in STRUCTURAL
    ]
    if problems:
        raise CompileError("the model cannot be compiled:\n  " + "\n  ".join(problems), problems)


class _Builder:
    """The nodes that take one node's place."""

    def __init__(self, graph: Graph, node: Node) -> None:
        self.graph = graph
        self.node = node
        self.nodes: list[Node] = []

    def value(self, dtype: DType) -> Value:
        return Value(self.graph.fresh_name(self.node.name), dtype)

    def const(self, array: np.ndarray) -> Value:
        return constant(self.graph, self.node.name, array)

    def emit(
        self, op: str, inputs: list[Value | None], dtype: DType, attrs: dict[str, list[int]] | None = None
    ) -> Value:
        y = self.value(dtype)
        self.nodes.append(Node(op, self.graph.fresh_name(self.node.name), inputs, [y], dict(attrs or {})))
        return y

    def become(self, result: Value) -> bool:
        """Makes the node's output that tensor, sequence or optional."""
        y = self.node.output
        if result.parts is not None or result.absent:
            y.parts, y.absent, y.producer = result.parts, result.absent, None
        else:
            self.nodes.append(Node("Identity", self.graph.fresh_name(self.node.name), [result], [y]))
        return True

    def parts(self, i: int) -> list[Value] | None:
        """The tensors of input i; None while that is not known."""
        v = self.node.input(i)
        return None if v is None else v.parts

    def check_length(self, count: int) -> None:
        if count > _MOST_PARTS:
            raise CompileError(
                f"node '{self.node.name}' ({self.node.op}): the sequence has {count} tensors; at most "
                f"{_MOST_PARTS} are supported"
            )

    def sequence(self, parts: list[Value]) -> bool:
        self.check_length(len(parts))
        self.node.output.parts, self.node.output.producer = parts, None
        return True

    def position(self, i: int, count: int, default: int) -> int | Value | None:
        """Position input i of `count` as a number or, known at run time only, a value from 0 on."""
        v = self.node.input(i)
        if v is None:
            return default
        if v.const is None:
            # The table has every position under its two names; Gather refuses any other.
            table = self.const(np.concatenate([np.arange(count), np.arange(count)]).astype(np.int64))
            index = self.emit("Cast", [v], DType.I64, {"to": [int(DType.I64)]})
            shifted = self.emit("Add", [index, self.const(np.array(count, np.int64))], DType.I64)
            return self.emit("Gather", [table, shifted], DType.I64, {"axis": [0]})
        at = int(v.const.reshape(-1)[0])
        if not -count <= at < count:
            raise CompileError(
                f"node '{self.node.name}' ({self.node.op}): position {at} is outside of a sequence of {count}"
            )
        return at % count if count else 0

    def choose(self, condition: Value, a: Value, b: Value) -> Value:
        """`a` where the condition holds, else `b`."""
        y = self.value(a.dtype or b.dtype)
        branches = [Graph(self.node.name, [], [v], symbols=self.graph.symbols) for v in (a, b)]
        self.nodes.append(Node("If", self.graph.fresh_name(self.node.name), [condition], [y], {}, branches))
        return y

    def test(self, op: str, position: Value, number: int) -> Value:
        return self.emit(op, [position, self.const(np.array(number, np.int64))], DType.BOOL)


def _construct(b: _Builder) -> bool:
    return b.sequence([v for v in b.node.inputs if v is not None])


def _empty(b: _Builder) -> bool:
    return b.sequence([])


def _insert(b: _Builder) -> bool:
    parts, x = b.parts(0), b.node.inputs[1]
    if parts is None or x is None:
        return False
    n = len(parts)
    at = _insert_position(b, n)
    if isinstance(at, int):
        return b.sequence([*parts[:at], x, *parts[at:]])
    found = []
    for i in range(n + 1):
        v = x
        if i > 0:
            v = b.choose(b.test("Equal", at, i), v, parts[i - 1])
        if i < n:
            v = b.choose(b.test("Greater", at, i), parts[i], v)
        found.append(v)
    return b.sequence(found)


def _insert_position(b: _Builder, n: int) -> int | Value:
    """Where to insert: n is a place too, -1 is the place before the last."""
    v = b.node.input(2)
    if v is None:
        return n
    if v.const is not None:
        at = int(v.const.reshape(-1)[0])
        if not -n <= at <= n:
            raise CompileError(
                f"node '{b.node.name}' ({b.node.op}): position {at} is outside of a sequence of {n}"
            )
        return at + n if at < 0 else at
    table = b.const(np.concatenate([np.arange(n), np.arange(n + 1)]).astype(np.int64))
    index = b.emit("Cast", [v], DType.I64, {"to": [int(DType.I64)]})
    shifted = b.emit("Add", [index, b.const(np.array(n, np.int64))], DType.I64)
    return b.emit("Gather", [table, shifted], DType.I64, {"axis": [0]})


def _erase(b: _Builder) -> bool:
    parts = b.parts(0)
    if parts is None:
        return False
    n = len(parts)
    at = b.position(1, n, n - 1)
    if isinstance(at, int):
        return b.sequence([*parts[:at], *parts[at + 1 :]])
    assert at is not None
    return b.sequence([b.choose(b.test("Greater", at, i), parts[i], parts[i + 1]) for i in range(n - 1)])


def _at(b: _Builder) -> bool:
    parts = b.parts(0)
    if parts is None:
        return False
    at = b.position(1, len(parts), 0)
    if isinstance(at, int):
        return b.become(parts[at])
    assert at is not None
    if not parts:
        raise CompileError(f"node '{b.node.name}' ({b.node.op}): it reads from an empty sequence")
    v = parts[-1]
    for i in range(len(parts) - 2, -1, -1):
        v = b.choose(b.test("Equal", at, i), parts[i], v)
    return b.become(v)


def _length(b: _Builder) -> bool:
    parts = b.parts(0)
    return parts is not None and b.become(b.const(np.array(len(parts), np.int64)))


def _split(b: _Builder) -> bool:
    x, split = b.node.inputs[0], b.node.input(1)
    axis = b.node.int_attr("axis", 0)
    if x is None or x.shape is None:
        return False
    if not -len(x.shape) <= axis < len(x.shape):
        raise CompileError(
            f"node '{b.node.name}' ({b.node.op}): axis {axis} is outside of rank {len(x.shape)}"
        )
    whole = x.shape[axis]
    squeeze = split is None and not b.node.int_attr("keepdims", 1)
    if split is not None and split.shape is not None and len(split.shape) == 1:
        if not isinstance(split.shape[0], int):
            return False
        count, sizes = split.shape[0], split
        if split.dtype is not DType.I64:
            sizes = b.emit("Cast", [split], DType.I64, {"to": [int(DType.I64)]})
    else:
        step = 1 if split is None else None if split.const is None else int(split.const.reshape(-1)[0])
        if step is None or not isinstance(whole, int):
            return False
        if step < 1:
            raise CompileError(
                f"node '{b.node.name}' ({b.node.op}): parts of {step} are asked for; expected 1 or more"
            )
        count = -(-whole // step)
        b.check_length(count)
        numbers = np.full(count, step, np.int64)
        numbers[-1:] -= count * step - whole
        sizes = b.const(numbers)
    b.check_length(count)
    if count == 0:
        return b.sequence([])
    parts = [b.value(x.dtype) for _ in range(count)]
    name = b.graph.fresh_name(b.node.name)
    b.nodes.append(Node("Split", name, [x, sizes], list(parts), {"axis": [axis]}))
    if squeeze:
        axes = b.const(np.array([axis], np.int64))
        parts = [b.emit("Squeeze", [p, axes], x.dtype) for p in parts]
    return b.sequence(parts)


def _concat(b: _Builder) -> bool:
    parts = b.parts(0)
    if parts is None:
        return False
    if not parts:
        raise CompileError(f"node '{b.node.name}' ({b.node.op}): it joins an empty sequence")
    axis = b.node.int_attr("axis", 0)
    if b.node.int_attr("new_axis", 0):
        axes = b.const(np.array([axis], np.int64))
        parts = [b.emit("Unsqueeze", [p, axes], p.dtype) for p in parts]
    return b.become(b.emit("Concat", list(parts), parts[0].dtype, {"axis": [axis]}))


def _map(b: _Builder) -> bool:
    first = b.parts(0)
    if first is None:
        return False
    rows = []
    for v in b.node.inputs:
        assert v is not None
        if v.parts is not None and len(v.parts) < len(first):
            raise CompileError(
                f"node '{b.node.name}' ({b.node.op}): its sequences have {len(first)} and {len(v.parts)} "
                "tensors"
            )
        rows.append(v.parts if v.parts is not None else [v] * len(first))
    body = b.node.subgraphs[0]
    results: list[list[Value]] = [[] for _ in b.node.outputs]
    for arguments in zip(*rows, strict=False):
        made, found = clone_body(body, list(arguments), b.graph)
        b.nodes += made
        for result, v in zip(results, found, strict=True):
            result.append(v)
    for y, result in zip(b.node.outputs, results, strict=True):
        if y is not None:
            y.parts, y.producer = result, None
    return True


def _is_resolved(v: Value) -> bool:
    """Whether it is known to be a tensor, or a sequence of known structure, and no optional."""
    return v.parts is not None or v.dtype is not DType.NONE


def _optional(b: _Builder) -> bool:
    x = b.node.input(0)
    if x is None:
        b.node.output.absent, b.node.output.producer = True, None
        return True
    return _is_resolved(x) and b.become(x)


def _has_element(b: _Builder) -> bool:
    x = b.node.input(0)
    if x is not None and not x.absent and not _is_resolved(x):
        return False
    return b.become(b.const(np.array(x is not None and not x.absent)))


def _get_element(b: _Builder) -> bool:
    x = b.node.input(0)
    if x is None or x.absent:
        raise CompileError(f"node '{b.node.name}' ({b.node.op}): the optional it opens holds nothing")
    return _is_resolved(x) and b.become(x)


_RULES: dict[str, Callable[[_Builder], bool]] = {
    "SequenceConstruct": _construct,
    "SequenceEmpty": _empty,
    "SequenceInsert": _insert,
    "SequenceErase": _erase,
    "SequenceAt": _at,
    "SequenceLength": _length,
    "SplitToSequence": _split,
    "ConcatFromSequence": _concat,
    "SequenceMap": _map,
    "Optional": _optional,
    "OptionalHasElement": _has_element,
    "OptionalGetElement": _get_element,
}


def _split_if(graph: Graph, node: Node) -> bool:
    """An If that gives sequences of one length gives their tensors."""
    changed = False
    for i in reversed(range(len(node.outputs))):
        a, c = (branch.outputs[i] if i < len(branch.outputs) else None for branch in node.subgraphs)
        y = node.outputs[i]
        if (
            a is None
            or c is None
            or y is None
            or a.parts is None
            or c.parts is None
            or len(a.parts) != len(c.parts)
        ):
            continue
        y.parts = [Value(graph.fresh_name(y.name), p.dtype, producer=node) for p in a.parts]
        y.producer = None
        node.outputs[i : i + 1] = y.parts
        for branch, v in zip(node.subgraphs, (a, c), strict=True):
            assert v.parts is not None
            branch.outputs[i : i + 1] = v.parts
        changed = True
    return changed
