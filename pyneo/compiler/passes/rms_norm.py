# SPDX-License-Identifier: Apache-2.0
"""x / sqrt(mean(x^2) + eps) [* gamma] over the last axes: one RMSNormalization."""

from __future__ import annotations

import numpy as np

from pyneo.compiler.ir.graph import DType, Graph, Node, Value
from pyneo.compiler.passes.match import Readers, constant, is_scalar, producer, scalar, split_const


def find_rms_norm(graph: Graph) -> bool:
    """Replaces every such chain; True if there was any."""
    readers = Readers(graph)
    changed = False
    for root in list(graph.nodes):
        if root.op != "Sqrt" or root.attrs or not root.is_known or root.output.dtype is not DType.F32:
            continue
        found = _mean_of_squares(root)
        last = _quotient(root, found[0], readers) if found is not None else None
        if found is None or last is None:
            continue
        x, axis, epsilon = found
        width = x.dims[axis:]
        if last.output.shape != x.shape:
            continue  # epsilon has more axes than x
        if x.shape is None or any(not isinstance(d, int) for d in x.shape[axis:]):
            continue
        gamma = np.ones(width, np.float32)
        user = readers.only(last.output)
        operands = split_const(user) if user is not None and user.op == "Mul" and not user.attrs else None
        if user is not None and operands is not None and user.output.shape == x.shape:
            row = operands[1].const
            assert row is not None
            if row.shape[-len(width) :] == width and row.size == gamma.size:
                last, gamma = user, row.reshape(width).copy()
        last.inputs = [x, constant(graph, f"{root.name}/gamma", gamma)]
        last.op, last.attrs = "RMSNormalization", {"axis": [axis - len(x.dims)], "epsilon": [epsilon]}
        readers = Readers(graph)
        changed = True
    return changed


def _mean_of_squares(root: Node) -> tuple[Value, int, float] | None:
    """(x, first axis, epsilon) of sqrt(mean(x^2) + epsilon), the mean over the last axes."""
    plus = producer(root.inputs[0], "Add")
    operands = split_const(plus) if plus is not None and not plus.attrs else None
    epsilon = scalar(operands[1]) if operands is not None else None
    mean = producer(operands[0], "ReduceMean") if operands is not None else None
    axes = mean.const(1) if mean is not None else None
    if mean is None or epsilon is None or axes is None or axes.size == 0 or not mean.int_attr("keepdims", 1):
        return None
    x = _squared(mean.inputs[0])
    if x is None or x.dtype is not DType.F32:
        return None
    rank = len(x.dims)
    over = sorted(int(a) % rank for a in axes.reshape(-1))
    return (x, over[0], epsilon) if over == list(range(over[0], rank)) else None


def _squared(v: Value | None) -> Value | None:
    power = producer(v, "Pow")
    if power is not None:
        return power.inputs[0] if is_scalar(power.input(1), 2.0) else None
    product = producer(v, "Mul")
    if product is None or product.attrs or product.inputs[0] is not product.inputs[1]:
        return None
    return product.inputs[0]


def _quotient(root: Node, x: Value, readers: Readers) -> Node | None:
    """The node that makes x / sqrt, directly or as a product with the reciprocal."""
    user = readers.only(root.output)
    if user is None or user.attrs:
        return None
    if user.op == "Div" and user.inputs[0] is x and user.inputs[1] is root.output:
        return user
    over = user.op == "Reciprocal" or (user.op == "Div" and is_scalar(user.inputs[0], 1.0))
    product = readers.only(user.output) if over else None
    if product is None or product.op != "Mul" or product.attrs or len(product.inputs) != 2:
        return None
    return product if x in product.inputs and user.output in product.inputs else None
