# SPDX-License-Identifier: Apache-2.0
"""Names must be text: protobuf hands out undecodable ones as bytes, which would fail far from their cause."""

from __future__ import annotations

from collections.abc import Iterable

import onnx

from .limits import Problem


def check_names(model: onnx.ModelProto) -> None:
    """Problem, saying where, if any name in the model is not UTF-8."""
    for o in model.opset_import:
        _check("an operator set's domain", (o.domain,))
    for f in model.functions:
        _check("a function", (f.name, f.domain, f.overload, *f.input, *f.output, *f.attribute))
        for o in f.opset_import:
            _check("an operator set's domain", (o.domain,))
        _check_nodes(f.node)
        _check("an attribute", (a.name for a in f.attribute_proto))
    _check_graphs([model.graph])


def _check_graphs(graphs: list[onnx.GraphProto]) -> None:
    while graphs:
        g = graphs.pop()
        _check("a graph", (g.name,))
        for infos in (g.input, g.output):
            for i in infos:
                _check(
                    "a graph input or output", (i.name, *(d.dim_param for d in i.type.tensor_type.shape.dim))
                )
        for t in g.initializer:
            _check_tensor(t)
        for s in g.sparse_initializer:
            _check_tensor(s.values)
            _check_tensor(s.indices)
        graphs.extend(_check_nodes(g.node))


def _check_nodes(nodes: Iterable[onnx.NodeProto]) -> list[onnx.GraphProto]:
    """Checks nodes and returns the graphs in their attributes."""
    inner = []
    for n in nodes:
        _check("a node", (n.name, n.op_type, n.domain, n.overload, *n.input, *n.output))
        for a in n.attribute:
            _check("an attribute", (a.name, a.ref_attr_name))
            if a.HasField("g"):
                inner.append(a.g)
            elif a.HasField("t"):
                _check_tensor(a.t)
            elif a.HasField("sparse_tensor"):
                _check_tensor(a.sparse_tensor.values)
                _check_tensor(a.sparse_tensor.indices)
            for t in a.tensors:
                _check_tensor(t)
    return inner


def _check_tensor(t: onnx.TensorProto) -> None:
    _check("a tensor", (t.name,))
    for e in t.external_data:
        _check("a tensor's external data", (e.key, e.value))


def _check(what: str, names: Iterable[object]) -> None:
    for name in names:
        if not isinstance(name, str):
            raise Problem(f"the name {name!r} of {what} is not UTF-8 text; export the model again")
