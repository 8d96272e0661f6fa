# SPDX-License-Identifier: Apache-2.0
"""Operators that move or select elements: their parameters went from attributes to inputs over time."""

from __future__ import annotations

import numpy as np

from ..limits import Problem
from .rule import Emitter, Op, ints, rule, scalar


@rule("Squeeze", "Unsqueeze", below=13)
def squeeze_axes(op: Op, b: Emitter) -> None:
    axes = op.take_ints("axes")
    if axes is not None:
        op.set_input(1, ints(b, axes))


@rule("Reshape", below=5)
def reshape_shape(op: Op, b: Emitter) -> None:
    op.attrs.pop("consumed_inputs", None)
    op.set_input(1, ints(b, op.take_ints("shape") or []))


@rule("Tile", below=6)
def tile_along_axis(op: Op, b: Emitter) -> None:
    tiles, axis, x = op.const(1), op.const(2), op.required(0)
    if tiles is None or axis is None or x.shape is None:
        raise Problem(
            "Tile below operator set 6 needs constant operands and a known rank; convert the model "
            "to a newer set"
        )
    repeats = [1] * len(x.shape)
    repeats[int(axis.reshape(-1)[0])] = int(tiles.reshape(-1)[0])
    op.inputs = [x, ints(b, repeats)]


@rule("Slice", below=10)
def slice_bounds(op: Op, b: Emitter) -> None:
    starts, ends, axes = op.take_ints("starts") or [], op.take_ints("ends") or [], op.take_ints("axes")
    op.inputs = [op.required(0), ints(b, starts), ints(b, ends), ints(b, axes) if axes is not None else None]


@rule("Concat", below=4)
def concat_axis(op: Op, b: Emitter) -> None:
    op.attrs.setdefault("axis", [1])


@rule("Split", below=13)
def split_sizes(op: Op, b: Emitter) -> None:
    sizes = op.take_ints("split")
    if sizes:
        op.set_input(1, ints(b, sizes))


@rule("Split")
def split_count(op: Op, b: Emitter) -> None:
    """Equal parts are asked for by number since operator set 18; before, the number of outputs said so."""
    if op.input(1) is None:
        op.attrs.setdefault("num_outputs", [len(op.outputs)])


@rule("Pad", below=11)
def pad_attributes(op: Op, b: Emitter) -> None:
    pads = op.take_ints("pads") or op.take_ints("paddings") or []
    value = op.take_float("value", 0.0)
    op.inputs = [op.required(0), ints(b, pads), scalar(b, value, op.required(0)) if value else None]


@rule("Scatter")
def scatter(op: Op, b: Emitter) -> None:
    op.type = "ScatterElements"


# What rounds x - 0.5 to where the mode rounds x.
_HALF_A_PIXEL_BACK = {"floor": "round_prefer_ceil", "round_prefer_floor": "ceil"}


@rule("Upsample")
def upsample(op: Op, b: Emitter) -> None:
    x = op.required(0)
    scales = op.take_floats("scales")
    if op.version < 7:
        scales = [1.0, 1.0, op.take_float("height_scale", 1.0), op.take_float("width_scale", 1.0)]
    _asymmetric_resize(op, b, np.array(scales, np.float32) if scales is not None else op.const(1))
    op.type = "Resize"
    op.inputs = [x, None, b.const(np.array(scales, np.float32)) if scales is not None else op.required(1)]


@rule("Resize", below=11)
def resize_10(op: Op, b: Emitter) -> None:
    x, factors, scales = op.required(0), op.required(1), op.const(1)
    _asymmetric_resize(op, b, scales)
    if scales is not None and scales.min(initial=1) < 1 < scales.max(initial=1):
        # Axes that shrink are rounded otherwise than those that grow.
        (x,) = b.emit("Resize", [x, None, b.const(np.minimum(scales, 1))], op.attrs)
        factors = b.const(np.maximum(scales, 1))
        op.attrs["nearest_mode"] = "floor"
    op.inputs = [x, None, factors]


def _asymmetric_resize(op: Op, b: Emitter, scales: np.ndarray | None) -> None:
    """Until operator set 10 output pixel i read input pixel i / scale: rounded down when enlarging, and
    rounded up when reducing, as onnxruntime does (the specification was silent)."""
    mode = op.attrs.get("mode", "nearest")
    op.attrs["mode"] = "linear" if mode in ("bilinear", "trilinear") else mode
    op.attrs["coordinate_transformation_mode"] = "asymmetric"
    reducing = scales is not None and bool((scales < 1).any())
    op.attrs["nearest_mode"] = "ceil" if reducing else "floor"


@rule("Resize", below=13)
def resize_tensorflow_nearest(op: Op, b: Emitter) -> None:
    """tf_half_pixel_for_nn, which operator set 13 dropped: half_pixel, but half a pixel farther."""
    if op.attrs.get("coordinate_transformation_mode") == "tf_half_pixel_for_nn":
        nearest = op.attrs.get("nearest_mode", "round_prefer_floor")
        if op.attrs.get("mode", "nearest") == "nearest" and nearest in _HALF_A_PIXEL_BACK:
            op.attrs["coordinate_transformation_mode"] = "half_pixel"
            op.attrs["nearest_mode"] = _HALF_A_PIXEL_BACK[nearest]


@rule("Resize")
def resize_empty_operands(op: Op, b: Emitter) -> None:
    """An absent roi, scales or sizes may be written as an empty tensor."""
    for i in (1, 2, 3):
        v = op.const(i)
        if v is not None and v.size == 0:
            op.inputs[i] = None
