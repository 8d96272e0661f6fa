# SPDX-License-Identifier: Apache-2.0
"""Runs an IR graph node by node on the core's portable kernels: no pass and no plan between."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pyneo import _core
from pyneo.compiler.ir.graph import DType, Graph, Value
from pyneo.compiler.lower.attrs import pack_attrs


def run_graph(graph: Graph, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """The graph's outputs; bfloat16 goes in and comes out as uint16."""
    known: dict[Value, tuple[np.ndarray, DType]] = {v: (feeds[v.name], v.dtype) for v in graph.inputs}

    def get(v: Value) -> tuple[np.ndarray, DType]:
        return (v.const, v.dtype) if v.const is not None else known[v]

    for node in graph.nodes:
        pairs = [None if v is None else get(v) for v in node.inputs]
        arrays = [None if p is None else p[0] for p in pairs]
        dtypes = [0 if p is None else int(p[1]) for p in pairs]
        attrs = pack_attrs(node.attrs)
        try:
            described = _core.op_infer(node.op, attrs, arrays, dtypes, len(node.outputs))
            results = _core.op_eval(node.op, attrs, arrays, dtypes, len(node.outputs))
        except Exception as e:
            raise type(e)(f"node {node.name!r} ({node.op}): {e}") from e
        for v, y, (dtype, shape) in zip(node.outputs, results, described, strict=True):
            assert y.shape == tuple(shape)
            if v is not None:
                known[v] = (y, DType(dtype))
    return [get(v)[0] for v in graph.outputs]
