# SPDX-License-Identifier: Apache-2.0
"""Dead code: nodes nothing reads."""

from __future__ import annotations

from pyneo.compiler.ir.graph import Graph, captured, with_parts


def remove_dead(graph: Graph) -> bool:
    """Removes nodes none of whose outputs reach a graph output; drops unread optional outputs."""
    needed = {id(v) for v in with_parts(graph.outputs)}
    dead = []
    for node in reversed(graph.nodes):
        if any(v is not None and id(v) in needed for v in node.outputs):
            needed.update(id(v) for v in with_parts([*node.inputs, *captured(node)]))
        else:
            dead.append(node)
    graph.remove(dead)
    return bool(dead)
