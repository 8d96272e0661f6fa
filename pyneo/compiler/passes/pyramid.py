# SPDX-License-Identifier: Apache-2.0
"""Pointwise convolutions commute with what resizes an image, and two of them are one.

Heads of segmentation networks bring the stages of a pyramid to one size, put them side by side and mix the
channels. Mixed before they grow, there are fewer pixels to mix.
"""

from __future__ import annotations

import math

import numpy as np

from pyneo.compiler.ir.graph import DType, Graph, Node, Value
from pyneo.compiler.passes.match import (
    Readers,
    activations,
    constant,
    has_constant_bias,
    is_unfused,
    producer,
    replace_by,
)

# What is saved and paid, in microseconds: multiply-adds, elements of a sum, elements of a resize.
_US_PER_PRODUCT = 2e-5
_US_PER_SUM = 1.2e-3
_US_PER_RESIZED = 1e-3
_GAIN = 1.5


def mix_before_resize(graph: Graph) -> bool:
    """Pointwise Conv of a Resize, or of a Concat with some: convolutions before the Resizes, and a sum."""
    readers = Readers(graph)
    changed = False
    for conv in list(graph.nodes):
        if not _is_pointwise(conv) or not is_unfused(conv):
            continue
        whole = conv.inputs[0]
        concat = producer(whole, "Concat")
        parts = [whole]
        if concat is not None:
            if concat.int_attr("axis", 0) % 4 != 1 or readers.only(concat.output) is not conv:
                continue
            parts = list(concat.inputs)
        if len({id(v) for v in parts}) < len(parts):
            continue
        taken = [_resized(v, readers, conv, len(parts) > 1) for v in parts]
        if any(n is not None for n in taken) and _rewrite(graph, conv, parts, taken):
            readers = Readers(graph)
            changed = True
    return changed


def _is_pointwise(node: Node) -> bool:
    """Conv of one pixel with constant weights and bias, float32 over images of known size."""
    weights = node.const(1)
    if node.op != "Conv" or weights is None or weights.dtype != np.float32 or weights.ndim != 4:
        return False
    if weights.shape[2:] != (1, 1) or node.int_attr("group", 1) != 1 or not node.is_static:
        return False
    if node.ints_attr("strides") not in (None, [1, 1]) or any(node.ints_attr("pads") or []):
        return False
    return has_constant_bias(node)


def _resized(v: Value | None, readers: Readers, conv: Node, summed: bool) -> Node | None:
    """The Resize of planes behind v, if mixing its input instead is worth a sum."""
    resize = producer(v, "Resize")
    if resize is None or v is None or not resize.is_static or readers.only(v) is None:
        return None
    x = resize.inputs[0]
    if x is None or x.dims[:2] != v.dims[:2] or x.dtype is not DType.F32:
        return None
    if resize.str_attr("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        return None
    if resize.attrs.get("axes") or any(i is not None and i.const is None for i in resize.inputs[1:]):
        return None
    if resize.str_attr("keep_aspect_ratio_policy", "stretch") != "stretch":
        return None
    outputs, channels, pixels = conv.output.dims[1], v.dims[1], math.prod(v.dims[2:])
    saved = outputs * channels * (pixels - math.prod(x.dims[2:])) * _US_PER_PRODUCT
    paid = pixels * (outputs * _US_PER_SUM * summed + (outputs - channels) * _US_PER_RESIZED)
    return resize if saved > 0 and saved > _GAIN * paid else None


def _rewrite(graph: Graph, conv: Node, parts: list[Value | None], taken: list[Node | None]) -> bool:
    weights, bias, stem = conv.const(1), conv.input(2), conv.name
    assert weights is not None
    rest = [v for v, n in zip(parts, taken, strict=True) if n is None]
    # Where nothing else adds the bias it passes a Resize, whose weights must add up to 1.
    late = bias is not None and not rest
    first = next(n for n in taken if n is not None)
    if late and first.str_attr("mode", "nearest") not in ("nearest", "linear"):
        return False
    made: list[Node] = []

    def add(op: str, inputs: list[Value | None], like: Node | None = None) -> Value:
        y = Value(graph.fresh_name(stem), DType.F32)
        made.append(Node(op, graph.fresh_name(stem), inputs, [y], dict(like.attrs) if like else {}))
        return y

    total: Value | None = None
    kept: list[np.ndarray] = []
    at = 0
    for v, resize in zip(parts, taken, strict=True):
        assert v is not None
        some = np.ascontiguousarray(weights[:, at : at + v.dims[1]])
        at += v.dims[1]
        if resize is None:
            kept.append(some)
            continue
        operands = [resize.inputs[0], constant(graph, f"{stem}/part", some)]
        mixed = add("Conv", [*operands, bias] if late and resize is first else operands, conv)
        sizes = [_for_channels(graph, i, len(weights)) for i in resize.inputs[1:]]
        grown = add("Resize", [mixed, *sizes], resize)
        total = grown if total is None else add("Add", [total, grown])
    if rest:
        x = rest[0] if len(rest) == 1 else add("Concat", rest)
        if len(rest) > 1:
            made[-1].attrs = {"axis": [1]}
        joined = constant(graph, f"{stem}/rest", np.concatenate(kept, 1))
        add("Add", [add("Conv", [x, joined, *([] if bias is None else [bias])], conv), total])
    replace_by(graph, conv, made)
    return True


def _for_channels(graph: Graph, v: Value | None, channels: int) -> Value | None:
    """Sizes of a Resize for so many channels; other operands as they are."""
    if v is None or v.const is None or v.dtype is not DType.I64:
        return v
    sizes = v.const.copy()
    sizes[1] = channels
    return constant(graph, f"{v.name}/sizes", sizes)


def merge_pointwise(graph: Graph) -> bool:
    """Conv whose result only a pointwise Conv reads: one Conv, where that multiplies less."""
    readers = Readers(graph)
    changed = False
    for conv in list(graph.nodes):
        first = producer(conv.inputs[0], "Conv") if _is_pointwise(conv) else None
        if first is None or not is_unfused(first) or readers.only(first.output) is not conv:
            continue
        inner, outer = first.const(1), conv.const(1)
        if inner is None or outer is None or inner.dtype != np.float32 or not has_constant_bias(first):
            continue
        depth = int(np.prod(inner.shape[1:]))  # products for an output of the first
        if first.int_attr("group", 1) != 1 or depth * len(outer) > len(inner) * (depth + len(outer)):
            continue
        mix = outer.reshape(outer.shape[:2]).astype(np.float64)
        merged = np.tensordot(mix, inner.astype(np.float64), 1)
        inner_bias, bias = first.const(2), conv.const(2)
        shift = np.zeros(len(outer)) if bias is None else bias.astype(np.float64)
        if inner_bias is not None:
            shift = shift + mix @ inner_bias.astype(np.float64)
        weights = constant(graph, f"{conv.name}/merged", merged.astype(np.float32))
        shifted = constant(graph, f"{conv.name}/shift", shift.astype(np.float32))
        conv.inputs = [first.inputs[0], weights, shifted, *conv.inputs[3:]]
        conv.attrs = {**first.attrs, **activations(conv)}
        graph.remove([first])
        readers = Readers(graph)
        changed = True
    return changed
