# SPDX-License-Identifier: Apache-2.0
"""Matrix products between transposes, where another form of the product needs none."""

from __future__ import annotations

import numpy as np

from pyneo.compiler.ir.graph import DType, Graph, Node, Value
from pyneo.compiler.passes.match import Readers, constant, has_constant_bias, producer

_FEW = 16  # rows and columns of weights that fill no panel of a product from the right


def is_plain_product(node: Node) -> bool:
    """MatMul by constant weights and bias, nothing fused behind it."""
    weights = node.const(1)
    if node.op != "MatMul" or not node.is_known or node.outputs[0] is None or node.input(3) is not None:
        return False
    if weights is None or weights.ndim != 2 or weights.dtype != np.float32 or weights.size == 0:
        return False
    return not node.attrs.get("act") and has_constant_bias(node)


def order_of(transpose: Node) -> list[int]:
    return transpose.ints_attr("perm") or list(range(len(transpose.output.dims)))[::-1]


def mix_from_the_left(graph: Graph) -> bool:
    """Transpose, MatMul by a few constant columns, Transpose back: one product with the weights on the left.

    Talking heads: a score of each of 4 heads is a mix of the 4 at its place. Rows of 4 fill no vector.
    """
    readers = Readers(graph)
    changed = False
    for product in list(graph.nodes):
        if not is_plain_product(product):
            continue
        turn, back = producer(product.inputs[0], "Transpose"), readers.only(product.output)
        weights = product.const(1)
        assert weights is not None
        if turn is None or back is None or back.op != "Transpose" or max(weights.shape) > _FEW:
            continue
        x = turn.inputs[0]
        there, home = order_of(turn), order_of(back)
        last = len(there) - 1
        if x is None or not x.is_static or [there[p] for p in home] != sorted(there) or there[last] == last:
            continue
        _mix(graph, x, product, back, there[last], readers)
        readers = Readers(graph)
        changed = True
    return changed


def _mix(graph: Graph, x: Value, product: Node, back: Node, axis: int, readers: Readers) -> None:
    weights, bias = product.const(1), product.const(2)
    assert weights is not None
    stem, dims = product.name, x.dims
    columns = weights.shape[1]
    outer, inner = int(np.prod(dims[:axis])), int(np.prod(dims[axis + 1 :]))
    flat = constant(graph, f"{stem}/flat", np.array([outer, dims[axis], inner], np.int64))
    left = constant(graph, f"{stem}/left", np.ascontiguousarray(weights.T))
    wide = constant(graph, f"{stem}/wide", np.array([*dims[:axis], columns, *dims[axis + 1 :]], np.int64))
    rows, mixed = (Value(graph.fresh_name(stem), DType.F32) for _ in range(2))
    made = [
        Node("Reshape", graph.fresh_name(stem), [x, flat], [rows]),
        Node("MatMul", graph.fresh_name(stem), [left, rows], [mixed]),
    ]
    user = readers.only(back.output)
    if user is not None and user.op == "Softmax" and user.int_attr("axis", -1) % len(dims) != axis:
        bias = None  # the same for all numbers of a softmax: it changes nothing
    if bias is not None:
        added = Value(graph.fresh_name(stem), DType.F32)
        column = np.broadcast_to(bias.reshape(-1, 1), (columns, 1)).copy()
        operands: list[Value | None] = [mixed, constant(graph, f"{stem}/bias", column)]
        made.append(Node("Add", graph.fresh_name(stem), operands, [added]))
        mixed = added
    at = graph.nodes.index(back)
    graph.nodes[at:at] = made
    back.op, back.inputs, back.attrs = "Reshape", [mixed, wide], {}
