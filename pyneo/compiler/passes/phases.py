# SPDX-License-Identifier: Apache-2.0
"""Operators over two and three axes, rewritten where their kernels leave lanes or whole axes idle.

A transposed convolution of stride s computes s outputs along each axis from the same few inputs: it is a
convolution of stride 1 with a filter for each of them (its phases), and a shuffle (Shi et al.: "Is the
deconvolution layer the same as a convolutional layer?", 2016).
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from pyneo.compiler.ir.graph import Attr, DType, Graph, Node, Value
from pyneo.compiler.passes.linear import MANY_WEIGHTS
from pyneo.compiler.passes.match import constant, has_constant_bias, is_unfused, replace_by, take_output

# Few outputs leave most lanes of a vector idle; with all phases side by side they fill about one.
_LANES = 16
_FEWEST_CHANNELS = 8  # of an input whose products fill vectors; below, first layers have kernels of their own


def split_phases(graph: Graph) -> bool:
    """ConvTranspose over three axes, or with few outputs, as Conv and a shuffle; of one pixel, as MatMul."""
    changed = False
    for node in list(graph.nodes):
        weights = node.const(1) if node.op == "ConvTranspose" and node.is_static else None
        if weights is None or node.output.dtype is not DType.F32 or not _plain(node):
            continue
        axes = weights.ndim - 2
        x = node.inputs[0]
        many = axes == 3 or weights.size >= MANY_WEIGHTS
        many = many and min(node.ints_attr("pads") or [0]) >= 0
        if many and x is not None and all(d == 1 for d in x.dims[2:]):
            _spread(graph, node, weights)
            changed = True
            continue
        strides = node.ints_attr("strides") or [1] * axes
        phases = int(np.prod(strides))
        square = axes == 2 and strides[0] == strides[1]
        if axes != 3 and (phases == 1 or not square or weights.shape[1] * phases > _LANES):
            continue
        _split(graph, node, weights, strides)
        changed = True
    return changed


def widen_outputs(graph: Graph) -> bool:
    """Conv of a large kernel with few outputs: squares of neighbouring pixels as channels, and a shuffle."""
    changed = False
    for node in list(graph.nodes):
        weights = node.const(1) if node.op == "Conv" and node.is_static else None
        if weights is None or weights.ndim != 4 or node.output.dtype is not DType.F32 or not _plain(node):
            continue
        outputs, channels, *window = weights.shape
        if channels < _FEWEST_CHANNELS or any(s != 1 for s in node.ints_attr("strides") or []):
            continue
        sizes = node.output.dims[2:]
        taps = 4.5 if window == [3, 3] else float(np.prod(window))  # Winograd's share of nine
        gains = {1: 1 / outputs / taps}  # results of a multiply-add of a whole vector
        for block in (2, 4):
            whole = outputs * block * block <= _LANES and all(n % block == 0 for n in sizes)
            wide = float(np.prod([k + block - 1 for k in window]))
            gains[block] = block * block / outputs / wide if whole else 0
        block = max(gains, key=lambda b: gains[b])
        if gains[block] >= 2 * gains[1]:
            _widen(graph, node, weights, block)
            changed = True
    return changed


def _widen(graph: Graph, node: Node, weights: np.ndarray, block: int) -> None:
    outputs, channels, *window = weights.shape
    wide = np.zeros((block, block, outputs, channels, *(k + block - 1 for k in window)), np.float32)
    for r, c in itertools.product(range(block), repeat=2):
        wide[r, c, :, :, r : r + window[0], c : c + window[1]] = weights
    filters = wide.reshape(-1, *wide.shape[3:])
    inputs: list[Value | None] = [node.inputs[0], constant(graph, f"{node.name}/weights", filters)]
    bias = node.const(2)
    if bias is not None:
        inputs.append(constant(graph, f"{node.name}/bias", np.tile(bias, block * block)))
    n, _, height, width = node.output.dims
    dims = (n, len(filters), height // block, width // block)
    conv = Value(graph.fresh_name(f"{node.name}/squares"), DType.F32, dims)
    attrs: dict[str, Attr] = {"pads": node.ints_attr("pads") or [0] * 4, "strides": [block, block]}
    made = [
        Node("Conv", conv.name, inputs, [conv], attrs),
        Node("DepthToSpace", f"{node.name}/apart", [conv], [None], {"blocksize": [block]}),
    ]
    replace_by(graph, node, made)


def _plain(node: Node) -> bool:
    if not is_unfused(node) or not has_constant_bias(node):
        return False
    if node.attrs.get("output_shape") or 0 in node.output.dims:
        return False
    fixed = node.str_attr("auto_pad", "NOTSET") == "NOTSET" and node.int_attr("group", 1) == 1
    return fixed and all(d == 1 for d in node.ints_attr("dilations") or [])


def _spread(graph: Graph, node: Node, weights: np.ndarray) -> None:
    """One pixel: a position of the output gets one tap, whatever the strides, or none."""
    x, y = node.inputs[0], node.output
    assert x is not None
    sizes = y.dims[2:]
    pads = (node.ints_attr("pads") or [0] * len(sizes))[: len(sizes)]
    wide = np.zeros((*weights.shape[:2], *sizes), np.float32)
    seen: Any = (..., *(slice(p, p + n) for p, n in zip(pads, sizes, strict=True)))
    part = weights[seen]
    wide[tuple(slice(n) for n in part.shape)] = part
    row = Value(graph.fresh_name(f"{node.name}/row"), y.dtype, x.dims[:2])
    sums = Value(graph.fresh_name(f"{node.name}/sums"), y.dtype, (x.dims[0], wide[0].size))
    inputs: list[Value | None] = [row, constant(graph, f"{node.name}/weights", wide.reshape(len(wide), -1))]
    bias = node.const(2)
    if bias is not None:
        inputs.append(constant(graph, f"{node.name}/bias", np.repeat(bias, int(np.prod(sizes)))))
    whole = Value(graph.fresh_name(f"{node.name}/whole"), y.dtype, y.dims)
    made = [
        _reshape(graph, x, row),
        Node("MatMul", node.name, inputs, [sums]),
        _reshape(graph, sums, whole),
    ]
    replace_by(graph, node, made)


def _taps(taps: int, stride: int, before: int, after: int) -> tuple[int, list[list[int]]]:
    """(padding in front, for each phase the tap that meets each position of the window, or -1).

    Output s q + r gets tap t of input i where i s + t = s q + r + before.
    """
    of = {}
    for r in range(stride):
        for t in range((r + before) % stride, taps, stride):
            of[r, (r + before - t) // stride] = t
    low, high = min(0, *(i for _, i in of)), max(after, *(i for _, i in of))
    return -low, [[of.get((r, i), -1) for i in range(low, high + 1)] for r in range(stride)]


def _split(graph: Graph, node: Node, weights: np.ndarray, strides: list[int]) -> None:
    x, y = node.inputs[0], node.output
    assert x is not None
    axes, outputs = len(strides), weights.shape[1]
    sizes = y.dims[2:]
    planes = tuple(-(-size // s) for size, s in zip(sizes, strides, strict=True))
    pads = (node.ints_attr("pads") or [0] * axes)[:axes]
    # A window's end must not lie before the image's: positions that read nothing follow then.
    rest = [x.dims[2 + i] - planes[i] for i in range(axes)]
    tables = [_taps(weights.shape[2 + i], strides[i], pads[i], rest[i]) for i in range(axes)]
    before = [low for low, _ in tables]
    windows = [len(table[0]) for _, table in tables]
    behind = [windows[i] - 1 - before[i] - rest[i] for i in range(axes)]
    phases = list(itertools.product(*(range(s) for s in strides)))
    to: Any
    of: Any
    wide = np.zeros((len(phases), outputs, weights.shape[0], *windows), np.float32)
    for p, phase in enumerate(phases):
        for at in itertools.product(*(range(w) for w in windows)):
            taps = [tables[i][1][phase[i]][at[i]] for i in range(axes)]
            if min(taps) >= 0:
                to, of = (..., *at), (..., *taps)
                wide[p][to] = weights[of].T
    filters = wide.reshape(len(phases) * outputs, weights.shape[0], *windows)
    inputs: list[Value | None] = [x, constant(graph, f"{node.name}/weights", filters)]
    bias = node.const(2)
    if bias is not None:
        inputs.append(constant(graph, f"{node.name}/bias", np.tile(bias, len(phases))))
    conv = Value(graph.fresh_name(f"{node.name}/phases"), y.dtype, (y.dims[0], len(filters), *planes))
    made = [Node("Conv", conv.name, inputs, [conv], {"pads": [*before, *behind]})]
    dims = (*y.dims[:2], *(n * s for n, s in zip(planes, strides, strict=True)))
    whole = Value(graph.fresh_name(f"{node.name}/whole"), y.dtype, dims)
    if axes == 2:
        made.append(Node("DepthToSpace", whole.name, [conv], [whole], {"blocksize": [strides[0]]}))
    else:
        seen = (y.dims[0], *strides, outputs, *planes)
        apart = Value(graph.fresh_name(f"{node.name}/apart"), y.dtype, seen)
        perm = [0, 1 + axes, *itertools.chain(*((2 + axes + i, 1 + i) for i in range(axes)))]
        turned = Value(graph.fresh_name(f"{node.name}/turned"), y.dtype, tuple(seen[i] for i in perm))
        made.append(_reshape(graph, conv, apart))
        made.append(Node("Transpose", turned.name, [apart], [turned], {"perm": perm}))
        made.append(_reshape(graph, turned, whole))
    if dims != y.dims:
        numbers = (np.zeros(axes), np.array(sizes), np.arange(2, 2 + axes))
        bounds = [constant(graph, f"{node.name}/{i}", n.astype(np.int64)) for i, n in enumerate(numbers)]
        made.append(Node("Slice", f"{node.name}/crop", [whole, *bounds], [None]))
    replace_by(graph, node, made)


def _reshape(graph: Graph, x: Value, y: Value) -> Node:
    shape = constant(graph, f"{y.name}/shape", np.array(y.dims, np.int64))
    return Node("Reshape", y.name, [x, shape], [y], {"allowzero": [1]})


def split_volumes(graph: Graph) -> bool:
    """Resize of a volume: its planes, then its depth. Linear and nearest interpolation go axis by axis."""
    changed = False
    for node in list(graph.nodes):
        x = node.input(0)
        if node.op != "Resize" or not node.is_static or x is None or len(x.dims) != 5:
            continue
        scales, sizes, y = node.const(2), node.const(3), node.output
        given = scales if node.input(2) is not None and scales is not None and scales.size else sizes
        if given is None or given.size != 5 or x.dims[:2] != y.dims[:2] or node.attrs.get("axes"):
            continue
        if node.str_attr("mode", "nearest") not in ("nearest", "linear") or node.int_attr("antialias", 0):
            continue
        if node.str_attr("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
            continue
        if node.str_attr("keep_aspect_ratio_policy", "stretch") != "stretch":
            continue
        n, c, d, h, w = x.dims
        depth, height, width = y.dims[2:]
        flat = height * width
        place, at = graph.nodes.index(node), x
        for seen, wanted, numbers in (
            ((n, c * d, h, w), (n, c * d, height, width), (given[3], given[4])),
            ((n, c, d, flat), (n, c, depth, flat), (given[2], 1 if given is scales else flat)),
        ):
            plane = Value(graph.fresh_name(f"{node.name}/plane"), y.dtype, seen)
            done = Value(graph.fresh_name(f"{node.name}/resized"), y.dtype, wanted)
            front = (1, 1) if given is scales else wanted[:2]
            bounds = constant(graph, f"{done.name}/given", np.array([*front, *numbers], given.dtype))
            resize = Node("Resize", done.name, [plane, None], [done], dict(node.attrs))
            resize.inputs += [bounds] if given is scales else [None, bounds]
            graph.nodes[place:place] = [_reshape(graph, at, plane), resize]
            place, at = place + 2, done
        last = Value(graph.fresh_name(f"{node.name}/volume"), y.dtype, y.dims)
        graph.nodes.insert(place, _reshape(graph, at, last))
        take_output(graph, graph.nodes[place], node)
        graph.remove([node])
        changed = True
    return changed
