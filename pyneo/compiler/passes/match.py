# SPDX-License-Identifier: Apache-2.0
"""Small helpers that rules share: who reads a value, which constant an operand is, how nodes are replaced."""

from __future__ import annotations

import numpy as np

from pyneo.compiler.ir.graph import Attr, Graph, Node, Value, with_parts


class Readers:
    """Consumers of every value of a graph, as it was when this was made. Graph outputs count as a reader."""

    def __init__(self, graph: Graph) -> None:
        self._users = graph.users()
        self._outputs = {id(v) for v in with_parts(graph.outputs)}

    def of(self, v: Value) -> list[Node]:
        return self._users.get(v, [])

    def is_output(self, v: Value) -> bool:
        return id(v) in self._outputs

    def only(self, v: Value) -> Node | None:
        """The one node that reads v, if nothing else does and all its shapes are known."""
        users = self.of(v)
        return users[0] if len(users) == 1 and not self.is_output(v) and users[0].is_known else None


def scalar(v: Value | None) -> float | None:
    """The number a one-element constant holds."""
    if v is None or v.const is None or v.const.size != 1:
        return None
    return float(v.const.reshape(-1)[0])


def is_scalar(v: Value | None, wanted: float, rel: float = 0.0) -> bool:
    """Whether v is that number; `rel`: to so many parts of it, for numbers that exporters write rounded."""
    found = scalar(v)
    return found is not None and abs(found - wanted) <= rel * abs(wanted)


def producer(v: Value | None, op: str) -> Node | None:
    """The node that makes v, if it is an `op`, v is its first output and all its shapes are known."""
    if v is None or v.producer is None or v.producer.op != op or v.producer.outputs[0] is not v:
        return None
    return v.producer if v.producer.is_known else None


def split_const(node: Node) -> tuple[Value, Value] | None:
    """(activation, constant) of a binary node with exactly one constant operand."""
    if len(node.inputs) != 2 or not node.is_known:
        return None
    a, b = node.inputs
    if a is None or b is None or a.is_const == b.is_const:
        return None
    return (b, a) if a.is_const else (a, b)


def constant(graph: Graph, stem: str, array: np.ndarray) -> Value:
    return Value.constant(graph.fresh_name(stem), array)


def shapes_of(v: Value) -> list[tuple[int, ...]]:
    """The value's shape, in each sample of a graph with open dims."""
    return [s.shape for s in v.samples] if v.samples else [v.dims]


def shapes_together(*values: Value) -> list[tuple[tuple[int, ...], ...]]:
    """The values' shapes, sample by sample. What a rule just made of constants has only one shape."""
    found = [shapes_of(v) for v in values]
    count = max(map(len, found))
    return list(zip(*(s * count if len(s) == 1 else s for s in found), strict=True))


def has_constant_bias(node: Node) -> bool:
    """Whether input 2 is a constant, or absent."""
    return node.input(2) is None or node.const(2) is not None


def is_unfused(node: Node) -> bool:
    """Whether nothing was fused behind the node's sum yet."""
    return not (node.input(3) or node.attrs.get("act") or node.attrs.get("post_act"))


def activations(node: Node) -> dict[str, Attr]:
    """The attributes of what was fused behind the node's sum."""
    return {k: v for k, v in node.attrs.items() if k.startswith(("act", "post_act"))}


def gathered(node: Node, size: int) -> np.ndarray | None:
    """Constant indices of a Gather along an axis of that size, from the front; None if one lies outside."""
    indices = node.const(1)
    if indices is None or np.any((indices < -size) | (indices >= size)):
        return None
    return np.where(indices < 0, indices + size, indices)


def take_output(graph: Graph, node: Node, old: Node) -> None:
    """Makes `node`, already in the graph, produce what `old` produces; `old` is left without outputs."""
    result = old.output
    node.outputs[0] = result
    result.producer = node
    old.outputs = [None] * len(old.outputs)


def replace_by(graph: Graph, node: Node, made: list[Node]) -> None:
    """Puts `made`, whose last node produces what `node` does, in the place of `node`."""
    place = graph.nodes.index(node)
    graph.nodes[place:place] = made
    take_output(graph, made[-1], node)
    graph.remove([node])
