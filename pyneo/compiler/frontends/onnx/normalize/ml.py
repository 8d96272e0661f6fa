# SPDX-License-Identifier: Apache-2.0
"""ai.onnx.ml: tensor attributes of trees become lists; linear models and scalers standard nodes."""

from __future__ import annotations

import numpy as np

from ....ir.graph import DType, Value
from ..limits import Problem
from .classes import binary, labels_of, multiclass, transform
from .rule import Emitter, Op, rule, scalar


@rule("ai.onnx.ml.TreeEnsemble", "ai.onnx.ml.TreeEnsembleClassifier", "ai.onnx.ml.TreeEnsembleRegressor")
def tree_tensors(op: Op, b: Emitter) -> None:
    """Thresholds and weights given as tensors: '<name>_as_tensor' (version 3) or '<name>' (version 5)."""
    for name, value in list(op.attrs.items()):
        if isinstance(value, Value):
            del op.attrs[name]
            op.attrs[name.removesuffix("_as_tensor")] = _listed(value)


def _as_float(op: Op, b: Emitter) -> Value:
    """X as float32, which is what these operators return."""
    x = op.required(0)
    return x if x.dtype is DType.F32 else b.emit("Cast", [x], {"to": [int(DType.F32)]})[0]


def _linear(op: Op, b: Emitter, rows: int) -> Value:
    """X times coefficients plus intercepts: (samples, rows)."""
    coefficients, intercepts = op.take_floats("coefficients") or [], op.take_floats("intercepts") or []
    if rows < 1 or not coefficients or len(coefficients) % rows:
        raise Problem(f"it has {len(coefficients)} coefficients, expected a multiple of {rows}")
    if intercepts and len(intercepts) != rows:
        raise Problem(f"it has {len(intercepts)} intercepts, expected {rows}")
    weights = np.array(coefficients, np.float32).reshape(rows, -1)
    inputs = [_as_float(op, b), b.const(weights)]
    if intercepts:
        inputs.append(b.const(np.array(intercepts, np.float32)))
    return b.emit("Gemm", inputs, {"transB": [1]})[0]


@rule("ai.onnx.ml.LinearRegressor")
def linear_regressor(op: Op, b: Emitter) -> bool:
    y = _linear(op, b, op.take_int("targets", 1))
    b.emit_into("Identity", [transform(b, y, op.take_str("post_transform", "NONE"))], None, op.outputs)
    return True


@rule("ai.onnx.ml.LinearClassifier")
def linear_classifier(op: Op, b: Emitter) -> bool:
    labels, post = (
        labels_of(op, b, "classlabels_ints", "classlabels_strings"),
        op.take_str("post_transform", "NONE"),
    )
    intercepts = op.attrs.get("intercepts")
    rows = len(intercepts) if isinstance(intercepts, list) else len(labels)
    scores = _linear(op, b, rows)
    if rows == 1 and len(labels) == 2:
        binary(op, b, scores, labels, post, 0.0, True)
    elif rows == len(labels):
        multiclass(op, b, scores, labels, post)
    else:
        raise Problem(f"it has {rows} intercepts for {len(labels)} classes")
    return True


@rule("ai.onnx.ml.Scaler")
def scaler(op: Op, b: Emitter) -> bool:
    y = _as_float(op, b)
    for name, operator in (("offset", "Sub"), ("scale", "Mul")):
        values = op.take_floats(name)
        if values:
            (y,) = b.emit(operator, [y, b.const(np.array(values, np.float32))])
    b.emit_into("Identity", [y], None, op.outputs)
    return True


@rule("ai.onnx.ml.Normalizer")
def normalizer(op: Op, b: Emitter) -> bool:
    """A row whose norm is zero stays as it is. MAX divides by the largest element, not its magnitude."""
    norm, x = op.take_str("norm", "MAX"), _as_float(op, b)
    reduce = {"MAX": "ReduceMax", "L1": "ReduceL1", "L2": "ReduceL2"}.get(norm)
    if reduce is None:
        raise Problem(f"its norm is {norm!r}, expected MAX, L1 or L2")
    (size,) = b.emit(reduce, [x, b.const(np.array([-1], np.int64))], {"keepdims": [1]})
    (zero,) = b.emit("Equal", [size, scalar(b, 0.0, x)])
    (divisor,) = b.emit("Where", [zero, scalar(b, 1.0, x), size])
    b.emit_into("Div", [x, divisor], None, op.outputs)
    return True


@rule("ai.onnx.ml.Binarizer")
def binarizer(op: Op, b: Emitter) -> bool:
    x = op.required(0)
    (above,) = b.emit("Greater", [x, scalar(b, op.take_float("threshold", 0.0), x)])
    b.emit_into("Cast", [above], {"to": [int(x.dtype)]}, op.outputs)
    return True


@rule("ai.onnx.ml.ArrayFeatureExtractor")
def array_feature_extractor(op: Op, b: Emitter) -> bool:
    """Elements of the last axis; a vector counts as a matrix of one row."""
    x = op.required(0)
    (index,) = b.emit("Reshape", [op.required(1), b.const(np.array([-1], np.int64))])
    if x.shape is not None and len(x.shape) == 1:
        (x,) = b.emit("Unsqueeze", [x, b.const(np.array([0], np.int64))])
    b.emit_into("Gather", [x, index], {"axis": [-1]}, op.outputs)
    return True


def _listed(v: Value) -> list[int] | list[float] | list[str]:
    assert v.const is not None
    listed: list[int] | list[float] | list[str] = v.const.reshape(-1).tolist()
    return listed
