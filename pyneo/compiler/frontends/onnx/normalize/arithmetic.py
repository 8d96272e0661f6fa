# SPDX-License-Identifier: Apache-2.0
"""Elementwise operators, reductions and casts."""

from __future__ import annotations

import numpy as np

from ....ir.graph import DType, Value
from ..limits import Problem
from ..tensors import NARROW, Narrow, element_type, type_name
from .rule import Emitter, Op, ints, rule, scalar

_BINARY = ("Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Greater", "Less")


def align_at(b: Emitter, x: Value, y: Value, axis: int) -> Value:
    """`y` with ones appended to its shape so that numpy broadcasting lines it up with axis `axis` of `x`.

    Nothing needs to be known of x: the number of ones is computed from its shape.
    """
    if y.shape is None:
        raise Problem(
            f"it broadcasts {y.name!r} along axis {axis} by the rules of operator sets below 7, "
            "which needs that "
            "input's rank; convert the model with onnx.version_converter"
        )
    rank = len(y.shape)
    (tail,) = b.emit(
        "Shape", [x], {"start": [axis + rank]} if axis >= 0 or axis + rank < 0 else {"start": [1 << 30]}
    )
    one = b.const(np.array(1, np.int64))
    (ones,) = b.emit("Min", [b.emit("Max", [tail, one])[0], one])
    (own,) = b.emit("Shape", [y])
    (shape,) = b.emit("Concat", [own, ones], {"axis": [0]})
    return b.emit("Reshape", [y, shape])[0]


@rule(*_BINARY, below=7)
def legacy_broadcast(op: Op, b: Emitter) -> None:
    broadcast = op.take_int("broadcast", 0)
    axis = op.take_ints("axis")
    op.attrs.pop("consumed_inputs", None)
    if broadcast and axis:
        op.inputs[1] = align_at(b, op.required(0), op.required(1), axis[0])


@rule("Abs", "BatchNormalization", "Ceil", "Clip", "Dropout", "Elu", "Exp", "Floor", "HardSigmoid",
      "InstanceNormalization", "LeakyRelu", "Log", "Max", "Mean", "Min", "Neg", "PRelu", "Reciprocal", "Relu",
      "Selu", "Sigmoid", "Sqrt", "Sum", "Tanh", below=6)  # fmt: skip
def consumed_inputs(op: Op, b: Emitter) -> None:
    op.attrs.pop("consumed_inputs", None)


@rule("PRelu", below=7)
def prelu_slope(op: Op, b: Emitter) -> None:
    """Before operator set 7 the slope was one number or one per channel."""
    slope = op.required(1)
    if slope.shape is not None and len(slope.shape) == 1 and slope.shape[0] != 1:
        op.inputs[1] = align_at(b, op.required(0), slope, 1)


@rule("Sum", "Mean", "Max", "Min")
def single_operand(op: Op, b: Emitter) -> bool:
    if len(op.inputs) != 1:
        return False
    b.emit_into("Identity", op.inputs, None, op.outputs)
    return True


@rule("Clip", below=11)
def clip_bounds(op: Op, b: Emitter) -> None:
    for i, name in ((1, "min"), (2, "max")):
        bound = op.take_floats(name)
        if bound:
            op.set_input(i, scalar(b, bound[0], op.required(0)))


@rule("Cast", below=6)
def cast_by_name(op: Op, b: Emitter) -> None:
    name = op.take_str("to", "")
    names = {"float": DType.F32, "double": DType.F64}
    target = names.get(name.lower()) or DType.__members__.get(_short(name))
    if target is None:
        raise Problem(f"attribute 'to' is {name!r}, which names no element type")
    op.attrs["to"] = [int(target)]


def _short(name: str) -> str:
    """ONNX's INT64 is I64 here."""
    return name.upper().replace("UINT", "U").replace("INT", "I").replace("BFLOAT", "BF").replace("FLOAT", "F")


@rule("Cast")
def cast_target(op: Op, b: Emitter) -> None:
    target = op.attrs.get("to")
    assert isinstance(target, list)
    number = int(target[0])  # type: ignore[arg-type]
    if element_type(number) != number:
        raise Problem(f"it casts to {type_name(number)}, which has no arithmetic in pyneo; use int8 or uint8")
    op.attrs.pop("saturate", None)  # means something for 8-bit floats only
    op.attrs.pop("round_mode", None)


@rule("CastLike")
def cast_like(op: Op, b: Emitter) -> None:
    like = op.required(1)
    target = like.dtype
    if isinstance(like, Narrow):
        raise Problem(
            f"it casts to the type of {like.name!r}, which has no arithmetic in pyneo; use int8 or uint8"
        )
    if target is DType.NONE:
        return
    op.type, op.inputs, op.attrs = "Cast", op.inputs[:1], {"to": [int(target)]}


@rule("ReduceSum", below=13)
@rule("ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare",
      "ReduceLogSum", "ReduceLogSumExp", below=18)  # fmt: skip
def reduce_axes(op: Op, b: Emitter) -> None:
    axes = op.take_ints("axes")
    if axes:
        op.set_input(1, ints(b, axes))


@rule("TopK", below=10)
def topk_k(op: Op, b: Emitter) -> None:
    op.set_input(1, ints(b, [op.take_int("k", 1)]))


@rule("DFT", below=20)
def dft_axis(op: Op, b: Emitter) -> None:
    op.set_input(2, b.const(np.array(op.take_int("axis", 1), np.int64)))


@rule("QuantizeLinear")
def quantize_to_narrow(op: Op, b: Emitter) -> bool:
    """To integers of less than a byte: quantised to a byte, then clipped to their range."""
    zero, target = op.input(2), op.attrs.get("output_dtype")
    number = int(target[0]) if isinstance(target, list) and target else 0  # type: ignore[arg-type]
    if isinstance(zero, Narrow):
        number = zero.packed_type
    if number not in NARROW:
        return False
    bits, signed = NARROW[number]
    byte = DType.I8 if signed else DType.U8
    attrs = {**op.attrs, "output_dtype": [int(byte)]}
    (wide,) = b.emit("QuantizeLinear", op.inputs, attrs)
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    b.emit_into("Clip", [wide, scalar(b, low, byte), scalar(b, high, byte)], None, op.outputs)
    return True
