# SPDX-License-Identifier: Apache-2.0
"""Patterns of networks on images: padding apart, kernels beyond the image, group norms, pixel shuffles."""

from __future__ import annotations

import itertools

import numpy as np

from pyneo.compiler.ir.graph import DType, Graph, Node, Value
from pyneo.compiler.passes.match import Readers, constant, producer, split_const

_RESHAPES = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")


def fold_pads(graph: Graph) -> bool:
    """Zeros that Pad puts around an image are the convolution's own padding."""
    changed = False
    for node in graph.nodes:
        if node.op != "Conv" or not node.is_known or node.str_attr("auto_pad", "NOTSET") != "NOTSET":
            continue
        pad = producer(node.inputs[0], "Pad")
        if pad is None or pad.str_attr("mode", "constant") != "constant" or pad.input(3) is not None:
            continue
        x, pads, number = pad.inputs[0], pad.const(1), pad.input(2)
        if x is None or x.shape is None or pads is None or pads.size != 2 * len(x.shape):
            continue
        if number is not None and (number.const is None or np.any(number.const)):
            continue
        rank = len(x.shape)
        around = [int(p) for p in pads.reshape(-1)]
        if any(p < 0 for p in around) or any(around[i] for i in (0, 1, rank, rank + 1)):
            continue
        own = node.ints_attr("pads") or [0] * (2 * (rank - 2))
        more = around[2:rank] + around[rank + 2 :]
        node.attrs = {**node.attrs, "pads": [a + b for a, b in zip(own, more, strict=True)]}
        node.inputs[0] = x
        changed = True
    return changed


def pool_planes(graph: Graph) -> bool:
    """A window as large as the plane is a pool of planes: sums in several parts, and any layout behind it."""
    changed = False
    for node in graph.nodes:
        if node.op not in ("AveragePool", "MaxPool") or len(node.outputs) != 1:
            continue
        x, y = node.inputs[0], node.output
        if x is None or x.shape is None or y.shape is None or any(node.ints_attr("pads") or []):
            continue
        if list(x.shape[2:]) != node.ints_attr("kernel_shape") or any(d != 1 for d in y.shape[2:]):
            continue
        if node.str_attr("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
            continue
        if any(d != 1 for d in node.ints_attr("dilations") or []):
            continue
        node.op, node.attrs = f"Global{node.op}", {}
        changed = True
    return changed


def crop_kernels(graph: Graph) -> bool:
    """Outer rows and columns of a convolution's kernel that meet nothing but padding are dropped.

    Far dilated kernels over small planes: 3x3 with dilation 24 on 14x14 is a pointwise convolution.
    """
    changed = False
    for node in graph.nodes:
        if node.op != "Conv" or not node.is_known or node.str_attr("auto_pad", "NOTSET") != "NOTSET":
            continue
        x, weights = node.inputs[0], node.const(1)
        if x is None or weights is None or x.shape is None or node.output.shape is None:
            continue
        axes = weights.ndim - 2
        sizes = [d for d in [*x.shape[2:], *node.output.shape[2:]] if isinstance(d, int)]  # no open ones
        pads = list(node.ints_attr("pads") or [])
        if len(sizes) != 2 * axes or len(pads) != 2 * axes:
            continue
        strides = node.ints_attr("strides") or [1] * axes
        dilations = node.ints_attr("dilations") or [1] * axes
        cropped = weights
        for i in range(axes):
            taps, step, before, after = weights.shape[2 + i], dilations[i], pads[i], pads[axes + i]
            if max(before, after) < step:
                continue  # a tap is dropped together with the padding that it alone needs
            size, outputs, stride, first, last = sizes[i], sizes[axes + i], strides[i], 0, taps - 1
            while (
                first < last and pads[i] >= step and not _meets(first * step - before, stride, outputs, size)
            ):
                first, pads[i] = first + 1, pads[i] - step
            while first < last and pads[axes + i] >= step:
                if _meets(last * step - before, stride, outputs, size):
                    break
                last, pads[axes + i] = last - 1, pads[axes + i] - step
            cropped = cropped[(slice(None),) * (2 + i) + (slice(first, last + 1),)]
        if cropped.shape == weights.shape:
            continue
        node.inputs[1] = constant(graph, f"{node.name}/weights", np.ascontiguousarray(cropped))
        node.attrs = {**node.attrs, "pads": pads, "kernel_shape": list(cropped.shape[2:])}
        changed = True
    return changed


def _meets(first: int, stride: int, outputs: int, size: int) -> bool:
    """Whether one of so many positions, `stride` apart from `first` on, lies in an image of that size."""
    inside = max(0, -(first // stride))  # the first one not before the image
    return inside < outputs and first + inside * stride < size


# What splitting a convolution must save: multiply-adds, in all and for each one that stays.
_SPLIT_SAVES = 1 << 22
_SPLIT_KEEPS = 0.6


def split_far_taps(graph: Graph) -> bool:
    """Taps of a far dilated kernel that meet only an edge of the image are convolutions of that edge.

    3x3 with dilation 12 on 14x14: the outer rows of taps meet 2 of 14 rows, the outer columns 2 of 14.
    """
    changed = False
    for node in list(graph.nodes):
        parts = _split_taps(graph, node, 2)
        for part in parts or [node]:
            changed |= _split_taps(graph, part, 3) is not None
        changed |= parts is not None
    return changed


def _split_taps(graph: Graph, node: Node, axis: int) -> list[Node] | None:
    """The convolutions that it is now, `node` among them; None if nothing was to be gained."""
    if node.op != "Conv" or not node.is_static or node.str_attr("auto_pad", "NOTSET") != "NOTSET":
        return None
    x, weights, pads = node.inputs[0], node.const(1), node.ints_attr("pads")
    if x is None or weights is None or pads is None or weights.ndim != 4 or node.int_attr("group", 1) != 1:
        return None
    if node.input(3) is not None or node.attrs.get("act") or node.ints_attr("strides") not in (None, [1, 1]):
        return None
    if node.output.dims[axis] != x.dims[axis]:
        return None
    size, taps = x.dims[axis], weights.shape[axis]
    step, before = (node.ints_attr("dilations") or [1, 1])[axis - 2], pads[axis - 2]
    # The rows of the input that each tap meets, and the first row of the output that it adds to.
    starts = [max(0, t * step - before) for t in range(taps)]
    ends = [min(size, size + t * step - before) for t in range(taps)]
    met = sum(e - s for s, e in zip(starts, ends, strict=True))
    work = weights.size * int(np.prod(node.output.dims[2:]))
    whole = [t for t in range(taps) if (starts[t], ends[t]) == (0, size)]
    if len(whole) != 1 or met > _SPLIT_KEEPS * size * taps or work * (1 - met / size / taps) < _SPLIT_SAVES:
        return None
    cuts = sorted({0, size, *starts, *ends})
    if any(cuts.index(ends[t]) - cuts.index(starts[t]) != 1 for t in range(taps) if t not in whole):
        return None  # edges that overlap are no edges
    rows = [b - a for a, b in itertools.pairwise(cuts)]
    shapes = [(*x.dims[:axis], n, *x.dims[axis + 1 :]) for n in rows]
    parts = [Value(graph.fresh_name(f"{node.name}/part"), x.dtype, shape) for shape in shapes]
    lengths = constant(graph, f"{node.name}/rows", np.array(rows, np.int64))
    made = [Node("Split", f"{node.name}/split", [x, lengths], list(parts), {"axis": [axis]})]
    around = [p for i, p in enumerate(pads) if i % 2 != axis - 2]
    flat = {"pads": [0, around[0], 0, around[1]] if axis == 2 else [around[0], 0, around[1], 0]}
    edges: list[Value] = []
    for t in range(taps):
        tap = np.ascontiguousarray(np.take(weights, [t], axis))
        kernel = {**node.attrs, **flat, "kernel_shape": list(tap.shape[2:])}
        if t in whole:
            body, center = kernel, tap
            continue
        part = parts[cuts.index(starts[t])]
        shape = (*node.output.dims[:axis], ends[t] - starts[t], *node.output.dims[axis + 1 :])
        edge = Value(graph.fresh_name(f"{node.name}/edge"), x.dtype, shape)
        made.append(Node("Conv", edge.name, [part, constant(graph, f"{edge.name}/tap", tap)], [edge], kernel))
        first = starts[t] + before - t * step
        frame = [0] * 8
        frame[axis], frame[4 + axis] = first, size - first - (ends[t] - starts[t])
        padded = Value(graph.fresh_name(f"{node.name}/framed"), x.dtype, node.output.dims)
        framed = constant(graph, f"{padded.name}/pads", np.array(frame, np.int64))
        made.append(Node("Pad", padded.name, [edge, framed], [padded]))
        edges.append(padded)
    node.inputs[1] = constant(graph, f"{node.name}/weights", center)
    node.attrs = body
    old, total = node.output, Value(graph.fresh_name(f"{node.name}/center"), x.dtype, node.output.dims)
    node.outputs[0], total.producer = total, node
    sums: list[Node] = []
    for i, edge in enumerate(edges):
        last = i == len(edges) - 1
        v = old if last else Value(graph.fresh_name(f"{node.name}/sum"), x.dtype, old.dims)
        sums.append(Node("Add", f"{node.name}/add{i}" if last else v.name, [total, edge], [v]))
        total = v
    place = graph.nodes.index(node)
    graph.nodes[place : place + 1] = [*made, node, *sums]
    return [node, *(n for n in made if n.op == "Conv")]


def find_group_norm(graph: Graph) -> bool:
    """Reshape to groups, InstanceNormalization, Reshape back [, Mul, Add]: one GroupNormalization."""
    readers = Readers(graph)
    changed = False
    for norm in list(graph.nodes):
        if norm.op != "InstanceNormalization" or not norm.is_known or norm.output.dtype is not DType.F32:
            continue
        found = _grouped(norm, readers)
        if found is None:
            continue
        x, back = found
        groups, channels = norm.output.dims[1], int(x.dims[1])
        scale, shift = norm.const(1), norm.const(2)
        if scale is None or shift is None or channels % groups:
            continue
        # One number for each group is that number for each of its channels.
        gamma, beta = np.repeat(scale, channels // groups), np.repeat(shift, channels // groups)
        last = back
        for op in ("Mul", "Add"):
            user = readers.only(last.output)
            operands = split_const(user) if user is not None and user.op == op and not user.attrs else None
            if user is None or operands is None or operands[0] is not last.output:
                continue
            row = _by_channel(operands[1], x)
            if row is None or user.output.shape != x.shape:
                continue
            gamma, beta = (gamma * row, beta * row) if op == "Mul" else (gamma, beta + row)
            last = user
        last.op = "GroupNormalization"
        last.attrs = {"num_groups": [groups], "epsilon": [norm.float_attr("epsilon", 1e-5)]}
        last.inputs = [
            x,
            constant(graph, f"{norm.name}/scale", gamma.astype(np.float32)),
            constant(graph, f"{norm.name}/shift", beta.astype(np.float32)),
        ]
        readers = Readers(graph)
        changed = True
    return changed


def _grouped(norm: Node, readers: Readers) -> tuple[Value, Node] | None:
    """(x, the Reshape back to x's shape) around a norm over [N, groups, the rest]."""
    split = norm.inputs[0].producer if norm.inputs[0] is not None else None
    back = readers.only(norm.output)
    if split is None or back is None or split.op not in _RESHAPES or back.op not in _RESHAPES:
        return None
    x = split.inputs[0] if split.is_known else None
    if x is None or back.inputs[0] is not norm.output or len(x.dims) < 3 or back.output.shape != x.shape:
        return None
    if x.shape is None or not isinstance(x.shape[1], int):
        return None  # scale and shift get a number for each channel
    whole, grouped = [x.shape], [norm.output.shape]
    if x.samples:
        whole, grouped = [s.shape for s in x.samples], [s.shape for s in norm.output.samples]
    if any(w is None or g is None or w[0] != g[0] for w, g in zip(whole, grouped, strict=True)):
        return None
    if not isinstance(norm.output.dims[1], int) or len({g[1] for g in grouped if g is not None}) != 1:
        return None
    return x, back


def _by_channel(v: Value, x: Value) -> np.ndarray | None:
    """A constant as one number for each channel of x, if it broadcasts so."""
    assert v.const is not None
    rank, channels = len(x.dims), x.dims[1]
    if v.const.ndim > rank:
        return None
    shape = (1,) * (rank - v.const.ndim) + v.const.shape
    if any(d != 1 for i, d in enumerate(shape) if i != 1) or shape[1] not in (1, channels):
        return None
    return np.broadcast_to(v.const.reshape(-1), (channels,))


def shuffle_by_weights(graph: Graph) -> bool:
    """A pixel shuffle behind a convolution: its channels in the order that moves whole blocks of channels.

    DepthToSpace in mode CRD takes the pixels of a square from neighbouring channels, in mode DCR from
    channels far apart. The order of a convolution's outputs is the order of its weights.
    """
    readers = Readers(graph)
    changed = False
    for node in graph.nodes:
        if node.op != "DepthToSpace" or not node.is_known or node.str_attr("mode", "DCR") != "CRD":
            continue
        conv = producer(node.inputs[0], "Conv")
        if conv is None or readers.only(conv.output) is not node or conv.int_attr("group", 1) != 1:
            continue
        weights, bias = conv.const(1), conv.const(2)
        if weights is None or conv.input(3) is not None or (conv.input(2) is not None and bias is None):
            continue
        square = node.int_attr("blocksize", 1) ** 2
        order = np.arange(len(weights)).reshape(-1, square).T.reshape(-1)
        conv.inputs[1] = constant(graph, f"{conv.name}/weights", np.ascontiguousarray(weights[order]))
        if bias is not None:
            conv.inputs[2] = constant(graph, f"{conv.name}/bias", bias[order])
        node.attrs = {**node.attrs, "mode": "DCR"}
        changed = True
    return changed
