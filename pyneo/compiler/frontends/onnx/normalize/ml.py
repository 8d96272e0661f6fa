# SPDX-License-Identifier: Apache-2.0
"""ai.onnx.ml: tensor attributes become lists, and old label encoders the newest."""

from __future__ import annotations

from ....ir.graph import DType, Value
from ..limits import Problem
from .rule import Emitter, Op, rule

_SUFFIX = {DType.F32: "floats", DType.F64: "floats", DType.I64: "int64s", DType.STRING: "strings"}


@rule("ai.onnx.ml.LabelEncoder", below=2)
def label_encoder_classes(op: Op, b: Emitter) -> None:
    """The first form had one list of strings and mapped either way between it and 0, 1, 2, ..."""
    names = op.attrs.pop("classes_strings", None)
    if not isinstance(names, list):
        raise Problem("attribute 'classes_strings' is missing")
    numbers = list(range(len(names)))
    if op.required(0).dtype is DType.STRING:
        op.attrs.update(keys_strings=names, values_int64s=numbers)
        op.attrs.pop("default_string", None)
    else:
        op.attrs.update(keys_int64s=numbers, values_strings=names)
        op.attrs.pop("default_int64", None)


@rule("ai.onnx.ml.LabelEncoder")
def label_encoder_tensors(op: Op, b: Emitter) -> None:
    for side in ("keys", "values"):
        table = op.take_tensor(f"{side}_tensor")
        if table is None:
            continue
        if table.dtype not in _SUFFIX:
            raise Problem(f"attribute '{side}_tensor' is {table.dtype.name}, expected float, int64 or string")
        op.attrs[f"{side}_{_SUFFIX[table.dtype]}"] = _listed(table)
    default = op.take_tensor("default_tensor")
    if default is not None:
        name = {"floats": "default_float", "int64s": "default_int64", "strings": "default_string"}[
            _SUFFIX[default.dtype]
        ]
        value = _listed(default)
        op.attrs[name] = value[0] if isinstance(value[0], str) else value


@rule("ai.onnx.ml.TreeEnsemble", "ai.onnx.ml.TreeEnsembleClassifier", "ai.onnx.ml.TreeEnsembleRegressor")
def tree_tensors(op: Op, b: Emitter) -> None:
    """Thresholds and weights given as tensors: '<name>_as_tensor' (version 3) or '<name>' (version 5)."""
    for name, value in list(op.attrs.items()):
        if isinstance(value, Value):
            del op.attrs[name]
            op.attrs[name.removesuffix("_as_tensor")] = _listed(value)


def _listed(v: Value) -> list[int] | list[float] | list[str]:
    assert v.const is not None
    listed: list[int] | list[float] | list[str] = v.const.reshape(-1).tolist()
    return listed
