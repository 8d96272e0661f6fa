# SPDX-License-Identifier: Apache-2.0
"""Grouped convolutions whose groups do not fill the target's channel blocks get groups that do.

Several groups become one, with zeros for each other's channels. Where their number does not divide, channels
of zeros are added, from the convolutions that make them to those that read them: blocks have room for them.
"""

from __future__ import annotations

import math

import numpy as np

from pyneo.compiler.ir.graph import DType, Graph, Node, Value
from pyneo.compiler.passes.match import Readers, constant, has_constant_bias
from pyneo.compiler.targets.target import Target

# Multiply-adds with zeros cost at most so many times the others: a kernel without blocks takes longer.
_MOST_MERGED = 4
# What is finite at zero, channel by channel.
_BY_CHANNEL = (
    "Relu", "LeakyRelu", "Clip", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Elu", "Swish", "Gelu",
    "Mish", "Softplus", "Mul", "Add", "GlobalAveragePool", "GlobalMaxPool", "AveragePool", "MaxPool",
)  # fmt: skip


def fill_blocks(graph: Graph, target: Target) -> None:
    """Changes weights and group counts of such convolutions."""
    for node in list(graph.nodes):
        weights = node.const(1) if node.op == "Conv" and node.is_known else None
        if weights is None or weights.dtype != np.float32 or not has_constant_bias(node):
            continue
        groups, width, filters = node.int_attr("group", 1), weights.shape[1], weights.shape[0]
        own = filters // groups
        merged = math.lcm(width, own, target.block) // min(width, own)
        if groups == 1 or width == 1 or merged == 1 or merged > _MOST_MERGED or width != own:
            continue
        if groups % merged and not _widen(graph, node, -groups % merged * width):
            continue
        if target.block % width:  # else the kernels merge by themselves
            _merge(graph, node, merged)


def _merge(graph: Graph, node: Node, merged: int) -> None:
    weights = node.const(1)
    assert weights is not None
    groups, width = node.int_attr("group", 1), weights.shape[1]
    own = weights.shape[0] // groups
    wide = np.zeros((weights.shape[0], width * merged, *weights.shape[2:]), np.float32)
    for g in range(groups):
        rows, at = slice(g * own, (g + 1) * own), g % merged * width
        wide[rows, at : at + width] = weights[rows]
    node.inputs[1] = constant(graph, f"{node.name}/weights", wide)
    node.attrs = {**node.attrs, "group": [groups // merged]}


def _widen(graph: Graph, start: Node, more: int) -> bool:
    """Adds `more` channels of zeros before and behind `start`; False where something else would see them."""
    if graph.is_dynamic or any(n.subgraphs for n in graph.nodes):
        return False
    readers = Readers(graph)
    channels = start.output.dims[1]
    wide: dict[Value, None] = {}
    nodes: dict[Node, None] = {}
    todo = [start]
    while todo:
        node = todo.pop()
        if node in nodes:
            continue
        found = _touched(node, start, wide, channels)
        if found is None:
            return False
        nodes[node] = None
        for v in found:
            if v in wide:
                continue
            if v.producer is None or readers.is_output(v) or v.dtype is not DType.F32:
                return False
            wide[v] = None
            todo += [v.producer, *readers.of(v)]
            # What was looked at before may read v as well.
            for n in readers.of(v):
                nodes.pop(n, None)
    for node in nodes:
        if node.op == "Conv":
            _pad(graph, node, node.inputs[0] in wide, node.output in wide, more)
    for v in wide:
        assert v.shape is not None
        v.shape = (v.shape[0], channels + more, *v.shape[2:])
    return True


def _touched(node: Node, start: Node, wide: dict[Value, None], channels: int) -> list[Value] | None:
    """Values of the node that are wide if it is; None if it cannot be."""
    x, y = node.inputs[0], node.output
    if any(v is not None for v in node.outputs[1:]) or x is None or not node.is_static:
        return None
    if node.op == "Conv":
        weights, residual = node.const(1), node.input(3)
        if weights is None or not has_constant_bias(node):
            return None
        groups = node.int_attr("group", 1)
        if groups == 1:
            behind = y in wide or residual in wide
            ends = [v for v in (y, residual) if v is not None] if behind else []
            return ends + ([x] if x in wide else [])
        alike = groups == start.int_attr("group", 1) or weights.shape[1] == 1
        if not alike or x.dims[1] != channels or weights.shape[0] != channels:
            return None
        return [v for v in (x, y, residual) if v is not None]
    if node.op == "ReduceMean":
        axes = node.const(1)
        spatial = axes is not None and np.all(np.where(axes < 0, axes + len(x.dims), axes) > 1)
        return [x, y] if spatial and node.int_attr("keepdims", 1) and x.dims[1] == channels else None
    operands = [v for v in [*node.inputs, y] if v is not None]
    values = [v for v in operands if v.const is None or v.const.size != 1]
    if node.op not in _BY_CHANNEL or any(v.is_const for v in values):
        return None
    return values if all(len(v.dims) > 2 and v.dims[1] == channels for v in values) else None


def _pad(graph: Graph, node: Node, inputs: bool, outputs: bool, more: int) -> None:
    weights, bias = node.const(1), node.const(2)
    assert weights is not None
    groups = node.int_attr("group", 1)
    taps = [(0, 0)] * (weights.ndim - 2)
    if groups > 1:
        node.attrs = {**node.attrs, "group": [groups + more // weights.shape[1]]}
    padded = np.pad(weights, [(0, more * outputs), (0, more * (inputs and groups == 1)), *taps])
    node.inputs[1] = constant(graph, f"{node.name}/weights", padded)
    if bias is not None and outputs:
        node.inputs[2] = constant(graph, f"{node.name}/bias", np.pad(bias, (0, more)))
