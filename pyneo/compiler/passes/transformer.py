# SPDX-License-Identifier: Apache-2.0
"""Patterns of exported transformers: GELU, LayerNormalization and attention in small operators."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pyneo.compiler.ir.graph import DType, Graph, Node, Value
from pyneo.compiler.passes.attention import guarded
from pyneo.compiler.passes.match import Readers, constant, is_scalar, producer, scalar, split_const

# Exporters write the irrational constants of GELU in five digits and more.
_ROUNDED = 2e-5


def find_gelu(graph: Graph) -> bool:
    """x * 0.5 * (1 + erf(x / sqrt 2)) in any order of its factors, and the tanh form: one Gelu."""
    changed = False
    for node in list(graph.nodes):
        if (node.op != "Erf" and node.op != "Tanh") or not node.is_known:
            continue
        found = _gelu_around(graph, node)
        if found is not None:
            x, last = found
            approximate = "none" if node.op == "Erf" else "tanh"
            last.op, last.inputs, last.attrs = "Gelu", [x], {"approximate": approximate}
            changed = True
    return changed


def _gelu_around(graph: Graph, inner: Node) -> tuple[Value, Node] | None:
    """(x, last node) of the GELU whose Erf or Tanh this is."""
    readers = Readers(graph)
    x = _erf_argument(inner) if inner.op == "Erf" else _tanh_argument(inner)
    plus = readers.only(inner.output)
    if x is None or plus is None or plus.op != "Add" or plus.attrs:
        return None
    operands = split_const(plus)
    if operands is None or not is_scalar(operands[1], 1.0):
        return None
    # Behind 1 + erf: factors 0.5 and x in either order, possibly with 0.5 * x made before.
    half = x_seen = False
    at = plus
    for _ in range(2):
        user = readers.only(at.output)
        if user is None or user.op != "Mul" or user.attrs or len(user.inputs) != 2:
            return None
        other = user.inputs[1] if user.inputs[0] is at.output else user.inputs[0]
        if is_scalar(other, 0.5):
            half = True
        elif other is x:
            x_seen = True
        elif _half_of(other, x):
            half = x_seen = True
        else:
            return None
        at = user
        if half and x_seen:
            return (x, at) if at.output.shape == x.shape else None
    return None


def _half_of(v: Value | None, x: Value) -> bool:
    node = producer(v, "Mul") or producer(v, "Div")
    if node is None or node.attrs:
        return False
    operands = split_const(node)
    half = 0.5 if node.op == "Mul" else 2.0
    return operands is not None and operands[0] is x and is_scalar(operands[1], half)


def _erf_argument(erf: Node) -> Value | None:
    """x of erf(x / sqrt 2) or erf(x * sqrt 1/2)."""
    scale = erf.inputs[0].producer if erf.inputs[0] is not None else None
    if scale is None or scale.attrs or scale.op not in ("Div", "Mul"):
        return None
    operands = split_const(scale)
    if operands is None or (scale.op == "Div" and scale.inputs[1] is operands[0]):
        return None
    wanted = math.sqrt(2) if scale.op == "Div" else math.sqrt(0.5)
    return operands[0] if is_scalar(operands[1], wanted, _ROUNDED) else None


def _tanh_argument(tanh: Node) -> Value | None:
    """x of tanh(sqrt(2/pi) * (x + 0.044715 x^3))."""
    outer = producer(tanh.inputs[0], "Mul")
    if outer is None:
        return None
    operands = split_const(outer)
    if operands is None or not is_scalar(operands[1], math.sqrt(2 / math.pi), _ROUNDED):
        return None
    plus = producer(operands[0], "Add")
    if plus is None or plus.attrs:
        return None
    for x, cube in (plus.inputs, plus.inputs[::-1]):
        scaled = producer(cube, "Mul")
        if scaled is None or x is None:
            continue
        factors = split_const(scaled)
        if factors is None or not is_scalar(factors[1], 0.044715, _ROUNDED) or not _is_cube(factors[0], x):
            continue
        return x
    return None


def _is_cube(v: Value, x: Value) -> bool:
    power = producer(v, "Pow")
    if power is not None:
        return power.inputs[0] is x and is_scalar(power.inputs[1], 3.0)
    outer = producer(v, "Mul")
    if outer is None or len(outer.inputs) != 2:
        return False
    for a, b in (outer.inputs, outer.inputs[::-1]):
        inner = producer(b, "Mul")
        if a is x and inner is not None and inner.inputs == [x, x]:
            return True
    return False


def find_layer_norm(graph: Graph) -> bool:
    """(x - mean) / sqrt(var + eps) [* gamma + beta] over the last axes: one LayerNormalization."""
    readers = Readers(graph)
    changed = False
    for node in list(graph.nodes):
        if (
            node.op != "Div"
            or node.attrs
            or not node.is_known
            or len(node.inputs) != 2
            or node.output.dtype is not DType.F32
        ):
            continue
        found = _centred_over_deviation(node)
        if found is None or found[0].shape != node.output.shape:
            continue
        x, axis, epsilon = found
        if x.shape is None or any(not isinstance(d, int) for d in x.shape[axis:]):
            continue  # gamma's size is a number
        width = x.dims[axis:]
        last, gamma, beta = node, None, None
        user = readers.only(last.output)
        if user is not None and user.op == "Mul" and not user.attrs:
            operands = split_const(user)
            if operands is not None and _is_row(operands[1], width) and user.output.shape == x.shape:
                last, gamma = user, operands[1]
                user = readers.only(last.output)
        if gamma is not None and user is not None and user.op == "Add" and not user.attrs:
            operands = split_const(user)
            if operands is not None and _is_row(operands[1], width) and user.output.shape == x.shape:
                last, beta = user, operands[1]
        gamma = _row(graph, node, "gamma", gamma, width, 1.0)
        last.inputs = [x, gamma] if beta is None else [x, gamma, _row(graph, node, "beta", beta, width, 0.0)]
        last.op, last.attrs = "LayerNormalization", {"axis": [axis - len(x.dims)], "epsilon": [epsilon]}
        readers = Readers(graph)
        changed = True
    return changed


def _is_row(v: Value, width: tuple[int, ...]) -> bool:
    assert v.const is not None
    shape = v.const.shape
    return shape[-len(width) :] == width and v.const.size == int(np.prod(width))


def _row(graph: Graph, node: Node, stem: str, v: Value | None, width: tuple[int, ...], fill: float) -> Value:
    if v is not None and v.const is not None:
        return v if v.const.shape == width else constant(graph, v.name, v.const.reshape(width).copy())
    return constant(graph, f"{node.name}/{stem}", np.full(width, fill, np.float32))


def _mean_axes(node: Node | None) -> tuple[Value, int] | None:
    """(x, first axis) of a ReduceMean over the last axes that keeps dims."""
    if node is None or node.op != "ReduceMean" or not node.is_known or not node.int_attr("keepdims", 1):
        return None
    x, axes = node.inputs[0], node.const(1)
    if x is None or axes is None or axes.size == 0:
        return None
    rank = len(x.dims)
    found = sorted(int(a) % rank for a in axes.reshape(-1))
    return (x, found[0]) if found == list(range(found[0], rank)) else None


def _centred_over_deviation(div: Node) -> tuple[Value, int, float] | None:
    centred, deviation = div.inputs
    minus = producer(centred, "Sub")
    root = producer(deviation, "Sqrt")
    if minus is None or root is None or centred is None:
        return None
    mean = _mean_axes(minus.inputs[1].producer if minus.inputs[1] is not None else None)
    if mean is None or mean[0] is not minus.inputs[0]:
        return None
    plus = producer(root.inputs[0], "Add")
    if plus is None or plus.attrs:
        return None
    operands = split_const(plus)
    epsilon = scalar(operands[1]) if operands is not None else None
    if operands is None or epsilon is None:
        return None
    variance = _mean_axes(operands[0].producer)
    if variance is None or variance[1] != mean[1] or not _is_square(variance[0], minus):
        return None
    return mean[0], mean[1], epsilon


def _is_square(v: Value, minus: Node) -> bool:
    """v = (x - mean)^2, possibly of a second, equal subtraction."""

    def same(other: Value | None) -> bool:
        return other is minus.output or (
            other is not None and other.producer is not None and other.producer.op == "Sub"
            and other.producer.inputs == minus.inputs
        )  # fmt: skip

    node = v.producer
    if node is None:
        return False
    if node.op == "Pow":
        return same(node.inputs[0]) and is_scalar(node.inputs[1], 2.0)
    return node.op == "Mul" and len(node.inputs) == 2 and all(same(i) for i in node.inputs)


def find_attention(graph: Graph) -> bool:
    """softmax(q k^T * scale [+ mask]) v, its heads split by Reshape and Transpose, as one Attention.

    The Attention reads [B, T, H*D].
    """
    readers = Readers(graph)
    changed = False
    for softmax in list(graph.nodes):
        if (
            softmax.op != "Softmax"
            or not softmax.is_known
            or softmax.output.dtype is not DType.F32
            or len(softmax.output.dims) != 4
        ):
            continue
        if softmax.int_attr("axis", -1) not in (-1, 3):
            continue
        if _attention_around(graph, softmax, readers):
            readers = Readers(graph)
            changed = True
    return changed


def _attention_around(graph: Graph, softmax: Node, readers: Readers) -> bool:
    weights = guarded(softmax, readers)
    context = None if weights is None else readers.only(weights)
    if context is None or context.op != "MatMul" or context.inputs[0] is not weights:
        return False
    if len(context.inputs) != 2 or context.attrs:
        return False
    back = readers.only(context.output)
    if back is None or back.op != "Transpose" or back.ints_attr("perm") != [0, 2, 1, 3]:
        return False
    merge = readers.only(back.output)
    if merge is None or merge.op != "Reshape":
        return False
    scores = softmax.inputs[0]
    mask: Value | None = None
    scale = 1.0
    plus = producer(scores, "Add")
    if plus is not None and not plus.attrs and len(plus.inputs) == 2:
        for inside, other in (plus.inputs, plus.inputs[::-1]):
            if inside is not None and other is not None and _is_scores(inside):
                scores, mask = inside, other
                break
    scaled = producer(scores, "Mul") or producer(scores, "Div")
    if scaled is not None:
        found = _times(scaled)
        if found is None:
            return False
        scores, scale = found
    product = producer(scores, "MatMul")
    if product is None or len(product.inputs) != 2 or product.attrs:
        return False
    q = _heads(product.inputs[0], transposed=False)
    k = _heads(product.inputs[1], transposed=True)
    v = _heads(context.inputs[1], transposed=False)
    if q is None or k is None or v is None or v.scale != 1.0:
        return False
    fixed = softmax.output.shape is not None and isinstance(softmax.output.shape[1], int)
    if not fixed or not all(isinstance(r.value.shape[2], int) for r in (q, k, v) if r.value.shape):
        return False  # how many heads there are is an attribute
    batch, heads, rows = softmax.output.dims[:3]
    depth = q.dims[2] // heads
    merged = (batch, rows, v.dims[2])
    if q.dims != (batch, rows, heads * depth) or k.dims[2] != q.dims[2] or v.dims[2] % heads:
        return False
    if mask is not None and (mask.dtype is not DType.F32 or not _mask_fits(mask, softmax.output.dims)):
        return False
    target = merge if merge.output.dims == merged else None
    result = target.output if target is not None else Value(graph.fresh_name("attention"), DType.F32, merged)
    node = Node(
        "Attention",
        f"{softmax.name}/attention",
        [q.value, k.value, v.value, *([] if mask is None else [mask])],
        [result],
        {"q_num_heads": [heads], "kv_num_heads": [heads], "scale": [float(scale * q.scale * k.scale)]},
    )
    at = graph.nodes.index(merge)
    if target is not None:
        graph.nodes[at] = node
    else:
        graph.nodes.insert(at, node)
        merge.inputs[0] = result
    return True


def _times(node: Node) -> tuple[Value, float] | None:
    """(x, factor) of a Mul or Div of x by one number; a number divided by x is none."""
    operands = split_const(node)
    number = scalar(operands[1]) if operands is not None else None
    if operands is None or number is None or node.attrs:
        return None
    if node.op == "Mul":
        return operands[0], number
    return (operands[0], 1 / number) if node.inputs[0] is operands[0] and number else None


def _is_scores(v: Value) -> bool:
    inner = producer(v, "Mul") or producer(v, "Div")
    if inner is not None:
        found = _times(inner)
        return found is not None and producer(found[0], "MatMul") is not None
    return producer(v, "MatMul") is not None


def _mask_fits(mask: Value, scores: tuple[int, ...]) -> bool:
    dims = mask.dims
    if len(dims) > 4 or len(dims) < 2:
        return False
    padded = (1,) * (4 - len(dims)) + dims
    if not all(a in (1, b) for a, b in zip(padded, scores, strict=True)):
        return False
    return padded[3] == scores[3] and padded[2] in (1, scores[2])


@dataclass(frozen=True)
class _Rows:
    """Rows of q, k or v as [B, T, H*D], to be multiplied by `scale`."""

    value: Value
    dims: tuple[int, ...]
    scale: float


def _heads(v: Value | None, transposed: bool) -> _Rows | None:
    """Rows behind Reshape to [B, T, H, D] and Transpose to [B, H, T, D] (or, transposed, [B, H, D, T])."""
    scale = 1.0
    for _ in range(6):
        node = v.producer if v is not None else None
        if node is None or not node.is_known:
            return None
        if node.op in ("Mul", "Div"):
            found = _times(node)
            if found is None:
                return None
            v, number = found
            scale *= number
        elif node.op == "Transpose" and node.ints_attr("perm") == [0, 1, 3, 2]:
            transposed = not transposed
            v = node.inputs[0]
        elif node.op == "Transpose":
            return _split_heads(node, transposed, scale)
        else:
            return None
    return None


def _split_heads(node: Node, transposed: bool, scale: float) -> _Rows | None:
    inner = producer(node.inputs[0], "Reshape")
    if node.ints_attr("perm") != ([0, 2, 3, 1] if transposed else [0, 2, 1, 3]) or inner is None:
        return None
    flat, split = inner.inputs[0], inner.output.dims
    if flat is None or len(split) != 4 or flat.dims != (split[0], split[1], split[2] * split[3]):
        return None
    return _Rows(flat, flat.dims, scale)
