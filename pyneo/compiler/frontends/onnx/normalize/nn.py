# SPDX-License-Identifier: Apache-2.0
"""Neural-network operators whose meaning or form changed."""

from __future__ import annotations

import numpy as np

from ....ir.graph import DType
from ..limits import Problem
from .rule import Emitter, Op, ints, rule, scalar


@rule("Softmax", "LogSoftmax", "Hardmax", below=13)
def coerced_softmax(op: Op, b: Emitter) -> bool:
    """Before operator set 13 the input was coerced to a matrix at `axis`, and rows were normalised."""
    x = op.required(0)
    axis = op.take_int("axis", 1)
    last = axis == -1 or (x.shape is not None and axis == len(x.shape) - 1)
    if last:
        op.attrs["axis"] = [-1]
        return False
    (matrix,) = b.emit("Flatten", [x], {"axis": [axis]})
    (rows,) = b.emit(op.type, [matrix], {"axis": [-1]})
    (shape,) = b.emit("Shape", [x])
    b.emit_into("Reshape", [rows, shape], {"allowzero": [1]}, op.outputs)
    return True


@rule("BatchNormalization", below=14)
def inference_batch_norm(op: Op, b: Emitter) -> None:
    """Training came as extra outputs then; a compiled model computes the first one only."""
    if op.version < 9 and op.take_int("spatial", 1) != 1:
        raise Problem("spatial=0 (statistics per pixel) is not supported; retrain or export with spatial=1")
    op.attrs.pop("is_test", None)
    op.outputs = op.outputs[:1]


@rule("Dropout")
def inference_dropout(op: Op, b: Emitter) -> bool:
    """Identity, with a mask that keeps all if one is wanted. Dropout in training mode is left as it is."""
    training = op.input(2)
    if training is not None and op.version >= 12:
        on, ratio = op.const(2), op.const(1)
        if on is None or (bool(on.any()) and (ratio is None or ratio.any())):
            return False
    x = op.required(0)
    b.emit_into("Identity", [x], None, op.outputs[:1])
    mask = op.output(1)
    if mask is not None:
        # Until operator set 12 it was undefined; onnxruntime gives zeros.
        fill = scalar(b, 0.0, x) if op.version < 10 else b.const(np.array(op.version >= 12))
        b.emit_into("ConstantOfShape", [b.emit("Shape", [x])[0], fill], None, [mask])
    return True


@rule("Gemm", below=7)
def gemm_broadcast(op: Op, b: Emitter) -> None:
    op.attrs.pop("broadcast", None)


@rule("LpPool", "GlobalLpPool", below=2)
def lp_order(op: Op, b: Emitter) -> None:
    p = op.take_float("p", 2.0)
    if p != int(p):
        raise Problem(f"attribute 'p' is {p}, expected a whole number")
    op.attrs["p"] = [int(p)]


@rule("GroupNormalization", below=21)
def group_norm_per_channel(op: Op, b: Emitter) -> None:
    """Scale and bias had one entry a group until 21; now one a channel: each is repeated C / groups times."""
    groups = op.attrs.get("num_groups")
    assert isinstance(groups, list)
    (channels,) = b.emit("Shape", [op.required(0)], {"start": [1], "end": [2]})
    number = ints(b, [int(groups[0])])  # type: ignore[arg-type]
    (each,) = b.emit("Div", [channels, number])
    (shape,) = b.emit("Concat", [number, each], {"axis": [0]})
    for i in (1, 2):
        (column,) = b.emit("Unsqueeze", [op.required(i), ints(b, [1])])
        (spread,) = b.emit("Expand", [column, shape])
        (op.inputs[i],) = b.emit("Reshape", [spread, channels])


@rule("RoiAlign", below=16)
def roi_align_offset(op: Op, b: Emitter) -> None:
    op.attrs.setdefault("coordinate_transformation_mode", "output_half_pixel")


@rule("GridSample", below=20)
def grid_sample_modes(op: Op, b: Emitter) -> None:
    names = {"bilinear": "linear", "bicubic": "cubic"}
    mode = op.attrs.get("mode", "bilinear")
    op.attrs["mode"] = names.get(mode, mode) if isinstance(mode, str) else mode


@rule("Scan", below=9)
def batched_scan(op: Op, b: Emitter) -> None:
    raise Problem("Scan of operator set 8 runs over a batch; convert the model to operator set 9 or newer")


@rule("EyeLike", "RandomNormalLike", "RandomUniformLike", "Bernoulli")
def dtype_of_input(op: Op, b: Emitter) -> None:
    like = op.required(0).dtype
    if like is not DType.NONE:
        op.attrs.setdefault("dtype", [int(like)])


@rule("AffineGrid", "DeformConv")
def in_float32(op: Op, b: Emitter) -> bool:
    """The core has them in float32; float64 goes in and comes out by Cast."""
    if op.required(0).dtype is not DType.F64:
        return False
    inputs = [
        v if v is None or v.dtype is not DType.F64 else b.emit("Cast", [v], {"to": [int(DType.F32)]})[0]
        for v in op.inputs
    ]
    (y,) = b.emit(op.type, inputs, op.attrs)
    b.emit_into("Cast", [y], {"to": [int(DType.F64)]}, op.outputs)
    return True
