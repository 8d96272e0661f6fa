# SPDX-License-Identifier: Apache-2.0
"""Nodes that change nothing, and chains of shape changes that are one."""

from __future__ import annotations

import numpy as np

from pyneo.compiler.ir.graph import Graph, Node, Value
from pyneo.compiler.passes.match import Readers, constant, gathered, producer, scalar, shapes_together

_BROADCASTING = {
    "Add", "Sub", "Mul", "Div", "Pow", "Mod", "Max", "Min", "Sum", "Mean", "Where", "And", "Or", "Xor",
    "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual",
}  # fmt: skip
_RESHAPES = {"Reshape", "Flatten", "Squeeze", "Unsqueeze"}


def remove_identities(graph: Graph) -> bool:
    """Removes Identity, Cast to the same dtype, Transpose in order, Add 0, Mul 1, full Slice, empty Pad..."""
    outputs = {id(v) for v in graph.outputs}
    own = {id(n) for n in graph.nodes}
    gone: list[Node] = []
    for node in graph.nodes:
        source = _passes_through(node)
        if source is None or any(v is not None for v in node.outputs[1:]):
            continue
        if id(node.output) in outputs and (id(source.producer) not in own or id(source) in outputs):
            continue  # the graph's output needs a node of its own, and a value from outside keeps its name
        if id(node.output) in outputs:
            source.name, node.output.name = node.output.name, source.name
            outputs.add(id(source))
        graph.replace(node.output, source)
        gone.append(node)
    graph.remove(gone)
    return bool(gone)


def _passes_through(node: Node) -> Value | None:
    """The input whose value the first output has, if there is one."""
    x = node.input(0)
    if x is None or node.outputs[0] is None:
        return None
    if node.op == "Identity":
        return x
    if not node.is_known:
        return None
    same = x.shape == node.output.shape and x.dtype == node.output.dtype
    if node.op == "Dropout":
        return x
    if not same:
        # Broadcasting: the other operand may be the one that passes through.
        if node.op in ("Add", "Mul") and len(node.inputs) == 2 and "act" not in node.attrs:
            y = node.inputs[1]
            neutral = 0.0 if node.op == "Add" else 1.0
            if y is not None and y.shape == node.output.shape and scalar(x) == neutral:
                return y
        return None
    if node.op in ("Cast", "CastLike", "Expand", "Tile"):
        return x
    if node.op == "Slice":
        steps = node.const(4)
        forward = node.input(4) is None or (steps is not None and np.all(steps > 0))
        return x if forward else None
    if node.op == "Resize":
        return x if _keeps_pixels(node) else None
    if node.op in _RESHAPES:
        return x
    if node.op == "Transpose":
        perm = node.ints_attr("perm")
        return x if perm == list(range(len(x.dims))) else None
    if node.op == "Pad":
        pads = node.const(1)
        return x if pads is not None and not np.any(pads) else None
    if node.op in ("Add", "Sub") and "act" not in node.attrs:
        return x if scalar(node.input(1)) == 0 else None
    if node.op in ("Mul", "Div", "Pow") and "act" not in node.attrs:
        return x if scalar(node.input(1)) == 1 else None
    if node.op in ("Concat", "Sum", "Max", "Min", "Mean"):
        return x if len(node.inputs) == 1 else None
    return None


def _keeps_pixels(node: Node) -> bool:
    """Whether a Resize to its input's shape reads every pixel where it is."""
    mode = node.str_attr("coordinate_transformation_mode", "half_pixel")
    if mode in ("tf_crop_and_resize", "tf_half_pixel_for_nn"):
        return False
    scales = node.const(2)  # 1.1 of 6 pixels are 6 pixels, but not the same
    return node.input(2) is None or (scales is not None and bool(np.all(scales == 1)))


def merge_reshapes(graph: Graph) -> bool:
    """Reshape of a reshape reads the first one's input; every static reshape becomes one plain Reshape."""
    changed = False
    for node in graph.nodes:
        if node.op not in _RESHAPES or not _is_fixed(node):
            continue
        x = node.inputs[0]
        assert x is not None
        behind = x.producer if x.producer is not None and x.producer.op in _RESHAPES else None
        if behind is not None and behind.outputs[0] is x:
            node.inputs[0] = behind.inputs[0]
            changed = True
        elif node.op == "Reshape":
            continue
        node.op, node.attrs = "Reshape", {"allowzero": [1]}
        shape = np.array(node.output.dims, np.int64)
        node.inputs = [node.inputs[0], constant(graph, f"{node.name}/shape", shape)]
        changed = True
    return changed


def gather_all(graph: Graph) -> bool:
    """Gather of a whole axis in order is a Reshape (exporters write windows of one position that way)."""
    changed = False
    for node in graph.nodes:
        if node.op != "Gather" or not node.is_known or not _is_fixed(node):
            continue
        x = node.inputs[0]
        assert x is not None
        size = x.dims[node.int_attr("axis", 0)]
        indices = gathered(node, size)
        if indices is None or not np.array_equal(indices.reshape(-1), np.arange(size)):
            continue
        node.op, node.attrs = "Reshape", {"allowzero": [1]}
        node.inputs = [x, constant(graph, f"{node.name}/shape", np.array(node.output.dims, np.int64))]
        changed = True
    return changed


def drop_expands(graph: Graph) -> bool:
    """Element-wise operators broadcast by themselves: they read what an Expand reads."""
    changed = False
    for node in graph.nodes:
        if node.op not in _BROADCASTING or not node.is_known:
            continue
        for i, v in enumerate(node.inputs):
            spread = producer(v, "Expand")
            x = spread.inputs[0] if spread is not None else None
            if x is None:
                continue
            inputs = [*node.inputs[:i], x, *node.inputs[i + 1 :]]
            shapes = shapes_together(*(u for u in [*inputs, node.output] if u is not None))
            if all(_broadcast(s[:-1]) == s[-1] for s in shapes):
                node.inputs = inputs
                changed = True
    return changed


def _broadcast(shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...] | None:
    try:
        return np.broadcast_shapes(*shapes)
    except ValueError:
        return None


def merge_transposes(graph: Graph) -> bool:
    """Transpose of a transpose is one; a transpose that moves only dims of size 1 is a Reshape."""
    changed = False
    for node in graph.nodes:
        if node.op != "Transpose" or not node.is_known or node.outputs[0] is None:
            continue
        perm = _perm(node)
        inner = producer(node.inputs[0], "Transpose")
        if inner is not None:
            first = _perm(inner)
            node.attrs["perm"] = [first[p] for p in perm]
            node.inputs[0] = inner.inputs[0]
            changed = True
            continue
        x = node.inputs[0]
        assert x is not None
        moved = [p for p in perm if x.dims[p] != 1]
        if not _is_fixed(node):
            continue
        if moved == sorted(moved) and perm != sorted(perm):
            shape = constant(graph, f"{node.name}/shape", np.array(node.output.dims, np.int64))
            node.op, node.inputs, node.attrs = "Reshape", [x, shape], {"allowzero": [1]}
            changed = True
    return changed


def _is_fixed(node: Node) -> bool:
    return node.is_known and node.outputs[0] is not None and node.output.is_static


def _perm(node: Node) -> list[int]:
    x = node.inputs[0]
    assert x is not None
    return node.ints_attr("perm") or list(range(len(x.dims)))[::-1]


def share_equal_nodes(graph: Graph) -> bool:
    """Common subexpressions: of two nodes with the same operator, inputs and attributes one is enough."""
    seen: dict[tuple[object, ...], Node] = {}
    readers = Readers(graph)
    gone = []
    for node in graph.nodes:
        if node.subgraphs or node.op.startswith("Random"):
            continue
        attrs = tuple(sorted((k, tuple(v)) for k, v in node.attrs.items()))
        key = (node.op, tuple(id(v) for v in node.inputs), len(node.outputs), attrs)
        first = seen.setdefault(key, node)
        if first is node or any(v is not None and readers.is_output(v) for v in node.outputs):
            continue
        if any(a is None and b is not None for a, b in zip(first.outputs, node.outputs, strict=True)):
            continue
        for mine, theirs in zip(node.outputs, first.outputs, strict=True):
            if mine is not None and theirs is not None:
                graph.replace(mine, theirs)
        gone.append(node)
    graph.remove(gone)
    return bool(gone)
