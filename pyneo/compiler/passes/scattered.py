# SPDX-License-Identifier: Apache-2.0
"""Scattered writes whose places are known: boxes become slices beside each other, equal columns whole rows.

`x[:, 1:, 2:] = y` is exported as ScatterND with one index for every element of the box, `scatter_add` of
rows as ScatterElements whose indices were repeated for every column.
"""

from __future__ import annotations

import numpy as np

from pyneo.compiler.ir.graph import Attr, Graph, Node, Value
from pyneo.compiler.passes.match import constant, producer, replace_by, shapes_together

_PER_INDEX = 16  # elements that are copied in the time that one index takes


def boxes_to_slices(graph: Graph) -> bool:
    """ScatterND that replaces a box: what lies around it, slice by slice, and the updates."""
    changed = False
    for node in list(graph.nodes):
        if node.op != "ScatterND" or not node.is_static or node.str_attr("reduction", "none") != "none":
            continue
        data, at, updates = node.inputs
        if data is None or at is None or updates is None or at.const is None or not at.const.size:
            continue
        box = _box(at.const, data.dims)
        if box is None or 0 in data.dims or at.const.size // at.dims[-1] * _PER_INDEX < np.prod(data.dims):
            continue
        made = _around(graph, node, box)
        replace_by(graph, node, made)
        changed = True
    return changed


def _around(graph: Graph, node: Node, box: list[tuple[int, int]]) -> list[Node]:
    """The updates, and from the last axis to the first what of the data lies before and behind them."""
    data, _, updates = node.inputs
    assert data is not None
    made: list[Node] = []

    def numbers(values: list[int]) -> Value:
        return constant(graph, f"{node.name}/numbers", np.array(values, np.int64))

    def add(op: str, inputs: list[Value | None], dims: list[int], attrs: dict[str, Attr]) -> Value:
        y = Value(graph.fresh_name(f"{node.name}/box"), node.output.dtype, tuple(dims))
        made.append(Node(op, y.name, inputs, [y], attrs))
        return y

    sizes = [end - first for first, end in box]
    whole = add("Reshape", [updates, numbers(sizes)], sizes, {"allowzero": [1]})
    for axis in reversed(range(len(box))):
        first, end = box[axis]
        parts: list[Value | None] = []
        for run in ((0, first), (first, end), (end, data.dims[axis])):
            if run == box[axis]:
                parts.append(whole)
            elif run[0] < run[1]:
                runs = [*box[:axis], run]
                bounds = [numbers([r[i] for r in runs]) for i in (0, 1)]
                dims = [*(b - a for a, b in runs), *data.dims[axis + 1 :]]
                parts.append(add("Slice", [data, *bounds, numbers([*range(axis + 1)])], dims, {}))
        if len(parts) > 1:
            whole = add("Concat", parts, [*sizes[:axis], *data.dims[axis:]], {"axis": [axis]})
    return made


def _box(at: np.ndarray, dims: tuple[int, ...]) -> list[tuple[int, int]] | None:
    """(first, behind the last) along each axis of what the indices address, in order; None: no box."""
    axis, box = 0, []
    for i in range(at.shape[-1]):
        index = np.where(at[..., i] < 0, at[..., i] + dims[i], at[..., i])
        low = int(index.flat[0])
        length = at.shape[axis] if axis < at.ndim - 1 else 1
        steps = np.arange(low, low + length).reshape(-1, *[1] * (at.ndim - 2 - axis))
        if length > 1 and np.array_equal(index, np.broadcast_to(steps, index.shape)):
            axis += 1
        elif not np.all(index == low):
            return None
        else:  # one index: of an axis of its own, or of none
            axis += length == 1 and axis < at.ndim - 1
            length = 1
        if low < 0 or low + length > dims[i]:
            return None
        box.append((low, low + length))
    if any(n != 1 for n in at.shape[axis:-1]):
        return None
    return box + [(0, d) for d in dims[at.shape[-1] :]]


def scatter_rows(graph: Graph) -> bool:
    """ScatterElements along axis 0 whose indices are equal in all columns: ScatterND of rows."""
    changed = False
    for node in list(graph.nodes):
        if node.op != "ScatterElements" or not node.is_known or len(node.output.dims) < 2:
            continue
        data, at, updates = node.inputs
        rank = len(node.output.dims)
        if data is None or at is None or node.int_attr("axis", 0) not in (0, -rank):
            continue
        narrow = _column(graph, at)
        if narrow is not None and all(
            d[1:] == a[1:] and n == (a[0], *[1] * (rank - 1)) for d, a, n in shapes_together(data, at, narrow)
        ):
            column = Value(graph.fresh_name(f"{node.name}/rows"), narrow.dtype)
            shape = constant(graph, column.name, np.array([-1, 1], np.int64))
            place = graph.nodes.index(node)
            graph.nodes.insert(place, Node("Reshape", column.name, [narrow, shape], [column]))
            node.op, node.inputs = "ScatterND", [data, column, updates]
            node.attrs = {k: v for k, v in node.attrs.items() if k == "reduction"}
            changed = True
    return changed


def _column(graph: Graph, at: Value) -> Value | None:
    """The indices before they were repeated for every column."""
    if at.const is None:
        spread = producer(at, "Expand")
        return None if spread is None else spread.inputs[0]
    first = at.const[(slice(None), *[slice(1)] * (at.const.ndim - 1))]
    return constant(graph, "rows", np.ascontiguousarray(first)) if np.all(at.const == first) else None
