# SPDX-License-Identifier: Apache-2.0
"""Shapes and constants: infers every value through the core and folds nodes whose inputs are constant."""

from __future__ import annotations

import numpy as np

from pyneo.compiler import core
from pyneo.compiler.ir.graph import DType, Graph, Node, Sample, Value
from pyneo.errors import CompileError, Error

# A folded constant may be this large whatever it was made from; above it, it must not be larger than
# twice its inputs. Expand, Tile or ConstantOfShape over a constant stay nodes of the graph otherwise.
FOLD_BYTES = 16 << 20
_KNOWN_BYTES = 64 << 10  # the runtime's own limit for values it computes when shapes are bound
_SHAPE_ONLY = ("Shape", "Size")
# Operators on shapes that keep numbers apart: what is equal in samples of different sizes is equal always.
_SHAPE_ARITHMETIC = {
    "Shape", "Gather", "Slice", "Concat", "Squeeze", "Unsqueeze", "Reshape", "Cast",
    "Add", "Sub", "Mul", "Identity",
}  # fmt: skip


def infer_and_fold(graph: Graph) -> bool:
    """Sets dtype and shape of every value; replaces constant nodes by their values. True if it folded any.

    Raises CompileError listing every node whose shapes contradict its operator.
    """
    problems: list[str] = []
    folded: list[Node] = []
    step = _infer_symbolic if graph.is_dynamic else _infer_static
    if graph.is_dynamic:
        _sample_inputs(graph)
    unknown: set[int] = set()  # values behind a failed node: their readers are skipped, not reported
    for node in graph.nodes:
        if any(v is not None and (id(v) in unknown or v.shape is None) for v in node.inputs):
            unknown.update(id(v) for v in node.outputs if v is not None)
            continue
        try:
            step(graph, node)
        except Error as e:
            problems.append(f"node '{node.name}': {e}")
            unknown.update(id(v) for v in node.outputs if v is not None)
            continue
        if _foldable(node):
            _fold(node)
            folded.append(node)
        elif not graph.is_dynamic and node.op in _SHAPE_ONLY:
            _fold_shape(node)
            folded.append(node)
        elif graph.is_dynamic and _same_in_samples(node):
            folded.append(node)
    if problems:
        raise CompileError("the model's shapes do not fit:\n  " + "\n  ".join(problems), problems)
    graph.remove(folded)
    return bool(folded)


def _infer_static(graph: Graph, node: Node) -> None:
    for value, (dtype, shape) in zip(node.outputs, core.infer(node), strict=True):
        if value is not None:
            value.dtype, value.shape = dtype, shape


def _sample_inputs(graph: Graph) -> None:
    assignments = graph.symbols.samples()
    for v in graph.inputs:
        assert v.shape is not None
        v.samples = [Sample(tuple(a[d] if isinstance(d, str) else d for d in v.shape)) for a in assignments]
    for node in graph.nodes:
        for operand in node.inputs:
            if operand is not None and operand.is_const:
                operand.samples = [Sample(operand.shape)] * len(assignments)  # type: ignore[arg-type]


def _infer_symbolic(graph: Graph, node: Node) -> None:
    """Shapes in every sample, and values where shapes and constants decide them."""
    count = len(graph.symbols.samples())
    columns: list[list[Sample]] = [[] for _ in node.outputs]
    for k in range(count):
        results = core.infer_sample(node, k)
        values: list[np.ndarray | None] = [None] * len(results)
        known = all(v is None or v.is_const or v.samples[k].value is not None for v in node.inputs)
        size = sum(int(np.prod(shape, dtype=object)) * dtype.size for dtype, shape in results)
        if node.op in _SHAPE_ONLY and node.inputs[0] is not None:
            values = [_shape_value(node, node.inputs[0].samples[k].shape)]
        elif known and size <= _KNOWN_BYTES and not node.subgraphs and not _is_random(node):
            values = list(core.evaluate_sample(node, k))
        for column, value, (dtype, shape), computed in zip(
            columns, node.outputs, results, values, strict=True
        ):
            if value is not None:
                value.dtype = dtype
            column.append(Sample(shape, computed))
    for value, column in zip(node.outputs, columns, strict=True):
        if value is not None:
            value.samples = column
            shapes = (s.shape for s in column)
            value.shape = tuple(graph.symbols.dim(sizes) for sizes in zip(*shapes, strict=True))


def _same_in_samples(node: Node) -> bool:
    """Folds shape arithmetic whose value is the same in all samples: it depends on fixed dims only."""
    if node.op not in _SHAPE_ARITHMETIC:
        return False
    for v in node.outputs:
        if v is None:
            continue
        first = v.samples[0].value
        if first is None or any(s.value is None or not np.array_equal(s.value, first) for s in v.samples[1:]):
            return False
    for v in node.outputs:
        if v is not None:
            v.const, v.producer = v.samples[0].value, None
    return True


def _is_random(node: Node) -> bool:
    info = core.op_info(node.op)
    return info is None or bool(info[0] & core.RANDOM)


def _foldable(node: Node) -> bool:
    info = core.op_info(node.op)
    if info is None or info[0] & core.RANDOM or node.subgraphs:
        return False
    if not all(v is None or v.is_const for v in node.inputs):
        return False
    produced = sum(_bytes(v) for v in node.outputs if v is not None)
    consumed = sum(v.const.nbytes for v in node.inputs if v is not None and v.const is not None)
    return produced <= max(FOLD_BYTES, 2 * consumed)


def _fold_shape(node: Node) -> None:
    x = node.inputs[0]
    assert x is not None
    node.output.const = _shape_value(node, x.dims)
    node.output.producer = None


def _shape_value(node: Node, shape: tuple[int, ...]) -> np.ndarray:
    """Value of Shape or Size, which need their input's shape only."""
    dims = np.array(shape, np.int64)
    if node.op == "Size":
        return np.array(dims.prod(), np.int64)
    # Slices clamp as the operator does; `end` absent means all.
    end = node.attrs.get("end")
    return dims[node.int_attr("start", 0) : int(end[0]) if end else None].copy()


def _bytes(v: Value) -> int:
    return int(np.prod(v.dims, dtype=object)) * v.dtype.size


def _fold(node: Node) -> None:
    for value, array in zip(node.outputs, core.evaluate(node), strict=True):
        if value is not None:
            value.const = array if value.dtype is not DType.BOOL else array.astype(bool)
            value.producer = None
