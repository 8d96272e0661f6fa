# SPDX-License-Identifier: Apache-2.0
"""Linear operators: normalisation and scales fold into weights, Gemm becomes MatMul, biases become inputs."""

from __future__ import annotations

import numpy as np

from pyneo.compiler.ir.graph import DType, Graph, Node, Value
from pyneo.compiler.passes.match import (
    Readers,
    activations,
    constant,
    has_constant_bias,
    is_unfused,
    split_const,
    take_output,
)

_CONVS = ("Conv", "ConvTranspose")


def _folds(node: Node) -> bool:
    """Whether a convolution's weights may take in what follows it."""
    ready = node.op in _CONVS and node.is_known and node.outputs[0] is not None
    return ready and is_unfused(node) and node.const(1) is not None and has_constant_bias(node)


def fold_batch_norm(graph: Graph) -> bool:
    """Conv followed by BatchNormalization: scale and shift go into weights and bias."""
    readers = Readers(graph)
    changed = False
    for node in graph.nodes:
        if not _folds(node):
            continue
        norm = readers.only(node.output)
        if norm is None or norm.op != "BatchNormalization" or norm.inputs[0] is not node.output:
            continue
        terms = norm_terms(norm)
        if terms is not None:
            _scale_conv(graph, node, *terms)
            take_output(graph, node, norm)
            graph.remove([norm])
            changed = True
            readers = Readers(graph)
    return changed


def norm_terms(norm: Node) -> tuple[np.ndarray, np.ndarray] | None:
    """(scale, shift) per channel of an inference-mode BatchNormalization with constant parameters."""
    parameters = [norm.const(i) for i in range(1, 5)]
    if any(p is None for p in parameters) or norm.int_attr("training_mode", 0):
        return None
    if any(v is not None for v in norm.outputs[1:]):
        return None
    gamma, beta, mean, variance = (np.asarray(p, np.float64) for p in parameters)
    # Where data decides shapes, inference has not refused a wrong one; as many channels as numbers, or the
    # operator has to say so when it runs.
    x = norm.input(0)
    channels = x.shape[1:2] if x is not None and x.shape is not None else None
    if any(p.shape != channels for p in (gamma, beta, mean, variance)):
        return None
    scale = gamma / np.sqrt(variance + norm.float_attr("epsilon", 1e-5))
    return scale, beta - mean * scale


def _scale_conv(graph: Graph, node: Node, scale: np.ndarray, shift: np.ndarray) -> None:
    """conv(x) * scale + shift as a convolution. scale, shift: one number per output channel."""
    weights = node.const(1)
    bias = node.const(2)
    assert weights is not None
    if node.op == "Conv":
        scaled = weights * scale.reshape(-1, *[1] * (weights.ndim - 1))
    else:  # [C, M / group, k...]: output channels are group-major over axis 1
        group = node.int_attr("group", 1)
        per_group = scale.reshape(group, 1, -1, *[1] * (weights.ndim - 2))
        scaled = (weights.reshape(group, -1, *weights.shape[1:]) * per_group).reshape(weights.shape)
    moved = (0 if bias is None else bias) * scale + shift
    dtype = weights.dtype
    node.inputs = [
        node.inputs[0],
        constant(graph, f"{node.name}/weights", np.ascontiguousarray(scaled.astype(dtype))),
        constant(graph, f"{node.name}/bias", np.broadcast_to(moved, scale.shape).astype(dtype)),
    ]


def fold_scales(graph: Graph) -> bool:
    """Conv followed by Mul or Add of one constant per channel."""
    readers = Readers(graph)
    changed = False
    for node in graph.nodes:
        if not _folds(node):
            continue
        user = readers.only(node.output)
        if user is None or user.op not in ("Mul", "Add", "Sub", "Div") or user.attrs:
            continue
        operands = split_const(user)
        if operands is None or operands[0] is not node.output:
            continue
        if user.op in ("Sub", "Div") and user.inputs[1] is node.output:
            continue
        per_channel = _per_channel(operands[1], node.output)
        if per_channel is None or user.output.shape != node.output.shape:
            continue
        zero, one = np.zeros_like(per_channel), np.ones_like(per_channel)
        if user.op == "Div" and not np.all(per_channel):
            continue
        terms = {
            "Mul": (per_channel, zero),
            "Div": (one / per_channel if user.op == "Div" else one, zero),
            "Add": (one, per_channel),
            "Sub": (one, -per_channel),
        }[user.op]
        _scale_conv(graph, node, *terms)
        take_output(graph, node, user)
        graph.remove([user])
        readers = Readers(graph)
        changed = True
    return changed


def _per_channel(c: Value, of: Value) -> np.ndarray | None:
    """A constant as one number per channel of `of`, if broadcasting it means that."""
    array = c.const
    assert array is not None
    channels = of.dims[1]
    if array.size == 1:
        return np.full(channels, float(array.reshape(-1)[0]))
    shape = (1,) * (len(of.dims) - array.ndim) + array.shape
    if len(shape) == len(of.dims) and shape[1] == channels and array.size == channels:
        return array.reshape(-1).astype(np.float64)
    return None


def gemm_to_matmul(graph: Graph) -> bool:
    """Gemm with constant B: MatMul with alpha, beta and transposes folded into weights and bias."""
    changed = False
    for node in graph.nodes:
        if (
            node.op != "Gemm"
            or not node.is_known
            or node.const(1) is None
            or node.int_attr("transA", 0)
            or not _plain_gemm(node)
        ):
            continue
        x, b, c = node.inputs[0], node.const(1), node.input(2)
        assert x is not None and b is not None
        if x.dtype is not DType.F32 or (c is not None and c.const is None):
            continue
        weights = b.T if node.int_attr("transB", 0) else b
        columns = weights.shape[1]
        bias: Value | None = None
        if c is not None and c.const is not None:
            array = c.const * np.float32(node.float_attr("beta", 1.0))
            if array.size not in (1, columns) or (array.ndim == 2 and array.shape[0] != 1):
                continue
            bias = constant(graph, f"{node.name}/bias", np.broadcast_to(array.reshape(-1), (columns,)).copy())
        alpha = np.float32(node.float_attr("alpha", 1.0))
        scaled = np.ascontiguousarray(weights * alpha)
        node.op = "MatMul"
        node.inputs = [x, constant(graph, f"{node.name}/weights", scaled), bias] if bias else [
            x, constant(graph, f"{node.name}/weights", scaled)]  # fmt: skip
        for gone in ("alpha", "beta", "transA", "transB"):
            node.attrs.pop(gone, None)
        changed = True
    return changed


MANY_WEIGHTS = 1 << 16  # more than stay in a cache: a product of one row reads them faster


def pixels_to_matmul(graph: Graph) -> bool:
    """Conv on an image of one pixel, as behind a global pool: MatMul between reshapes."""
    changed = False
    for node in list(graph.nodes):
        if node.op != "Conv" or not node.is_static or node.output.dtype is not DType.F32:
            continue
        x, w, b = node.inputs[0], node.const(1), node.input(2)
        if x is None or w is None or w.size < MANY_WEIGHTS or not has_constant_bias(node):
            continue
        ones = (*x.dims[2:], *w.shape[2:], *node.output.dims[2:], x.dims[0], node.int_attr("group", 1))
        if any(n != 1 for n in ones) or node.input(3) is not None:
            continue
        rows, sums = (Value(graph.fresh_name(f"{node.name}/{n}"), DType.F32) for n in ("row", "sum"))
        weights = constant(graph, f"{node.name}/weights", np.ascontiguousarray(w.reshape(w.shape[:2]).T))
        bias: list[Value | None] = [] if b is None else [b]
        at = graph.nodes.index(node)
        graph.nodes[at : at + 1] = [
            _reshaped(graph, node.name, x, rows, x.dims[:2]),
            Node("MatMul", node.name, [rows, weights, *bias], [sums], activations(node)),
            _reshaped(graph, node.name, sums, node.output, node.output.dims),
        ]
        changed = True
    return changed


def _reshaped(graph: Graph, stem: str, x: Value, y: Value, dims: tuple[int, ...]) -> Node:
    shape = constant(graph, f"{stem}/shape", np.array(dims, np.int64))
    return Node("Reshape", graph.fresh_name(f"{stem}/reshape"), [x, shape], [y], {"allowzero": [1]})


def _plain_gemm(node: Node) -> bool:
    return not (node.attrs.get("act") or node.attrs.get("post_act"))


def matmul_bias(graph: Graph) -> bool:
    """MatMul with constant B followed by Add of a constant row: the row is its bias."""
    readers = Readers(graph)
    changed = False
    for node in graph.nodes:
        if (
            node.op != "MatMul"
            or not node.is_known
            or node.outputs[0] is None
            or not is_unfused(node)
            or node.input(2) is not None
        ):
            continue
        b = node.const(1)
        if b is None or b.ndim != 2 or node.output.dtype is not DType.F32:
            continue
        user = readers.only(node.output)
        if user is None or user.op != "Add" or user.attrs:
            continue
        operands = split_const(user)
        if operands is None or operands[0] is not node.output or user.output.shape != node.output.shape:
            continue
        row = operands[1].const
        assert row is not None
        if row.size != b.shape[1] or row.shape[-1:] != (b.shape[1],):
            continue
        node.inputs = [*node.inputs[:2], constant(graph, f"{node.name}/bias", row.reshape(-1).copy())]
        take_output(graph, node, user)
        graph.remove([user])
        readers = Readers(graph)
        changed = True
    return changed


def fold_scale_into_matmul(graph: Graph) -> bool:
    """MatMul with constant B followed by Mul or Div by one number, or by a row: it goes into B and the bias.

    A number may also follow behind Reshape and Transpose: queries are scaled when they are heads.
    """
    readers = Readers(graph)
    changed = False
    for node in graph.nodes:
        b = node.const(1)
        if node.op != "MatMul" or not node.is_known or node.outputs[0] is None or not is_unfused(node):
            continue
        if b is None or b.dtype != np.float32 or b.ndim < 2 or not has_constant_bias(node):
            continue
        last, user = node, readers.only(node.output)
        while user is not None and user.op in ("Reshape", "Transpose") and user.inputs[0] is last.output:
            last, user = user, readers.only(user.output)
        if user is None or user.op not in ("Mul", "Div") or user.attrs:
            continue
        operands = split_const(user)
        if operands is None or operands[0] is not last.output or user.output.shape != last.output.shape:
            continue
        if user.op == "Div" and user.inputs[1] is last.output:
            continue
        factor = operands[1].const
        assert factor is not None
        row = last is node and factor.shape[-1:] == b.shape[-1:] and factor.size == b.shape[-1]
        if not row and (factor.size != 1 or not factor.reshape(-1)[0]):
            continue
        numbers = factor.reshape(-1).astype(np.float64)
        if user.op == "Div" and not np.all(numbers):
            continue
        numbers = 1 / numbers if user.op == "Div" else numbers
        node.inputs[1] = constant(graph, f"{node.name}/weights", (b * numbers).astype(np.float32))
        bias = node.const(2)
        if bias is not None:
            scaled = (bias.reshape(-1) * numbers).astype(np.float32)
            node.inputs[2] = constant(graph, f"{node.name}/bias", scaled)
        take_output(graph, last, user)
        graph.remove([user])
        readers = Readers(graph)
        changed = True
    return changed


def norm_to_scale(graph: Graph) -> bool:
    """A BatchNormalization that no convolution precedes: Mul and Add per channel."""
    changed = False
    nodes: list[Node] = []
    for node in graph.nodes:
        x = node.input(0)
        is_norm = node.op == "BatchNormalization" and node.is_known and x is not None and x.dtype is DType.F32
        terms = norm_terms(node) if is_norm else None
        if terms is None or x is None or len(x.dims) < 2:
            nodes.append(node)
            continue
        shape = (-1, *[1] * (len(x.dims) - 2))
        scale, shift = (constant(graph, f"{node.name}/{n}", t.astype(np.float32).reshape(shape)) for n, t in
                        zip(("scale", "shift"), terms, strict=True))  # fmt: skip
        middle = Value(graph.fresh_name(f"{node.name}/scaled"), x.dtype, x.shape)
        nodes.append(Node("Mul", f"{node.name}/mul", [x, scale], [middle]))
        nodes.append(Node("Add", f"{node.name}/add", [middle, shift], [node.output]))
        changed = True
    graph.nodes = nodes
    return changed
