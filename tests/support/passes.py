# SPDX-License-Identifier: Apache-2.0
"""Cases for the compiler's passes: a model, what must remain of it, and onnxruntime's word on its result."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime

import pyneo
from pyneo.compiler.frontends.onnx import load_onnx
from pyneo.compiler.ir.graph import Graph, Node
from pyneo.compiler.passes import optimise
from tests.support.models import from_text

RNG = np.random.default_rng(0)


def f32(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def num(value: float) -> np.ndarray:
    return np.array(value, np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


@dataclass(frozen=True)
class Case:
    """`expected`: what remains, an operator with what was fused into it, as in "Conv+bias+sum+relu".

    Of `constants` the model holds those that the body names.
    """

    name: str
    body: str
    expected: str
    constants: dict[str, np.ndarray] = field(default_factory=dict)
    inputs: dict[str, tuple[int | str, ...]] = field(default_factory=lambda: {"x": (2, 4, 6, 6)})
    outputs: tuple[str, ...] = ("y",)
    opset: int = 17

    def model(self) -> onnx.ModelProto:
        used = {n: a for n, a in self.constants.items() if _names(self.body, n)}
        return from_text(self.body, self.inputs, used, self.outputs, self.opset)


def _names(body: str, name: str) -> bool:
    return name in body.replace("(", " ").replace(")", " ").replace(",", " ").split()


def describe(node: Node) -> str:
    parts = [node.op]
    if node.op in ("Conv", "ConvTranspose", "MatMul", "Gemm") and node.input(2) is not None:
        parts.append("bias")
    parts.append(str(node.attrs.get("act", "")))
    if node.op in ("Conv", "MatMul") and node.input(3) is not None:
        parts += ["sum", str(node.attrs.get("post_act", ""))]
    return "+".join(p for p in parts if p)


def optimised(model: onnx.ModelProto) -> Graph:
    graph = load_onnx(model)
    optimise(graph)
    return graph


def check(case: Case) -> None:
    model = case.model()
    assert [describe(n) for n in optimised(model).nodes] == case.expected.split()
    rng = np.random.default_rng(1)
    feeds = {
        n: rng.standard_normal([d for d in s if isinstance(d, int)]).astype(np.float32)
        for n, s in case.inputs.items()
    }
    peer = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = peer.run(list(case.outputs), feeds)
    got = pyneo.Model.load(pyneo.compile(model), allow_unsigned=True).predict(feeds)
    for name, reference in zip(case.outputs, wanted, strict=True):
        scale = max(1.0, float(np.max(np.abs(reference), initial=0))) if reference.dtype.kind == "f" else 1.0
        np.testing.assert_allclose(got[name], reference, rtol=1e-4, atol=1e-5 * scale, err_msg=name)
