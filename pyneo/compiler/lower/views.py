# SPDX-License-Identifier: Apache-2.0
"""Views: values that live inside another value's memory, and the nodes that this makes needless.

Reshape and its like give their input another shape; Split, Slice and a Concat along the outermost varying
axis are runs of bytes of the larger tensor. Each becomes an alias (of which value, how many bytes in), and
its node disappears from the plan.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pyneo.compiler import core
from pyneo.compiler.ir.graph import Graph, Layout, Node, Value
from pyneo.compiler.lower.layouts import are_runs, free_reorder
from pyneo.compiler.passes.slices import slice_run


@dataclass
class Views:
    """`alias[v] = (parent, byte offset)`; `gone`: nodes that need not run."""

    alias: dict[Value, tuple[Value, int]] = field(default_factory=dict)
    gone: set[int] = field(default_factory=set)

    def root(self, v: Value) -> Value:
        while v in self.alias:
            v = self.alias[v][0]
        return v

    def offset(self, v: Value) -> int:
        """Bytes from the start of the root."""
        at = 0
        while v in self.alias:
            v, more = self.alias[v]
            at += more
        return at


def find_views(graph: Graph) -> Views:
    """Aliases for the whole graph; inserts copies where a graph output cannot be a view."""
    views = Views()
    inputs = {id(v) for v in graph.inputs}
    outputs = {id(v) for v in graph.outputs}
    for node in graph.nodes:
        if _is_reshape(node):
            _reshape(node, views, inputs, outputs)
        elif node.op == "Split":
            _split(node, views, outputs)
        elif node.op == "Slice":
            _slice(node, views, outputs)
    for node in graph.nodes:
        if node.op == "Concat":
            _concat(node, views, inputs, outputs)
    return views


def stored_bytes(v: Value) -> int:
    """Bytes of a value in its layout, channel padding included."""
    if v.layout is Layout.PACKED:
        assert v.const is not None
        return int(v.const.nbytes)
    n = v.dtype.size
    for i, d in enumerate(v.dims):
        n *= -(-d // int(v.layout)) * int(v.layout) if i == 1 and v.layout is not Layout.PLAIN else d
    return n


def _is_reshape(node: Node) -> bool:
    info = core.op_info(node.op)
    if info is not None and info[0] & core.VIEW:
        return True
    if node.op == "Reorder":
        x = node.inputs[0]
        assert x is not None
        return free_reorder(x, max(int(x.layout), int(node.output.layout)))
    return False


def _reshape(node: Node, views: Views, inputs: set[int], outputs: set[int]) -> None:
    x, y = node.inputs[0], node.output
    if x is None or (x.layout is not y.layout and node.op != "Reorder"):
        return
    if id(y) not in outputs:
        if x.is_const or (node.op == "Reorder" and id(views.root(x)) in inputs | outputs):
            return
        views.alias[y] = (x, 0)
        views.gone.add(id(node))
        return
    # The caller's buffer takes y: let what makes x write there, unless x has a home of its own.
    root = views.root(x)
    movable = root.producer is not None and id(root) not in inputs | outputs and root.layout is Layout.PLAIN
    if movable and stored_bytes(root) == stored_bytes(y):
        views.alias[root] = (y, 0)
        views.gone.add(id(node))


def _split(node: Node, views: Views, outputs: set[int]) -> None:
    x = node.inputs[0]
    parts = [v for v in node.outputs if v is not None]
    if x is None or x.is_const or len(parts) != len(node.outputs):
        return
    axis = node.int_attr("axis", 0) % len(x.dims)
    if not are_runs(x, parts, axis) or any(id(p) in outputs for p in parts):
        return
    at = 0
    for p in parts:
        views.alias[p] = (x, at)
        at += stored_bytes(p)
    views.gone.add(id(node))


def _slice(node: Node, views: Views, outputs: set[int]) -> None:
    x, y, run = node.inputs[0], node.output, slice_run(node)
    if x is None or run is None or x.is_const or id(y) in outputs or not are_runs(x, [y], run[0]):
        return
    if x.layout is Layout.PLAIN and 0 not in y.dims:
        views.alias[y] = (x, run[1] * (stored_bytes(y) // y.dims[run[0]]))
        views.gone.add(id(node))


def _concat(node: Node, views: Views, inputs: set[int], outputs: set[int]) -> None:
    y = node.output
    parts = [v for v in node.inputs if v is not None]
    axis = node.int_attr("axis", 0) % len(y.dims)
    # An output is written as a whole, also where it is a view of the Concat's result.
    if id(views.root(y)) in outputs or len(parts) != len(node.inputs) or len(set(parts)) != len(parts):
        return
    if not are_runs(y, parts, axis):
        return
    roots = _whole_roots(parts, views)
    if roots is None or len(set(roots)) != len(roots) or views.root(y) in roots:
        return
    if any(r.producer is None or r.is_const or r.layout is not y.layout for r in roots):
        return
    if any(id(r) in inputs | outputs for r in roots):
        return
    at = 0
    for r in roots:
        views.alias[r] = (y, at)
        at += stored_bytes(r)
    views.gone.add(id(node))


def _whole_roots(parts: list[Value], views: Views) -> list[Value] | None:
    """The tensors whose memory the parts are, in order, or None if a part is a piece of something larger.

    Each tensor is covered by one part, or by the parts that a Split made of it, all and in their order.
    """
    roots: list[Value] = []
    i = 0
    while i < len(parts):
        root, covered = views.root(parts[i]), 0
        while i < len(parts) and views.root(parts[i]) is root and views.offset(parts[i]) == covered:
            covered += stored_bytes(parts[i])
            i += 1
        if covered != stored_bytes(root) or covered == 0:
            return None
        roots.append(root)
    return roots
