# SPDX-License-Identifier: Apache-2.0
"""What predict accepts as an array, and the sentences it refuses the rest with.

Only calls that are not plain numpy arrays come through here; those go straight to the core.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pyneo.errors import InputError, InputTypeError

if TYPE_CHECKING:
    from pyneo.model import TensorInfo

Array = np.ndarray[Any, Any]

# Numbers of onnx.TensorProto.DataType -> numpy's names; bfloat16 is carried as its 16 bits.
DTYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 9: "bool",
    10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 16: "uint16",
}  # fmt: skip


def order(given: Mapping[str, Any], expected: Sequence[TensorInfo], what: str = "input") -> list[Any]:
    """The values of a dict in the model's order; InputError for missing, extra or misspelt names."""
    names = [t.name for t in expected]
    missing = [n for n in names if n not in given]
    extra = [n for n in given if n not in names]
    if not missing and not extra:
        return [given[n] for n in names]
    parts = [f"the model's {what}s are {_quoted(names)}, found {_quoted(given)}"]
    if missing:
        parts.append(f"missing {_quoted(missing)}")
    if extra:
        from difflib import get_close_matches

        for name in extra[:3]:
            close = get_close_matches(str(name), missing, 1)
            parts.append(f"unknown {str(name)[:80]!r}" + (f" (did you mean {close[0]!r}?)" if close else ""))
    raise InputError("; ".join(parts))


def count_error(given: int, expected: Sequence[TensorInfo]) -> InputError:
    """The refusal of too few or too many positional arrays."""
    names = _quoted([t.name for t in expected])
    return InputError(
        f"the model takes {len(expected)} inputs ({names}), found {given}; pass one array for each"
    )


def as_array(value: Any, info: TensorInfo) -> Array:
    """A numpy array over anything that offers memory: subclasses, scalars, DLPack, buffers, `__array__`.

    No element is converted: lists and objects are refused, because they have no dtype of their own.
    """
    try:
        found = _as_array(value)
    except InputTypeError:
        raise
    except Exception as e:  # code of the caller's own class, which may raise anything
        raise InputTypeError(
            f"input {info.name!r} expects {info}, found a {type(value).__name__} that is no array: {e}"
        ) from e
    if found is None:
        raise InputTypeError(
            f"input {info.name!r} expects an array of {info}, found {type(value).__name__}; "
            f"pass numpy.asarray(x, dtype={info.dtype.name!r})"
        )
    if found.dtype.hasobject and info.dtype.kind != "U":
        raise InputTypeError(
            f"input {info.name!r} expects {info}, found an array of Python objects; convert it first"
        )
    return found


def _as_array(value: Any) -> Array | None:
    if isinstance(value, np.ma.MaskedArray):
        raise InputTypeError("a masked array has elements without a value; pass x.filled(...) instead")
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(value)
        if array.dtype.name == "bfloat16":  # of ml_dtypes; the core carries it as its 16 bits
            array = array.view(np.uint16)
        return array
    if hasattr(value, "__dlpack__"):
        try:
            return np.from_dlpack(value)
        except (BufferError, RuntimeError):  # read-only memory, or a tensor that tracks gradients
            if not hasattr(value, "__array__"):
                raise
    if hasattr(value, "__array__") or hasattr(value, "__array_interface__"):
        return np.asarray(value)
    if isinstance(value, (bytes, bytearray, memoryview)) or hasattr(type(value), "__buffer__"):
        return np.asarray(memoryview(value))
    if isinstance(value, (list, tuple, dict, set, str, int, float, complex)) or value is None:
        return None
    try:
        return np.asarray(memoryview(value))
    except TypeError:
        return None


def _quoted(names: Any) -> str:
    shown = [repr(str(n)[:80]) for n in list(names)[:8]]
    return ", ".join(shown) + (", ..." if len(names) > 8 else "") if shown else "none"
