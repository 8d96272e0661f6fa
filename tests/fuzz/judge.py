# SPDX-License-Identifier: Apache-2.0
"""A model in pyneo against onnxruntime, compiled for one kind of machine after another."""

from __future__ import annotations

import contextlib
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
    for target in targets:
        try:
            package = pyneo.compile(model.proto, target, shapes=model.shapes or None, progress=False)
            names, got = _predict(package, model.feeds, 1)
            again = _predict(package, model.feeds, 2)[1]
        except pyneo.Error as e:
            return Verdict(
                "refused" if want and not refusal else "invalid", f"{target}: {type(e).__name__}: {e}"
            )
        if not want:
            return Verdict("accepted", refusal)
        for i, (name, a, b) in enumerate(zip(names, got, again, strict=True)):
            if a.tobytes() != b.tobytes():
                return Verdict("differs", f"{target}, {name}: one thread and two give different bits")
            text = difference(a, want[i])
            if text and not _is_specified(model, i, a) and not _is_noise(model, i, a, want[i]):
                return Verdict("accepted" if refusal else "differs", f"{target}, {name}: {text}")
    return Verdict("agrees")


def _predict(package: Any, feeds: Feeds, threads: int) -> tuple[list[str], list[np.ndarray]]:
    with pyneo.Model.load(package, allow_unsigned=True, threads=threads) as model:
        names = [t.name for t in model.outputs]
        found = model.predict(feeds)
        return names, [found[n] for n in names]


def difference(a: np.ndarray, b: np.ndarray) -> str:
    """What tells two results apart, as a sentence; empty if nothing does."""
    b = np.asarray(b)
    if a.shape != b.shape or a.dtype != b.dtype:
        return f"{a.dtype}{list(a.shape)} where {b.dtype}{list(b.shape)} was expected"
    if a.dtype.kind in "iu" and a.dtype.itemsize == 1:  # a quantised value may lie on the edge between two
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
