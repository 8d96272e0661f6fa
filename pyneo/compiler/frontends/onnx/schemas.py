# SPDX-License-Identifier: Apache-2.0
"""What the ONNX standard says about an operator: arity, attribute types, result types, function body."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import onnx
from onnx import AttributeProto

from ...ir.graph import DType, Value
from .attributes import Attrs, attribute_type
from .limits import Problem

# The operator sets this importer knows; a model of a later one may mean other things by the same names.
NEWEST = {"": 28, "ai.onnx.ml": 5, "ai.onnx.preview": 1, "ai.onnx.preview.training": 1}
STANDARD = tuple(NEWEST)

# onnx's stubs leave out what is used of a schema here.
OpSchema = Any

_OPTION = onnx.defs.OpSchema.FormalParameterOption
_TYPE_NAMES = {
    "float": DType.F32, "double": DType.F64, "float16": DType.F16, "bfloat16": DType.BF16,
    "uint8": DType.U8, "int8": DType.I8, "uint16": DType.U16, "int16": DType.I16, "int32": DType.I32,
    "int64": DType.I64, "uint32": DType.U32, "uint64": DType.U64, "bool": DType.BOOL, "string": DType.STRING,
}  # fmt: skip


@functools.lru_cache(maxsize=4096)
def schema(domain: str, op: str, version: int) -> OpSchema | None:
    """The schema in force at operator set `version` (never newer than what is known), or None."""
    try:
        return onnx.defs.get_schema(op, min(version, NEWEST.get(domain, version)), domain)
    except onnx.defs.SchemaError:
        return None


def newest(domain: str, op: str) -> OpSchema | None:
    """The newest schema of an operator that this importer knows."""
    return schema(domain, op, NEWEST.get(domain, 1))


def check_node(s: OpSchema, node: onnx.NodeProto) -> None:
    """Problem unless arity and attributes are what the schema asks for."""
    n_in, n_out = len(node.input), len(node.output)
    while n_in and not node.input[n_in - 1]:
        n_in -= 1
    # An absent input at the end counts where it is written out: a Loop's condition may be the last.
    if n_in > s.max_input or len(node.input) < s.min_input:
        raise Problem(f"it has {n_in} inputs, expected {_count(s.min_input, s.max_input)}")
    if n_out > s.max_output or n_out < s.min_output:
        raise Problem(f"it has {n_out} outputs, expected {_count(s.min_output, s.max_output)}")
    for i in range(max(n_in, s.min_input)):
        formal = s.inputs[min(i, len(s.inputs) - 1)]
        if formal.option != _OPTION.Optional and not node.input[i]:
            raise Problem(f"its input {i} ({formal.name!r}) is required but absent")
    given = set()
    for a in node.attribute:
        given.add(a.name)
        known = s.attributes.get(a.name)
        if known is None:
            raise Problem(f"attribute {a.name!r} is unknown to {s.name} of operator set {s.since_version}")
        kind = int(a.type) if a.ref_attr_name else attribute_type(a)
        if kind != int(known.type.value) and not (a.ref_attr_name and not kind):
            raise Problem(
                f"attribute {a.name!r} is {AttributeProto.AttributeType.Name(kind)}, expected "
                f"{known.type.name}"
            )
    for name, known in s.attributes.items():
        if known.required and name not in given:
            raise Problem(f"attribute {name!r} is required but missing")


def _count(low: int, high: int) -> str:
    if low == high:
        return str(low)
    return f"at least {low}" if high > 1 << 20 else f"{low} to {high}"


# Operators whose result type is an attribute: name, and the type when it is absent (NONE: input 0's).
_BY_ATTRIBUTE: dict[str, tuple[str, DType]] = {
    "Cast": ("to", DType.NONE),
    "BitCast": ("to", DType.NONE),
    "EyeLike": ("dtype", DType.NONE),
    "RandomNormal": ("dtype", DType.F32),
    "RandomUniform": ("dtype", DType.F32),
    "RandomNormalLike": ("dtype", DType.NONE),
    "RandomUniformLike": ("dtype", DType.NONE),
    "Bernoulli": ("dtype", DType.NONE),
    "Multinomial": ("dtype", DType.I32),
    "HannWindow": ("output_datatype", DType.F32),
    "HammingWindow": ("output_datatype", DType.F32),
    "BlackmanWindow": ("output_datatype", DType.F32),
    "MelWeightMatrix": ("output_datatype", DType.F32),
}


def result_types(
    op: str, inputs: Sequence[Value | None], attrs: Mapping[str, object], outputs: int
) -> list[DType]:
    """Element types of a node's outputs in its newest form; NONE where only the core can tell."""

    def of(i: int) -> DType:
        v = inputs[i] if i < len(inputs) else None
        return DType.NONE if v is None else v.dtype

    if op in _BY_ATTRIBUTE:
        name, fallback = _BY_ATTRIBUTE[op]
        number = attrs.get(name)
        if isinstance(number, list) and number:
            return [_dtype(number[0])] * outputs
        return [fallback or of(0)] * outputs
    if op == "ConstantOfShape":
        return [of(1) or DType.F32] * outputs
    if op == "QuantizeLinear":
        number = attrs.get("output_dtype")
        explicit = _dtype(number[0]) if isinstance(number, list) and number else DType.NONE
        return [of(2) or explicit or DType.U8]
    if op == "DequantizeLinear":
        number = attrs.get("output_dtype")
        return [(_dtype(number[0]) if isinstance(number, list) and number else DType.NONE) or of(1)]
    if op == "Trees":  # of the weights' type, whatever that of the features
        return [of(6)]
    if op == "ai.onnx.ml.LabelEncoder":
        return [next((t for k, t in _LABELS.items() if k in attrs), DType.NONE)]
    return _by_schema(op, [v.dtype if v else DType.NONE for v in inputs], outputs)


_LABELS = {"values_int64s": DType.I64, "values_floats": DType.F32}


def _dtype(number: object) -> DType:
    try:
        return DType(number)  # type: ignore[arg-type]
    except ValueError:
        return DType.NONE


@functools.lru_cache(maxsize=1024)
def _signature(op: str) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Types of the formal inputs and outputs; a type variable with one choice is that type."""
    domain, _, name = op.rpartition(".")
    s = newest(domain, name)
    if s is None:
        return None
    only = {
        c.type_param_str: next(iter(c.allowed_type_strs))
        for c in s.type_constraints
        if len(c.allowed_type_strs) == 1
    }
    return tuple(f.type_str for f in s.inputs), tuple(only.get(f.type_str, f.type_str) for f in s.outputs)


def _by_schema(op: str, types: list[DType], outputs: int) -> list[DType]:
    signature = _signature(op)
    if signature is None:  # another domain: nearly all of its operators keep the first input's type
        return [types[0] if types else DType.NONE] * outputs
    formal_in, formal_out = signature
    bound: dict[str, DType] = {}
    for i, t in enumerate(types):
        if t is not DType.NONE and formal_in:
            bound.setdefault(formal_in[min(i, len(formal_in) - 1)], t)
    found = []
    for o in range(outputs):
        formal = formal_out[min(o, len(formal_out) - 1)]
        if formal.startswith("tensor("):
            found.append(_TYPE_NAMES.get(formal[7:-1], DType.NONE))
        else:
            found.append(bound.get(formal, DType.NONE))
    return found


def with_defaults(s: OpSchema, attrs: Attrs) -> Attrs:
    """`attrs` and the schema's defaults for the others: a function body refers to both."""
    full: Attrs = {}
    for name, known in s.attributes.items():
        a = known.default_value
        if a.type == AttributeProto.INT:
            full[name] = [a.i]
        elif a.type == AttributeProto.FLOAT:
            full[name] = [a.f]
        elif a.type == AttributeProto.STRING:
            full[name] = a.s.decode()
        elif a.type == AttributeProto.INTS:
            full[name] = list(a.ints)
        elif a.type == AttributeProto.FLOATS:
            full[name] = list(a.floats)
    full.update(attrs)
    return full


def function_body(
    s: OpSchema, inputs: Sequence[Value | None], attrs: Attrs, outputs: int
) -> onnx.FunctionProto | None:
    """The operator written in simpler ones by the standard itself, or None."""
    if s.has_function:
        simple: onnx.FunctionProto = s.function_body
        return simple
    if not s.has_context_dependent_function:
        return None
    node = onnx.NodeProto(op_type=s.name, domain=s.domain)
    node.input.extend(f"in{i}" if v is not None else "" for i, v in enumerate(inputs))
    node.output.extend(f"out{i}" for i in range(outputs))
    for name, value in attrs.items():
        if isinstance(value, Value) or (isinstance(value, list) and any(isinstance(v, Value) for v in value)):
            return None  # no operator with a body has tensor attributes
        whole = not isinstance(value, list) or _is_list(s, name)
        node.attribute.append(onnx.helper.make_attribute(name, value if whole else value[0]))
    types = []
    for v in inputs:
        t = onnx.TypeProto()
        if v is not None:
            t.tensor_type.elem_type = int(v.dtype)
            if v.shape is not None:
                t.tensor_type.shape.SetInParent()
                for d in v.shape:
                    dim = t.tensor_type.shape.dim.add()
                    if isinstance(d, int):
                        dim.dim_value = d
                    else:
                        dim.dim_param = d
        types.append(t.SerializeToString())
    try:
        versions = s.context_dependent_function_opset_versions
        data = s.get_context_dependent_function_with_opset_version(
            max(versions), node.SerializeToString(), types
        )
    except Exception:  # the builder of a body may refuse this particular node, in any way it likes
        return None
    body = onnx.FunctionProto()
    body.ParseFromString(data)
    return body if body.node else None


def _is_list(s: OpSchema, name: str) -> bool:
    return s.attributes[name].type.name.endswith("S") if name in s.attributes else False
