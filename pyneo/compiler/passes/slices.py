# SPDX-License-Identifier: Apache-2.0
"""Slices that take a tensor apart are one Split, which other rules know and which often copies nothing."""

from __future__ import annotations

import numpy as np

from pyneo.compiler.ir.graph import Graph, Node, Value
from pyneo.compiler.passes.match import Readers, constant


def slices_to_split(graph: Graph) -> bool:
    """All Slices of a tensor along an axis, each beginning where another one ends: one Split."""
    readers = Readers(graph)
    changed = False
    for x in list(graph.values()):
        if not x.is_static or x.is_const:
            continue
        found: dict[int, list[tuple[int, int, Node]]] = {}
        for node in readers.of(x):
            run = slice_run(node) if node.inputs[0] is x else None
            if run is not None:
                found.setdefault(run[0], []).append((*run[1:], node))
        for axis, runs in found.items():
            runs.sort(key=lambda r: r[:2])
            ends = [0, *(end for _, end, _ in runs)]
            if len(runs) < 2 or [r[0] for r in runs] != ends[:-1] or ends[-1] != x.dims[axis]:
                continue
            lengths = np.array([end - first for first, end, _ in runs], np.int64)
            nodes = [node for _, _, node in runs]
            outputs: list[Value | None] = [n.output for n in nodes]
            name = graph.fresh_name(f"{nodes[0].name}/split")
            split = Node("Split", name, [x, constant(graph, name, lengths)], outputs, {"axis": [axis]})
            graph.nodes[min(graph.nodes.index(n) for n in nodes)] = split
            graph.remove(nodes)
            changed = True
            break
    return changed


def slice_run(node: Node) -> tuple[int, int, int] | None:
    """(axis, first, end) of a Slice of fixed size along one axis, one element after the other."""
    if node.op != "Slice" or not node.is_static or len(node.outputs) != 1:
        return None
    x, y = node.inputs[0], node.output
    starts, axes, steps = node.const(1), node.const(3), node.const(4)
    if x is None or starts is None or starts.size != 1 or (node.input(3) is not None and axes is None):
        return None
    if (node.input(4) is not None and steps is None) or (
        steps is not None and int(steps.reshape(-1)[0]) != 1
    ):
        return None
    axis = 0 if axes is None else int(axes.reshape(-1)[0]) % len(x.dims)
    size, start = x.dims[axis], int(starts.reshape(-1)[0])
    first = min(max(start + size if start < 0 else start, 0), size)
    return axis, first, first + y.dims[axis]
