# SPDX-License-Identifier: Apache-2.0
"""Shapes of If, Loop and Scan: what holds whichever branch is taken and however often a body runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pyneo.compiler.ir.graph import DType, Graph, Node, Sample, Value
from pyneo.compiler.passes.control import constant_trips
from pyneo.compiler.passes.open_shapes import Open
from pyneo.compiler.passes.sampled import Sampling, infer_nodes
from pyneo.errors import CompileError

# The body of a loop is inferred again until the shapes that it carries are those that it was inferred for.
# Each round opens what changed. Deep inside other loops the carried shapes are opened at once, because the
# rounds of nested loops multiply.
_ROUNDS = 4
_DEEP = 3
_MOST_TRIPS = 256  # computed one by one, to find a loop's length

Samples = list[Sample] | None  # None: rank unknown


def infer_control(node: Node, s: Sampling) -> bool:
    """Shapes of a control-flow node's outputs and of all below it; True if it folded a node below it."""
    return _RULES[node.op](node, s)


def _fixed(samples: Sequence[Sample]) -> bool:
    return all(x.shape == samples[0].shape for x in samples)


def _samples(v: Value, s: Sampling) -> Samples:
    return None if v.shape is None else s.of(v)


def _join(a: Samples, b: Samples, key: str, s: Sampling) -> Samples:
    """A shape that both are: dims that differ become a symbol of their own."""
    if a is None or b is None or len(a[0].shape) != len(b[0].shape):
        return None
    pattern: list[tuple[int, ...] | int] = []
    for axis in range(len(a[0].shape)):
        mine, theirs = tuple(x.shape[axis] for x in a), tuple(x.shape[axis] for x in b)
        pattern.append(Open if mine != theirs else mine)
    return s.opened(pattern, key)


def _same_shapes(a: Samples, b: Samples) -> bool:
    if a is None or b is None:
        return a is b
    return [x.shape for x in a] == [x.shape for x in b]


def _own_dims(samples: Samples, key: str, s: Sampling) -> Samples:
    """A shape for outside of a body: symbols that only the body knows become one of the node's own."""
    if samples is None:
        return None
    columns = zip(*(x.shape for x in samples), strict=True)
    public = {tuple(a[name] for a in s.assignments) for name in s.symbols.bounds}
    return s.opened([c if len(set(c)) == 1 or c in public else Open for c in columns], key)


def _set(v: Value | None, dtype: DType, samples: Samples, s: Sampling) -> None:
    if v is None:
        return
    if DType.NONE not in (v.dtype, dtype) and v.dtype is not dtype:
        raise CompileError(
            f"output '{v.name}' is declared {v.dtype.name}, but its subgraph gives {dtype.name}"
        )
    v.dtype = dtype or v.dtype
    s.set(v, samples)


def _if(node: Node, s: Sampling) -> bool:
    changed = False
    for branch in node.subgraphs:
        changed |= infer_nodes(branch, s)
    first, second = (branch.outputs for branch in node.subgraphs)
    for i, (v, a, b) in enumerate(zip(node.outputs, first, second, strict=False)):
        _set(v, a.dtype or b.dtype, _join(_samples(a, s), _samples(b, s), f"{node.name}.{i}", s), s)
    return changed


def _loop(node: Node, s: Sampling) -> bool:
    body = node.subgraphs[0]
    carried = len(body.inputs) - 2
    trips = _trips(node)
    for counter, dtype in zip(body.inputs, (DType.I64, DType.BOOL), strict=False):
        counter.dtype = dtype
        s.set(counter, s.same(()))
    starts = list(zip(node.inputs[2:], body.inputs[2:], strict=True))
    changed = _fixpoint(node, body, starts, body.outputs[1 : 1 + carried], s)
    for i, (v, result) in enumerate(zip(node.outputs, body.outputs[1:], strict=False)):
        key = f"{node.name}.{i}"
        if i < carried:
            start = node.inputs[2 + i]
            initial = None if start is None else _samples(start, s)
            _set(v, result.dtype, _own_dims(_join(initial, _samples(result, s), key, s), key, s), s)
        else:
            _set(v, result.dtype, _stacked(_own_dims(_samples(result, s), key, s), trips, 0, key, s), s)
    return changed


def _trips(node: Node) -> int:
    """The number of iterations if constants decide it, else Open."""
    trips = constant_trips(node, _MOST_TRIPS)
    return Open if trips is None else trips


def _stacked(samples: Samples, length: int | tuple[int, ...], axis: int, key: str, s: Sampling) -> Samples:
    """The shape with the dim of the iterations put in."""
    if samples is None:
        return None
    pattern: list[tuple[int, ...] | int] = list(zip(*(x.shape for x in samples), strict=True))
    if not -len(pattern) - 1 <= axis <= len(pattern):
        raise CompileError(f"scan_output_axes has {axis}; the stacked result has rank {len(pattern) + 1}")
    pattern.insert(axis if axis >= 0 else len(pattern) + 1 + axis, length)
    return s.opened(pattern, f"{key}.stack")


def _fixpoint(
    node: Node,
    body: Graph,
    starts: Sequence[tuple[Value | None, Value]],
    results: Sequence[Value],
    s: Sampling,
) -> bool:
    """Infers the body for carried shapes that hold in every iteration. `starts`: (outside, body's input)."""
    for outside, inside in starts:
        if outside is None or outside.dtype is DType.NONE:
            continue
        if inside.dtype not in (DType.NONE, outside.dtype):
            raise CompileError(
                f"'{inside.name}' is {inside.dtype.name} in its body, but starts as {outside.dtype.name}"
            )
        inside.dtype = outside.dtype
    assumed: list[Samples] = [
        None if outside is None or outside.shape is None or s.loops >= _DEEP else s.of(outside)
        for outside, _ in starts
    ]
    fold, problems = s.fold, len(s.problems)
    s.loops += 1
    done = False
    for round_ in range(_ROUNDS):
        if all(a is None for a in assumed):
            break
        _assume(starts, assumed, s)
        s.fold = False
        infer_nodes(body, s)
        del s.problems[problems:]
        wider: list[Samples] = [
            _join(a, _samples(result, s), f"{node.name}.in{i}", s) if round_ < _ROUNDS - 2 else
            (a if _same_shapes(a, _samples(result, s)) else None)
            for i, (a, result) in enumerate(zip(assumed, results, strict=True))
        ]  # fmt: skip
        done = all(_same_shapes(a, b) for a, b in zip(assumed, wider, strict=True))
        assumed = wider
        if done:
            break
    else:
        assumed = [None] * len(assumed)
    s.fold = fold
    changed = False
    if fold or not done:  # else the last round has left everything as it shall be
        _assume(starts, assumed, s)
        changed = infer_nodes(body, s)
    s.loops -= 1
    return changed


def _assume(starts: Sequence[tuple[Value | None, Value]], assumed: Sequence[Samples], s: Sampling) -> None:
    for (_, inside), samples in zip(starts, assumed, strict=True):
        if samples is None:
            s.set(inside, None)
        else:
            s.set(inside, s.same(samples[0].shape) if _fixed(samples) else [Sample(x.shape) for x in samples])


def _scan(node: Node, s: Sampling) -> bool:
    body = node.subgraphs[0]
    scanned = node.int_attr("num_scan_inputs", 0)
    states = len(node.inputs) - scanned
    length: tuple[int, ...] | int = Open
    axes = node.ints_attr("scan_input_axes") or [0] * scanned
    for i, (outside, inside) in enumerate(zip(node.inputs[states:], body.inputs[states:], strict=True)):
        assert outside is not None
        inside.dtype = outside.dtype or inside.dtype
        whole = _samples(outside, s)
        if whole is None:
            s.set(inside, None)
            continue
        rank, axis = len(whole[0].shape), axes[i] if i < len(axes) else 0
        if not -rank <= axis < rank:
            raise CompileError(f"scan_input_axes has {axis}, but its input {states + i} has rank {rank}")
        columns = list(zip(*(x.shape for x in whole), strict=True))
        length = columns.pop(axis)
        s.set(inside, s.opened(columns, ""))
    starts = list(zip(node.inputs[:states], body.inputs[:states], strict=True))
    changed = _fixpoint(node, body, starts, body.outputs[:states], s)
    out_axes = node.ints_attr("scan_output_axes") or []
    for i, (v, result) in enumerate(zip(node.outputs, body.outputs, strict=False)):
        key = f"{node.name}.{i}"
        if i < states:
            start = node.inputs[i]
            initial = None if start is None else _samples(start, s)
            _set(v, result.dtype, _own_dims(_join(initial, _samples(result, s), key, s), key, s), s)
        else:
            axis = out_axes[i - states] if i - states < len(out_axes) else 0
            _set(v, result.dtype, _stacked(_own_dims(_samples(result, s), key, s), length, axis, key, s), s)
    return changed


_RULES: dict[str, Callable[[Node, Sampling], bool]] = {"If": _if, "Loop": _loop, "Scan": _scan}
