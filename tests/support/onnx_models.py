# SPDX-License-Identifier: Apache-2.0
"""Small ONNX models for tests of the importer."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import TensorProto, helper


def model_of(
    nodes: Sequence[onnx.NodeProto],
    *,
    inputs: Sequence[onnx.ValueInfoProto] | None = None,
    outputs: Sequence[str | onnx.ValueInfoProto] = ("y",),
    initializer: Sequence[onnx.TensorProto] = (),
    opset: int = 21,
    domains: Sequence[tuple[str, int]] = (),
    functions: Sequence[onnx.FunctionProto] = (),
) -> onnx.ModelProto:
    """A model of float32 input x of shape (2, 3) unless told otherwise; nothing is checked."""
    if inputs is None:
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, (2, 3))]
    infos = [onnx.ValueInfoProto(name=o) if isinstance(o, str) else o for o in outputs]
    graph = helper.make_graph(list(nodes), "test", list(inputs), infos, list(initializer))
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, v) for d, v in domains)]
    return helper.make_model(graph, opset_imports=imports, functions=list(functions))


def add_weight(weight: onnx.TensorProto, opset: int = 21) -> onnx.ModelProto:
    """y = x + w, with w as given."""
    weight.name = "w"
    return model_of([helper.make_node("Add", ["x", "w"], ["y"], "add")], initializer=[weight], opset=opset)
