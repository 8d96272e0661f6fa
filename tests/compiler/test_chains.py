# SPDX-License-Identifier: Apache-2.0
"""Chains of element-wise nodes: one step where nothing else looks between them, and onnxruntime's numbers."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

import pyneo
from tests.support.models import from_text
from tests.support.passes import f32

X: dict[str, tuple[int | str, ...]] = {"x": (2, 5, 7, 9)}
CONSTANTS = {"c": f32(1, 5, 1, 1), "row": f32(9)}
CONSTANTS |= {"two": np.float32(2), "low": np.float32(-0.5), "high": np.float32(1)}
CONSTANTS |= {"deep_two": np.full((1, 1, 1, 1, 1), 2, np.float32)}

# (name, body, how many steps run)
CASES = [
    ("unary", "a = Exp(x) b = Neg(a) y = Tanh(b)", 1),
    ("scalars", "a = Mul(x, two) b = Add(a, high) y = Sqrt(b)", 1),
    ("channels", "a = Mul(x, c) b = Sub(a, x) d = Abs(b) y = Div(d, two)", 1),
    ("rows", "a = Add(x, row) b = Clip(a, low, high) y = Mul(b, x)", 1),
    ("square", "a = Pow(x, two) b = Max(a, x) y = Min(b, two)", 1),
    ("tree", "a = Exp(x) b = Abs(x) d = Add(a, b) e = Sigmoid(d) y = Mul(e, x)", 1),
    ("an_exponent_that_adds_dims_stays", "a = Exp(x) b = Pow(a, deep_two) y = Neg(b)", 3),
    ("a_result_read_twice_stays", "a = Exp(x) b = Add(a, two) y = Mul(a, b)", 2),
    ("an_output_stays", "a = Exp(x) b = Neg(a) y = Floor(b)", 2),
    ("narrow_results_stay", "a = Exp(row) b = Add(x, a) y = Abs(b)", 1),
]


@pytest.mark.parametrize("name,body,steps", CASES, ids=[c[0] for c in CASES])
def test_chain(name: str, body: str, steps: int) -> None:
    words = body.replace("(", " ").replace(")", " ").replace(",", " ").split()
    used = {n: a for n, a in CONSTANTS.items() if n in words}
    outputs = ("y", "b") if name == "an_output_stays" else ("y",)
    model = from_text(body, X, used, outputs)
    x = np.random.default_rng(3).standard_normal(X["x"]).astype(np.float32)
    if name == "scalars":
        x = np.abs(x)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    want = session.run(None, {"x": x})
    package = pyneo.compile(model)
    with pyneo.Model.load(package, allow_unsigned=True) as loaded:
        got = loaded.predict(x)
    for g, w in zip(got if isinstance(got, tuple) else (got,), want, strict=True):
        np.testing.assert_allclose(g, w, rtol=1e-5, atol=1e-6)
    assert len(package.report().steps) == steps
