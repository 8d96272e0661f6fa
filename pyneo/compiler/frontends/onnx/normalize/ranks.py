# SPDX-License-Identifier: Apache-2.0
"""The rank of a value before shapes are inferred, from what produced it."""

from __future__ import annotations

from ....ir.graph import Node, Value

_SAME = frozenset((
    "Abs", "Cast", "Clip", "Dropout", "Erf", "Exp", "Gelu", "Identity", "LayerNormalization", "LeakyRelu",
    "Log", "LogSoftmax", "Neg", "Not", "Relu", "RMSNormalization", "Sigmoid", "Slice", "Softmax", "Sqrt",
    "Tanh", "Transpose", "Attention", "QuantizeLinear", "DequantizeLinear", "RotaryEmbedding", "Concat",
    "Split", "CumSum", "ScatterElements", "Pad", "Tile", "Trilu",
))  # fmt: skip
_BROADCAST = frozenset((
    "Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Min", "Mod",
    "Mul", "Or", "Pow", "Sub", "Sum", "Where", "Xor", "MatMul", "MatMulInteger",
))  # fmt: skip
_DEEP = 64


def rank_of(v: Value | None, depth: int = 0) -> int | None:
    """How many dims a value has; None if its producer does not tell."""
    if v is None or v.shape is not None:
        return None if v is None or v.shape is None else len(v.shape)
    node = v.producer
    if node is None or depth > _DEEP:
        return None
    first = rank_of(node.input(0), depth + 1)
    if node.op in _SAME:
        return first
    if node.op in _BROADCAST:
        ranks = [rank_of(x, depth + 1) for x in node.inputs]
        return None if None in ranks else max(r for r in ranks if r is not None)
    if node.op in ("Reshape", "Expand", "ConstantOfShape"):
        return _length(node.input(0 if node.op == "ConstantOfShape" else 1), depth)
    if node.op in ("Shape", "Range"):
        return 1
    if node.op in ("Flatten", "Gemm"):
        return 2
    if first is None:
        return None
    if node.op == "Gather":
        rows = rank_of(node.input(1), depth + 1)
        return None if rows is None else first - 1 + rows
    return _fewer_or_more(node, first)


def _fewer_or_more(node: Node, rank: int) -> int | None:
    axes = node.const(1)
    if node.op in ("Unsqueeze", "Squeeze"):
        if axes is None:
            return None
        return rank + axes.size if node.op == "Unsqueeze" else rank - axes.size
    if node.op.startswith("Reduce"):
        if node.int_attr("keepdims", 1):
            return rank
        return None if axes is None else rank - axes.size if axes.size else 0
    if node.op in ("ArgMax", "ArgMin"):
        return rank - (node.int_attr("keepdims", 1) == 0)
    return None


def _length(shape: Value | None, depth: int) -> int | None:
    """How many numbers a shape given as a tensor has."""
    if shape is None:
        return None
    if shape.shape is not None and len(shape.shape) == 1 and isinstance(shape.shape[0], int):
        return shape.shape[0]
    node = shape.producer
    if node is None or depth > _DEEP:
        return None
    if node.op == "Shape":
        return None if {"start", "end"} & set(node.attrs) else rank_of(node.input(0), depth + 1)
    if node.op == "Concat":
        parts = [_length(v, depth + 1) for v in node.inputs]
        return None if None in parts else sum(p for p in parts if p is not None)
    if node.op == "Unsqueeze":
        return 1 if rank_of(node.input(0), depth + 1) == 0 else None
    return _length(node.input(0), depth + 1) if node.op in ("Cast", "Identity") else None
