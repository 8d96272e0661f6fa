# SPDX-License-Identifier: Apache-2.0
"""Inference of graphs whose shapes are bound at run time, by samples (ir/symbols.py).

Every node is inferred once for each sample. Where data decides a dim, it gets a symbol of its own and
inference goes on; where not even the rank is certain, or the samples contradict an operator that may well
be right at run time, the shape stays open (None) and so do those that rest on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pyneo.compiler import core
from pyneo.compiler.budget import Budget
from pyneo.compiler.ir.graph import STRUCTURAL, Dim, DType, Graph, Node, Sample, Value
from pyneo.compiler.ir.symbols import Symbols
from pyneo.compiler.passes.open_shapes import Open, clamps, dims_by_data, implied_shapes, result_types
from pyneo.errors import CompileError, Error, ValueNeededError

_KNOWN_BYTES = 64 << 10  # the runtime's own limit for values it computes when shapes are bound
SHAPE_ONLY = ("Shape", "Size")
# Operators on shapes that keep numbers apart (Sample.apart).
_SHAPE_ARITHMETIC = {
    "Shape", "Gather", "Slice", "Concat", "Squeeze", "Unsqueeze", "Reshape", "Cast",
    "Add", "Sub", "Mul", "Identity",
}  # fmt: skip
_WIDE = (DType.I32, DType.I64, DType.F32, DType.F64)


@dataclass
class Sampling:
    """What one inference shares: the symbols, what is wrong, and how a node becomes a constant."""

    symbols: Symbols
    problems: list[str]
    fold_node: Callable[[Node, Budget], bool]
    fold: bool = True  # False while shapes are tried out, in the body of a loop
    folded: bool = False  # whether a node became a constant
    too_small: int = 0  # nodes that refuse the samples' sizes
    data_dependent: bool = False  # whether some shape was found to depend on data or control flow
    inside: int = 0  # control-flow nodes around the graph
    loops: int = 0  # loops among them whose shapes are being tried out

    def __post_init__(self) -> None:
        self.assignments = self.symbols.samples()

    @property
    def count(self) -> int:
        return len(self.assignments)

    def same(self, shape: tuple[int, ...], value: np.ndarray | None = None) -> list[Sample]:
        """A shape that no symbol changes: one object, which says that the samples are the same."""
        return [Sample(shape, value)] * self.count

    def of(self, v: Value) -> list[Sample]:
        """The samples of a value of known rank."""
        fresh = len(v.samples) == self.count
        if v.const is not None and not (fresh and v.samples[0].shape == v.const.shape):
            assert v.shape is not None
            v.samples = self.same(tuple(int(d) for d in v.shape))
        return v.samples

    def set(self, v: Value, samples: list[Sample] | None) -> None:
        """Gives a value its samples and the shape that follows; None leaves the shape open."""
        v.samples = samples or []
        if samples is None:
            v.shape = None
        else:
            shapes = zip(*(s.shape for s in samples), strict=True)
            v.shape = tuple(self.symbols.dim(sizes) for sizes in shapes)

    def opened(self, pattern: Sequence[tuple[int, ...] | int], key: str) -> list[Sample]:
        """Samples of a shape whose dims are numbers, sizes by sample, or Open: a symbol of its own."""
        columns = []
        for axis, dim in enumerate(pattern):
            if isinstance(dim, tuple):
                columns.append(dim)
            elif dim == Open:
                columns.append(self.symbols.open_dim(f"{key}.{axis}"))
            else:
                columns.append((dim,) * self.count)
        shapes = [tuple(c[k] for c in columns) for k in range(self.count)]
        return [Sample(shapes[0])] * self.count if len(set(shapes)) == 1 else [Sample(s) for s in shapes]


def infer_sampled(graph: Graph, s: Sampling) -> bool:
    """Samples and shapes for every value of a model's graph; True if it folded a node."""
    for v in graph.inputs:
        assert v.shape is not None
        if v.is_static:
            v.samples = s.same(tuple(int(d) for d in v.shape))
        else:
            v.samples = [
                Sample(tuple(a[d] if isinstance(d, str) else d for d in v.shape)) for a in s.assignments
            ]
    return infer_nodes(graph, s)


def infer_nodes(graph: Graph, s: Sampling) -> bool:
    """Like `infer_sampled`, for a graph whose inputs have their samples."""
    from pyneo.compiler.passes.control_shapes import infer_control

    folded: list[Node] = []
    changed = False
    made: set[int] = set()  # what nodes of this very graph give: it is there whenever its readers run
    failed: set[int] = set()  # values behind a failed node: their readers are skipped, not reported
    for node in graph.nodes:
        s.symbols.budget.check_time()
        if any(v is not None and id(v) in failed for v in node.inputs):
            _give_up(node, s, failed)
            continue
        try:
            if node.op in STRUCTURAL:
                _leave_open(node, s)
            elif node.subgraphs:
                s.data_dependent = True
                s.inside += 1
                try:
                    changed |= infer_control(node, s)
                finally:
                    s.inside -= 1
            else:
                _imply_shapes(node, s, made)
                _infer_node(node, s)
        except Error as e:
            # A branch whose shapes contradict it may well be one that is never taken: the runtime will say.
            if s.inside == 0:
                s.problems.append(f"node '{node.name}': {e}")
                _give_up(node, s, failed)
            else:
                _give_up(node, s, set())
            continue
        made.update(id(v) for v in node.outputs if v is not None)
        if (
            s.fold
            and node.is_known
            and not node.subgraphs
            and (s.fold_node(node, s.symbols.budget) or _same_in_samples(node))
        ):
            folded.append(node)
    graph.remove(folded)
    return changed or bool(folded)


def _imply_shapes(node: Node, s: Sampling, made: set[int]) -> None:
    """Gives inputs of unknown rank the shape that the node cannot do without."""
    if node.is_known:
        return
    patterns = implied_shapes(node, lambda name: s.symbols.open_dim(f"{node.name}.{name}"))
    for i, pattern in patterns.items():
        v = node.inputs[i]
        if v is not None and id(v) in made:
            s.set(v, s.opened(pattern, f"{node.name}.in{i}"))


def _give_up(node: Node, s: Sampling, failed: set[int]) -> None:
    for v in node.outputs:
        if v is not None:
            s.set(v, None)
            failed.add(id(v))


def _leave_open(node: Node, s: Sampling) -> None:
    """Dims that data decides become symbols of their own; shapes of unknown rank stay open."""
    s.data_dependent = True
    patterns = dims_by_data(node)
    for o, (v, t) in enumerate(zip(node.outputs, result_types(node), strict=True)):
        if v is None:
            continue
        v.dtype = v.dtype or t
        pattern = patterns[o] if patterns and o < len(patterns) else None
        s.set(v, None if pattern is None else s.opened(pattern, f"{node.name}.{o}"))


def _infer_node(node: Node, s: Sampling) -> None:
    operands = [v for v in node.inputs if v is not None]
    if any(v.shape is None or v.dtype is DType.NONE for v in operands):
        _leave_open(node, s)
        return
    samples = [s.of(v) for v in operands]
    dims = operands[0].shape if operands else None
    if node.op == "Squeeze" and node.input(1) is None and any(_may_be_one(d, s) for d in dims or ()):
        _leave_open(node, s)
        return
    # Operands that no symbol changes are inferred once, and what shapes say of them is true for all sizes.
    fixed = all(all(x is column[0] for x in column) for column in samples)
    columns: list[list[Sample]] = [[] for _ in node.outputs]
    types: list[DType] = []
    try:
        for k in range(1 if fixed else s.count):
            found = _infer_sample(node, k)
            if fixed:
                for t, sample in found:
                    check_size(node, t, sample.shape)
            types = [t for t, _ in found]
            for column, (_, sample) in zip(columns, found, strict=True):
                column.append(sample)
    except ValueNeededError:
        _leave_open(node, s)
        return
    except Error:
        if fixed:
            raise
        # Sizes that the samples keep apart may well agree at run time, and inputs be larger.
        s.too_small += 1
        _leave_open(node, s)
        return
    smallest = s.symbols.bounds
    if any(len({len(x.shape) for x in column}) != 1 for column in columns) or (
        not fixed and clamps(node, lambda name: smallest.get(name, (0, 0))[0])
    ):
        _leave_open(node, s)
        return
    for v, t, column in zip(node.outputs, types, columns, strict=True):
        if v is not None:
            v.dtype = t
            s.set(v, column * s.count if fixed else column)
    if fixed and s.fold:
        _fold_fixed(node)


def _may_be_one(dim: Dim, s: Sampling) -> bool:
    """Whether a dim may be 1 at run time that is not in the samples: a Squeeze of all ones would drop it."""
    return isinstance(dim, str) and s.symbols.bounds.get(dim, (0, 1))[0] < 2


def _infer_sample(node: Node, k: int) -> list[tuple[DType, Sample]]:
    """Dtype, shape and, where shapes and constants decide it, value of every output in sample k."""
    results = core.infer_sample(node, k)
    values: list[np.ndarray | None] = [None] * len(results)
    known = all(v is None or v.is_const or v.samples[k].value is not None for v in node.inputs)
    size = sum(int(np.prod(shape, dtype=object)) * dtype.size for dtype, shape in results)
    apart = node.op in _SHAPE_ARITHMETIC and all(t in _WIDE for t, _ in results)
    if node.op in SHAPE_ONLY and node.inputs[0] is not None:
        values = [shape_value(node, node.inputs[0].samples[k].shape)]
    elif known and size <= _KNOWN_BYTES and not _is_random(node):
        values = list(core.evaluate_sample(node, k))
    if node.op != "Shape":
        apart &= all(v is None or v.is_const or v.samples[k].apart for v in node.inputs)
    return [(t, Sample(shape, value, apart)) for value, (t, shape) in zip(values, results, strict=True)]


def _fold_fixed(node: Node) -> None:
    """A value that follows from fixed shapes is a constant."""
    outputs = [v for v in node.outputs if v is not None]
    if all(v.samples[0].value is not None for v in outputs):
        for v in outputs:
            v.const = v.samples[0].value if v.dtype is not DType.BOOL else v.samples[0].value.astype(bool)  # type: ignore[union-attr]


def _same_in_samples(node: Node) -> bool:
    """Folds what is known to be the same in all samples: shape arithmetic that depends on fixed dims only."""
    outputs = [v for v in node.outputs if v is not None]
    if all(v.is_const for v in outputs):
        for v in outputs:
            v.producer = None
        return True
    for v in outputs:
        first = v.samples[0].value
        if first is None or not all(x.apart and np.array_equal(first, x.value) for x in v.samples):  # type: ignore[arg-type]
            return False
    for v in outputs:
        v.const, v.producer = v.samples[0].value, None
    return True


def _is_random(node: Node) -> bool:
    info = core.op_info(node.op)
    return info is None or bool(info[0] & core.RANDOM)


def check_size(node: Node, dtype: DType, shape: tuple[int, ...]) -> None:
    """CompileError if an output has more bytes than can be addressed."""
    if int(np.prod(shape, dtype=object)) * max(dtype.size, 1) > 1 << 56:
        raise CompileError(f"{node.op}: its output of shape {list(shape)} is larger than any memory")


def shape_value(node: Node, shape: tuple[int, ...]) -> np.ndarray:
    """Value of Shape or Size, which need their input's shape only."""
    dims = np.array(shape, np.int64)
    if node.op == "Size":
        return np.array(dims.prod(), np.int64)
    # Slices clamp as the operator does; `end` absent means all.
    end = node.attrs.get("end")
    return dims[node.int_attr("start", 0) : int(end[0]) if end else None].copy()
