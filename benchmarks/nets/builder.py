# SPDX-License-Identifier: Apache-2.0
"""A graph under construction: nodes random weights of a scale that keeps activations near 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = np.ndarray


class Builder:
    """Collects nodes and initialisers of one model; every method returns the name of what it computes."""

    def __init__(self, name: str, opset: int, seed: int = 0) -> None:
        self.name = name
        self.opset = opset
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.outputs: list[onnx.ValueInfoProto] = []
        self.examples: dict[str, Array] = {}
        self._counts: dict[str, int] = {}

    def _fresh(self, stem: str) -> str:
        n = self._counts.get(stem, 0)
        self._counts[stem] = n + 1
        return f"{stem}_{n}"

    # --- graph --------------------------------------------------------------------------------------

    def input(self, name: str, example: Array) -> str:
        """A graph input with the dtype and shape of `example`, which is also what benchmarks feed."""
        dtype = helper.np_dtype_to_tensor_dtype(example.dtype)
        self.inputs.append(helper.make_tensor_value_info(name, dtype, example.shape))
        self.examples[name] = example
        return name

    def image(self, channels: int, height: int, width: int, name: str = "input") -> str:
        example = np.random.default_rng(7).standard_normal((1, channels, height, width)).astype(np.float32)
        return self.input(name, example)

    def output(self, value: str, shape: Sequence[int], name: str) -> None:
        """Renames `value` to `name` and makes it a float32 output of the graph."""
        for node in self.nodes:
            node.input[:] = [name if i == value else i for i in node.input]
            node.output[:] = [name if o == value else o for o in node.output]
        self.outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)))

    def const(self, value: Any, dtype: Any = np.float32, stem: str = "const") -> str:
        name = self._fresh(stem)
        self.initializers.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def ints(self, *values: int) -> str:
        return self.const(list(values), np.int64, "shape")

    def weight(self, shape: Sequence[int], std: float, stem: str = "weight") -> str:
        return self.const(self.rng.standard_normal(shape, np.float32) * np.float32(std), stem=stem)

    def op(self, op: str, *inputs: str, **attributes: Any) -> str:
        return self.ops(op, 1, *inputs, **attributes)[0]

    def ops(self, op: str, outputs: int, *inputs: str, **attributes: Any) -> list[str]:
        name = self._fresh(op)
        names = [f"/{name}/output_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(op, list(inputs), names, name=f"/{name}", **attributes))
        return names

    def model(self) -> onnx.ModelProto:
        graph = helper.make_graph(self.nodes, self.name, self.inputs, self.outputs, self.initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)])
        model.ir_version = 8
        model.producer_name = "pyneo-benchmarks"
        return model

    # --- layers -------------------------------------------------------------------------------------

    def conv(
        self,
        x: str,
        c_in: int,
        c_out: int,
        kernel: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        *,
        groups: int = 1,
        pads: Sequence[int] | None = None,
        gain: float = 2.0,
        bias: bool = True,
    ) -> str:
        """Convolution with torch's attributes; `gain` is the variance kept: 2 before a ReLU, 1 otherwise."""
        kh, kw = (kernel, kernel) if isinstance(kernel, int) else kernel
        strides = [stride, stride] if isinstance(stride, int) else list(stride)
        fan_in = c_in // groups * kh * kw
        operands = [x, self.weight((c_out, c_in // groups, kh, kw), float(np.sqrt(gain / fan_in)))]
        if bias:
            operands.append(self.weight((c_out,), 0.05, "bias"))
        return self.op(
            "Conv", *operands, dilations=[1, 1], group=groups, kernel_shape=[kh, kw],
            pads=list(pads) if pads is not None else [kh // 2, kw // 2] * 2, strides=strides,
        )  # fmt: skip

    def batch_norm(self, x: str, channels: int) -> str:
        rng = self.rng
        scale = self.const(rng.uniform(0.8, 1.2, channels), stem="bn_weight")
        shift = self.weight((channels,), 0.05, "bn_bias")
        mean = self.weight((channels,), 0.05, "bn_mean")
        var = self.const(rng.uniform(0.8, 1.2, channels), stem="bn_var")
        return self.op("BatchNormalization", x, scale, shift, mean, var, epsilon=1e-5, momentum=0.9)

    def silu(self, x: str) -> str:
        return self.op("Mul", x, self.op("Sigmoid", x))

    def gemm(self, x: str, c_in: int, c_out: int) -> str:
        """torch's nn.Linear on a matrix."""
        w = self.weight((c_out, c_in), 1 / float(np.sqrt(c_in)))
        return self.op("Gemm", x, w, self.weight((c_out,), 0.05, "bias"), alpha=1.0, beta=1.0, transB=1)

    def linear(self, x: str, c_in: int, c_out: int, gain: float = 1.0) -> str:
        """torch's nn.Linear on a tensor of rank 3: MatMul, then Add with the bias first."""
        product = self.op("MatMul", x, self.weight((c_in, c_out), float(np.sqrt(gain / c_in))))
        return self.op("Add", self.weight((c_out,), 0.05, "bias"), product)

    def layer_norm(self, x: str, width: int, epsilon: float, decomposed: bool = False) -> str:
        scale = self.const(self.rng.uniform(0.8, 1.2, width), stem="ln_weight")
        shift = self.weight((width,), 0.05, "ln_bias")
        if not decomposed:
            return self.op("LayerNormalization", x, scale, shift, axis=-1, epsilon=epsilon)
        centred = self.op("Sub", x, self.op("ReduceMean", x, axes=[-1], keepdims=1))
        variance = self.op("ReduceMean", self.op("Pow", centred, self.const(2.0)), axes=[-1], keepdims=1)
        deviation = self.op("Sqrt", self.op("Add", variance, self.const(epsilon)))
        return self.op("Add", self.op("Mul", self.op("Div", centred, deviation), scale), shift)

    def gelu(self, x: str) -> str:
        """The exact GELU as torch exports it below opset 20."""
        erf = self.op("Erf", self.op("Div", x, self.const(np.sqrt(2.0))))
        return self.op("Mul", self.op("Mul", x, self.op("Add", erf, self.const(1.0))), self.const(0.5))
