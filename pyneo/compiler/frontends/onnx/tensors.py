# SPDX-License-Identifier: Apache-2.0
"""TensorProto to numpy, trusting nothing: every length is checked before a byte is interpreted.

onnx.numpy_helper assumes what onnx.checker is thought to have checked, and the checker lets some
broken tensors pass; this reader checks by itself.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from ...ir.graph import DType, Value
from .external import ExternalFiles
from .limits import MAX_DIM, MAX_RANK, Problem

# element type -> (numpy storage of raw_data, the typed field that may carry it, numpy type of that field)
_STORAGE: dict[int, tuple[str, str]] = {
    TensorProto.FLOAT: ("<f4", "float_data"),
    TensorProto.DOUBLE: ("<f8", "double_data"),
    TensorProto.INT64: ("<i8", "int64_data"),
    TensorProto.INT32: ("<i4", "int32_data"),
    TensorProto.INT16: ("<i2", "int32_data"),
    TensorProto.INT8: ("i1", "int32_data"),
    TensorProto.UINT8: ("u1", "int32_data"),
    TensorProto.UINT16: ("<u2", "int32_data"),
    TensorProto.UINT32: ("<u4", "uint64_data"),
    TensorProto.UINT64: ("<u8", "uint64_data"),
    TensorProto.BOOL: ("u1", "int32_data"),
    TensorProto.FLOAT16: ("<u2", "int32_data"),
    TensorProto.BFLOAT16: ("<u2", "int32_data"),
}
# Integers of less than a byte: bits, signed. They are packed, the first in the lowest bits.
NARROW: dict[int, tuple[int, bool]] = {
    TensorProto.INT4: (4, True),
    TensorProto.UINT4: (4, False),
    TensorProto.INT2: (2, True),
    TensorProto.UINT2: (2, False),
}
_FIELDS = ("float_data", "int32_data", "string_data", "int64_data", "double_data", "uint64_data")


@dataclass(eq=False)
class Narrow(Value):
    """A tensor of integers of less than a byte, one held in each byte."""

    packed_type: int = 0  # the ONNX type, a key of NARROW


def type_name(data_type: int) -> str:
    """ONNX's name of an element type, for messages."""
    try:
        return str(TensorProto.DataType.Name(data_type)).lower()
    except ValueError:
        return f"number {data_type}"


def element_type(data_type: int) -> DType:
    """The IR's type of an ONNX element type; narrow integers are held in bytes. Problem if none."""
    if data_type in NARROW:
        return DType.I8 if NARROW[data_type][1] else DType.U8
    try:
        dtype = DType(data_type)
    except ValueError:
        dtype = DType.NONE
    if dtype is DType.NONE:
        raise Problem(
            f"element type {type_name(data_type)} is not supported; convert it to float32, float16, "
            "bfloat16, "
            "an integer type or bool"
        )
    return dtype


def checked_dims(dims: Any) -> tuple[int, ...]:
    """Dims of a stored tensor; Problem for a negative one, too many, or more elements than can exist."""
    shape = tuple(int(d) for d in dims)
    if len(shape) > MAX_RANK:
        raise Problem(f"its rank is {len(shape)}; at most {MAX_RANK} is supported")
    if any(d < 0 for d in shape):
        raise Problem(f"its shape {list(shape)} has a negative dim")
    if math.prod(d for d in shape if d) * 8 > MAX_DIM:
        raise Problem(f"its shape {list(shape)} has more elements than can be addressed")
    return shape


def read_tensor(t: onnx.TensorProto, files: ExternalFiles, name: str = "") -> Value:
    """A constant value of a TensorProto. Problem, naming the tensor, if anything does not agree."""
    name = name or t.name
    try:
        return _read(t, files, name)
    except Problem as e:
        raise Problem(f"tensor {name!r} cannot be read: {e}") from None


def _read(t: onnx.TensorProto, files: ExternalFiles, name: str) -> Value:
    shape = checked_dims(t.dims)
    if t.HasField("segment"):
        raise Problem("it is stored in segments, which no exporter writes and pyneo does not read")
    count = math.prod(shape)
    filled = [f for f in _FIELDS if len(getattr(t, f))]
    external = t.data_location == TensorProto.EXTERNAL
    sources = filled + ["raw_data"] * t.HasField("raw_data") + ["external data"] * external
    if t.HasField("raw_data") and not t.raw_data and filled:
        sources.remove("raw_data")  # some writers set the empty string beside a typed field
    if len(sources) > 1:
        raise Problem(f"its data is given more than once, as {' and as '.join(sources)}")
    if len(t.external_data) and not external:
        raise Problem("it has external data entries but its data_location is not EXTERNAL")
    if t.data_type == TensorProto.STRING:
        return _read_strings(t, name, shape, count, sources)
    dtype = element_type(t.data_type)
    storage, field = _STORAGE.get(t.data_type, ("u1", "int32_data"))
    bits, _ = NARROW.get(t.data_type, (8, False))
    stored = -(-count * bits // 8)
    nbytes = stored * np.dtype(storage).itemsize
    if external:
        entries = [(e.key, e.value) for e in t.external_data]
        flat = np.frombuffer(files.read(entries, nbytes), storage)
    elif t.HasField("raw_data") and not filled:
        if len(t.raw_data) != nbytes:
            raise Problem(
                f"its shape {list(shape)} of {type_name(t.data_type)} needs {nbytes} bytes, "
                f"but raw_data has {len(t.raw_data)}"
            )
        flat = np.frombuffer(t.raw_data, storage)
    else:
        flat = _typed(t, filled, field, storage, stored)
    if sys.byteorder == "big":
        flat = flat.astype(flat.dtype.newbyteorder("="))
    array = _finish(t.data_type, flat, count).reshape(shape)
    if t.data_type in NARROW:
        return Narrow(name, dtype, shape, array, packed_type=t.data_type)
    return Value.constant(name, array, dtype)


def _typed(t: onnx.TensorProto, filled: list[str], field: str, storage: str, stored: int) -> np.ndarray:
    if filled and filled[0] != field:
        raise Problem(
            f"a tensor of {type_name(t.data_type)} keeps its data in {field}, but {filled[0]} is set"
        )
    values = getattr(t, field)
    if len(values) != stored:
        raise Problem(
            f"its shape {list(t.dims)} needs {stored} entries in {field}, but there are {len(values)}"
        )
    if field in ("float_data", "double_data"):
        return np.array(values, storage)
    wide = np.array(values, np.uint64 if field == "uint64_data" else np.int64)
    info = np.iinfo(storage)
    if wide.size and (wide.min() < info.min or wide.max() > info.max):
        # Negative int32 that hold the bits of a uint16 or uint8 are not written by any known exporter.
        raise Problem(f"{field} holds a value outside the range of {type_name(t.data_type)}")
    return wide.astype(storage)


def _finish(data_type: int, flat: np.ndarray, count: int) -> np.ndarray:
    if data_type == TensorProto.BOOL:
        if flat.size and flat.max() > 1:
            raise Problem("a bool tensor holds a value other than 0 and 1")
        return flat.astype(np.bool_)
    if data_type == TensorProto.FLOAT16:
        return flat.view(np.float16)
    if data_type in NARROW:
        bits, signed = NARROW[data_type]
        fields = [flat >> shift & ((1 << bits) - 1) for shift in range(0, 8, bits)]
        unpacked = np.stack(fields, axis=-1).reshape(-1)[:count]
        sign = 1 << (bits - 1)
        return ((unpacked ^ sign).astype(np.int16) - sign).astype(np.int8) if signed else unpacked
    return flat


def _read_strings(
    t: onnx.TensorProto, name: str, shape: tuple[int, ...], count: int, sources: list[str]
) -> Value:
    if sources and sources != ["string_data"]:
        raise Problem(f"a string tensor keeps its data in string_data, but {sources[0]} is set")
    if len(t.string_data) != count:
        raise Problem(f"its shape {list(shape)} needs {count} strings, but there are {len(t.string_data)}")
    array = np.empty(count, object)
    for i, s in enumerate(t.string_data):
        try:
            array[i] = s.decode("utf-8")
        except UnicodeDecodeError:
            raise Problem(f"string {i} is not UTF-8") from None
    return Value(name, DType.STRING, shape, array.reshape(shape))


def read_sparse(t: onnx.SparseTensorProto, files: ExternalFiles, name: str = "") -> Value:
    """A SparseTensorProto as a dense constant. Problem if an index repeats or points outside."""
    name = name or t.values.name
    shape = checked_dims(t.dims)
    if math.prod(shape) > 1 << 28:
        raise Problem(
            f"sparse tensor {name!r} has {math.prod(shape)} elements; it is too large to be made dense"
        )
    values = read_tensor(t.values, files, name)
    indices = read_tensor(t.indices, files, f"{name} (indices)")
    assert values.const is not None and indices.const is not None
    n = values.const.size
    index = indices.const
    if values.const.ndim != 1 or index.dtype != np.int64 or index.shape not in ((n,), (n, len(shape))):
        raise Problem(
            f"sparse tensor {name!r} has values {list(values.const.shape)} and indices "
            f"{list(index.shape)} of "
            f"{index.dtype}; expected [n] and int64 [n] or [n, {len(shape)}]"
        )
    dense = np.zeros(shape, values.const.dtype)
    if index.ndim == 1:
        limit = np.array(math.prod(shape))
        flat = index
    else:
        limit = np.array(shape, np.int64)
        flat = index @ np.array([math.prod(shape[i + 1 :]) for i in range(len(shape))], np.int64)
    if n and (index.min() < 0 or (index >= limit).any()):
        raise Problem(f"sparse tensor {name!r} has an index outside its shape {list(shape)}")
    if np.unique(flat).size != n:
        raise Problem(f"sparse tensor {name!r} names an element twice")
    dense.reshape(-1)[flat] = values.const
    return Value(name, values.dtype, shape, dense)
