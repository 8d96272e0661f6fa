# SPDX-License-Identifier: Apache-2.0
"""What models of one operator draw from: types, shapes, and values of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import TensorProto, helper

from tests.fuzz.maker import Maker, Val

T = TensorProto
FLOATS = (T.FLOAT, T.FLOAT, T.FLOAT, T.DOUBLE, T.FLOAT16)
SIGNED = (T.INT8, T.INT16, T.INT32, T.INT64)
WHOLE = (*SIGNED, T.UINT8, T.UINT16, T.UINT32, T.UINT64)
NUMBERS = (*FLOATS, T.INT32, T.INT64, *WHOLE)
ANY = (*NUMBERS, T.BOOL)


def dims(m: Maker, *ranks: int, most: int = 6) -> list[int]:
    found = [m.pick(1, 1, 2, 3, 4, 5, m.whole(1, most)) for _ in range(m.pick(*ranks))]
    if found and m.chance(0.06):
        found[m.whole(0, len(found) - 1)] = 0
    elif found and m.chance(0.1):
        found[-1] = m.pick(8, 16, 17, 31, 33, 64)
    return found


def value(m: Maker, shape: Sequence[int], dtype: int = T.FLOAT, fixed: float = 0.3) -> Val:
    """A constant, an input, or a value between."""
    if m.chance(fixed):
        return m.const(m.data(shape, dtype))
    x = m.input(shape, dtype)
    return m.op("Identity", x) if m.chance(0.15) else x


def wide(m: Maker, shape: Sequence[int], dtype: int) -> Val:
    """An input of the ends of its type, of what is no number, and of zeros of both signs."""
    kind = np.dtype(helper.tensor_dtype_to_np_dtype(dtype))
    data = m.data(shape, dtype)
    if kind.kind == "f":
        odd = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-40, 0.5, 1.5, 2.5, -0.5, 300.7, -129.2], kind)
    elif kind.kind == "b":
        return m.input(shape, dtype)
    else:
        ends = np.iinfo(kind)
        odd = np.array([ends.min, ends.max, 0, 1, ends.max - 1], kind)
    pick = m.np.random(tuple(shape)) < 0.4
    return m.input(shape, dtype, np.where(pick, m.np.choice(odd, tuple(shape)), data).astype(kind))


def partner(m: Maker, shape: Sequence[int]) -> list[int]:
    """A shape that broadcasts with another, mostly."""
    other = [d if m.chance(0.6) else 1 for d in shape]
    other = other[m.whole(0, len(other)) if m.chance(0.3) else 0 :]
    return [2, *other] if m.chance(0.08) else other
