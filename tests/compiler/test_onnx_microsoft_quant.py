# SPDX-License-Identifier: Apache-2.0
"""Quantised operators of com.microsoft, as the frontend reads them, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

import pyneo
from pyneo.compiler.frontends.onnx import load_onnx
from tests.ops.cases import Arrays, check, feed, model, run_ort, sample
from tests.support.interpreter import run_graph

MS = "com.microsoft."


def f32(*values: float) -> np.ndarray:
    return np.array(values if len(values) != 1 else values[0], np.float32)


def u8(value: int) -> np.ndarray:
    return np.array(value, np.uint8)


def i8(value: int) -> np.ndarray:
    return np.array(value, np.int8)


X = sample((2, 3, 8, 8), np.uint8, 1)
Y = sample((2, 3, 8, 8), np.uint8, 2)
S = sample((2, 3, 8, 8), np.int8, 3)
LAST = np.ascontiguousarray(X.transpose(0, 2, 3, 1))
POOL = {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}

# (operator, inputs, attributes): the result may be one step off, where sums are rounded in another order.
CASES: list[tuple[str, Arrays, dict[str, Any]]] = [
    ("QLinearAdd", [X, f32(0.02), u8(120), Y, f32(0.03), u8(7), f32(0.05), u8(100)], {}),
    ("QLinearAdd", [S, f32(0.02), i8(-5), S[:1, :, :1], f32(0.03), i8(7), f32(0.05), i8(3)], {}),
    ("QLinearMul", [X, f32(0.02), u8(120), Y, f32(0.03), u8(7), f32(0.05), u8(100)], {}),
    ("QLinearMul", [X, f32(0.02), u8(120), Y[0, 0, 0], f32(0.03), u8(0), f32(0.05), u8(0)], {}),
    ("QLinearSigmoid", [X, f32(0.05), u8(90), f32(1 / 256), u8(0)], {}),
    ("QLinearSigmoid", [S, f32(0.05), i8(9), f32(1 / 256), i8(-128)], {}),
    ("QLinearSigmoid", [X, f32(0.05), None, f32(1 / 256), None], {}),
    ("QLinearLeakyRelu", [X, f32(0.05), u8(90), f32(0.04), u8(30)], {"alpha": 0.2}),
    ("QLinearLeakyRelu", [S, f32(0.05), i8(9), f32(0.04), i8(-3)], {}),
    ("QLinearSoftmax", [X, f32(0.05), u8(90), f32(1 / 256), u8(0)], {"axis": -1, "softmax_of": 13}),
    ("QLinearSoftmax", [X, f32(0.05), u8(90), f32(1 / 256), u8(0)], {"axis": 1, "softmax_of": 13}),
    ("QLinearSoftmax", [X, f32(0.05), u8(90), f32(1 / 256), u8(0)], {"axis": 1, "softmax_of": 12}),
    ("QLinearSoftmax", [S, f32(0.05), i8(9), f32(1 / 256), i8(-128)], {"axis": 2, "softmax_of": 11}),
    ("QLinearAveragePool", [X, f32(0.05), u8(90), f32(0.04), u8(30)], POOL),
    ("QLinearAveragePool", [X, f32(0.05), u8(90), f32(0.04), u8(30)], {**POOL, "count_include_pad": 1}),
    ("QLinearAveragePool", [X, f32(0.05), u8(90), f32(0.04), u8(30)], {**POOL, "ceil_mode": 1}),
    ("QLinearAveragePool", [S, f32(0.05), i8(9), f32(0.04), i8(3)], {"kernel_shape": [2, 2]}),
    ("QLinearAveragePool", [LAST, f32(0.05), u8(90), f32(0.04), u8(30)], {**POOL, "channels_last": 1}),
    ("QLinearGlobalAveragePool", [X, f32(0.05), u8(90), f32(0.04), u8(30)], {}),
    ("QLinearGlobalAveragePool", [LAST, f32(0.05), u8(90), f32(0.04), u8(30)], {"channels_last": 1}),
    ("QLinearConcat", [f32(0.05), u8(3), X, f32(0.04), u8(9), Y, f32(0.05), u8(3)], {"axis": 1}),
    ("QLinearConcat", [f32(0.05), i8(3), S, f32(0.04), i8(9), S, f32(0.1), i8(-3)], {"axis": -1}),
    ("QLinearWhere", [X > 50, X, f32(0.05), u8(90), Y, f32(0.04), u8(9), f32(0.06), u8(2)], {}),
    ("NhwcMaxPool", [LAST], POOL),
    ("QLinearConv",
     [LAST, f32(0.05), u8(90), sample((5, 3, 3, 3), np.int8, 5), f32(0.03), i8(0), f32(0.9), u8(128),
      sample((5,), np.int32, 6)],
     {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2], "channels_last": 1}),
    ("QuantizeLinear", [sample((3, 4), np.float32, 7), f32(0.03), np.array(300, np.uint16)], {}),
    ("DequantizeLinear", [sample((3, 4), np.int32, 7), f32(0.03), None], {}),
]  # fmt: skip


def single(op: str, inputs: Arrays, outputs: int = 1, **attrs: Any) -> onnx.ModelProto:
    """A model of the one operator. softmax_of: its attribute 'opset'."""
    opset = attrs.pop("softmax_of", None)
    made = model(MS + op, inputs, outputs, **attrs)
    if opset is not None:
        made.graph.node[0].attribute.append(onnx.helper.make_attribute("opset", opset))
    return made


def run(op: str, inputs: Arrays, outputs: int = 1, **attrs: Any) -> list[np.ndarray]:
    return run_graph(load_onnx(single(op, inputs, outputs, **attrs)), feed(inputs))


def ort(op: str, inputs: Arrays, outputs: int = 1, **attrs: Any) -> list[np.ndarray]:
    return run_ort(single(op, inputs, outputs, **attrs), inputs)


@pytest.mark.parametrize(("op", "inputs", "attrs"), CASES, ids=[f"{i}-{c[0]}" for i, c in enumerate(CASES)])
def test_quantised_operators_match_onnx_runtime(op: str, inputs: Arrays, attrs: dict[str, Any]) -> None:
    (found,), (expected,) = run(op, inputs, **attrs), ort(op, inputs, **attrs)
    assert found.dtype == expected.dtype and found.shape == expected.shape
    wide = np.float64
    assert np.abs(found.astype(wide) - expected.astype(wide)).max() <= (1 if expected.dtype != "f4" else 1e-6)
    assert (found == expected).mean() > 0.98


A = sample((2, 5, 24), np.float32, 1)
QA = sample((5, 24), np.uint8, 2)
W8 = sample((24, 7), np.int8, 3)
COLUMNS = sample((7,), np.float32, 4, 0.01, 0.1)
BIAS = sample((7,), np.float32, 5)
EXACT: list[tuple[str, Arrays, dict[str, Any]]] = [
    ("DynamicQuantizeMatMul", [A, W8, f32(0.03), i8(3)], {}),
    ("DynamicQuantizeMatMul", [A, W8, COLUMNS, None, BIAS], {}),
    ("MatMulIntegerToFloat", [QA, W8, f32(0.02), f32(0.03), u8(7), i8(3)], {}),
    ("MatMulIntegerToFloat", [QA, W8, f32(0.02), COLUMNS, u8(7), None, BIAS], {}),
    ("QGemm", [QA, f32(0.02), u8(7), W8, f32(0.03), i8(0)], {}),
    ("QGemm", [QA, f32(0.02), u8(7), W8.T.copy(), f32(0.03), i8(4), sample((7,), np.int32, 8)],
     {"transB": 1, "alpha": 1.5}),
    ("QGemm", [QA.T.copy(), f32(0.02), u8(7), W8, COLUMNS, np.zeros(7, np.int8), None, f32(0.1), u8(100)],
     {"transA": 1}),
]  # fmt: skip


@pytest.mark.parametrize(("op", "inputs", "attrs"), EXACT, ids=[f"{i}-{c[0]}" for i, c in enumerate(EXACT)])
def test_integer_products_match_onnx_runtime(op: str, inputs: Arrays, attrs: dict[str, Any]) -> None:
    check(run(op, inputs, **attrs)[0], ort(op, inputs, **attrs)[0], 1e-5, 1e-5)


def with_constants(op: str, inputs: Arrays, keep: int, **attrs: Any) -> onnx.ModelProto:
    """The model with all inputs from `keep` on as initialisers."""
    made = single(op, inputs, **attrs)
    for i, x in enumerate(inputs[keep:], keep):
        if x is not None:
            made.graph.initializer.append(onnx.numpy_helper.from_array(x, f"x{i}"))
    kept = [v for v in made.graph.input if int(v.name[1:]) < keep]
    del made.graph.input[:]
    made.graph.input.extend(kept)
    return made


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(("k", "block"), [(64, 32), (40, 16), (128, 128)])
@pytest.mark.parametrize("zeros", ["none", "packed", "float"])
@pytest.mark.parametrize("bias", [False, True])
def test_matmul_of_narrow_weights(bits: int, k: int, block: int, zeros: str, bias: bool) -> None:
    n, blocks = 9, -(-k // block)
    rng = np.random.default_rng([bits, k])
    packed = rng.integers(0, 256, (n, blocks, block * bits // 8)).astype(np.uint8)
    scales = rng.uniform(0.01, 0.1, (n, blocks)).astype(np.float32)
    zero: np.ndarray | None = None
    if zeros == "packed":
        zero = rng.integers(0, 256, (n, -(-blocks * bits // 8))).astype(np.uint8)
    elif zeros == "float":
        zero = rng.uniform(0, (1 << bits) - 1, (n, blocks)).astype(np.float32)
    x = rng.standard_normal((2, 3, k)).astype(np.float32)
    inputs = [x, packed, scales, zero, None, sample((n,), np.float32, 3) if bias else None]
    attrs = {"N": n, "K": k, "bits": bits, "block_size": block}
    (found,) = run_graph(load_onnx(with_constants("MatMulNBits", inputs, 1, **attrs)), {"x0": x})
    if zeros == "float" and bits != 4:  # onnxruntime has those for 4 bits only
        fields = np.stack([packed >> s & ((1 << bits) - 1) for s in range(0, 8, bits)], -1)
        assert zero is not None
        w = ((fields.reshape(n, blocks, block) - zero[..., None]) * scales[..., None]).reshape(n, -1)[:, :k]
        expected = x @ w.T.astype(np.float32) + (inputs[5] if bias else 0)
    else:
        (expected,) = ort("MatMulNBits", inputs, **attrs)
    check(found, np.asarray(expected, np.float32), 2e-4, 2e-4)


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"K": 65}, "fit N=9"),
        ({"block_size": 0}, "fit N=9"),
        ({"bits": 3}, "bits=3"),
        ({"weight_prepacked": 1}, "weight_prepacked"),
    ],
)
def test_narrow_weights_that_do_not_fit_are_refused(changed: dict[str, int], word: str) -> None:
    attrs = {"N": 9, "K": 64, "bits": 4, "block_size": 32} | changed
    inputs = [np.zeros((1, 64), np.float32), np.zeros((9, 2, 16), np.uint8), np.ones((9, 2), np.float32)]
    with pytest.raises(pyneo.CompileError, match=word):
        load_onnx(with_constants("MatMulNBits", inputs, 1, **attrs))
    with pytest.raises(pyneo.CompileError, match="must be constants"):
        load_onnx(model(MS + "MatMulNBits", inputs, N=9, K=64, bits=4, block_size=32))


@pytest.mark.parametrize("columns", [False, True])
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_dynamic_lstm_is_near_what_onnx_runtime_computes_on_rounded_operands(
    columns: bool, direction: str
) -> None:
    dirs, size, hidden = 1 + (direction == "bidirectional"), 6, 8
    x = sample((4, 2, size), np.float32, 1, -1, 1)
    w, r = (sample((dirs, n, 4 * hidden), np.int8, n) for n in (size, hidden))
    shape = (dirs, 4 * hidden) if columns else (dirs,)
    scale, zero = np.full(shape, 0.01, np.float32), np.zeros(shape, np.int8)
    inputs = [x, w, r, sample((dirs, 8 * hidden), np.float32, 4, -1, 1), None, None, None, None]
    inputs += [scale, zero, scale * 0.5, zero]
    attrs = {"hidden_size": hidden, "direction": direction}
    found = run("DynamicQuantizeLSTM", inputs, 3, **attrs)
    expected = ort("DynamicQuantizeLSTM", inputs, 3, **attrs)
    for f, e in zip(found, expected, strict=True):
        check(f, e, 0.02, 0.02)
