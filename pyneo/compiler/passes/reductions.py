# SPDX-License-Identifier: Apache-2.0
"""Reductions that are others with something around them."""

from __future__ import annotations

import numpy as np

from pyneo.compiler.ir.graph import DType, Graph, Node, Value
from pyneo.compiler.passes.match import constant


def write_out_reductions(graph: Graph) -> bool:
    """ReduceLogSumExp, ReduceLogSum and ReduceL1 of floats as what has fast kernels."""
    changed = False
    for node in list(graph.nodes):
        if not node.op.startswith("Reduce") or not node.is_static or node.output.dtype is not DType.F32:
            continue
        x = node.inputs[0]
        assert x is not None
        if node.op not in ("ReduceLogSumExp", "ReduceLogSum", "ReduceL1") or 0 in x.dims:
            continue
        at = graph.nodes.index(node)
        graph.nodes[at : at + 1] = _written_out(graph, node, x)
        changed = True
    return changed


def _written_out(graph: Graph, node: Node, x: Value) -> list[Node]:
    made: list[Node] = []

    def emit(op: str, *inputs: Value | None, out: Value | None = None, keep: bool = False) -> Value:
        stem = f"{node.name}/{op.lower()}"
        attrs = dict(node.attrs) if op.startswith("Reduce") else {}
        if keep:
            attrs["keepdims"] = [1]
        v = out or Value(graph.fresh_name(stem), DType.F32)
        made.append(Node(op, graph.fresh_name(stem), list(inputs), [v], attrs))
        return v

    axes = node.inputs[1:]
    if node.op == "ReduceL1":
        emit("ReduceSum", emit("Abs", x), *axes, out=node.output)
    elif node.op == "ReduceLogSum":
        emit("Log", emit("ReduceSum", x, *axes), out=node.output)
    else:
        # Less the largest, which is held finite: of infinite ones the sum makes what it should.
        most = np.finfo(np.float32).max
        limits = [constant(graph, f"{node.name}/limit", np.array(v, np.float32)) for v in (-most, most)]
        top = emit("Clip", emit("ReduceMax", x, *axes, keep=True), *limits)
        total = emit("ReduceSum", emit("Exp", emit("Sub", x, top)), *axes, keep=True)
        whole = emit("Add", emit("Log", total), top)
        shape = constant(graph, f"{node.name}/shape", np.array(node.output.dims, np.int64))
        emit("Reshape", whole, shape, out=node.output)
    return made
