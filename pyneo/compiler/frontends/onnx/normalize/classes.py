# SPDX-License-Identifier: Apache-2.0
"""From scores to classes: what the classifiers of ai.onnx.ml share. Binary rules are ONNX Runtime's."""

from __future__ import annotations

import numpy as np

from ....ir.graph import DType, Value
from ..limits import Problem
from .rule import Emitter, Op, scalar


def labels_of(op: Op, b: Emitter, ints: str, strings: str) -> list[int]:
    """The class labels as integers; codes where they are strings, and the label is then a string."""
    numbers, names = op.take_ints(ints), op.attrs.pop(strings, None)
    if not numbers and isinstance(names, list):
        numbers = [b.code(str(name)) for name in names]
        label = op.output(0)
        if label is not None:
            label.dtype = DType.STRING
    if not numbers or len(numbers) < 2:
        raise Problem(f"it names {len(numbers or [])} class labels in {ints}, expected at least 2")
    return numbers


def transform(b: Emitter, z: Value, post: str) -> Value:
    """post_transform over the last axis."""
    if post == "NONE":
        return z
    if post == "LOGISTIC":
        return b.emit("Sigmoid", [z])[0]
    if post in ("SOFTMAX", "SOFTMAX_ZERO"):
        (p,) = b.emit("Softmax", [z], {"axis": [-1]})
        if post == "SOFTMAX":
            return p
        # A score of zero stays zero; the others share what is left.
        (size,) = b.emit("Abs", [z])
        (votes,) = b.emit("Greater", [size, scalar(b, 1e-7, z)])
        (p,) = b.emit("Where", [votes, p, scalar(b, 0.0, z)])
        (total,) = b.emit("ReduceSum", [p, b.const(np.array([-1], np.int64))], {"keepdims": [1]})
        return b.emit("Div", [p, total])[0]
    raise Problem(
        f"post_transform {post!r} is not available; expected NONE, SOFTMAX, LOGISTIC or SOFTMAX_ZERO"
    )


def multiclass(op: Op, b: Emitter, scores: Value, labels: list[int], post: str) -> None:
    """Emits label (the class of the largest score) and transformed scores of (rows, classes)."""
    if op.output(0) is not None:
        (index,) = b.emit("ArgMax", [scores], {"axis": [-1], "keepdims": [0]})
        choose(op, b, index, labels)
    if op.output(1) is not None:
        b.emit_into("Identity", [transform(b, scores, post)], None, [op.output(1)])


def binary(
    op: Op, b: Emitter, score: Value, labels: list[int], post: str, threshold: float, shares: bool
) -> None:
    """Emits label and scores of two classes from the second one's score, (rows, 1).

    shares: an untransformed score is a share of one, so that the other class has the rest.
    """
    if post == "PROBIT":
        raise Problem("post_transform 'PROBIT' of one score for two classes has no meaning")
    if op.output(0) is not None:
        (flat,) = b.emit("Squeeze", [score, b.const(np.array([1], np.int64))])
        (above,) = b.emit("Greater", [flat, scalar(b, threshold, score)])
        (index,) = b.emit("Cast", [above], {"to": [int(DType.I64)]})
        choose(op, b, index, labels)
    if op.output(1) is None:
        return
    if post != "LOGISTIC" and shares:
        (other,) = b.emit("Sub", [scalar(b, 1.0, score), score])
    else:
        (other,) = b.emit("Neg", [score])
    if post == "LOGISTIC":
        score, other = transform(b, score, post), transform(b, other, post)
    b.emit_into("Concat", [other, score], {"axis": [1]}, [op.output(1)])


def choose(op: Op, b: Emitter, index: Value, labels: list[int]) -> None:
    b.emit_into("Gather", [b.const(np.array(labels, np.int64)), index], {"axis": [0]}, [op.output(0)])
