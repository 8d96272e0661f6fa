# SPDX-License-Identifier: Apache-2.0
"""AttributeProto to Python values, with the checks that protobuf does not make."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx
from onnx import AttributeProto

from ...ir.graph import Value
from .external import ExternalFiles
from .limits import Problem
from .tensors import read_sparse, read_tensor

# What an attribute may be before normalisation: the core's forms, tensors (as constant values) and graphs.
Raw = list[int] | list[float] | str | list[str] | Value | list[Value] | onnx.GraphProto | onnx.TypeProto
Attrs = dict[str, Raw]

# Attribute type -> the fields of AttributeProto that may be set with it.
_FIELD: dict[int, str] = {
    AttributeProto.FLOAT: "f",
    AttributeProto.INT: "i",
    AttributeProto.STRING: "s",
    AttributeProto.TENSOR: "t",
    AttributeProto.GRAPH: "g",
    AttributeProto.SPARSE_TENSOR: "sparse_tensor",
    AttributeProto.TYPE_PROTO: "tp",
    AttributeProto.FLOATS: "floats",
    AttributeProto.INTS: "ints",
    AttributeProto.STRINGS: "strings",
    AttributeProto.TENSORS: "tensors",
    AttributeProto.GRAPHS: "graphs",
    AttributeProto.SPARSE_TENSORS: "sparse_tensors",
    AttributeProto.TYPE_PROTOS: "type_protos",
}
_TYPE = {field: number for number, field in _FIELD.items()}
_DESCRIPTIVE = {"name", "type", "doc_string", "ref_attr_name"}


def read_attributes(
    protos: Iterable[AttributeProto], files: ExternalFiles, bound: Mapping[str, Raw] | None = None
) -> Attrs:
    """Attributes by name. `bound`: attributes of the enclosing function's call, for ref_attr_name.

    Problem for an attribute given twice, a type that contradicts the field set, or an unreadable tensor.
    """
    found: Attrs = {}
    for a in protos:
        if not a.name or a.name in found:
            raise Problem(f"attribute {a.name!r} is given twice" if a.name else "an attribute has no name")
        if a.ref_attr_name:
            if bound is None:
                raise Problem(f"attribute {a.name!r} refers to {a.ref_attr_name!r} outside of a function")
            if a.ref_attr_name in bound:
                found[a.name] = bound[a.ref_attr_name]
            continue
        found[a.name] = _read(a, files)
    return found


def attribute_type(a: AttributeProto) -> int:
    """The attribute's type; models of the first IR versions leave it to the field that is set."""
    fields = {f.name for f, _ in a.ListFields()} - _DESCRIPTIVE
    if a.type:
        if a.type not in _FIELD:
            raise Problem(f"attribute {a.name!r} has the unknown type {a.type}")
        wrong = fields - {_FIELD[a.type]}
        if wrong:
            name = AttributeProto.AttributeType.Name(a.type)
            raise Problem(f"attribute {a.name!r} says it is {name} but carries {', '.join(sorted(wrong))}")
        return int(a.type)
    if len(fields) != 1:
        raise Problem(f"attribute {a.name!r} has no type and {len(fields)} values")
    return _TYPE[fields.pop()]


def _read(a: AttributeProto, files: ExternalFiles) -> Raw:
    kind = attribute_type(a)
    if kind == AttributeProto.INT:
        return [a.i]
    if kind == AttributeProto.INTS:
        return list(a.ints)
    if kind == AttributeProto.FLOAT:
        return [a.f]
    if kind == AttributeProto.FLOATS:
        return list(a.floats)
    if kind == AttributeProto.STRING:
        return _text(a.name, a.s)
    if kind == AttributeProto.STRINGS:
        return [_text(a.name, s) for s in a.strings]
    if kind == AttributeProto.TENSOR:
        return read_tensor(a.t, files, a.t.name or a.name)
    if kind == AttributeProto.SPARSE_TENSOR:
        return read_sparse(a.sparse_tensor, files, a.sparse_tensor.values.name or a.name)
    if kind == AttributeProto.GRAPH:
        return a.g
    if kind == AttributeProto.TYPE_PROTO:
        return a.tp
    if kind == AttributeProto.TENSORS:
        return [read_tensor(t, files, t.name or a.name) for t in a.tensors]
    raise Problem(
        f"attribute {a.name!r} is of type {AttributeProto.AttributeType.Name(kind)}, which no operator has"
    )


def _text(name: str, raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise Problem(f"attribute {name!r} is not UTF-8 text") from None
