# SPDX-License-Identifier: Apache-2.0
"""Support vector machines of ai.onnx.ml in standard operators, as ONNX Runtime understands them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ....ir.graph import DType, Value
from ..limits import Problem
from .classes import choose, labels_of, transform
from .rule import Emitter, Op, ints, rule, scalar

_ML = "ai.onnx.ml."


def _input(op: Op, b: Emitter) -> Value:
    """X as a float32 matrix."""
    x = op.required(0)
    if x.dtype is not DType.F32:
        (x,) = b.emit("Cast", [x], {"to": [int(DType.F32)]})
    if x.shape is not None and len(x.shape) == 1:
        (x,) = b.emit("Unsqueeze", [x, ints(b, [0])])
    return x


def _kernel(op: Op, b: Emitter, x: Value, vectors: np.ndarray) -> Value:
    """(samples, vectors): how near each sample is to each support vector."""
    gamma, coef0, degree = [*(op.take_floats("kernel_params") or []), 0.0, 0.0, 0.0][:3]
    kind = op.take_str("kernel_type", "LINEAR")
    if kind == "RBF":
        # |x - v|^2 = x.x - 2 x.v + v.v loses digits where x is near v, so it is computed in float64.
        (x,) = b.emit("Cast", [x], {"to": [int(DType.F64)]})
        wide = vectors.astype(np.float64)
        (cross,) = b.emit("MatMul", [x, b.const(wide.T * 2)])
        (own,) = b.emit("ReduceSumSquare", [x, ints(b, [1])], {"keepdims": [1]})
        (far,) = b.emit("Add", [b.emit("Sub", [own, cross])[0], b.const((wide * wide).sum(1))])
        (power,) = b.emit("Mul", [far, b.const(np.array(-gamma))])
        return b.emit("Cast", [b.emit("Exp", [power])[0]], {"to": [int(DType.F32)]})[0]
    (dot,) = b.emit("MatMul", [x, b.const(vectors.T.copy())])
    if kind == "LINEAR":
        return dot
    (scaled,) = b.emit("Mul", [dot, scalar(b, gamma, DType.F32)])
    (moved,) = b.emit("Add", [scaled, scalar(b, coef0, DType.F32)])
    if kind == "SIGMOID":
        return b.emit("Tanh", [moved])[0]
    if kind == "POLY":
        return b.emit("Pow", [moved, scalar(b, degree, DType.F32)])[0]
    raise Problem(f"its kernel_type is {kind!r}, expected LINEAR, POLY, RBF or SIGMOID")


def _matrix(op: Op, name: str, rows: int) -> np.ndarray:
    values = op.take_floats(name) or []
    if rows < 1 or not values or len(values) % rows:
        raise Problem(f"its {name} are {len(values)} numbers, expected a multiple of {rows}")
    return np.array(values, np.float32).reshape(rows, -1)


@rule(_ML + "SVMRegressor")
def svm_regressor(op: Op, b: Emitter) -> bool:
    x, supports = _input(op, b), op.take_int("n_supports", 0)
    rho, one_class = [*(op.take_floats("rho") or []), 0.0][0], op.take_int("one_class", 0)
    post = op.take_str("post_transform", "NONE")
    if supports > 0:
        weights = _matrix(op, "coefficients", 1)
        if weights.size != supports:
            raise Problem(f"it has {weights.size} coefficients for {supports} support vectors")
        near = _kernel(op, b, x, _matrix(op, "support_vectors", supports))
        (y,) = b.emit("MatMul", [near, b.const(weights.T.copy())])
    else:
        y = _kernel(op, b, x, _matrix(op, "coefficients", 1))
    (y,) = b.emit("Add", [y, scalar(b, rho, DType.F32)])
    if one_class:
        (inside,) = b.emit("Greater", [y, scalar(b, 0.0, DType.F32)])
        (y,) = b.emit("Where", [inside, scalar(b, 1.0, DType.F32), scalar(b, -1.0, DType.F32)])
    b.emit_into("Identity", [transform(b, y, post)], None, op.outputs)
    return True


@rule(_ML + "SVMClassifier")
def svm_classifier(op: Op, b: Emitter) -> bool:
    labels = labels_of(op, b, "classlabels_ints", "classlabels_strings")
    x, post = _input(op, b), op.take_str("post_transform", "NONE")
    counts, rho = op.take_ints("vectors_per_class") or [], op.take_floats("rho") or []
    prob_a, prob_b = op.take_floats("prob_a") or [], op.take_floats("prob_b") or []
    n = len(labels)
    if not counts:
        _linear(op, b, x, labels, rho, post)
        return True
    pairs = [(i, j) for i in range(n) for j in range(i + 1, n)]
    supports = sum(counts)
    if len(counts) != n or min(counts) < 0 or len(rho) < len(pairs):
        raise Problem(f"it has {len(counts)} vectors_per_class and {len(rho)} rho for {n} classes")
    if prob_a and (len(prob_a) != len(pairs) or len(prob_b) != len(pairs)):
        raise Problem(
            f"it has {len(prob_a)} prob_a and {len(prob_b)} prob_b for {len(pairs)} pairs of classes"
        )
    near = _kernel(op, b, x, _matrix(op, "support_vectors", supports))
    scores = _duels(op, b, near, counts, pairs, rho)
    zero = scalar(b, 0.0, DType.F32)
    (first,) = b.emit("Greater", [scores, zero])
    # Each duel gives a vote; the first class with most of them wins.
    won, lost = np.zeros((2, len(pairs), n), np.float32)
    for p, (i, j) in enumerate(pairs):
        won[p, i] = lost[p, j] = 1
    (ones,) = b.emit("Cast", [first], {"to": [int(DType.F32)]})
    (votes,) = b.emit("MatMul", [ones, b.const(won - lost)])
    (index,) = b.emit(
        "ArgMax", [b.emit("Add", [votes, b.const(lost.sum(0))])[0]], {"axis": [1], "keepdims": [0]}
    )
    if prob_a:
        (z,) = b.emit("Mul", [scores, b.const(np.array(prob_a, np.float32))])
        (z,) = b.emit("Add", [z, b.const(np.array(prob_b, np.float32))])
        (shares,) = b.emit("Sigmoid", [b.emit("Neg", [z])[0]])
        bounds = [scalar(b, 1e-7, DType.F32), scalar(b, 1 - 1e-7, DType.F32)]
        (shares,) = b.emit("Clip", [shares, *bounds])
        (scores,) = b.emit("PairwiseProbability", [shares], {"classes": [n]})
    elif n == 2:
        # The other class has what is left of 1 if a softmax is asked for, which then is not taken.
        rest = (
            b.emit("Sub", [scalar(b, 1.0, DType.F32), scores])
            if "SOFTMAX" in post
            else b.emit("Neg", [scores])
        )
        (scores,) = b.emit("Concat", [*rest, scores], {"axis": [1]})
        post = "NONE" if "SOFTMAX" in post else post
    choose(op, b, index, labels)
    if op.output(1) is not None:
        b.emit_into("Identity", [transform(b, scores, post)], None, [op.output(1)])
    return True


def _duels(
    op: Op, b: Emitter, near: Value, counts: Sequence[int], pairs: Sequence[tuple[int, int]],
    rho: Sequence[float],
) -> Value:  # fmt: skip
    """(samples, pairs): above 0 where the first class of a pair is nearer, one product for all pairs."""
    n, supports = len(counts), sum(counts)
    coefficients = _matrix(op, "coefficients", n - 1)
    if coefficients.shape[1] != supports:
        raise Problem(f"it has {coefficients.size} coefficients, expected {(n - 1) * supports}")
    starts = np.cumsum([0, *counts])
    weights = np.zeros((supports, len(pairs)), np.float32)
    for p, (i, j) in enumerate(pairs):
        own, other = slice(starts[i], starts[i + 1]), slice(starts[j], starts[j + 1])
        weights[own, p] += coefficients[j - 1, own]
        weights[other, p] += coefficients[i, other]
    (sums,) = b.emit("MatMul", [near, b.const(weights)])
    return b.emit("Add", [sums, b.const(np.array(rho[: len(pairs)], np.float32))])[0]


def _linear(op: Op, b: Emitter, x: Value, labels: list[int], rho: Sequence[float], post: str) -> None:
    """Without support vectors: a row of coefficients for each class."""
    weights = _matrix(op, "coefficients", len(labels))
    offset = scalar(b, rho[0] if rho else 0.0, DType.F32)
    (scores,) = b.emit("Add", [_kernel(op, b, x, weights), offset])
    (index,) = b.emit("ArgMax", [scores], {"axis": [1], "keepdims": [0]})
    if len(labels) == 2 and len(rho) == 1:
        # ONNX Runtime takes the second class if any score is high, whichever it belongs to.
        (top,) = b.emit("ReduceMax", [scores, ints(b, [1])], {"keepdims": [0]})
        shares = bool((weights >= 0).all())
        test, threshold = ("GreaterOrEqual", 0.5) if shares else ("Greater", 0.0)
        (second,) = b.emit(test, [top, scalar(b, threshold, DType.F32)])
        (index,) = b.emit("Max", [index, b.emit("Cast", [second], {"to": [int(DType.I64)]})[0]])
    choose(op, b, index, labels)
    if op.output(1) is not None:
        b.emit_into("Identity", [transform(b, scores, post)], None, [op.output(1)])
