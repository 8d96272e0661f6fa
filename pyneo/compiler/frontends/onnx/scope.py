# SPDX-License-Identifier: Apache-2.0
"""Names and what they mean: lexical scopes of graphs, subgraphs and function bodies."""

from __future__ import annotations

from collections.abc import Iterable

import onnx

from ...ir.graph import Value
from .attributes import Attrs
from .external import ExternalFiles
from .limits import MAX_NESTING, TOO_DEEP, Abandon, Problem
from .tensors import read_sparse, read_tensor


class Scope:
    """The names that nodes of one graph or function body see.

    Initialisers are read when first used, so that a million unused ones cost nothing.
    """

    def __init__(
        self,
        files: ExternalFiles,
        opsets: dict[str, int],
        parent: Scope | None = None,
        bound: Attrs | None = None,
        prefix: str = "",
    ) -> None:
        self.files = files
        self.opsets = opsets
        self.parent = parent
        self.bound = bound  # attributes of the call, inside a function body
        self.prefix = prefix  # of names of nodes and values, inside a function body
        self.values: dict[str, Value] = {}
        self.pending: dict[str, Value] = {}  # values of the caller that a name, once defined, must be
        self._stored: dict[str, onnx.TensorProto | onnx.SparseTensorProto] = {}

    def store(self, graph: onnx.GraphProto) -> list[str]:
        """Takes a graph's initialisers; returns the names given twice."""
        twice = []
        for t in graph.initializer:
            if t.name in self._stored:
                twice.append(t.name)
            self._stored[t.name] = t
        for s in graph.sparse_initializer:
            if s.values.name in self._stored:
                twice.append(s.values.name)
            self._stored[s.values.name] = s
        return twice

    def stores(self, name: str) -> bool:
        return name in self._stored

    def owns(self, name: str) -> bool:
        """Whether the name is taken in this very scope."""
        return name in self.values or name in self._stored

    def sees(self, name: str) -> bool:
        scope: Scope | None = self
        while scope is not None:
            if scope.owns(name):
                return True
            scope = scope.parent
        return False

    def find(self, name: str) -> Value | None:
        """The value a name stands for; None if there is none. Problem if its initialiser is broken."""
        scope: Scope | None = self
        while scope is not None:
            value = scope.values.get(name)
            if value is not None:
                return value
            stored = scope._stored.get(name)
            if stored is not None:
                return scope._read(name, stored)
            scope = scope.parent
        return None

    def _read(self, name: str, stored: onnx.TensorProto | onnx.SparseTensorProto) -> Value:
        # A broken initialiser is reported once; its later readers get a value of unknown type.
        self.values[name] = Value(name)
        read = read_tensor if isinstance(stored, onnx.TensorProto) else read_sparse
        self.values[name] = read(stored, self.files, name)
        return self.values[name]


def names_read(node: onnx.NodeProto, depth: int = 0) -> set[str]:
    """Names a node reads, and those that its subgraphs read from around them."""
    if depth > MAX_NESTING:
        raise Abandon(TOO_DEEP)
    read = {n for n in node.input if n}
    for a in node.attribute:
        if a.HasField("g"):
            inside = {o.name for o in a.g.output}
            own = {i.name for i in a.g.input} | {t.name for t in a.g.initializer}
            own |= {t.values.name for t in a.g.sparse_initializer}
            for inner in a.g.node:
                inside |= names_read(inner, depth + 1)
                own.update(inner.output)
            read |= inside - own
    return read


def in_order(nodes: Iterable[onnx.NodeProto], scope: Scope) -> list[onnx.NodeProto]:
    """The nodes, each after what it reads, keeping the given order where that allows.

    Most models are in order already; some exporters' are not. Problem for a cycle.
    """
    listed = list(nodes)
    producer = {o: i for i, n in enumerate(listed) for o in n.output if o and not scope.owns(o)}
    reads = [{producer[r] for r in names_read(n) if r in producer} for n in listed]
    if all(not r or max(r) < i for i, r in enumerate(reads)):
        return listed
    readers: list[list[int]] = [[] for _ in listed]
    for i, r in enumerate(reads):
        for j in r:
            readers[j].append(i)
    waiting = [len(r) for r in reads]
    ready = [i for i in reversed(range(len(listed))) if not waiting[i]]
    order: list[int] = []
    while ready:
        i = ready.pop()
        order.append(i)
        for j in reversed(readers[i]):
            waiting[j] -= 1
            if not waiting[j]:
                ready.append(j)
    if len(order) < len(listed):
        stuck = [listed[i].name or listed[i].op_type for i in range(len(listed)) if waiting[i]]
        raise Problem(f"the graph has a cycle through the nodes {', '.join(map(repr, stuck[:8]))}")
    return [listed[i] for i in order]
