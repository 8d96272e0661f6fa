# SPDX-License-Identifier: Apache-2.0
"""Quantised models run on the kernels for real numbers, and give what ONNX Runtime gives."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnxruntime
import pytest

import pyneo
from tests.support.models import from_text
from tests.support.passes import f32, optimised

RNG = np.random.default_rng(0)


def i8(*shape: int) -> np.ndarray:
    return RNG.integers(-127, 128, shape).astype(np.int8)


CONSTANTS: dict[str, np.ndarray] = {
    "s": np.array(0.05, np.float32), "s2": np.array(0.11, np.float32), "z": np.array(100, np.uint8),
    "z2": np.array(3, np.uint8), "zi": np.array(0, np.int8), "zw": np.array(4, np.int8),
    "w": i8(6, 4, 3, 3), "sw": np.array(0.01, np.float32),
    "swc": np.linspace(0.01, 0.02, 6, dtype=np.float32),
    "zc": np.zeros(6, np.int8), "b": RNG.integers(-500, 500, 6).astype(np.int32),
    "m": i8(6, 5), "sm": np.linspace(0.01, 0.02, 5, dtype=np.float32), "zm": np.zeros(5, np.int8),
    "shape": np.array([2, -1], np.int64), "s16": np.array(0.001, np.float32), "z16": np.array(7, np.uint16),
}  # fmt: skip
Q = "q = QuantizeLinear(x, s, z)"
STAYS = {"QuantizeLinear": 1, "DequantizeLinear": 1}
OUT = "y = DequantizeLinear(o, s2, z2)"
ROUND = {"Div": 1, "Round": 1, "Clip": 1, "Mul": 1}
TWICE = {"Div": 1, "Round": 2, "Clip": 2, "Mul": 2}  # the second division went into the weights
PADS = "pads=[1, 1, 1, 1]"

# name, body, what remains of it.
CASES = [
    ("rounding", f"{Q} y = DequantizeLinear(q, s, z)", ROUND),
    ("rounding_of_16_bits", "q = QuantizeLinear(x, s16, z16) y = DequantizeLinear(q, s16, z16)", ROUND),
    ("other_scale_stays", f"{Q} y = DequantizeLinear(q, s2, z)", STAYS),
    ("other_zero_stays", f"{Q} y = DequantizeLinear(q, s, z2)", STAYS),
    ("conv", f"{Q} o = QLinearConv<{PADS}>(q, s, z, w, sw, zi, s2, z2) {OUT}", TWICE | {"Conv": 1}),
    ("conv_per_channel", f"{Q} o = QLinearConv(q, s, z, w, swc, zc, s2, z2, b) {OUT}", TWICE | {"Conv": 1}),
    ("conv_with_zero", f"{Q} o = QLinearConv(q, s, z, w, sw, zw, s2, z2, b) {OUT}", TWICE | {"Conv": 1}),
    ("matmul", f"{Q} o = QLinearMatMul(q, s, z, m, sw, zw, s2, z2) {OUT}", TWICE | {"MatMul": 1}),
    ("matmul_per_column", f"{Q} o = QLinearMatMul(q, s, z, m, sm, zm, s2, z2) {OUT}", TWICE | {"MatMul": 1}),
    ("pool", f"{Q} o = MaxPool<kernel_shape=[2, 2]>(q) y = DequantizeLinear(o, s, z)",
     ROUND | {"MaxPool": 1}),
    ("reshape", f"{Q} o = Reshape(q, shape) y = DequantizeLinear(o, s, z)", ROUND | {"Reshape": 1}),
    ("dynamic_matmul", "q, t, p = DynamicQuantizeLinear(x) o = MatMulInteger(q, m, p, zw) y = Cast<to=1>(o)",
     {"DynamicQuantizeLinear": 1, "Cast": 2, "Sub": 1, "MatMul": 1}),
    ("dynamic_conv", f"q, t, p = DynamicQuantizeLinear(x) o = ConvInteger<{PADS}>(q, w, p) y = Cast<to=1>(o)",
     {"DynamicQuantizeLinear": 1, "Cast": 2, "Sub": 1, "Conv": 1}),
    ("integer_sums_stay", f"{Q} o = MatMulInteger(q, m, z, zw) a = Abs(o) y = Cast<to=1>(a)",
     {"QuantizeLinear": 1, "MatMulInteger": 1, "Abs": 1}),
]  # fmt: skip


def test_rounding_one_number_leaves_it_one_number() -> None:
    body = "o = Squeeze(x) q = QuantizeLinear(o, s, z) y = DequantizeLinear(q, s, z)"
    model = from_text(body, {"x": (1,)}, {n: CONSTANTS[n] for n in "sz"}, ("y",), 21)
    y = pyneo.Model.load(pyneo.compile(model), allow_unsigned=True).predict(np.array([0.12], np.float32))
    assert y.shape == ()
    np.testing.assert_allclose(y, 0.1, rtol=1e-6)


@pytest.mark.parametrize(("name", "body", "left"), CASES, ids=[c[0] for c in CASES])
def test_quantised(name: str, body: str, left: dict[str, int]) -> None:
    words = body.replace("(", " ").replace(")", " ").replace(",", " ").split()
    x = (f32(2, 4, 6, 6) * 4).astype(np.float32)
    model = from_text(body, {"x": x.shape}, {n: a for n, a in CONSTANTS.items() if n in words}, ("y",), 21)
    found = Counter(n.op for n in optimised(model).nodes)
    assert {op: n for op, n in found.items() if op in left or "Linear" in op or "Integer" in op} == left
    peer = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (expected,) = peer.run(None, {"x": x})
    y = pyneo.Model.load(pyneo.compile(model), allow_unsigned=True).predict(x)
    # A sum next to the border between two steps may be rounded to either.
    step = 0 if "Linear" not in body.split("=")[-1] and "dynamic" not in name else 0.11
    off = np.abs(y.astype(np.float64) - expected)
    assert off.max() <= max(step * 1.01, 1e-5 * np.abs(expected).max())
    assert (off <= 1e-5 * np.abs(expected).max() + 1e-6).mean() > 0.99
