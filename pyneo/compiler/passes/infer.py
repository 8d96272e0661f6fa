# SPDX-License-Identifier: Apache-2.0
"""Shapes and constants: infers every value through the core and folds nodes whose inputs are constant."""

from __future__ import annotations

import numpy as np

from pyneo.compiler import core
from pyneo.compiler.ir.graph import DType, Graph, Node, Value
from pyneo.errors import CompileError, Error

# A folded constant may be this large whatever it was made from; above it, it must not be larger than
# twice its inputs. Expand, Tile or ConstantOfShape over a constant stay nodes of the graph otherwise.
FOLD_BYTES = 1 << 20


def infer_and_fold(graph: Graph) -> bool:
    """Sets dtype and shape of every value; replaces constant nodes by their values. True if it folded any.

    Raises CompileError listing every node whose shapes contradict its operator.
    """
    problems: list[str] = []
    folded: list[Node] = []
    unknown: set[int] = set()  # values behind a failed node: their readers are skipped, not reported
    for node in graph.nodes:
        if any(v is not None and (id(v) in unknown or v.shape is None) for v in node.inputs):
            unknown.update(id(v) for v in node.outputs if v is not None)
            continue
        try:
            results = core.infer(node)
        except Error as e:
            problems.append(f"node '{node.name}': {e}")
            unknown.update(id(v) for v in node.outputs if v is not None)
            continue
        for value, (dtype, shape) in zip(node.outputs, results, strict=True):
            if value is not None:
                value.dtype, value.shape = dtype, shape
        if _foldable(node):
            _fold(node)
            folded.append(node)
        elif node.op in ("Shape", "Size"):
            _fold_shape(node)
            folded.append(node)
    if problems:
        raise CompileError("the model's shapes do not fit:\n  " + "\n  ".join(problems), problems)
    graph.remove(folded)
    return bool(folded)


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
    """Shape and Size need their input's shape only, not its value."""
    x = node.inputs[0]
    assert x is not None
    dims = np.array(x.dims, np.int64)
    if node.op == "Size":
        node.output.const = np.array(dims.prod(), np.int64)
    else:
        # Slices clamp as the operator does; `end` absent means all.
        end = node.attrs.get("end")
        node.output.const = dims[node.int_attr("start", 0) : int(end[0]) if end else None].copy()
    node.output.producer = None


def _bytes(v: Value) -> int:
    return int(np.prod(v.dims, dtype=object)) * v.dtype.size


def _fold(node: Node) -> None:
    for value, array in zip(node.outputs, core.evaluate(node), strict=True):
        if value is not None:
            value.const = array if value.dtype is not DType.BOOL else array.astype(bool)
            value.producer = None
