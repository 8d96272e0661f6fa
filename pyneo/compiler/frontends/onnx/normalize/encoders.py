# SPDX-License-Identifier: Apache-2.0
"""ai.onnx.ml operators that turn values into other values by a table. Strings are codes (strings.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ....ir.graph import DType, Value
from ..attributes import Attrs
from ..limits import Problem
from .rule import Emitter, Op, rule

_ML = "ai.onnx.ml."
_UNUSED = "_Unused"  # what an encoder of strings gives for an unknown key, says the standard


@rule(_ML + "LabelEncoder", below=2)
def label_encoder_classes(op: Op, b: Emitter) -> None:
    """The first form had one list of strings and mapped either way between it and 0, 1, 2, ..."""
    names = op.attrs.pop("classes_strings", None)
    if not isinstance(names, list):
        raise Problem("attribute 'classes_strings' is missing")
    _between(op, list(range(len(names))), names)


def _between(op: Op, numbers: list[int], names: Sequence[object]) -> None:
    """Strings to numbers or numbers to strings, as the input has it."""
    texts = [str(name) for name in names]
    if op.required(0).dtype is DType.STRING:
        op.attrs.update(keys_strings=texts, values_int64s=numbers)
        op.attrs.pop("default_string", None)
    else:
        op.attrs.update(keys_int64s=numbers, values_strings=texts)
        op.attrs.pop("default_int64", None)


@rule(_ML + "LabelEncoder")
def label_encoder(op: Op, b: Emitter) -> bool:
    return _map(op, b)


def _map(op: Op, b: Emitter) -> bool:
    """Any form to the core's, which maps int64 or float32 to int64 or float32.

    Values of other types are looked up in a table behind it.
    """
    keys, values = _side(op, "keys"), _side(op, "values")
    if keys is None or values is None or keys.size != values.size:
        raise Problem("it has no keys, no values, or not as many of the one as of the other")
    default = _default(op, values)
    x, y = op.required(0), op.outputs[0]
    attrs: Attrs = {}
    if keys.dtype == object:
        attrs["keys_int64s"] = [b.code(str(k)) for k in keys.tolist()]
    elif keys.dtype.kind == "f":
        attrs["keys_floats"] = keys.tolist()
    else:
        attrs["keys_int64s"] = keys.tolist()
    if (keys.dtype == object) != (x.dtype is DType.STRING):
        raise Problem(f"its keys are {'strings' if keys.dtype == object else 'numbers'}, its input is not")
    assert y is not None
    if values.dtype == np.float32:
        attrs |= {"values_floats": values.tolist(), "default_float": [float(default)]}
    elif values.dtype == object:
        attrs |= {
            "values_int64s": [b.code(str(v)) for v in values.tolist()],
            "default_int64": [b.code(default)],
        }
        y.dtype = DType.STRING
    elif values.dtype == np.int64:
        attrs |= {"values_int64s": values.tolist(), "default_int64": [int(default)]}
    else:
        table = np.append(values, np.array([default], values.dtype))
        attrs |= {"values_int64s": list(range(values.size)), "default_int64": [values.size]}
        (index,) = b.emit(op.type, [x], attrs)
        b.emit_into("Gather", [b.const(table), index], {"axis": [0]}, [y])
        return True
    b.emit_into(op.type, [x], attrs, [y])
    return True


@rule(_ML + "CategoryMapper")
def category_mapper(op: Op, b: Emitter) -> bool:
    """The same with numbers of one's own."""
    names, numbers = op.attrs.pop("cats_strings", None), op.take_ints("cats_int64s")
    if not isinstance(names, list) or numbers is None or len(names) != len(numbers):
        raise Problem("attributes 'cats_strings' and 'cats_int64s' differ in length, or one is missing")
    op.type = _ML + "LabelEncoder"
    _between(op, numbers, names)
    return _map(op, b)


def _side(op: Op, side: str) -> np.ndarray | None:
    """Keys or values as a vector: of str objects, float32, int64, or as the tensor has them."""
    tensor, found = op.take_tensor(f"{side}_tensor"), None
    if tensor is not None and tensor.const is not None:
        found = tensor.const.reshape(-1)
    for suffix, dtype in (("strings", object), ("floats", np.float32), ("int64s", np.int64)):
        given = op.attrs.pop(f"{side}_{suffix}", None)
        if isinstance(given, list) and given:
            if found is not None:
                raise Problem(f"its {side} are given more than once")
            found = np.array(given, dtype)
    return found


def _default(op: Op, values: np.ndarray) -> Any:
    """What an unknown key becomes: a str, or a number of the values' type."""
    tensor = op.take_tensor("default_tensor")
    text = op.take_str("default_string", _UNUSED)
    whole, real = op.take_int("default_int64", -1), op.take_float("default_float", -0.0)
    if tensor is not None and tensor.const is not None:
        if tensor.const.size != 1 or tensor.const.dtype != values.dtype:
            raise Problem("attribute 'default_tensor' must be one element of the values' type")
        return tensor.const.reshape(-1)[0]
    return text if values.dtype == object else real if values.dtype.kind == "f" else whole


@rule(_ML + "OneHotEncoder")
def one_hot_encoder(op: Op, b: Emitter) -> bool:
    """Rows of an identity matrix. An unknown category is the row of zeros, or, where the node forbids
    it (zeros=0), an index outside, which fails at run time."""
    x, names, numbers = op.required(0), op.attrs.pop("cats_strings", None), op.take_ints("cats_int64s")
    zeros = op.take_int("zeros", 1)
    if x.dtype is DType.STRING:
        if not isinstance(names, list):
            raise Problem("its input is strings, but it has no cats_strings")
        keys = [b.code(str(name)) for name in names]
    elif numbers:
        keys = numbers
        if x.dtype is not DType.I64:
            (x,) = b.emit("Cast", [x], {"to": [int(DType.I64)]})
    else:
        raise Problem("its input is numbers, but it has no cats_int64s")
    n = len(keys)
    attrs: Attrs = {
        "keys_int64s": keys, "values_int64s": list(range(n)), "default_int64": [n],
    }  # fmt: skip
    (index,) = b.emit(_ML + "LabelEncoder", [x], attrs)
    rows = np.eye(n + 1 if zeros else n, n, dtype=np.float32)
    b.emit_into("Gather", [b.const(rows), index], {"axis": [0]}, op.outputs)
    return True


@rule(_ML + "ZipMap")
def zip_map(op: Op, b: Emitter) -> bool:
    """Rows of scores as dicts by label: the numbers stay a tensor, Model.predict makes the dicts."""
    names, numbers = op.attrs.pop("classlabels_strings", None), op.take_ints("classlabels_int64s")
    keys: list[int] | list[str] = numbers or []
    if not keys and isinstance(names, list):
        keys = [str(name) for name in names]
    x, y = op.required(0), op.outputs[0]
    if not keys or len(set(keys)) != len(keys):
        raise Problem("it names no labels (classlabels_int64s or classlabels_strings), or one of them twice")
    assert y is not None
    b.emit_into("Reshape", [x, b.const(np.array([-1, len(keys)], np.int64))], None, [y])
    b.rows_as_dicts(y, keys)
    return True


@rule(_ML + "Imputer")
def imputer(op: Op, b: Emitter) -> bool:
    """One value in place of another (often NaN), the same for all columns or one for each."""
    x = op.required(0)
    floats = x.dtype in (DType.F32, DType.F64)
    kind = "float" if floats else "int64"
    given = op.attrs.pop(f"imputed_value_{kind}s", None)
    wanted = op.take_float("replaced_value_float", 0.0) if floats else op.take_int("replaced_value_int64", 0)
    if not isinstance(given, list) or not given:
        raise Problem(f"attribute 'imputed_value_{kind}s' is missing")
    replacement: Value = b.const(np.array(given, x.dtype.numpy))
    if wanted != wanted:
        (missing,) = b.emit("IsNaN", [x])
    else:
        (missing,) = b.emit("Equal", [x, b.const(np.array(wanted, x.dtype.numpy))])
    b.emit_into("Where", [missing, replacement, x], None, op.outputs)
    return True


@rule(_ML + "FeatureVectorizer")
def feature_vectorizer(op: Op, b: Emitter) -> bool:
    """Matrices side by side as float32."""
    parts = []
    for v in op.inputs:
        assert v is not None
        if v.dtype is not DType.F32:
            (v,) = b.emit("Cast", [v], {"to": [int(DType.F32)]})
        if v.shape is not None and len(v.shape) == 1:
            (v,) = b.emit("Unsqueeze", [v, b.const(np.array([0], np.int64))])
        parts += b.emit("Flatten", [v], {"axis": [1]})
    widths = op.take_ints("inputdimensions")
    if widths is not None and len(widths) != len(parts):
        raise Problem(f"it has {len(widths)} inputdimensions for {len(parts)} inputs")
    b.emit_into("Concat", parts, {"axis": [1]}, op.outputs)
    return True
