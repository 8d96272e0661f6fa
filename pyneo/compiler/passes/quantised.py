# SPDX-License-Identifier: Apache-2.0
"""Quantised models on the kernels for real numbers.

An integer that an 8-bit or 16-bit tensor holds is a float32 exactly, and so is a sum of their products up to
2^24. Products of quantised tensors become products of real ones between DequantizeLinear and QuantizeLinear,
and a QuantizeLinear whose readers take it back at once becomes rounding in place.
"""

from __future__ import annotations

import numpy as np

from pyneo.compiler.ir.graph import Attr, DType, Graph, Node, Value
from pyneo.compiler.passes.match import Readers, constant, producer, scalar

_RANGES = {
    DType.U8: (0, 255), DType.I8: (-128, 127), DType.U16: (0, 65535), DType.I16: (-32768, 32767),
}  # fmt: skip
# Operators that choose or move elements: taking back before or after them is the same.
_MOVES = ("MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Slice")


class _Rewrite:
    """Nodes that take the place of one node."""

    def __init__(self, graph: Graph, node: Node) -> None:
        self.graph, self.node = graph, node
        self.made: list[Node] = []

    def emit(
        self, op: str, inputs: list[Value | None], attrs: dict[str, Attr] | None = None,
        out: Value | None = None, dtype: DType = DType.F32,
    ) -> Value:  # fmt: skip
        stem = f"{self.node.name}/{op.lower()}"
        v = out or Value(self.graph.fresh_name(stem), dtype)
        self.made.append(Node(op, self.graph.fresh_name(stem), inputs, [v], attrs or {}))
        return v

    def const(self, what: str, array: np.ndarray) -> Value:
        return constant(self.graph, f"{self.node.name}/{what}", np.asarray(array, np.float32, order="C"))

    def number(self, value: float) -> Value:
        return self.const("number", np.array(value, np.float32))

    def done(self) -> bool:
        at = self.graph.nodes.index(self.node)
        self.graph.nodes[at : at + 1] = self.made
        return True


def quantised_products(graph: Graph) -> bool:
    """QLinearConv and QLinearMatMul, and ConvInteger and MatMulInteger whose sums become real at once."""
    changed = False
    readers = Readers(graph)
    for node in list(graph.nodes):
        if not node.is_known:
            continue
        if node.op == "QLinearConv":
            changed |= _qlinear_conv(_Rewrite(graph, node))
        elif node.op == "QLinearMatMul":
            changed |= _qlinear_matmul(_Rewrite(graph, node))
        elif node.op in ("ConvInteger", "MatMulInteger"):
            cast = readers.only(node.output)
            if cast is not None and cast.op == "Cast" and cast.int_attr("to", 0) == DType.F32:
                changed |= _integer_product(_Rewrite(graph, node), cast)
    return changed


def _real(
    q: np.ndarray | None, scale: np.ndarray | None, zero: np.ndarray | None, axis: int
) -> np.ndarray | None:
    """What quantised constants stand for; scale and zero one number, or one for each entry of an axis."""
    if q is None or scale is None:
        return None

    def along(p: np.ndarray) -> np.ndarray | None:
        if p.size == 1:
            return p.reshape(())
        if p.ndim != 1 or p.size != q.shape[axis]:
            return None
        return p.reshape([-1 if k == axis % q.ndim else 1 for k in range(q.ndim)])

    s, z = along(scale), along(np.zeros((), q.dtype) if zero is None else zero)
    if s is None or z is None:
        return None
    return (q.astype(np.float32) - z.astype(np.float32)) * s.astype(np.float32)


def _given(node: Node, i: int) -> bool:
    """Whether an optional operand is absent or a constant."""
    return node.input(i) is None or node.const(i) is not None


def _qlinear_conv(r: _Rewrite) -> bool:
    node = r.node
    scale, bias = node.const(1), node.const(8)
    weights = _real(node.const(3), node.const(4), node.const(5), 0)
    if weights is None or scale is None or scale.size != 1 or not _given(node, 5) or not _given(node, 8):
        return False
    inputs: list[Value | None] = [r.emit("DequantizeLinear", node.inputs[:3]), r.const("weights", weights)]
    if bias is not None:
        w_scale = node.const(4)
        assert w_scale is not None
        inputs.append(r.const("bias", bias.astype(np.float64) * scale.reshape(()) * w_scale))
    y = r.emit("Conv", inputs, dict(node.attrs))
    r.emit("QuantizeLinear", [y, *node.inputs[6:8]], {}, node.outputs[0])
    return r.done()


def _qlinear_matmul(r: _Rewrite) -> bool:
    node = r.node
    operands: list[Value | None] = []
    for i in (0, 3):
        x, scale, zero = node.inputs[i : i + 3]
        real = _real(node.const(i), node.const(i + 1), node.const(i + 2), -1 if i else -2)
        if real is not None and _given(node, i + 2):
            operands.append(r.const("operand", real))
        elif scale is not None and scale.shape is not None and all(d == 1 for d in scale.shape):
            operands.append(r.emit("DequantizeLinear", [x, scale, zero]))
        else:
            return False
    y = r.emit("MatMul", operands)
    r.emit("QuantizeLinear", [y, *node.inputs[6:8]], {}, node.outputs[0])
    return r.done()


def _integer_product(r: _Rewrite, cast: Node) -> bool:
    node = r.node
    operands: list[Value | None] = []
    for i, axis in ((0, -2), (1, 0 if node.op == "ConvInteger" else -1)):
        zero, known = node.input(i + 2), node.const(i)
        if known is not None and _given(node, i + 2):
            real = _real(known, np.ones((), np.float32), node.const(i + 2), axis)
            if real is None:
                return False
            operands.append(r.const("operand", real))
            continue
        x = r.emit("Cast", [node.inputs[i]], {"to": [int(DType.F32)]})
        if zero is not None:
            if zero.shape is None or any(d != 1 for d in zero.shape):
                return False
            x = r.emit("Sub", [x, r.emit("Cast", [zero], {"to": [int(DType.F32)]})])
        operands.append(x)
    op = node.op.removesuffix("Integer")
    r.emit(op, operands, dict(node.attrs), cast.outputs[0])
    r.graph.nodes.remove(cast)
    return r.done()


def round_in_place(graph: Graph) -> bool:
    """DequantizeLinear of QuantizeLinear by the same constants: x / scale rounded, cut, times scale."""
    changed = False
    for node in list(graph.nodes):
        if node.op != "DequantizeLinear" or not node.is_known:
            continue
        q = producer(node.inputs[0], "QuantizeLinear")
        parameters = None if q is None else _same_parameters(q, node)
        if q is None or parameters is None or q.inputs[0] is None:
            continue
        scale, zero = parameters
        low, high = _RANGES[q.output.dtype]
        r = _Rewrite(graph, node)
        x = r.emit("Div", [q.inputs[0], r.number(scale)])
        x = r.emit("Clip", [r.emit("Round", [x]), r.number(low - zero), r.number(high - zero)])
        r.emit("Mul", [x, r.number(scale)], {}, node.outputs[0])
        changed = r.done()
    return changed


def _same_parameters(q: Node, dq: Node) -> tuple[float, int] | None:
    """Scale and zero point that both have, if they are constants of one number each."""
    scale, again = scalar(q.input(1)), scalar(dq.input(1))
    if scale is None or scale != again or q.attrs.get("block_size") or dq.attrs.get("block_size"):
        return None
    zeros = []
    for n in (q, dq):
        if n.input(2) is None:
            zeros.append(0)
            continue
        zero = scalar(n.input(2))
        if zero is None:
            return None
        zeros.append(int(zero))
    x = q.input(0)
    real = x is not None and x.dtype is DType.F32 and dq.output.dtype is DType.F32
    return (scale, zeros[0]) if real and zeros[0] == zeros[1] and q.output.dtype in _RANGES else None


def dequantize_early(graph: Graph) -> bool:
    """DequantizeLinear goes before operators that choose or move elements, to meet its QuantizeLinear."""
    readers = Readers(graph)
    changed = False
    for node in list(graph.nodes):
        moved = node.input(0)
        if node.op != "DequantizeLinear" or not node.is_known or scalar(node.input(1)) is None:
            continue
        mover = None if moved is None else moved.producer
        if moved is None or mover is None or mover.op not in _MOVES or readers.only(moved) is not node:
            continue
        if any(v is not None for v in mover.outputs[1:]) or mover.inputs[0] is None:
            continue
        r = _Rewrite(graph, node)
        x = r.emit(
            "DequantizeLinear", [mover.inputs[0], *node.inputs[1:]], dict(node.attrs), None, node.output.dtype
        )
        r.emit(mover.op, [x, *mover.inputs[1:]], dict(mover.attrs), node.outputs[0])
        graph.nodes.remove(mover)
        changed = r.done()
        readers = Readers(graph)
    return changed
