# SPDX-License-Identifier: Apache-2.0
"""Quantised operators that onnxruntime's quantiser and optimiser write (domain com.microsoft).

They become DequantizeLinear, the operator on real numbers, QuantizeLinear: what they mean.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ....ir.graph import DType, Value
from ..limits import Problem
from .ranks import rank_of
from .rule import Emitter, Op, ints, rule

_MS = "com.microsoft."


def dequantize(b: Emitter, x: Value, scale: Value, zero: Value | None, axis: int | None = None) -> Value:
    return b.emit("DequantizeLinear", [x, scale, zero], None if axis is None else {"axis": [axis]})[0]


def _quantize(b: Emitter, y: Value, scale: Value, zero: Value | None, like: Value, op: Op) -> None:
    """Into the Op's first output; without a zero point the result has the type of `like`."""
    attrs: dict[str, list[int]] = {}
    if zero is None:
        attrs["output_dtype"] = [int(like.dtype)]
    b.emit_into("QuantizeLinear", [y, scale, zero], attrs, op.outputs[:1])  # type: ignore[arg-type]


@rule(_MS + "QuantizeLinear", _MS + "DequantizeLinear", below=1 << 30)
def standard_quantisation(op: Op, b: Emitter) -> None:
    """As in the standard, there before it had 16-bit integers."""
    op.type = op.type.removeprefix(_MS)


@rule(_MS + "QLinearAdd", _MS + "QLinearMul")
def qlinear_binary(op: Op, b: Emitter) -> bool:
    a = dequantize(b, op.required(0), op.required(1), op.input(2))
    c = dequantize(b, op.required(3), op.required(4), op.input(5))
    (y,) = b.emit("Add" if op.type.endswith("Add") else "Mul", [a, c])
    _quantize(b, y, op.required(6), op.input(7), op.required(0), op)
    return True


@rule(_MS + "QLinearSigmoid", _MS + "QLinearLeakyRelu", _MS + "QLinearSoftmax", _MS + "QLinearReduceMean",
      _MS + "QLinearAveragePool", _MS + "QLinearGlobalAveragePool")  # fmt: skip
def qlinear_unary(op: Op, b: Emitter) -> bool:
    kind = op.type.removeprefix(_MS + "QLinear")
    x = dequantize(b, op.required(0), op.required(1), op.input(2))
    inputs: list[Value | None] = [x]
    if kind == "Softmax":
        # Until operator set 12 the axes from `axis` on counted as one.
        if op.take_int("opset", 13) < 13:
            y = _flat_softmax(b, x, op.take_int("axis", 1))
            _quantize(b, y, op.required(3), op.input(4), op.required(0), op)
            return True
        op.attrs.setdefault("axis", [-1])
    elif kind == "LeakyRelu":
        op.attrs.setdefault("alpha", [0.01])
    elif kind == "ReduceMean":
        inputs.append(ints(b, op.take_ints("axes") or []))
    last = op.take_int("channels_last", 0) if kind.endswith("Pool") else 0
    rank = len(op.attrs["kernel_shape"]) + 2 if "kernel_shape" in op.attrs else 4  # type: ignore[arg-type]
    if last:
        inputs = [channels_first(b, x, rank)]
    (y,) = b.emit(kind, inputs, op.attrs)
    if last:
        y = channels_last(b, y, rank)
    _quantize(b, y, op.required(3), op.input(4), op.required(0), op)
    return True


def _flat_softmax(b: Emitter, x: Value, axis: int) -> Value:
    (flat,) = b.emit("Flatten", [x], {"axis": [axis]})
    (y,) = b.emit("Softmax", [flat], {"axis": [-1]})
    return b.emit("Reshape", [y, b.emit("Shape", [x])[0]])[0]


def channels_first(b: Emitter, x: Value, rank: int) -> Value:
    return b.emit("Transpose", [x], {"perm": [0, rank - 1, *range(1, rank - 1)]})[0]


def channels_last(b: Emitter, x: Value, rank: int) -> Value:
    return b.emit("Transpose", [x], {"perm": [0, *range(2, rank), 1]})[0]


@rule(_MS + "QLinearConcat")
def qlinear_concat(op: Op, b: Emitter) -> bool:
    """Inputs: the result's scale and zero point, then tensor, scale, zero point of each part."""
    scale, zero, rest = op.required(0), op.input(1), op.inputs[2:]
    if not rest or len(rest) % 3:
        raise Problem(f"it has {len(op.inputs)} inputs, expected 2 and 3 for each part")
    parts = []
    for i in range(0, len(rest), 3):
        x, x_scale = rest[i], rest[i + 1]
        assert x is not None and x_scale is not None
        parts.append(dequantize(b, x, x_scale, rest[i + 2]))
    (y,) = b.emit("Concat", parts, {"axis": [op.take_int("axis", 1)]})
    _quantize(b, y, scale, zero, op.required(2), op)
    return True


@rule(_MS + "QLinearWhere")
def qlinear_where(op: Op, b: Emitter) -> bool:
    x = dequantize(b, op.required(1), op.required(2), op.input(3))
    y = dequantize(b, op.required(4), op.required(5), op.input(6))
    (z,) = b.emit("Where", [op.required(0), x, y])
    _quantize(b, z, op.required(7), op.input(8), op.required(1), op)
    return True


@rule(_MS + "QLinearConv", _MS + "NhwcMaxPool")
def channels_last_form(op: Op, b: Emitter) -> bool:
    """The standard operator between two transpositions."""
    x, kernel = op.required(0), op.attrs.get("kernel_shape")
    last = op.take_int("channels_last", 0) or op.type.endswith("NhwcMaxPool")
    weight = op.input(3)
    standard = "MaxPool" if op.type.endswith("MaxPool") else "QLinearConv"
    if not last:
        b.emit_into(standard, op.inputs, op.attrs, op.outputs)
        return True
    if isinstance(kernel, list):
        rank = len(kernel) + 2
    elif weight is not None and weight.shape is not None:
        rank = len(weight.shape)
    else:
        raise Problem("it has no kernel_shape, which tells how many axes its input has")
    (y,) = b.emit(standard, [channels_first(b, x, rank), *op.inputs[1:]], op.attrs)
    b.emit_into("Transpose", [y], {"perm": [0, *range(2, rank), 1]}, op.outputs)
    return True


@rule(_MS + "DynamicQuantizeMatMul", _MS + "MatMulIntegerToFloat")
def integer_matmul_to_float(op: Op, b: Emitter) -> bool:
    """MatMulInteger, scaled back to float, plus a bias; the dynamic form quantises its left operand first."""
    a_zero: Value | None
    if op.type.endswith("DynamicQuantizeMatMul"):
        weight, w_scale, w_zero, bias = op.required(1), op.required(2), op.input(3), op.input(4)
        a, a_scale, a_zero = b.emit("DynamicQuantizeLinear", [op.required(0)], outputs=3)
    else:
        a, weight, a_scale, w_scale = (op.required(i) for i in range(4))
        a_zero, w_zero, bias = op.input(4), op.input(5), op.input(6)
    (scale,) = b.emit("Mul", [a_scale, w_scale])
    (product,) = b.emit("MatMulInteger", [a, weight, a_zero, w_zero])
    (real,) = b.emit("Cast", [product], {"to": [int(DType.F32)]})
    if bias is None:
        b.emit_into("Mul", [real, scale], None, op.outputs)
    else:
        (scaled,) = b.emit("Mul", [real, scale])
        b.emit_into("Add", [scaled, bias], None, op.outputs)
    return True


@rule(_MS + "QGemm")
def qgemm(op: Op, b: Emitter) -> bool:
    a, a_scale, a_zero, w, w_scale, w_zero = (op.required(i) for i in range(6))
    if op.take_int("transA", 0):
        (a,) = b.emit("Transpose", [a], {"perm": [1, 0]})
    if op.take_int("transB", 0):
        (w,) = b.emit("Transpose", [w], {"perm": [1, 0]})
    (product,) = b.emit("MatMulInteger", [a, w, a_zero, w_zero])
    bias, y_scale, y_zero = op.input(6), op.input(7), op.input(8)
    if bias is not None:
        (product,) = b.emit("Add", [product, bias])
    (real,) = b.emit("Cast", [product], {"to": [1]})
    (scale,) = b.emit("Mul", [a_scale, w_scale])
    alpha = op.take_float("alpha", 1.0)
    if alpha != 1.0:
        (scale,) = b.emit("Mul", [scale, b.const(np.array(alpha, np.float32))])
    if y_scale is None:
        b.emit_into("Mul", [real, scale], None, op.outputs)
    else:
        (scaled,) = b.emit("Mul", [real, scale])
        b.emit_into("QuantizeLinear", [scaled, y_scale, y_zero], None, op.outputs)
    return True


@rule(_MS + "DynamicQuantizeLSTM")
def dynamic_quantize_lstm(op: Op, b: Emitter) -> bool:
    """LSTM on weights made real again. onnxruntime rounds the left operands to 8 bits, too; this does not."""
    weights = []
    for i, at in ((1, 8), (2, 10)):
        scale = op.required(at)
        # (directions, rows, 4 hidden), a scale for each direction or for each of its columns.
        (columns,) = b.emit("Unsqueeze", [_columns(b, scale), ints(b, [1])])
        (number,) = b.emit("Cast", [op.required(i)], {"to": [int(DType.F32)]})
        zero = op.input(at + 1)
        if zero is not None:
            (offset,) = b.emit("Cast", [zero], {"to": [int(DType.F32)]})
            (offset,) = b.emit("Unsqueeze", [_columns(b, offset), ints(b, [1])])
            (number,) = b.emit("Sub", [number, offset])
        (real,) = b.emit("Mul", [number, columns])
        weights += b.emit("Transpose", [real], {"perm": [0, 2, 1]})
    b.emit_into("LSTM", [op.required(0), *weights, *op.inputs[3:8]], op.attrs, op.outputs)
    return True


def _columns(b: Emitter, v: Value) -> Value:
    """(directions,) or (directions, n) as a matrix."""
    if rank_of(v) == 2:
        return v
    return b.emit("Reshape", [v, ints(b, [-1, 1])])[0]


def block_dequantize(
    q: np.ndarray, scales: np.ndarray, zeros: np.ndarray | None, bits: int, block: int, shape: Sequence[int]
) -> np.ndarray:
    """(rows, columns) of float32 from columns packed in blocks, the first number in the lowest bits."""
    rows, columns = shape
    blocks = -(-columns // block)
    wide = unpack(q.reshape(rows, -1), bits).reshape(rows, -1)[:, : blocks * block]
    wide = wide.reshape(rows, blocks, block).astype(np.float32)
    if zeros is None:
        offset = np.full((rows, blocks, 1), 1 << (bits - 1), np.float32)
    elif zeros.dtype == np.uint8:
        offset = unpack(zeros.reshape(rows, -1), bits)[:, :blocks].reshape(rows, blocks, 1).astype(np.float32)
    else:
        offset = zeros.reshape(rows, blocks, 1).astype(np.float32)
    real = (wide - offset) * scales.reshape(rows, blocks, 1).astype(np.float32)
    return real.reshape(rows, -1)[:, :columns]


def unpack(q: np.ndarray, bits: int) -> np.ndarray:
    """The fields of bytes along the last axis."""
    fields = [q >> shift & ((1 << bits) - 1) for shift in range(0, 8, bits)]
    return np.stack(fields, axis=-1).reshape(*q.shape[:-1], -1)


@rule(_MS + "MatMulNBits")
def matmul_nbits(op: Op, b: Emitter) -> bool:
    """The weights are made real when the model is compiled."""
    n, k = op.take_int("N", 0), op.take_int("K", 0)
    bits, block = op.take_int("bits", 4), op.take_int("block_size", 32)
    packed, scales, zeros = op.const(1), op.const(2), op.const(3)
    if packed is None or scales is None or (op.input(3) is not None and zeros is None):
        raise Problem("its weights, scales and zero points must be constants")
    if op.input(4) is not None:
        raise Problem("its weights are in an order of their own (g_idx), which pyneo does not read")
    if op.take_int("weight_prepacked", 0):
        raise Problem("its weights are packed for another device (weight_prepacked); export it again")
    blocks = -(-k // block) if block > 0 else 0
    fits = bits in (2, 4, 8) and n > 0 and k > 0 and block > 0
    if not fits or packed.size * 8 != n * blocks * block * bits or scales.size != n * blocks:
        raise Problem(
            f"{packed.size} bytes and {scales.size} scales do not fit N={n}, K={k}, bits={bits}, "
            f"block_size={block}"
        )
    per_row = -(-blocks * bits // 8)
    if zeros is not None and zeros.size != n * (per_row if zeros.dtype == np.uint8 else blocks):
        raise Problem(f"{zeros.size} zero points do not fit {n} rows of {blocks} blocks")
    weight = b.const(block_dequantize(packed, scales, zeros, bits, block, (n, k)).T.copy())
    x, bias = op.required(0), op.input(5)
    narrow = x.dtype in (DType.F16, DType.BF16)
    if narrow:
        (weight,) = b.emit("Cast", [weight], {"to": [int(x.dtype)]})
    if bias is None:
        b.emit_into("MatMul", [x, weight], None, op.outputs)
    else:
        (y,) = b.emit("MatMul", [x, weight])
        b.emit_into("Add", [y, bias], None, op.outputs)
    return True
