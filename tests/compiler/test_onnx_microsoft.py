# SPDX-License-Identifier: Apache-2.0
"""Operators of com.microsoft, as the frontend reads them, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

import pyneo
from pyneo.compiler.frontends.onnx import load_onnx
from tests.ops.cases import check, feed, model, ort, sample
from tests.support.interpreter import run_graph

X = sample((2, 5, 64), np.float32, 1)
SKIP = sample((2, 5, 64), np.float32, 2)
V = [sample((64,), np.float32, i) for i in range(3, 6)]
IDS = np.random.default_rng(0).integers(0, 9, (2, 5)).astype(np.int32)
SEGMENTS = (IDS > 4).astype(np.int32)
WORDS, POSITIONS, KINDS = (sample((n, 64), np.float32, n) for n in (9, 7, 2))
MASK = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32)

CASES = [
    *(
        ("FusedGemm", [X[0], sample((64, 7), np.float32, 3)], 1, {"activation": act, **attrs})
        for act, attrs in (
            ("Relu", {}), ("Elu", {"activation_alpha": 0.4}), ("ThresholdedRelu", {"activation_alpha": 0.3}),
            ("Softplus", {}), ("Softsign", {}),
        )
    ),
    ("Gelu", [X], 1, {}),
    ("BiasGelu", [X, V[0]], 1, {}),
    ("FastGelu", [X], 1, {}),
    ("FastGelu", [X, V[0]], 1, {}),
    ("QuickGelu", [X], 1, {"alpha": 1.3}),
    ("SkipLayerNormalization", [X, SKIP, V[0], V[1], V[2]], 1, {"epsilon": 1e-5}),
    ("SkipLayerNormalization", [X, SKIP[:1], V[0], V[1]], 1, {"epsilon": 1e-5}),
    ("SkipSimplifiedLayerNormalization", [X, SKIP, V[0], V[1]], 1, {"epsilon": 1e-5}),
    ("EmbedLayerNormalization", [IDS, SEGMENTS, WORDS, POSITIONS, KINDS, *V[:2], MASK], 2, {"epsilon": 1e-5}),
    ("EmbedLayerNormalization", [IDS, None, WORDS, POSITIONS, None, *V[:2]], 2, {"epsilon": 1e-5}),
    (
        "EmbedLayerNormalization",
        [IDS, SEGMENTS, WORDS, POSITIONS, KINDS, *V[:2], None, IDS % 7],
        3,
        {"epsilon": 1e-5},
    ),
]


@pytest.mark.parametrize(
    ("op", "inputs", "outputs", "attrs"), CASES, ids=[f"{i}-{c[0]}" for i, c in enumerate(CASES)]
)
def test_operators_match_onnx_runtime(op, inputs, outputs, attrs):
    name = "com.microsoft." + op
    found = run_graph(load_onnx(model(name, inputs, outputs, **attrs)), feed(inputs))
    for f, e in zip(found, ort(name, inputs, outputs, **attrs), strict=True):
        check(f, e, 1e-5, 1e-5)


def test_layouts_of_one_machine_are_refused_with_what_to_do():
    with pytest.raises(pyneo.CompileError, match=r"layout of one machine.*ORT_ENABLE_EXTENDED"):
        load_onnx(model("com.microsoft.nchwc.Conv", [X[None], X[None]]))


@pytest.mark.parametrize("op", ["AffineGrid", "DeformConv"])
def test_float64_where_the_core_has_float32(op):
    theta, size = sample((2, 2, 3), np.float64, 1), np.array([2, 3, 4, 5], np.int64)
    if op == "AffineGrid":
        inputs = [theta, size]
    else:
        inputs = [sample(s, np.float64, i) for i, s in enumerate([(1, 2, 5, 5), (3, 2, 2, 2), (1, 8, 4, 4)])]
    found = run_graph(load_onnx(model(op, inputs)), feed(inputs))
    for f, e in zip(found, ort(op, inputs), strict=True):
        check(f, e, 1e-5, 1e-5)
