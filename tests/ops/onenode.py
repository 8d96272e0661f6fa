# SPDX-License-Identifier: Apache-2.0
"""One operator on arrays: through the core's reference kernel, ONNX Runtime, or onnx.reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import helper
from onnx.reference import ReferenceEvaluator

from pyneo import _core
from pyneo.compiler.lower.attrs import pack_attrs

Array = NDArray[Any]


def core(
    op: str,
    inputs: Sequence[Array | None],
    attrs: Mapping[str, Any] | None = None,
    outputs: int = 1,
    dtypes: list[int] | None = None,
) -> list[Array]:
    """Outputs of the core's reference kernel."""
    packed = pack_attrs(
        {k: v if isinstance(v, (str, list, tuple)) else [v] for k, v in (attrs or {}).items()}
    )
    arrays = [None if x is None else np.asarray(x) for x in inputs]
    return list(_core.op_eval(op, packed, arrays, dtypes, outputs))


def model(
    op: str,
    inputs: Sequence[Array | None],
    attrs: Mapping[str, Any] | None = None,
    outputs: int = 1,
    opset: int = 21,
) -> tuple[onnx.ModelProto, dict[str, Array]]:
    """A model of that one node and its feed; `op` may carry a domain ("ai.onnx.ml.Scaler")."""
    domain, _, kind = op.rpartition(".")
    feed = {f"x{i}": np.asarray(x) for i, x in enumerate(inputs) if x is not None}
    names = [f"x{i}" if x is not None else "" for i, x in enumerate(inputs)]
    node = helper.make_node(kind, names, [f"y{i}" for i in range(outputs)], domain=domain, **(attrs or {}))
    infos = [
        helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for k, v in feed.items()
    ]
    graph = helper.make_graph([node], op, infos, [onnx.ValueInfoProto(name=f"y{i}") for i in range(outputs)])
    imports = [helper.make_opsetid("", opset)]
    if domain:
        imports.append(helper.make_opsetid(domain, 1))
    return helper.make_model(graph, opset_imports=imports, ir_version=10), feed


def ort(
    op: str,
    inputs: Sequence[Array | None],
    attrs: Mapping[str, Any] | None = None,
    outputs: int = 1,
    opset: int = 21,
) -> list[Array]:
    """Outputs of ONNX Runtime."""
    proto, feed = model(op, inputs, attrs, outputs, opset)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, feed))


def onnx_reference(
    op: str,
    inputs: Sequence[Array | None],
    attrs: Mapping[str, Any] | None = None,
    outputs: int = 1,
    opset: int = 21,
) -> list[Array]:
    """Outputs of onnx's own evaluator."""
    proto, feed = model(op, inputs, attrs, outputs, opset)
    return list(ReferenceEvaluator(proto).run(None, feed))


def check(got: Sequence[Array], want: Sequence[Array], rtol: float = 0.0, atol: float = 0.0) -> None:
    """Same count, dtypes, shapes and values; exact unless a tolerance is given."""
    assert len(got) == len(want)
    for i, (g, w) in enumerate(zip(got, want, strict=True)):
        assert g.dtype == w.dtype, f"output {i}: {g.dtype} instead of {w.dtype}"
        assert g.shape == w.shape, f"output {i}: {g.shape} instead of {w.shape}"
        np.testing.assert_allclose(g.astype(np.float64), w.astype(np.float64), rtol=rtol, atol=atol)


def sample(shape: Sequence[int], dtype: Any = np.float32, seed: int = 0) -> Array:
    """Distinct-looking values of any dtype."""
    rng = np.random.default_rng([seed, *shape])
    if np.dtype(dtype) == np.bool_:
        return rng.random(shape) < 0.5
    if np.issubdtype(dtype, np.integer):
        low = 0 if np.issubdtype(dtype, np.unsignedinteger) else -100
        return rng.integers(low, 100, shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)
