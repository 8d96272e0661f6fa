# SPDX-License-Identifier: Apache-2.0
"""A model in pyneo against onnxruntime, compiled for one kind of machine after another."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

import pyneo
from tests.fuzz.models import Model

Feeds = dict[str, np.ndarray]

# How far a result may lie from onnxruntime's, in parts of the largest element; beyond, in how many times what
# onnxruntime's own result moves where every value between is off by a rounding error or two.
_TOLERANCE = 2e-5
_TIMES = 8.0
_ROUNDING = 1.5e-7
_TRIALS = 5

_LOOPS = ("Loop", "Scan")  # onnx's own evaluator joins what it should stack

# Integers that onnxruntime cuts off or takes from a table, and pyneo rounds.

_ROUNDED = ("Resize", "Upsample", "QLinearSoftmax")


@dataclass
class Verdict:
    """agrees, differs, refused (pyneo refuses what onnxruntime runs), accepted (the other way round), invalid
    (both refuse)."""

    kind: str
    text: str = ""


class Refused(Exception):
    """onnxruntime refuses the model, or what it is fed."""


def run(model: onnx.ModelProto, feeds: Feeds) -> list[Any]:
    """onnxruntime's results, without its own rewriting of the graph."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        providers = ["CPUExecutionProvider"]
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers)
        return list(session.run(None, feeds))
    except Exception as e:
        raise Refused(f"{type(e).__name__}: {e}") from e


def specified(model: onnx.ModelProto, feeds: Feeds) -> list[Any]:
    """What onnx's own evaluator gives: the specification where onnxruntime lacks a type or differs."""
    try:
        return [np.asarray(y) for y in ReferenceEvaluator(model).run(None, feeds)]
    except Exception as e:
        raise Refused(f"{type(e).__name__}: {e}") from e


def judge_spoilt(model: Model) -> Verdict:
    """onnxruntime is asked only where pyneo runs the model, and not of empty tensors: some end it."""
    try:
        _predict(pyneo.compile(model.proto, shapes=model.shapes or None, progress=False), model.feeds, 1)
    except pyneo.Error as e:
        return Verdict("invalid", f"{type(e).__name__}: {e}")
    empty = [t.name for t in model.proto.graph.initializer if 0 in t.dims]
    empty += [name for name, x in model.feeds.items() if x.size == 0]
    return Verdict("agrees") if empty else judge(model)


def judge(model: Model, targets: tuple[str, ...] = ("host",)) -> Verdict:
    """Compares pyneo's results on each target, whose bits must be the same for one thread and for two."""
    refusal, want = "", []
    try:
        want = run(model.proto, model.feeds)
    except Refused as e:
        refusal = str(e)
        with contextlib.suppress(Refused):
            want = specified(model.proto, model.feeds)
    near = any(n.op_type in _ROUNDED for n in model.proto.graph.node)
    for target in targets:
        try:
            package = pyneo.compile(model.proto, target, shapes=model.shapes or None, progress=False)
            names, got = _predict(package, model.feeds, 1)
            again = _predict(package, model.feeds, 2)[1]
        except pyneo.Error as e:
            return Verdict(
                "refused" if want and not refusal else "invalid", f"{target}: {type(e).__name__}: {e}"
            )
        if not want or (refusal and any(n.op_type in _LOOPS for n in model.proto.graph.node)):
            return Verdict("accepted", refusal)
        for i, (name, a, b) in enumerate(zip(names, got, again, strict=True)):
            if a.tobytes() != b.tobytes():
                return Verdict("differs", f"{target}, {name}: one thread and two give different bits")
            text = difference(a, want[i], near)
            if text and not _is_specified(model, i, a) and not _is_noise(model, i, a, want[i]):
                return Verdict("accepted" if refusal else "differs", f"{target}, {name}: {text}")
    return Verdict("agrees")


def judge_sizes(model: Model, sizes: tuple[int, ...]) -> Verdict:
    """One package at one size of its open dims after another and at the first again, against onnxruntime.

    Where one of them refuses a size (constants that fit only one), the sizes after it must still be right.
    """
    opened = onnx.ModelProto()
    opened.CopyFrom(model.proto)
    for info in opened.graph.input:
        for i, d in enumerate(model.shapes.get(info.name, ())):
            if isinstance(d, str):
                info.type.tensor_type.shape.dim[i].dim_param = _symbol(d)
    try:
        package = pyneo.compile(opened, shapes=model.shapes, progress=False)
    except pyneo.Error as e:
        return Verdict("invalid", f"{type(e).__name__}: {e}")
    loads = [pyneo.Model.load(package, allow_unsigned=True, threads=t) for t in (1, 2)]
    with loads[0] as one, loads[1] as two:
        for size in (*sizes, 0, *sizes[:1]):
            feeds = _resized(model, size) if size else model.feeds
            refusal, want, text = "", [], ""
            try:
                want = run(opened, feeds)
            except Refused as e:
                refusal = str(e)
            try:
                got, again = one.predict(feeds), two.predict(feeds)
            except pyneo.Error as e:
                text = f"{type(e).__name__}: {e}"
                if want and not re.search("<=|at least|at most", text):  # the symbol's bound
                    return Verdict("refused", f"size {size}: {text}")
                continue
            if refusal:
                continue
            for i, t in enumerate(one.outputs):
                a, b = got[t.name], again[t.name]
                if a.tobytes() != b.tobytes():
                    return Verdict(
                        "differs", f"size {size}, {t.name}: one thread and two give different bits"
                    )
                text = difference(a, want[i])
                seen = Model(opened, feeds)
                if text and not _is_specified(seen, i, a) and not _is_noise(seen, i, a, want[i]):
                    return Verdict("differs", f"size {size}, {t.name}: {text}")
    return Verdict("agrees")


def _symbol(dim: str) -> str:
    found = re.search("[A-Z][0-9]*", dim)
    assert found is not None
    return found.group()


def _resized(model: Model, size: int) -> Feeds:
    """The feeds with the first symbol of that size and others near it, of the same numbers over again."""
    feeds = {}
    symbols = sorted({_symbol(d) for dims in model.shapes.values() for d in dims if isinstance(d, str)})
    for name, array in model.feeds.items():
        wanted = model.shapes.get(name, array.shape)
        shape = [size + symbols.index(_symbol(d)) if isinstance(d, str) else d for d in wanted]
        feeds[name] = np.resize(array, shape) if array.size else np.zeros(shape, array.dtype)
    return feeds


def _predict(package: Any, feeds: Feeds, threads: int) -> tuple[list[str], list[np.ndarray]]:
    with pyneo.Model.load(package, allow_unsigned=True, threads=threads) as model:
        names = [t.name for t in model.outputs]
        found = model.predict(feeds)
        return names, [found[n] for n in names]


def difference(a: np.ndarray, b: np.ndarray, near: bool = False) -> str:
    """What tells two results apart, as a sentence; empty if nothing does. near: integers may be one off."""
    b = np.asarray(b)
    if a.size == b.size == 0 and a.dtype == b.dtype and a.shape[:1] == (0,) == b.shape[:1]:
        return ""  # a Loop of no iterations stacks nothing: of which shape?
    if a.shape != b.shape or a.dtype != b.dtype:
        return f"{a.dtype}{list(a.shape)} where {b.dtype}{list(b.shape)} was expected"
    if near and a.dtype.kind in "iu":
        wrong = np.abs(a.astype(np.float64) - b.astype(np.float64)) > 1
    elif a.dtype.kind in "iu" and a.dtype.itemsize == 1:  # a quantised value may lie on the edge between two
        off = np.abs(a.astype(int) - b.astype(int))
        wrong = (off > 1) | (np.count_nonzero(off) * 50 > a.size)
    elif a.dtype.kind in "iub":
        wrong = a != b
    else:
        x, y = a.astype(np.float64), b.astype(np.float64)
        odd = ~np.isfinite(y) | ~np.isfinite(x)
        with np.errstate(invalid="ignore"):
            wrong = np.abs(x - y) > _allowed(y, a.dtype)
        wrong = np.where(odd, ~((x == y) | (np.isnan(x) & np.isnan(y))), wrong)
    if not np.any(wrong):
        return ""
    at = int(np.flatnonzero(wrong & (a != b))[0])
    return (
        f"{np.count_nonzero(wrong)} of {a.size} elements, the first at {at}: {a.flat[at]}, not {b.flat[at]}"
    )


def _allowed(y: np.ndarray, dtype: np.dtype[Any]) -> float:
    scale = np.abs(y[np.isfinite(y)]).max(initial=1e-2)
    return float(scale) * (4e-3 if dtype == np.float16 else _TOLERANCE)


def _is_specified(model: Model, output: int, a: np.ndarray) -> bool:
    """Whether onnx's own evaluator sides with pyneo."""
    try:
        return not difference(a, specified(model.proto, model.feeds)[output])
    except Refused:
        return False


def _is_noise(model: Model, output: int, a: np.ndarray, b: np.ndarray) -> bool:
    """Whether onnxruntime's result moves as far where every value on the way is a rounding error off."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    x, y = (np.nan_to_num(v.astype(np.float64)) for v in (a, b))
    moved = np.zeros(y.shape)
    for trial in range(_TRIALS):
        try:
            other = run(_jittered(model, trial), model.feeds)[output]
        except Refused:
            return False
        if other.shape != y.shape:
            return True
        moved = np.maximum(moved, np.abs(np.nan_to_num(other.astype(np.float64)) - y))
    if a.dtype.kind in "iub":
        return bool(np.all((x == y) | (moved > 0)))
    # A value that no jitter reached may still share the fate of its neighbours.
    return bool(np.all(np.abs(x - y) <= _TIMES * np.maximum(moved, moved.mean()) + _allowed(y, a.dtype)))


def _jittered(model: Model, seed: int) -> onnx.ModelProto:
    """The model with every float32 value between nodes times numbers close to one."""
    rng = np.random.default_rng(seed)
    seen = onnx.ModelProto()
    seen.CopyFrom(model.proto)
    made = [o for n in seen.graph.node for o in n.output if o and n.op_type != "Constant"]
    del seen.graph.output[:]
    seen.graph.output.extend(onnx.ValueInfoProto(name=o) for o in made)
    shapes = {o: v.shape for o, v in zip(made, run(seen, model.feeds), strict=True) if v.dtype == np.float32}
    jittered = onnx.ModelProto()
    jittered.CopyFrom(model.proto)
    nodes: list[onnx.NodeProto] = []
    for node in jittered.graph.node:
        nodes.append(node)
        for i, o in enumerate(node.output):
            if o in shapes:
                node.output[i] = f"{o}~exact"
                near = 1 + rng.uniform(-_ROUNDING, _ROUNDING, shapes[o])
                jittered.graph.initializer.append(
                    numpy_helper.from_array(near.astype(np.float32), f"{o}~near")
                )
                nodes.append(helper.make_node("Mul", [f"{o}~exact", f"{o}~near"], [o]))
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
    del jittered.graph.node[:]
    jittered.graph.node.extend(copies)
    return jittered
