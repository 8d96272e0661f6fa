# SPDX-License-Identifier: Apache-2.0
"""Copies of a body's nodes, for calls of it in the graph around."""

from __future__ import annotations

from pyneo.compiler.ir.graph import Graph, Node, Value


def clone_body(body: Graph, arguments: list[Value | None], into: Graph) -> tuple[list[Node], list[Value]]:
    """(nodes, results) of the body with its inputs replaced by `arguments`. Names are new in the model."""
    known = {id(old): new for old, new in zip(body.inputs, arguments, strict=True)}
    nodes = _clone_nodes(body, known, into)
    return nodes, [_mapped(v, known) for v in body.outputs]


def _mapped(v: Value, known: dict[int, Value | None]) -> Value:
    found = known.get(id(v), v)
    assert found is not None, "a body's result is one of its inputs that the caller left out"
    return found


def _clone_nodes(graph: Graph, known: dict[int, Value | None], into: Graph) -> list[Node]:
    nodes = []
    for node in graph.nodes:
        outputs: list[Value | None] = []
        for v in node.outputs:
            if v is None:
                outputs.append(None)
                continue
            copy = Value(into.fresh_name(v.name), v.dtype, v.shape, samples=v.samples)
            known[id(v)] = copy
            outputs.append(copy)
        inputs = [None if v is None else known.get(id(v), v) for v in node.inputs]
        subgraphs = [_clone_graph(sub, known, into) for sub in node.subgraphs]
        name = into.fresh_name(node.name)
        nodes.append(Node(node.op, name, inputs, outputs, dict(node.attrs), subgraphs))
    return nodes


def _clone_graph(graph: Graph, known: dict[int, Value | None], into: Graph) -> Graph:
    inputs = []
    for v in graph.inputs:
        copy = Value(into.fresh_name(v.name), v.dtype, v.shape, samples=v.samples)
        known[id(v)] = copy
        inputs.append(copy)
    copy_of = Graph(graph.name, inputs, [], symbols=graph.symbols)
    copy_of.nodes = _clone_nodes(graph, known, into)
    copy_of.outputs = [_mapped(v, known) for v in graph.outputs]
    return copy_of
