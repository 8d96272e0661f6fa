# SPDX-License-Identifier: Apache-2.0
"""Small ONNX models that tests of different rooms share."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
from onnx import TensorProto, helper, numpy_helper


def model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, ...]],
    outputs: dict[str, tuple[int, ...] | None],
    constants: dict[str, np.ndarray],
    opset: int = 17,
    dtype: int = TensorProto.FLOAT,
) -> onnx.ModelProto:
    """A model of float32 inputs and outputs around `nodes`."""
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(n, dtype, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(n, dtype, s) for n, s in outputs.items()],
        [numpy_helper.from_array(a, n) for n, a in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def from_text(
    body: str,
    inputs: dict[str, tuple[int | str, ...]],
    constants: dict[str, np.ndarray],
    outputs: tuple[str, ...] = ("y",),
    opset: int = 17,
) -> onnx.ModelProto:
    """A model of float32 inputs around nodes in ONNX's text form: "t = Conv<pads=[1, 1, 1, 1]>(x, w)"."""
    takes = ", ".join(f"float[{', '.join(map(str, dims))}] {name}" for name, dims in inputs.items())
    gives = ", ".join(f"float[] {name}" for name in outputs)
    made = onnx.parser.parse_model(
        f'<ir_version: 9, opset_import: ["" : {opset}]> test ({takes}) => ({gives}) {{ {body} }}'
    )
    for i, node in enumerate(made.graph.node):
        node.name = f"{node.op_type}_{i}"
    made.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in constants.items())
    return made


def small_convnet() -> onnx.ModelProto:
    """x [1, 3, 32, 32] -> y [1, 10]: convolutions, batch norm, a residual, pooling, a linear layer."""
    rng = np.random.default_rng(0)

    def weights(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w1"], ["c1"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2]),
        node("BatchNormalization", ["c1", "gamma", "beta", "mean", "var"], ["n1"]),
        node("Relu", ["n1"], ["r1"]),
        node("Conv", ["r1", "w2", "b2"], ["c2"], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Add", ["c2", "r1"], ["s"]),
        node("Relu", ["s"], ["r2"]),
        node("MaxPool", ["r2"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        node("GlobalAveragePool", ["p"], ["g"]),
        node("Flatten", ["g"], ["f"]),
        node("Gemm", ["f", "w3", "b3"], ["y"], transB=1),
    ]
    constants = {
        "w1": weights(24, 3, 3, 3),
        "gamma": rng.random(24).astype(np.float32) + 0.5, "beta": weights(24, 1).reshape(24),
        "mean": weights(24, 1).reshape(24), "var": rng.random(24).astype(np.float32) + 0.5,
        "w2": weights(24, 24, 3, 3), "b2": weights(24, 1).reshape(24),
        "w3": weights(10, 24), "b3": weights(10, 1).reshape(10),
    }  # fmt: skip
    return model(nodes, {"x": (1, 3, 32, 32)}, {"y": (1, 10)}, constants)
