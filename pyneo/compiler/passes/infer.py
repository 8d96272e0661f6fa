# SPDX-License-Identifier: Apache-2.0
"""Shapes and constants: infers every value through the core and folds nodes whose inputs are constant."""

from __future__ import annotations

import numpy as np

from pyneo.compiler import core
from pyneo.compiler.budget import Budget
from pyneo.compiler.ir.graph import STRUCTURAL, DType, Graph, Node
from pyneo.compiler.passes.sampled import SHAPE_ONLY, Sampling, check_size, infer_sampled, shape_value
from pyneo.errors import CompileError, Error, ValueNeededError

_PRODUCTS = (
    "MatMul",
    "Gemm",
    "Conv",
    "ConvTranspose",
    "MatMulInteger",
    "ConvInteger",
    "QLinearConv",
    "Einsum",
)

# Sizes of the samples, for graphs whose smallest input is larger than the samples are by themselves.
_SCALES = (1, 8, 64)

# A folded constant may be this large whatever it was made from; above it, it must not be larger than
# twice its inputs. Expand, Tile or ConstantOfShape over a constant stay nodes of the graph otherwise.
FOLD_BYTES = 16 << 20


def infer_and_fold(graph: Graph) -> bool:
    """Sets dtype and shape of every value; replaces constant nodes by their values. True if it folded any.

    Where data decides a shape, a dim or the whole shape stays open. Raises CompileError listing every node
    whose shapes contradict its operator.
    """
    problems: list[str] = []
    graph.symbols.data_dependent = False
    complete, changed = (False, False) if graph.symbols.bounds else _infer_static(graph, problems)
    if not complete:  # data or control flow decides a shape, or symbols do
        sampling = _sampled(graph, problems)
        changed |= sampling.folded
        graph.symbols.data_dependent = sampling.data_dependent
    if problems:
        raise CompileError("the model's shapes do not fit:\n  " + "\n  ".join(problems), problems)
    return changed


def _sampled(graph: Graph, problems: list[str]) -> Sampling:
    """Infers the graph by samples, of sizes large enough for it where there are such."""
    symbols = graph.symbols
    if symbols.bounds and not symbols.scaled:
        missed = {}
        for scale in _SCALES:
            symbols.scale = scale
            trial = Sampling(symbols, [], fold_node, fold=False)
            infer_sampled(graph, trial)
            missed[scale] = sum(not node.is_known for node in graph.all_nodes())
            if not trial.too_small and not trial.problems:
                break
        symbols.scale = min(missed, key=lambda scale: (missed[scale], scale))
        symbols.scaled = True
    problems.clear()
    sampling = Sampling(symbols, problems, fold_node)
    sampling.folded = infer_sampled(graph, sampling)
    return sampling


def _infer_static(graph: Graph, problems: list[str]) -> tuple[bool, bool]:
    """The graph in numbers: (whether they decide all of it, whether a node was folded on the way)."""
    folded: list[Node] = []
    complete = True
    unknown: set[int] = set()  # values behind a failed node: their readers are skipped, not reported
    for v in graph.inputs:
        v.samples = []
    for node in graph.nodes:
        graph.symbols.budget.check_time()
        if node.subgraphs or node.op in STRUCTURAL:
            complete = False
            break
        if any(v is not None and (id(v) in unknown or v.shape is None) for v in node.inputs):
            unknown.update(id(v) for v in node.outputs if v is not None)
            continue
        try:
            for value, (dtype, shape) in zip(node.outputs, core.infer(node), strict=True):
                if value is not None:
                    check_size(node, dtype, shape)
                    value.dtype, value.shape, value.samples = dtype, shape, []
        except ValueNeededError:
            complete = False
            break
        except Error as e:
            problems.append(f"node '{node.name}': {e}")
            unknown.update(id(v) for v in node.outputs if v is not None)
            continue
        if node.op in SHAPE_ONLY and node.inputs[0] is not None:
            node.output.const = shape_value(node, node.inputs[0].dims)
            node.output.producer = None
            folded.append(node)
        elif fold_node(node, graph.symbols.budget):
            folded.append(node)
    graph.remove(folded)
    return complete, bool(folded)


def fold_node(node: Node, budget: Budget) -> bool:
    """Makes the outputs constants if all inputs are and the budget for constants allows."""
    info = core.op_info(node.op)
    if info is None or info[0] & core.RANDOM or node.subgraphs:
        return False
    if not all(v is None or v.is_const for v in node.inputs):
        return False
    produced = sum(_bytes(v.dims, v.dtype) for v in node.outputs if v is not None)
    consumed = sum(v.const.nbytes for v in node.inputs if v is not None and v.const is not None)
    if produced > max(FOLD_BYTES, 2 * consumed) or not budget.fold(_work(node), produced):
        return False
    for value, array in zip(node.outputs, core.evaluate(node), strict=True):
        if value is not None:
            value.const = array if value.dtype is not DType.BOOL else array.astype(bool)
            value.producer = None
    return True


def _work(node: Node) -> int:
    """Multiply-adds of operators that do more than a few for each element: they have weights at input 1."""
    weights = node.const(1)
    if node.op not in _PRODUCTS or weights is None or weights.size == 0:
        return 0
    made = int(np.prod(node.output.dims, dtype=object))
    inner = {"Conv": weights.size // weights.shape[0], "ConvTranspose": weights.size}
    depth: int = inner.get(node.op) or weights.shape[-2 if weights.ndim > 1 else -1]
    return made * depth


def _bytes(dims: tuple[int, ...], dtype: DType) -> int:
    return int(np.prod(dims, dtype=object)) * dtype.size
