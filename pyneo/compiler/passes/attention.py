# SPDX-License-Identifier: Apache-2.0
"""Attention whatever its heads come from: softmax(q k^T * scale + mask) v as one Attention of 4-D operands.

`passes/transformer.py` knows the plain form, whose heads are columns of projections. Here the operands may
be anything: rotated queries, windows, relative positions added as a mask, keys repeated for groups of
queries, exported scaled_dot_product_attention with its guard against rows without a key.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from pyneo.compiler.ir.graph import Attr, DType, Graph, Node, Value
from pyneo.compiler.passes.match import Readers, constant, producer, scalar, shapes_together, split_const

_WIDEST = 128  # columns of a head: beyond, two matrix products are faster
_FEWEST = 8  # rows of queries: with fewer, keys that must be turned first take longer than two products
_FORBIDS = -1e30  # what Where puts in place of a score that must not count: a softmax makes 0 of it


def guarded(softmax: Node, readers: Readers) -> Value | None:
    """The value that the one reader behind a softmax reads: its output, or Where(IsNaN(y), 0, y).

    The guard makes rows that a mask forbids as a whole zero. So does Attention.
    """
    y = softmax.output
    users = readers.of(y)
    if len(users) != 2 or readers.is_output(y):
        return y if readers.only(y) is not None else None
    test = next((n for n in users if n.op == "IsNaN"), None)
    choice = next((n for n in users if n.op == "Where"), None)
    if test is None or choice is None or readers.only(test.output) is not choice:
        return None
    if choice.inputs[0] is not test.output or choice.inputs[2] is not y:
        return None
    zero = choice.inputs[1]
    # Zeros of a shape that broadcasts inside the softmax's change nothing.
    if zero is None or zero.const is None or np.any(zero.const) or choice.output.shape != y.shape:
        return None
    return choice.output


def turn_whole(graph: Graph) -> bool:
    """Reshape [B, H, T, D] to [B * H, T, D], Transpose, Reshape to [B, H, D, T]: one Transpose."""
    changed = False
    for node in graph.nodes:
        turn = producer(node.input(0), "Transpose") if node.op == "Reshape" and node.is_known else None
        merge = producer(turn.inputs[0], "Reshape") if turn is not None else None
        x = merge.inputs[0] if merge is not None else None
        if turn is None or x is None or len(x.dims) != 4 or turn.ints_attr("perm") != [0, 2, 1]:
            continue
        shapes = shapes_together(x, turn.output, node.output)
        if all(a[2:] == b[:0:-1] and c == (*a[:2], a[3], a[2]) for a, b, c in shapes):
            node.op, node.inputs, node.attrs = "Transpose", [x], {"perm": [0, 1, 3, 2]}
            changed = True
    return changed


def find_head_attention(graph: Graph) -> bool:
    """Replaces MatMul, Softmax, MatMul with what lies between them; True if there was any."""
    readers = Readers(graph)
    changed = False
    for softmax in list(graph.nodes):
        if softmax.op != "Softmax" or not softmax.is_known or softmax.output.dtype is not DType.F32:
            continue
        rank = len(softmax.output.dims)
        if rank not in (3, 4) or softmax.int_attr("axis", -1) not in (-1, rank - 1):
            continue
        weights = guarded(softmax, readers)
        context = None if weights is None else readers.only(weights)
        if weights is None or context is None or not _is_product(context) or context.inputs[0] is not weights:
            continue
        scores = _read_scores(graph, softmax, readers)
        if scores is not None and _fits(scores, context):
            _replace(graph, scores, context)
            readers = Readers(graph)
            changed = True
    return changed


@dataclass
class _Scores:
    """q and k^T of the product, and what is done to it."""

    product: Node
    q: Value
    k_turned: Value
    scale: float = 1.0
    softcap: float = 0.0
    masks: list[Value] = field(default_factory=list)
    chosen: list[tuple[Value, Value]] = field(default_factory=list)  # condition and fill of Where
    factors: list[Value] = field(default_factory=list)  # a number for each head


def _is_product(node: Node | None) -> bool:
    return node is not None and node.op == "MatMul" and len(node.inputs) == 2 and not node.attrs


def _read_scores(graph: Graph, softmax: Node, readers: Readers) -> _Scores | None:
    """Follows the softmax's input back to the product: Where, Add, Mul and cap * Tanh, each read once."""
    masks: list[Value] = []
    factors: list[Value] = []
    chosen: list[tuple[Value, Value]] = []
    v, scale, softcap = softmax.inputs[0], 1.0, 0.0
    for _ in range(8):
        plain = scale == 1.0 and not factors and not softcap
        windows = _window_mask(graph, v, readers) if plain and len(masks) < 2 else None
        if windows is not None:
            v = windows[0]
            masks.append(windows[1])
        node = None if v is None else v.producer
        if v is None or node is None or node.outputs[0] is not v or readers.only(v) is None:
            return None
        if _is_product(node):
            q, k = node.inputs
            assert q is not None and k is not None
            q, by_q = _unscaled(q)
            k, by_k = _unscaled(k)
            return _Scores(node, q, k, scale * by_q * by_k, softcap, masks, chosen, factors)
        if node.attrs or not node.inputs:
            return None
        if node.op == "Tanh" and scale > 0 and not factors and not softcap:
            softcap, v = scale, node.inputs[0]  # scores are cap * tanh(scale * q k / cap)
        elif node.op == "Add" and plain and len(masks) < 2:
            a, b = node.inputs
            inside, other = (a, b) if _leads_to_product(a) else (b, a)
            if inside is None or other is None or not _same_but_keys(inside, v):
                return None
            masks.append(other)
            v = inside
        elif node.op == "Where" and plain and not chosen:
            condition, inside, fill = node.inputs
            number = scalar(fill)
            if condition is None or inside is None or fill is None or number is None or number > _FORBIDS:
                return None
            if not _same_but_keys(inside, v):
                return None
            chosen.append((condition, fill))
            v = inside
        else:
            found = _times(node)
            by_head = _times_by_head(node) if found is None else None
            if by_head is not None:
                v = by_head[0]
                factors.append(by_head[1])
                continue
            if found is None:
                return None
            v, scale = found[0], scale * found[1]
    return None


def _same_but_keys(inside: Value, v: Value) -> bool:
    """Whether v has the shape of the scores inside it; a mask may bring a symbol of its own for the keys."""
    if inside.shape == v.shape or not inside.shape or not v.shape:
        return inside.shape == v.shape
    keys = (inside.shape[-1], v.shape[-1])
    return inside.shape[:-1] == v.shape[:-1] and all(isinstance(d, str) for d in keys)


def _times_by_head(node: Node) -> tuple[Value, Value] | None:
    """(x, factor) of a Mul of scores by a constant that has one number for each head."""
    operands = split_const(node) if node.op == "Mul" and not node.attrs else None
    if operands is None or operands[1].const is None or operands[0].shape != node.output.shape:
        return None
    whole, shape = operands[0].dims, operands[1].const.shape
    by_head = len(whole) == 4 and shape in ((whole[1], 1, 1), (1, whole[1], 1, 1))
    return operands if by_head else None


def _window_mask(graph: Graph, v: Value | None, readers: Readers) -> tuple[Value, Value] | None:
    """(scores, mask) of Reshape(Reshape(scores, [1, W, H, T, S]) + [1, W, 1, T, S], [W, H, T, S]).

    Shifted windows of one image: what a window must not see is the same for all heads.
    """
    home = producer(v, "Reshape")
    plus = producer(home.inputs[0], "Add") if home is not None else None
    operands = split_const(plus) if plus is not None and plus.is_static and not plus.attrs else None
    if v is None or plus is None or operands is None or readers.only(v) is None:
        return None
    split, mask = operands[0].producer, operands[1].const
    if split is None or split.op != "Reshape" or split.inputs[0] is None or mask is None:
        return None
    x, whole = split.inputs[0], plus.output.dims
    alone = readers.only(plus.output) is home and readers.only(operands[0]) is plus
    if not alone or whole != (1, *v.dims) or x.dims != v.dims or operands[0].dims != whole:
        return None
    if mask.dtype != np.float32 or mask.ndim != 5 or mask.shape[0] != 1:
        return None
    return x, constant(graph, f"{plus.name}/mask", mask[0])


def _leads_to_product(v: Value | None) -> bool:
    for _ in range(6):
        node = None if v is None else v.producer
        if node is None:
            return False
        if _is_product(node):
            return True
        if node.op not in ("Mul", "Div", "Add", "Where", "Tanh"):
            return False
        first = node.inputs[0]
        v = node.inputs[1] if node.op == "Where" or (first is not None and first.is_const) else first
    return False


def _times(node: Node) -> tuple[Value, float] | None:
    """(x, factor) of a Mul or Div of x by one number."""
    if node.op not in ("Mul", "Div") or node.attrs:
        return None
    operands = split_const(node)
    number = scalar(operands[1]) if operands is not None else None
    if operands is None or number is None or operands[0].shape != node.output.shape:
        return None
    if node.op == "Mul":
        return operands[0], number
    return (operands[0], 1 / number) if node.inputs[0] is operands[0] and number else None


def _unscaled(v: Value) -> tuple[Value, float]:
    found = _times(v.producer) if v.producer is not None else None
    return found if found is not None else (v, 1.0)


def _fits(s: _Scores, context: Node) -> bool:
    v = context.inputs[1]
    assert v is not None
    if any(x.dtype is not DType.F32 or len(x.dims) != len(context.output.dims) for x in (s.q, s.k_turned, v)):
        return False
    for q, k, w in shapes_together(s.q, s.k_turned, v):
        if q[:-2] != k[:-2] or k[:-2] != w[:-2] or q[-1] != k[-2] or k[-1] != w[-2]:
            return False
        if not 1 <= q[-1] <= _WIDEST or not 1 <= w[-1] <= _WIDEST:
            return False
        if q[-2] < _FEWEST and producer(s.k_turned, "Transpose") is None:
            return False
    added = [(m, DType.F32) for m in s.masks] + [(c, DType.BOOL) for c, _ in s.chosen]
    return all(m.dtype is wanted and _mask_fits(m, s) for m, wanted in added)


def _mask_fits(mask: Value, s: _Scores) -> bool:
    """Whether a mask reaches over all keys and is otherwise one or as long as the scores are."""
    for m, scores in shapes_together(mask, s.product.output):
        if not 1 <= len(m) <= len(scores) or (m[-1] != scores[-1] and not _has_own_keys(mask, s)):
            return False
        if any(d not in (1, e) for d, e in zip(m[-2::-1], scores[-2::-1], strict=False)):
            return False
    return True


def _has_own_keys(mask: Value, s: _Scores) -> bool:
    """Whether mask and keys have lengths that only turn out equal when they are bound (or the mask's 1)."""
    keys = s.product.output.shape
    if not mask.shape or not keys:
        return False
    return mask.shape[-1] != keys[-1] and isinstance(mask.shape[-1], str) and isinstance(keys[-1], str)


def _replace(graph: Graph, s: _Scores, context: Node) -> None:
    at = graph.nodes.index(context)
    stem = f"{context.name}/attention"
    rank = len(context.output.dims)

    def add(op: str, inputs: list[Value | None], attrs: dict[str, Attr], dtype: DType = DType.F32) -> Value:
        nonlocal at
        y = Value(graph.fresh_name(stem), dtype)
        graph.nodes.insert(at, Node(op, graph.fresh_name(stem), inputs, [y], attrs))
        at += 1
        return y

    one = constant(graph, stem, np.array([1], np.int64))

    def by_heads(v: Value) -> Value:
        """[B, H, T, D]: 3-D operands are one head for each of their batch."""
        return v if rank == 4 else add("Unsqueeze", [v, one], {})

    turn: list[int | float] = [*range(rank - 2), rank - 1, rank - 2]
    k = add("Transpose", [s.k_turned], {"perm": turn})
    v = context.inputs[1]
    assert v is not None
    heads = _single_heads(v, s, rank)
    k, v = heads if heads is not None else (by_heads(k), by_heads(v))
    q = s.q
    for factor in s.factors:
        q = add("Mul", [q, factor], {})
    operands: list[Value | None] = [by_heads(q), k, v]
    masks = list(s.masks)
    for condition, fill in s.chosen:
        zero = constant(graph, stem, np.zeros((), np.float32))
        masks.append(add("Where", [condition, zero, fill], {}))
    if masks:
        total = masks[0]
        for m in masks[1:]:
            total = add("Add", [total, m], {})
        if any(_has_own_keys(m, s) for m in [*s.masks, *(c for c, _ in s.chosen)]):
            # To Attention, a mask of one key forbids the others.
            keys = add("Shape", [k], {"start": [2], "end": [3]}, DType.I64)
            total = add("Expand", [total, keys], {})
        longest = max(len(m.dims) for m in [*s.masks, *(c for c, _ in s.chosen)])
        operands.append(add("Unsqueeze", [total, one], {}) if rank == 3 and longest == 3 else total)
    result = context.output
    attrs: dict[str, Attr] = {"scale": [float(s.scale)]}
    if s.softcap:
        attrs["softcap"] = [float(s.softcap)]
    if rank == 4:
        context.op, context.inputs, context.attrs = "Attention", operands, attrs
    else:
        y = add("Attention", operands, attrs)
        context.op, context.inputs, context.attrs = "Squeeze", [y, one], {}
    result.producer = context


def _single_heads(v: Value, s: _Scores, rank: int) -> tuple[Value, Value] | None:
    """Keys and values before they were repeated for groups of query heads, if both were."""
    turned = producer(s.k_turned, "Transpose")
    if rank != 4 or turned is None or turned.ints_attr("perm") != [0, 1, 3, 2] or turned.inputs[0] is None:
        return None
    keys, values = _unrepeated(turned.inputs[0]), _unrepeated(v)
    return (keys, values) if keys is not None and values is not None else None


def _unrepeated(v: Value) -> Value | None:
    """x of Reshape(Expand(x as [B, H, 1, T, D], [B, H, n, T, D]), [B, H * n, T, D])."""
    merged = producer(v, "Reshape")
    spread = producer(merged.inputs[0], "Expand") if merged is not None else None
    split = spread.inputs[0].producer if spread is not None and spread.inputs[0] is not None else None
    x = split.inputs[0] if split is not None and split.op in ("Reshape", "Unsqueeze") else None
    if spread is None or x is None or x.shape is None or len(x.dims) != 4:
        return None
    for whole, wide, narrow in shapes_together(v, spread.output, x):
        b, h, t, d = narrow
        if len(wide) != 5 or wide != (b, h, wide[2], t, d) or whole != (b, h * wide[2], t, d):
            return None
    if any(s != (*x_[:2], 1, *x_[2:]) for s, x_ in shapes_together(split.output, x)):  # type: ignore[union-attr]
        return None
    return x


def pack_heads(graph: Graph) -> bool:
    """Attention of [B, T, H, D] behind transposes reads and writes [B, T, H * D] instead: no transposes."""
    readers = Readers(graph)
    changed = False
    for node in list(graph.nodes):
        if node.op != "Attention" or not node.is_known:
            continue
        if len(node.outputs) != 1 or len(node.inputs) not in (3, 4):
            continue
        sources = [_packed(v) for v in node.inputs[:3]]
        back = readers.only(node.output)
        if back is None or back.op != "Transpose" or back.ints_attr("perm") != [0, 2, 1, 3]:
            continue
        if any(v is None for v in sources):
            continue
        heads = [v.shape[2] for v in sources if v is not None and v.shape is not None]
        widths = [v.shape[3] for v in sources if v is not None and v.shape is not None]
        if any(not isinstance(n, int) for n in [*heads, *widths]):
            continue
        at = graph.nodes.index(node)
        flat = constant(graph, f"{node.name}/flat", np.array([0, 0, -1], np.int64))
        for i, v in enumerate(sources):
            y = Value(graph.fresh_name(f"{node.name}/{i}"), DType.F32)
            reshape = Node("Reshape", graph.fresh_name(f"{node.name}/{i}"), [v, flat], [y])
            graph.nodes.insert(at, reshape)
            at += 1
            node.inputs[i] = y
        node.attrs = {**node.attrs, "q_num_heads": [int(heads[0])], "kv_num_heads": [int(heads[1])]}
        if "scale" not in node.attrs:
            node.attrs["scale"] = [float(widths[0]) ** -0.5]
        split = constant(graph, f"{node.name}/heads", np.array([0, 0, heads[0], widths[2]], np.int64))
        node.output.shape, node.output.samples = None, []
        back.op, back.attrs, back.inputs = "Reshape", {}, [node.output, split]
        changed = True
    return changed


def _packed(v: Value | None) -> Value | None:
    """[B, T, H, D] that v is a Transpose of."""
    node = producer(v, "Transpose")
    return node.inputs[0] if node is not None and node.ints_attr("perm") == [0, 2, 1, 3] else None
