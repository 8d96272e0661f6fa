# SPDX-License-Identifier: Apache-2.0
"""One operator at a time: the core's reference kernel beside ONNX Runtime and onnx.reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from pyneo import _core
from pyneo.compiler.lower.attrs import pack_attrs

Arrays = Sequence["np.ndarray | None"]
BFLOAT16 = TensorProto.BFLOAT16


def evaluate(
    op: str,
    inputs: Arrays,
    attrs: Mapping[str, Any] | None = None,
    outputs: int = 1,
    dtypes: Sequence[int] | None = None,
) -> list[np.ndarray]:
    """Outputs of pyneo's reference kernel; scalar attributes are wrapped as the compiler does."""
    listed = {
        k: v if isinstance(v, (str, list)) else list(v) if isinstance(v, tuple) else [v]
        for k, v in (attrs or {}).items()
    }
    if dtypes is None:
        dtypes = [0 if x is None else helper.np_dtype_to_tensor_dtype(x.dtype) for x in inputs]
    return list(_core.op_eval(op, pack_attrs(listed), list(inputs), list(dtypes), outputs))


def model_of(
    op: str, inputs: Arrays, attrs: Mapping[str, Any] | None, outputs: int, domain: str, opset: int
) -> onnx.ModelProto:
    """A model of one node; its outputs carry no types."""
    names = ["" if x is None else f"x{i}" for i, x in enumerate(inputs)]
    results = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, names, results, domain=domain, **dict(attrs or {}))
    graph = helper.make_graph(
        [node],
        "single",
        [
            helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
            for n, x in zip(names, inputs, strict=True)
            if x is not None
        ],
        [onnx.ValueInfoProto(name=r) for r in results],
    )
    imports = [helper.make_opsetid("", opset if not domain else 22)]
    if domain:
        imports.append(helper.make_opsetid(domain, opset))
    return helper.make_model(graph, opset_imports=imports, ir_version=10)


def runtime(
    op: str,
    inputs: Arrays,
    attrs: Mapping[str, Any] | None = None,
    outputs: int = 1,
    domain: str = "",
    opset: int = 22,
) -> list[np.ndarray]:
    """Outputs of ONNX Runtime for the same node."""
    model = model_of(op, inputs, attrs, outputs, domain, opset)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, {f"x{i}": x for i, x in enumerate(inputs) if x is not None}))


def specification(
    op: str,
    inputs: Arrays,
    attrs: Mapping[str, Any] | None = None,
    outputs: int = 1,
    domain: str = "",
    opset: int = 22,
) -> list[np.ndarray]:
    """Outputs of onnx.reference for the same node."""
    model = model_of(op, inputs, attrs, outputs, domain, opset)
    result = ReferenceEvaluator(model).run(None, {f"x{i}": x for i, x in enumerate(inputs) if x is not None})
    return [np.asarray(r) for r in result]


def assert_same(
    got: Sequence[np.ndarray], want: Sequence[np.ndarray], rtol: float = 1e-5, atol: float = 1e-5
) -> None:
    """Shapes and dtypes equal, values equal to rounding (exactly for integers and bools)."""
    assert len(got) == len(want)
    for g, w in zip(got, want, strict=True):
        assert (g.dtype, g.shape) == (w.dtype, w.shape)
        if g.dtype.kind == "f":
            np.testing.assert_allclose(g.astype(np.float64), w.astype(np.float64), rtol=rtol, atol=atol)
        else:
            np.testing.assert_array_equal(g, w)


def floats(*shape: int, seed: int = 0, dtype: Any = np.float32) -> np.ndarray:
    """Normal random numbers of that shape, the same on every call."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def bfloat16(x: np.ndarray) -> np.ndarray:
    """f32 rounded to bfloat16, as the uint16 that carries it."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def from_bfloat16(x: np.ndarray) -> np.ndarray:
    """The f32 value of bfloat16 carried in uint16."""
    return (x.astype(np.uint32) << 16).view(np.float32)
