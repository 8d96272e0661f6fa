# SPDX-License-Identifier: Apache-2.0
"""Convolutions whose kernels the model computes (mixtures of experts, templates) are matrix products.

Kernels of convolutions want weights packed ahead; products pack theirs as they run.
"""

from __future__ import annotations

import itertools

import numpy as np

from pyneo.compiler.ir.graph import Attr, DType, Graph, Node, Value
from pyneo.compiler.passes.match import constant, is_unfused, producer, replace_by


def computed_kernels(graph: Graph) -> bool:
    """Conv with weights that are no constant: Slices of the image, one for each tap, and a MatMul."""
    changed = False
    for node in list(graph.nodes):
        if node.op != "Conv" or not node.is_static or node.output.dtype is not DType.F32:
            continue
        x, w = node.inputs[0], node.inputs[1]
        if x is None or w is None or w.is_const or len(w.dims) != 4:
            continue
        if 0 in (*x.dims, *w.dims, *node.output.dims):
            continue
        # Quantised weights are the business of other rules.
        if producer(w, "DequantizeLinear") is not None or not is_unfused(node):
            continue
        if node.str_attr("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
            continue
        made = _product(graph, node, x, w)
        replace_by(graph, node, made)
        changed = True
    return changed


def _product(graph: Graph, node: Node, x: Value, w: Value) -> list[Node]:
    made: list[Node] = []

    def numbers(values: list[int]) -> Value:
        return constant(graph, f"{node.name}/numbers", np.array(values, np.int64))

    def add(op: str, inputs: list[Value | None], dims: list[int], attrs: dict[str, Attr]) -> Value:
        y = Value(graph.fresh_name(f"{node.name}/{op.lower()}"), DType.F32, tuple(dims))
        made.append(Node(op, y.name, inputs, [y], attrs))
        return y

    def reshaped(v: Value, dims: list[int]) -> Value:
        return add("Reshape", [v, numbers(dims)], dims, {"allowzero": [1]})

    n, channels, groups = x.dims[0], x.dims[1], node.int_attr("group", 1)
    filters, depth, *window = w.dims
    planes = list(node.output.dims[2:])
    strides = node.ints_attr("strides") or [1, 1]
    dilations = node.ints_attr("dilations") or [1, 1]
    pads = (node.ints_attr("pads") or [0] * 4) if node.str_attr("auto_pad", "NOTSET") == "NOTSET" else [0] * 4
    if any(pads):
        dims = [n, channels, x.dims[2] + pads[0] + pads[2], x.dims[3] + pads[1] + pads[3]]
        x = add("Pad", [x, numbers([0, 0, *pads[:2], 0, 0, *pads[2:]])], dims, {})
    taps: list[Value | None] = []
    for at in itertools.product(*(range(k) for k in window)):
        starts = [t * d for t, d in zip(at, dilations, strict=True)]
        ends = [s + (p - 1) * step + 1 for s, p, step in zip(starts, planes, strides, strict=True)]
        bounds = [numbers(starts), numbers(ends), numbers([2, 3]), numbers(strides)]
        whole = starts == [0, 0] and strides == [1, 1] and tuple(planes) == x.dims[2:]
        tap = x if whole else add("Slice", [x, *bounds], [n, channels, *planes], {})
        taps.append(reshaped(tap, [n, channels, 1, int(np.prod(planes))]))
    size, pixels = len(taps), int(np.prod(planes))
    columns = taps[0] if size == 1 else add("Concat", taps, [n, channels, size, pixels], {"axis": [2]})
    assert columns is not None
    image = reshaped(columns, [n, groups, depth * size, pixels])
    rows = reshaped(w, [groups, filters // groups, depth * size])
    sums = add("MatMul", [rows, image], [n, groups, filters // groups, pixels], {})
    result = reshaped(sums, list(node.output.dims))
    bias = node.input(2)
    if bias is not None:
        add("Add", [result, reshaped(bias, [1, filters, 1, 1])], list(node.output.dims), {})
    return made
