# SPDX-License-Identifier: Apache-2.0
"""A product whose columns are taken apart becomes a product for each part.

Exported transformers make queries, keys and values (or the two halves of a gated layer) with one matrix and
cut the result. A part that a product of its own writes is dense: nothing copies it together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyneo.compiler.ir.graph import Attr, DType, Graph, Node, Value
from pyneo.compiler.passes.match import Readers, constant, gathered, has_constant_bias, shapes_of

_NARROWEST = 32  # columns of a part: below, a product of its own would fill no panel of weights


@dataclass
class _View:
    """The product as its parts' readers see it: Reshape to rows and columns of several axes, Transpose."""

    value: Value
    reshape: Node | None
    order: list[int]  # which axis of the reshaped product each axis is
    columns: tuple[int, ...]  # sizes of the last axes before the transposition, which the columns became

    @property
    def rows(self) -> int:
        """How many axes are not columns."""
        return len(self.order) - len(self.columns)


@dataclass
class _Part:
    """Elements [first, end) along one axis of a view."""

    taken: Node  # makes `value`, and nothing else that is not a part
    value: Value
    axis: int
    first: int
    end: int
    drop: bool  # whether the axis, of one element, is gone from `value`


def split_products(graph: Graph) -> bool:
    """MatMul by a constant, all of whose readers take ranges of its columns; True if there was any."""
    changed = False
    readers = Readers(graph)
    for product in list(graph.nodes):
        if not _is_projection(product):
            continue
        view = _view(product, readers)
        parts = _parts(view, readers) if view is not None else None
        if view is None or not parts or not _worth(view, parts):
            continue
        for part in parts:
            _take(graph, product, view, part)
        graph.remove(p.taken for p in parts)  # nothing reads the product any more
        changed = True
        readers = Readers(graph)
    return changed


def _is_projection(node: Node) -> bool:
    weights = node.const(1)
    if node.op != "MatMul" or node.attrs or not node.is_known or weights is None or weights.ndim != 2:
        return False
    plain = node.input(3) is None and has_constant_bias(node)
    return weights.size > 0 and weights.dtype == np.float32 and plain


def _view(product: Node, readers: Readers) -> _View | None:
    """What lies between the product and the nodes that take it apart."""
    v, width = product.output, len(product.const(1)[0])  # type: ignore[index]
    reshape = readers.only(v)
    if reshape is None or reshape.op != "Reshape":
        return _View(v, None, list(range(len(v.dims))), (width,))
    if reshape.inputs[0] is not v or reshape.const(1) is None or reshape.int_attr("allowzero", 0):
        return None
    v = reshape.output
    found = shapes_of(v)
    for first in reversed(range(len(found[0]))):
        columns = found[0][first:]
        if int(np.prod(columns)) == width and all(s[first:] == columns for s in found):
            break
    else:
        return None
    order = list(range(len(found[0])))
    turn = readers.only(v)
    if turn is not None and turn.op == "Transpose":
        v, order = turn.output, turn.ints_attr("perm") or order[::-1]
    return _View(v, reshape, order, columns)


def _parts(view: _View, readers: Readers) -> list[_Part] | None:
    """The ranges that the view's readers take, if they do nothing else."""
    parts: list[_Part] = []
    if readers.is_output(view.value):
        return None
    for node in readers.of(view.value):
        if node.op not in ("Split", "Gather") or node.inputs[0] is not view.value or not node.is_known:
            return None
        axis = node.int_attr("axis", 0) % len(view.order)
        if view.order[axis] < view.rows:
            return None
        size = view.columns[view.order[axis] - view.rows]
        if node.op == "Gather":
            index = gathered(node, size)
            if index is None or index.ndim != 0:
                return None
            at = int(index)
            parts.append(_Part(node, node.output, axis, at, at + 1, True))
            continue
        first = 0
        for v in node.outputs:
            if v is None or v.shape is None or not isinstance(v.shape[axis], int):
                return None  # unread, or data decides the sizes
            end = first + int(v.dims[axis])
            parts.append(_squeezed(_Part(node, v, axis, first, end, False), readers))
            first = end
    return parts


def _squeezed(part: _Part, readers: Readers) -> _Part:
    """The part without its axis, if all that reads it drops that."""
    user = readers.only(part.value)
    if user is None or user.op not in ("Squeeze", "Reshape") or part.end - part.first != 1:
        return part
    without = [s[: part.axis] + s[part.axis + 1 :] for s in shapes_of(part.value)]
    if without != shapes_of(user.output):
        return part
    return _Part(user, user.output, part.axis, part.first, part.end, True)


def _worth(view: _View, parts: list[_Part]) -> bool:
    """Whether every column goes into one part at most, and parts are wide enough."""
    whole = int(np.prod(view.columns))
    widths = [whole // view.columns[view.order[p.axis] - view.rows] * (p.end - p.first) for p in parts]
    taken = {(p.axis, i) for p in parts for i in range(p.first, p.end)}
    apart = len({p.axis for p in parts}) == 1 and len(taken) == sum(p.end - p.first for p in parts)
    return apart and len(parts) > 1 and min(widths) >= _NARROWEST


def _take(graph: Graph, product: Node, view: _View, part: _Part) -> None:
    """Writes the part's product, and the shape and order that its readers expect."""
    at = graph.nodes.index(product)
    stem = f"{product.name}/{part.first}"
    column = view.order[part.axis] - view.rows
    weights, bias = product.const(1), product.const(2)
    assert weights is not None
    every = np.arange(weights.shape[1]).reshape(view.columns)
    chosen = every.take(range(part.first, part.end), axis=column)
    inputs: list[Value | None] = [
        product.inputs[0],
        constant(graph, f"{stem}/weights", np.ascontiguousarray(weights[:, chosen.reshape(-1)])),
    ]
    if bias is not None:
        inputs.append(constant(graph, f"{stem}/bias", bias.reshape(-1)[chosen.reshape(-1)]))
    sizes, order = list(chosen.shape), list(view.order)
    if part.drop:
        del sizes[column]
        gone = order.pop(part.axis)
        order = [a - (a > gone) for a in order]
    steps: list[tuple[str, list[Value | None], dict[str, Attr]]] = [("MatMul", inputs, {})]
    if view.reshape is not None:
        shape = view.reshape.const(1)
        assert shape is not None
        wanted = np.array([*shape[: view.rows], *sizes], np.int64)
        steps.append(("Reshape", [constant(graph, f"{stem}/shape", wanted)], {}))
    if order != sorted(order):
        steps.append(("Transpose", [], {"perm": [*order]}))
    before: list[Value | None] = []
    for i, (op, operands, attrs) in enumerate(steps):
        v = part.value if i + 1 == len(steps) else Value(graph.fresh_name(stem), DType.F32)
        graph.nodes.insert(at + i, Node(op, graph.fresh_name(stem), [*before, *operands], [v], attrs))
        before = [v]
