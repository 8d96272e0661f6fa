# SPDX-License-Identifier: Apache-2.0
"""What is certain of a result's shape when data decides it: its rank, and the dims that data does not touch.

A rule is asked for a node that the core cannot infer without the value (or the rank) of an input. It gives
a pattern for each output, or None for one of unknown rank.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pyneo.compiler.frontends.onnx.schemas import result_types as schema_types
from pyneo.compiler.ir.graph import DType, Node, Value

Open = -1  # a dim that data decides
Size = int | tuple[int, ...]  # a number, or a size for each sample
Pattern = list[Size]


def result_types(node: Node) -> list[DType]:
    """Element types of the outputs as far as the standard decides them; NONE where only data does."""
    return schema_types(node.op, node.inputs, node.attrs, len(node.outputs))


def dims_by_data(node: Node) -> list[Pattern | None] | None:
    """A pattern for each of the first outputs; None if nothing is certain."""
    rule = _RULES.get(node.op)
    return rule(node) if rule is not None else None


def _dims(v: Value | None) -> Pattern | None:
    """Dims of a value of known rank, each a number or the sizes in the samples."""
    if v is None or v.shape is None:
        return None
    if not v.samples:
        return [int(d) for d in v.shape]
    return [
        sizes if len(set(sizes)) > 1 else sizes[0]
        for sizes in zip(*(s.shape for s in v.samples), strict=True)
    ]


def _rank(v: Value | None) -> int | None:
    return None if v is None or v.shape is None else len(v.shape)


def _length(v: Value | None) -> int | None:
    """Elements of a vector of known length."""
    if v is None or v.shape is None or len(v.shape) != 1 or not isinstance(v.shape[0], int):
        return None
    return v.shape[0]


def _keep_rank(node: Node) -> list[Pattern | None] | None:
    rank = _rank(node.inputs[0])
    return None if rank is None else [[Open] * rank]


def _non_zero(node: Node) -> list[Pattern | None]:
    rank = _rank(node.inputs[0])
    return [[Open if rank is None else rank, Open]]


def _compress(node: Node) -> list[Pattern | None] | None:
    axis, dims = node.ints_attr("axis"), _dims(node.inputs[0])
    return [[Open]] if axis is None else _at_axis(dims, axis[0])


def _at_axis(dims: Pattern | None, axis: int) -> list[Pattern | None] | None:
    if dims is None or not -len(dims) <= axis < len(dims):
        return None
    dims[axis] = Open
    return [dims]


def _unique(node: Node) -> list[Pattern | None]:
    found = _compress(node)
    return [found[0] if found else None, [Open], [Open], [Open]]


def _reshape(node: Node) -> list[Pattern | None] | None:
    target = node.const(1)
    if target is not None:
        numbers = [int(d) for d in target.reshape(-1)]
        zero_copies = not node.int_attr("allowzero", 0)
        dims = _dims(node.inputs[0]) or []
        return [[
            Open if d == -1 else (dims[i] if i < len(dims) else Open) if d == 0 and zero_copies else d
            for i, d in enumerate(numbers)
        ]]  # fmt: skip
    length = _length(node.inputs[1])
    return None if length is None else [[Open] * length]


def _expand(node: Node) -> list[Pattern | None] | None:
    length, rank = _length(node.inputs[1]), _rank(node.inputs[0])
    return None if length is None or rank is None else [[Open] * max(length, rank)]


def _vector_shape(at: int) -> Callable[[Node], list[Pattern | None] | None]:
    def rule(node: Node) -> list[Pattern | None] | None:
        length = _length(node.input(at))
        return None if length is None else [[Open] * length]

    return rule


def _slice(node: Node) -> list[Pattern | None] | None:
    dims = _dims(node.inputs[0])
    if dims is None:
        return None
    axes, length = node.const(3), _length(node.inputs[1])
    if axes is None and node.input(3) is None and length is not None:
        axes = np.arange(length)
    touched = range(len(dims)) if axes is None else [int(a) for a in axes.reshape(-1)]
    if any(not -len(dims) <= a < len(dims) for a in touched):
        return None
    for a in touched:
        dims[a] = Open
    return [dims]


def clamps(node: Node, least: Callable[[str], int]) -> bool:
    """Whether a Slice whose length is the same in all samples has another where its input is smaller.

    least: the smallest size of an open dim. 0 is left out: a batch is taken to have a first element.
    """
    x, starts, ends = node.inputs[0], node.const(1), node.const(2)
    if node.op != "Slice" or x is None or x.shape is None or starts is None or ends is None:
        return False
    axes, steps = node.const(3), node.const(4)
    numbers = [v.reshape(-1).tolist() for v in (starts, ends)]
    numbers.append(list(range(len(numbers[0]))) if axes is None else axes.reshape(-1).tolist())
    numbers.append([1] * len(numbers[0]) if steps is None else steps.reshape(-1).tolist())
    for start, end, axis, step in zip(*numbers, strict=True):
        dim = x.shape[axis]
        sizes = [s.shape[axis] for s in x.samples]
        if isinstance(dim, str) and step:
            part, small = slice(start, end, step), range(max(1, least(dim)), min(*sizes, 512))
            found = {len(range(*part.indices(n))) for n in sizes}
            if len(found) == 1 and any(len(range(*part.indices(n))) not in found for n in small):
                return True
    return False


def _top_k(node: Node) -> list[Pattern | None] | None:
    found = _at_axis(_dims(node.inputs[0]), node.int_attr("axis", -1))
    return None if found is None else [found[0], found[0]]


def _one_hot(node: Node) -> list[Pattern | None] | None:
    dims, axis = _dims(node.inputs[0]), node.int_attr("axis", -1)
    if dims is None:
        return None
    dims.insert(axis if axis >= 0 else len(dims) + 1 + axis, Open)
    return [dims]


def _split(node: Node) -> list[Pattern | None] | None:
    found = _at_axis(_dims(node.inputs[0]), node.int_attr("axis", 0))
    return None if found is None else [found[0]] * len(node.outputs)


def _unsqueeze(node: Node) -> list[Pattern | None] | None:
    length, rank = _length(node.inputs[1]), _rank(node.inputs[0])
    return None if length is None or rank is None else [[Open] * (length + rank)]


def _reduce(node: Node) -> list[Pattern | None] | None:
    return _keep_rank(node) if node.int_attr("keepdims", 1) else None


def _shape(node: Node) -> list[Pattern | None]:
    return [[Open]]


def _non_max(node: Node) -> list[Pattern | None]:
    return [[Open, 3]]


def _flatten(node: Node) -> list[Pattern | None]:
    return [[Open, Open]]


def _scalar(node: Node) -> list[Pattern | None]:
    return [[]]


def _affine(node: Node) -> list[Pattern | None] | None:
    """[N, H, W, 2] of a size [N, C, H, W], [N, D, H, W, 3] of a size of five."""
    length = _length(node.inputs[1])
    return [[Open] * length] if length else None


def _together(*operands: Pattern) -> Pattern:
    """Dims of operands that broadcast; Open where two that differ must turn out equal, or one of them 1."""
    rank = max(map(len, operands))
    found: list[set[Size]] = [set() for _ in range(rank)]
    for p in operands:
        for sizes, d in zip(found[rank - len(p) :], p, strict=True):
            sizes.update([d] if d != 1 else [])
    return [_one_of(sizes) for sizes in found]


def _one_of(sizes: set[Size]) -> Size:
    numbers = [d for d in sizes if isinstance(d, int)]
    if len(sizes) < 2:
        return next(iter(sizes), 1)
    return numbers[0] if len(numbers) == 1 and numbers[0] != Open else Open


def _broadcast(node: Node) -> list[Pattern | None] | None:
    found = [_dims(v) for v in node.inputs]
    known = [p for p in found if p is not None]
    return [_together(*known)] if known and len(known) == len(found) else None


def _product(node: Node) -> list[Pattern | None] | None:
    """What the factors reduce over is not seen behind them."""
    a, b = _dims(node.inputs[0]), _dims(node.inputs[1])
    if a is None or b is None or len(a) < 2 or len(b) < 2:
        return None
    return [[*_together(a[:-2], b[:-2]), a[-2], b[-1]]]


def _attention(node: Node) -> list[Pattern | None] | None:
    q, v = _dims(node.inputs[0]), _dims(node.inputs[2])
    return [[*q[:-1], v[-1]]] if q is not None and v is not None and len(q) == len(v) == 4 else None


_RULES: dict[str, Callable[[Node], list[Pattern | None] | None]] = {
    "NonZero": _non_zero,
    "Compress": _compress,
    "Unique": _unique,
    "NonMaxSuppression": _non_max,
    "Range": _shape,
    "Shape": _shape,
    "Size": _scalar,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Expand": _expand,
    "ConstantOfShape": _vector_shape(0),
    "RandomNormalLike": _keep_rank,
    "Tile": _keep_rank,
    "Pad": _keep_rank,
    "Resize": _keep_rank,
    "CenterCropPad": _keep_rank,
    "Slice": _slice,
    "TopK": _top_k,
    "OneHot": _one_hot,
    "Split": _split,
    "Unsqueeze": _unsqueeze,
    "AffineGrid": _affine,
    "MatMul": _product,
    "Attention": _attention,
    "SequenceLength": _scalar,
    "OptionalHasElement": _scalar,
} | {f"Reduce{kind}": _reduce for kind in (
    "Sum", "Mean", "Max", "Min", "Prod", "L1", "L2", "LogSum", "LogSumExp", "SumSquare",
)} | dict.fromkeys((
    "Add", "Sub", "Mul", "Div", "Pow", "Where", "And", "Or", "Equal", "Greater", "GreaterOrEqual", "Less",
    "LessOrEqual",
), _broadcast)  # fmt: skip


def implied_shapes(node: Node, dim: Callable[[str], tuple[int, ...]]) -> dict[int, Pattern]:
    """Shapes that inputs of unknown rank must have, or the operator would refuse them: by input.

    `dim` makes a dim that data decides, the same for the same name.
    """
    if node.op in ("LSTM", "GRU", "RNN"):
        return _recurrent(node, dim)
    x, weights = node.input(0), node.const(1)
    if x is None or x.shape is not None or weights is None:
        return {}
    if node.op == "Conv":
        return {0: [Open, weights.shape[1] * node.int_attr("group", 1), *[Open] * (weights.ndim - 2)]}
    if node.op == "Gemm" and weights.ndim == 2:
        inner = weights.shape[1 if node.int_attr("transB", 0) else 0]
        return {0: [inner, Open] if node.int_attr("transA", 0) else [Open, inner]}
    return {}


def _recurrent(node: Node, dim: Callable[[str], tuple[int, ...]]) -> dict[int, Pattern]:
    weights, recurrence = node.const(1), node.const(2)
    if weights is None or recurrence is None or node.int_attr("layout", 0):
        return {}
    at_batch: dict[int, Pattern] = {
        0: [dim("steps"), Open, weights.shape[2]],
        5: [weights.shape[0], Open, recurrence.shape[2]],
        6: [weights.shape[0], Open, recurrence.shape[2]],
    }
    there = {i: v for i in at_batch if (v := node.input(i)) is not None}
    known = next((d[1] for v in there.values() if (d := _dims(v)) and len(d) == 3), dim("batch"))
    for pattern in at_batch.values():
        pattern[1] = known
    return {i: at_batch[i] for i, v in there.items() if v.shape is None}
