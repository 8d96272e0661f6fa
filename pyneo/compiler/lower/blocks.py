# SPDX-License-Identifier: Apache-2.0
"""Blocks: neighbouring nodes that one kernel of the target runs together, where it is said to take less time.

A 1x1 convolution and the depthwise one that alone reads its result, with the mean of every plane where it is
asked for, become `PointwiseDepthwise` (csrc/ops/pointwise_depthwise.h): the tensor between them never leaves
the caches.
"""

from __future__ import annotations

import numpy as np

from pyneo.compiler import core
from pyneo.compiler.ir.graph import DType, Graph, Layout, Node, Value
from pyneo.compiler.passes.match import Readers, constant
from pyneo.compiler.targets.target import Target

_WINDOW = ("strides", "pads", "dilations", "auto_pad")


def fuse_blocks(graph: Graph, target: Target) -> None:
    """Makes blocks where the target has a kernel for them. Of fixed planes only: they decide what pays."""
    readers = Readers(graph)
    for wide in list(graph.nodes):
        deep = readers.only(wide.output) if _is_pointwise(wide) else None
        if deep is not None and deep.inputs[0] is wide.output and _is_depthwise(deep):
            _fuse(graph, wide, deep, readers, target)


def _is_pointwise(node: Node) -> bool:
    if node.op != "Conv" or not _fixed_planes(node) or not _plain_epilogue(node):
        return False
    if node.int_attr("group", 1) != 1:
        return False
    weights = node.const(1)
    if weights is None or weights.ndim != 4 or weights.shape[2:] != (1, 1):
        return False
    return node.ints_attr("strides") in (None, [1, 1]) and not any(node.ints_attr("pads") or [])


def _is_depthwise(node: Node) -> bool:
    if node.op != "Conv" or not _fixed_planes(node) or not _plain_epilogue(node):
        return False
    weights = node.const(1)
    return weights is not None and weights.shape[1] == 1 and node.int_attr("group", 1) == weights.shape[0]


def _fixed_planes(node: Node) -> bool:
    """Whether all sizes but the batch are numbers: they decide what pays."""
    shapes = [v.shape for v in [*node.inputs, *node.outputs] if v is not None]
    return all(s is not None and all(isinstance(d, int) for d in s[1:]) for s in shapes)


def _plain_epilogue(node: Node) -> bool:
    """Float32 with constant weights and bias, and nothing behind the activation."""
    bias = node.input(2)
    return (
        node.output.dtype is DType.F32
        and node.input(3) is None
        and not node.attrs.get("post_act")
        and (bias is None or bias.is_const)
    )


def _fuse(graph: Graph, wide: Node, deep: Node, readers: Readers, target: Target) -> None:
    weights = [_flat(node.const(1)) for node in (wide, deep)]
    filters = deep.output.dims[1]
    none = np.zeros(filters, np.float32)
    biases = [none if node.const(2) is None else _flat(node.const(2)) for node in (wide, deep)]
    taps = deep.const(1)
    assert taps is not None
    attrs = {k: v for k, v in deep.attrs.items() if k in _WINDOW or k.startswith("act")}
    attrs |= {f"inner_{k}": v for k, v in wide.attrs.items() if k.startswith("act")}
    attrs |= {"group": [filters], "kernel_shape": list(taps.shape[2:])}
    mean = next((n for n in readers.of(deep.output) if _is_mean(n)), None)
    inputs = [
        wide.inputs[0],
        constant(graph, f"{deep.name}/weights", np.concatenate(weights)),
        constant(graph, f"{deep.name}/biases", np.concatenate(biases)),
    ]
    y = deep.output
    made = (y, *([mean.output] if mean else []))
    outputs = [Value(v.name, v.dtype, v.shape, samples=v.samples) for v in made]
    block = Node("PointwiseDepthwise", deep.name, inputs, list(outputs), attrs)
    apart = [_cost(node, target) for node in (wide, deep, *([mean] if mean else []))]
    if not _cost(block, target) < sum(apart):
        return
    block.outputs = [y, *([mean.output] if mean else [])]
    for v in block.outputs:
        assert v is not None
        v.producer = block
    graph.nodes[graph.nodes.index(deep)] = block
    graph.remove([wide, *([mean] if mean else [])])


def _flat(array: np.ndarray | None) -> np.ndarray:
    assert array is not None
    return array.reshape(-1)


def _is_mean(node: Node) -> bool:
    """The mean of every plane of a value of rank 4, its dims kept."""
    if node.op == "GlobalAveragePool":
        return True
    if node.op != "ReduceMean" or node.int_attr("keepdims", 1) != 1:
        return False
    axes = node.const(1)
    return axes is not None and sorted(int(a) % 4 for a in axes.reshape(-1)) == [2, 3]


def _cost(node: Node, target: Target) -> float:
    """Microseconds of the node's best kernel with activations in the target's blocked layout."""
    operands = [v for v in (node.inputs[0], *node.outputs) if v is not None]
    before = [v.layout for v in operands]
    for v in operands:
        v.layout = Layout(target.block)
    found = core.kernels(node, target.native)
    for v, layout in zip(operands, before, strict=True):
        v.layout = layout
    return found[0].cost_us if found else float("inf")
