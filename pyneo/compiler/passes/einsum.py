# SPDX-License-Identifier: Apache-2.0
"""Einsum as what it mostly is: a transposition, or a matrix product between transpositions."""

from __future__ import annotations

import math

import numpy as np

from pyneo.compiler.ir.graph import DType, Graph, Node, Value
from pyneo.compiler.passes.match import constant

_TYPES = (DType.F32, DType.F16, DType.BF16, DType.F64)
_ELLIPSIS = "01234567"  # no letters: an equation may have any of those


def einsum_to_matmul(graph: Graph) -> bool:
    """Rewrites every Einsum of one or two operands that no letter sums alone and none repeats in."""
    changed = False
    for node in list(graph.nodes):
        if node.op != "Einsum" or not node.is_known or node.output.dtype not in _TYPES:
            continue
        terms = _terms(node)
        if terms is None:
            continue
        made = _transposition(node, terms) if len(terms) == 2 else _product(graph, node, terms)
        if made:
            at = graph.nodes.index(node)
            graph.nodes[at : at + 1] = made
            changed = True
    return changed


def _terms(node: Node) -> list[str] | None:
    """The letters of every operand's dims, then of the result's; None if some operand's rank is not known,
    or a letter stands twice in a term or for dims of different sizes."""
    left, arrow, right = node.str_attr("equation", "").replace(" ", "").partition("->")
    terms = left.split(",")
    if not arrow or len(terms) != len(node.inputs) or len(terms) > 2:
        return None
    sizes: dict[str, int] = {}
    found = []
    most = 0
    for term, v in zip(terms, node.inputs, strict=True):
        if v is None or v.shape is None:
            return None
        extra = len(v.shape) - len(term.replace("...", ""))
        if extra < 0 or extra > len(_ELLIPSIS) or ("..." not in term and extra):
            return None
        most = max(most, extra)
        # Right-aligned, as broadcasting has it.
        letters = term.replace("...", _ELLIPSIS[len(_ELLIPSIS) - extra :])
        for letter, size in zip(letters, v.dims, strict=True):
            if sizes.setdefault(letter, size) != size:
                return None
        found.append(letters)
    found.append(right.replace("...", _ELLIPSIS[len(_ELLIPSIS) - most :]))
    return found if all(len(set(t)) == len(t) for t in found) else None


def _transposition(node: Node, terms: list[str]) -> list[Node] | None:
    x, y = terms
    if sorted(x) != sorted(y):
        return None
    perm = [x.index(letter) for letter in y]
    return [Node("Transpose", node.name, node.inputs, node.outputs, {"perm": perm})]


def _product(graph: Graph, node: Node, terms: list[str]) -> list[Node] | None:
    """(batch, rows, inner) times (batch, inner, columns), each group of letters one dim."""
    a, b, y = terms
    batch = [c for c in y if c in a and c in b]
    rows = [c for c in y if c in a and c not in b]
    columns = [c for c in y if c in b and c not in a]
    inner = [c for c in a if c in b and c not in y]
    groups = len(batch) + len(rows) + len(inner), len(batch) + len(columns) + len(inner)
    if groups != (len(a), len(b)) or len(batch) + len(rows) + len(columns) != len(y) or not inner:
        return None
    single = len(rows) == len(columns) == len(inner) == 1
    if not single and not all(v is not None and v.is_static for v in (*node.inputs, node.outputs[0])):
        return None  # dims are merged by Reshape, which wants numbers
    sizes: dict[str, int] = {}
    for term, v in zip((a, b), node.inputs, strict=True):
        assert v is not None
        sizes.update(zip(term, v.dims, strict=True))
    made: list[Node] = []

    def emit(
        op: str, inputs: list[Value | None], attrs: dict[str, list[int]], out: Value | None = None
    ) -> Value:
        stem = f"{node.name}/{op.lower()}"
        v = out or Value(graph.fresh_name(stem), node.output.dtype)
        made.append(Node(op, graph.fresh_name(stem), inputs, [v], attrs))  # type: ignore[arg-type]
        return v

    def reshape(v: Value, groups: list[list[str]], out: Value | None = None) -> Value:
        dims = np.array([math.prod(sizes[c] for c in g) for g in groups], np.int64)
        return emit("Reshape", [v, constant(graph, f"{node.name}/shape", dims)], {"allowzero": [1]}, out)

    def operand(v: Value | None, term: str, first: list[str], second: list[str]) -> Value:
        assert v is not None
        order = [*batch, *first, *second]
        if order != list(term):
            v = emit("Transpose", [v], {"perm": [term.index(c) for c in order]})
        return v if single else reshape(v, [*([c] for c in batch), first, second])

    left = operand(node.inputs[0], a, rows, inner)
    right = operand(node.inputs[1], b, inner, columns)
    order = [*batch, *rows, *columns]
    turned = order != list(y)
    v = emit("MatMul", [left, right], {}, None if turned or not single else node.outputs[0])
    if not single:
        v = reshape(v, [[c] for c in order], None if turned else node.outputs[0])
    if turned:
        emit("Transpose", [v], {"perm": [order.index(c) for c in y]}, node.outputs[0])
    return made
