# SPDX-License-Identifier: Apache-2.0
"""Sums of convolutions of one tensor become one convolution.

Networks that train several branches side by side (Ding et al.: "RepVGG", CVPR 2021) are often exported
as they were trained: 3x3, 1x1 and a normalised shortcut, all linear in the same input.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyneo.compiler.ir.graph import DType, Graph, Node, Value
from pyneo.compiler.passes.linear import norm_terms
from pyneo.compiler.passes.match import Readers, constant, has_constant_bias, take_output

# Sums of more terms are not those of a network's branches; comparing all pairs would take long.
_MOST_TERMS = 64


@dataclass(eq=False)
class _Term:
    """One summand: sign * value; if it is linear in `x`, what it is as a convolution."""

    sign: float
    value: Value
    node: Node | None = None  # the Conv or BatchNormalization; None for a tensor as it is
    x: Value | None = None
    shape: tuple[int, ...] = ()  # of its weights: [outputs, inputs / group, taps...]
    group: int = 1
    strides: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    before: tuple[int, ...] = ()  # padding

    def numbers(self) -> tuple[np.ndarray, np.ndarray]:
        """Weights and bias, with the sign in them."""
        if self.node is None:
            scale, shift = np.ones(self.group), np.zeros(self.group)
        elif self.node.op == "BatchNormalization":
            terms = norm_terms(self.node)
            assert terms is not None
            scale, shift = terms
        else:
            weights, bias = self.node.const(1), self.node.const(2)
            assert weights is not None
            scale, shift = weights.astype(np.float64), np.zeros(len(weights)) if bias is None else bias
        return self.sign * scale.reshape(self.shape), self.sign * shift


def merge_branches(graph: Graph) -> bool:
    """Convolutions of one tensor whose results are only added up, its normalised form, and itself."""
    readers = Readers(graph)
    changed = False
    for root in list(graph.nodes):
        if not _is_sum(root) or root.output.dtype is not DType.F32:
            continue
        user = readers.only(root.output)
        if user is not None and _is_sum(user) and user.output.shape == root.output.shape:
            continue  # part of a larger sum
        inner, terms = _terms(root, readers)
        if len(terms) > _MOST_TERMS:
            continue
        left = _merge(graph, terms)
        if len(left) < len(terms):
            _rebuild(graph, root, inner, left)
            readers = Readers(graph)
            changed = True
    return changed


def _is_sum(node: Node) -> bool:
    return node.op in ("Add", "Sub") and len(node.inputs) == 2 and node.is_known and not node.attrs


def _terms(root: Node, readers: Readers) -> tuple[list[Node], list[_Term]]:
    """The sums behind `root` that nothing else reads, and what all of them add up."""
    inner: list[Node] = []
    terms: list[_Term] = []
    open_sums = [(root, 1.0)]
    while open_sums:
        node, sign = open_sums.pop()
        for i, v in enumerate(node.inputs):
            assert v is not None
            s = -sign if i == 1 and node.op == "Sub" else sign
            made = v.producer
            whole = v.shape == root.output.shape and readers.only(v) is node
            if made is None or not made.is_known or not whole:
                terms.append(_Term(s, v))
            elif _is_sum(made):
                inner.append(made)
                open_sums.append((made, s))
            else:
                terms.append(_conv_term(s, v, made) or _norm_term(s, v, made) or _Term(s, v))
    return inner, terms


def _conv_term(sign: float, v: Value, node: Node) -> _Term | None:
    weights = node.const(1)
    if node.op != "Conv" or weights is None or weights.dtype != np.float32:
        return None
    if node.input(3) or node.attrs.get("act") or node.attrs.get("post_act"):
        return None
    if node.str_attr("auto_pad", "NOTSET") != "NOTSET":
        return None
    if not has_constant_bias(node):
        return None
    axes = weights.ndim - 2
    return _Term(
        sign, v, node, node.inputs[0], weights.shape, node.int_attr("group", 1),
        tuple(node.ints_attr("strides") or [1] * axes), tuple(node.ints_attr("dilations") or [1] * axes),
        tuple((node.ints_attr("pads") or [0] * axes)[:axes]),
    )  # fmt: skip


def _norm_term(sign: float, v: Value, node: Node) -> _Term | None:
    terms = norm_terms(node) if node.op == "BatchNormalization" and len(v.dims) >= 3 else None
    return None if terms is None else _single(_Term(sign, v, node), node.inputs[0], terms[0].size)


def _single(term: _Term, x: Value | None, channels: int) -> _Term:
    """The term as a pointwise convolution of single channels."""
    axes = len(term.value.dims) - 2
    term.x, term.group, term.shape = x, channels, (channels, 1, *[1] * axes)
    term.strides = term.dilations = (1,) * axes
    term.before = (0,) * axes
    return term


def _merge(graph: Graph, terms: list[_Term]) -> list[_Term]:
    """The terms with those of one tensor merged."""
    # Larger kernels take in smaller ones, and denser ones those of more groups.
    bases = [t for t in terms if t.node is not None and t.node.op == "Conv"]
    for base in sorted(bases, key=lambda t: (-int(np.prod(t.shape[2:])), t.group)):
        if base not in terms:
            continue
        channels = base.shape[0]
        found: list[tuple[_Term, tuple[slice, ...]]] = []
        for other in terms:
            # A shortcut behind a dense convolution costs nothing: it is added in the epilogue.
            if other.node is None and other.value is base.x and base.group == channels > 1:
                _single(other, base.x, channels)
            at = _place(base, other) if other is not base and other.x is base.x else None
            if at is not None:
                found.append((other, at))
        if found:
            _take(graph, base, found)
            gone = [other for other, _ in found]
            terms = [t for t in terms if t not in gone]
    return terms


def _place(base: _Term, other: _Term) -> tuple[slice, ...] | None:
    """The taps of `base` that read the same elements as those of `other`, if all of them have one."""
    if not other.shape or other.strides != base.strides or other.group % base.group:
        return None
    at: list[slice] = []
    for i, (taps, wanted) in enumerate(zip(base.shape[2:], other.shape[2:], strict=True)):
        step = base.dilations[i] if taps > 1 else 1
        first, odd = divmod(base.before[i] - other.before[i], step)
        apart = wanted > 1 and other.dilations[i] != step
        if odd or apart or first < 0 or first + wanted > taps:
            return None
        at.append(slice(first, first + wanted))
    return tuple(at)


def _take(graph: Graph, base: _Term, found: list[tuple[_Term, tuple[slice, ...]]]) -> None:
    """Adds the weights and biases of others to the convolution `base`."""
    node = base.node
    assert node is not None
    weights, bias = base.numbers()
    outputs, width = base.shape[:2]
    for other, at in found:
        more, shift = other.numbers()
        bias = bias + shift
        narrow = other.shape[1]
        for o in range(outputs):
            first = o // (outputs // other.group) * narrow - o // (outputs // base.group) * width
            weights[o, first : first + narrow][(slice(None), *at)] += more[o]
    node.inputs = [
        base.x,
        constant(graph, f"{node.name}/weights", weights.astype(np.float32)),
        constant(graph, f"{node.name}/bias", bias.astype(np.float32)),
    ]
    base.sign = 1.0


def _rebuild(graph: Graph, root: Node, inner: list[Node], terms: list[_Term]) -> None:
    """The sum of what is left, in root's place."""
    terms = sorted(terms, key=lambda t: t.sign < 0)
    graph.remove(inner)
    if len(terms) == 1:
        node = terms[0].node
        assert node is not None
        take_output(graph, node, root)
        graph.remove([root])
        return
    total, place = terms[0].value, graph.nodes.index(root)
    for t in terms[1:-1]:
        v = Value(graph.fresh_name(f"{root.name}/sum"), root.output.dtype, root.output.shape)
        graph.nodes.insert(place, Node("Sub" if t.sign < 0 else "Add", v.name, [total, t.value], [v]))
        total, place = v, place + 1
    root.op, root.inputs = "Sub" if terms[-1].sign < 0 else "Add", [total, terms[-1].value]
