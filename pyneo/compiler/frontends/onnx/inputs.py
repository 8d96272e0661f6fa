# SPDX-License-Identifier: Apache-2.0
"""Declared types of graph inputs and outputs, and the shapes a user gives instead."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import onnx

from ...ir.graph import Dim, DType, Value
from .limits import MAX_DIM, MAX_RANK, Problem
from .tensors import NARROW, Narrow, element_type


def declared_type(info: onnx.ValueInfoProto) -> DType:
    """Element type of a value inside of a subgraph; NONE where none is declared, and of what is no tensor.

    Shapes declared there are not used: exporters often get them wrong, and inference finds them.
    """
    if info.HasField("type") and info.type.WhichOneof("value") in ("sequence_type", "optional_type"):
        return DType.NONE
    return tensor_type(info)[0]


def tensor_type(info: onnx.ValueInfoProto) -> tuple[DType, tuple[Dim, ...] | None]:
    """Element type and shape of a declared value; NONE and None where nothing is declared.

    A dim of unknown size and name gets the name "<value>.<axis>". Problem for what is no tensor.
    """
    if not info.HasField("type"):
        return DType.NONE, None
    kind = info.type.WhichOneof("value")
    if kind is None:
        return DType.NONE, None
    if kind != "tensor_type":
        raise Problem(f"{info.name!r} is a {kind.removesuffix('_type')}; only tensors are supported")
    t = info.type.tensor_type
    dtype = DType(t.elem_type) if t.elem_type == DType.STRING else element_type(t.elem_type)
    if not t.HasField("shape"):
        return dtype, None
    if len(t.shape.dim) > MAX_RANK:
        raise Problem(f"{info.name!r} has rank {len(t.shape.dim)}; at most {MAX_RANK} is supported")
    shape: list[Dim] = []
    for i, d in enumerate(t.shape.dim):
        if d.HasField("dim_value"):
            if not 0 <= d.dim_value <= MAX_DIM:
                raise Problem(f"{info.name!r} has the dim {d.dim_value} at axis {i}; expected 0 or more")
            shape.append(d.dim_value)
        else:
            shape.append(d.dim_param or f"{info.name}.{i}")
    return dtype, tuple(shape)


def graph_inputs(
    infos: Iterable[onnx.ValueInfoProto], shapes: Mapping[str, Sequence[int | str]] | None
) -> tuple[list[Value], list[str]]:
    """Input values with their declared shapes, or those given by name in `shapes`; and what is wrong."""
    wanted = dict(shapes or {})
    values: list[Value] = []
    problems: list[str] = []
    for info in infos:
        try:
            dtype, shape = tensor_type(info)
            if dtype is DType.NONE:
                raise Problem(f"{info.name!r} declares no element type")
            if info.name in wanted:
                shape = _given(info.name, wanted.pop(info.name), shape)
            elif shape is None:
                raise Problem(
                    f"{info.name!r} has no declared shape; give one with shapes={{{info.name!r}: (...)}}"
                )
            packed = info.type.tensor_type.elem_type
            narrow = packed in NARROW
            values.append(
                Narrow(info.name, dtype, shape, packed_type=packed)
                if narrow
                else Value(info.name, dtype, shape)
            )
        except Problem as e:
            problems.append(f"the graph input {e}")
            values.append(Value(info.name))
            wanted.pop(info.name, None)
    for name in wanted:
        known = ", ".join(repr(v.name) for v in values) or "none"
        problems.append(f"shapes= names {name!r}, but the model's inputs are {known}")
    return values, problems


def _given(name: str, dims: Sequence[int | str], declared: tuple[Dim, ...] | None) -> tuple[Dim, ...]:
    if declared is not None and len(dims) != len(declared):
        raise Problem(
            f"{name!r} has {len(declared)} dims {tuple(declared)}, but shapes= gives {len(dims)}: "
            f"{tuple(dims)}"
        )
    if len(dims) > MAX_RANK:
        raise Problem(f"{name!r} is given rank {len(dims)}; at most {MAX_RANK} is supported")
    checked: list[Dim] = []
    for d in dims:
        if (isinstance(d, str) and d) or (
            isinstance(d, int) and not isinstance(d, bool) and 0 <= d <= MAX_DIM
        ):
            checked.append(d)
        else:
            raise Problem(
                f"{name!r} is given the dim {d!r}; expected a number from 0 on, or a name such as 'N'"
            )
    return tuple(checked)
