# SPDX-License-Identifier: Apache-2.0
"""Constants become constant values."""

from __future__ import annotations

import numpy as np

from ....ir.graph import DType, Value
from ..limits import Problem
from .rule import Emitter, Op, rule


@rule("Constant")
def constant(op: Op, b: Emitter) -> bool:
    if len(op.attrs) != 1:
        raise Problem(f"it has {len(op.attrs)} values ({', '.join(op.attrs) or 'none'}), expected one")
    out = op.outputs[0]
    assert out is not None
    ((kind, raw),) = op.attrs.items()
    if isinstance(raw, Value):
        b.become(out, raw)
    elif kind in ("value_float", "value_floats"):
        b.become(out, Value.constant(out.name, _shaped(raw, np.float32, kind)))
    elif kind in ("value_int", "value_ints"):
        b.become(out, Value.constant(out.name, _shaped(raw, np.int64, kind)))
    else:
        text = np.array(raw, object)
        b.become(out, Value(out.name, DType.STRING, text.shape, text))
    return True


def _shaped(raw: object, dtype: type, kind: str) -> np.ndarray:
    array: np.ndarray = np.array(raw, dtype)
    return array if kind.endswith("s") else array.reshape(())


@rule("ConstantOfShape")
def constant_of_shape(op: Op, b: Emitter) -> None:
    value = op.take_tensor("value")
    if value is None:
        return
    assert value.const is not None
    if value.const.size != 1:
        raise Problem(f"attribute 'value' has {value.const.size} elements, expected one")
    op.set_input(1, b.const(value.const.reshape(()), value.dtype))
