# SPDX-License-Identifier: Apache-2.0
"""Quantised operators against ONNX Runtime, onnx.reference and integer arithmetic in numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pyneo.errors
from tests.ops.cases import BF16, check_all, evaluate, normal, onnx_reference, ort, sample

BYTES = [np.uint8, np.int8]
QUANTISED = [np.uint8, np.int8, np.uint16, np.int16]


def scales(*shape: int, seed: int = 9) -> np.ndarray:
    return (np.random.default_rng(seed).uniform(0.02, 0.2, shape)).astype(np.float32)


# x shape, scale shape, attributes
GRANULARITIES: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, int]]] = [
    ((3, 300), (), {}),
    ((7,), (1,), {}),
    ((2, 5, 3, 3), (5,), {}),
    ((2, 5, 7), (7,), {"axis": -1}),
    ((4, 3), (4,), {"axis": 0}),
    ((4, 10), (4, 3), {"axis": 1, "block_size": 4}),
    ((6, 5, 2), (2, 5, 2), {"axis": 0, "block_size": 3}),
    ((0, 5), (5,), {}),
    ((), (), {}),
]


@pytest.mark.parametrize(("shape", "scale", "attrs"), GRANULARITIES)
@pytest.mark.parametrize("dtype", QUANTISED)
def test_quantize_and_dequantize(shape: Any, scale: Any, attrs: dict[str, int], dtype: Any) -> None:
    x, s, z = normal(*shape) * 20, scales(*scale), sample(scale, dtype, seed=4)
    x = np.asarray(x, np.float32)
    reference = onnx_reference if "block_size" in attrs else ort
    got = evaluate("QuantizeLinear", [x, s, z], **attrs)
    check_all(got, reference("QuantizeLinear", [x, s, z], opset=21, **attrs))
    q = np.asarray(got[0])
    check_all(
        evaluate("DequantizeLinear", [q, s, z], **attrs),
        reference("DequantizeLinear", [q, s, z], opset=21, **attrs),
    )


def test_quantize_rounds_to_even_and_saturates() -> None:
    x = np.array([0.5, 1.5, 2.5, -0.5, 1e30, -1e30, np.inf, -np.inf, np.nan], np.float32)
    s, z = np.float32(1).reshape(()), np.int8(0).reshape(())
    got = evaluate("QuantizeLinear", [x, s, z])[0]
    np.testing.assert_array_equal(got[:8], [0, 2, 2, 0, 127, -128, 127, -128])
    assert got[8] == -128


def test_quantize_output_dtype_and_defaults() -> None:
    x, s = normal(4, 5) * 20, scales()
    check_all(evaluate("QuantizeLinear", [x, s]), ort("QuantizeLinear", [x, s], opset=21))
    check_all(
        evaluate("QuantizeLinear", [x, s], output_dtype=5),
        ort("QuantizeLinear", [x, s], opset=21, output_dtype=5),
    )


def test_half_precision_rounds_the_quotient_to_half() -> None:
    x, s, z = (normal(50) * 60).astype(np.float16), np.float16(0.11).reshape(()), np.uint8(100).reshape(())
    check_all(evaluate("QuantizeLinear", [x, s, z]), onnx_reference("QuantizeLinear", [x, s, z], opset=21))
    q = sample((50,), np.uint8)
    check_all(
        evaluate("DequantizeLinear", [q, s, z]),
        onnx_reference("DequantizeLinear", [q, s, z], opset=21),
        rtol=1e-3,
    )
    check_all(
        evaluate("DequantizeLinear", [q, s.astype(np.float32), z], output_dtype=16),
        [((q.astype(np.float32) - 100) * np.float32(s)).astype(BF16)],
        rtol=0,
    )


def test_dequantize_int32() -> None:
    x, s = sample((3, 4), np.int32) * 10**7, scales()
    check_all(evaluate("DequantizeLinear", [x, s]), ort("DequantizeLinear", [x, s], opset=21))


@pytest.mark.parametrize("low, high", [(-3, 5), (1, 4), (-4, -1), (0, 0)])
def test_dynamic_quantize(low: float, high: float) -> None:
    x = np.random.default_rng(0).uniform(low, high, (7, 9)).astype(np.float32)
    check_all(evaluate("DynamicQuantizeLinear", [x], 3), ort("DynamicQuantizeLinear", [x], 3))


MATMULS: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((3, 4), (4, 5)),
    ((9, 33), (33, 130)),
    ((2, 3, 4), (4, 5)),
    ((2, 3, 4), (2, 4, 5)),
    ((0, 4), (4, 2)),
]


@pytest.mark.parametrize(("a", "b"), MATMULS)
@pytest.mark.parametrize("left", BYTES)
@pytest.mark.parametrize("right", BYTES)
def test_matmul_integer(a: Any, b: Any, left: Any, right: Any) -> None:
    x, y = sample(a, left), sample(b, right, seed=1)
    za, zb = np.asarray(5, left), sample((b[-1],), right, seed=2)
    wide = np.int32
    check_all(evaluate("MatMulInteger", [x, y]), [x.astype(wide) @ y.astype(wide)])
    check_all(
        evaluate("MatMulInteger", [x, y, za, zb]), [(x.astype(wide) - 5) @ (y.astype(wide) - zb.astype(wide))]
    )


def test_zero_points_by_row_and_by_batch() -> None:
    x, y = sample((2, 3, 4), np.uint8), sample((2, 4, 5), np.uint8, seed=1)
    za, zb = sample((2, 3, 1), np.uint8, seed=2), sample((2, 1, 5), np.uint8, seed=3)
    want = (x.astype(np.int32) - za) @ (y.astype(np.int32) - zb)
    check_all(evaluate("MatMulInteger", [x, y, za, zb]), [want])
    row = sample((3,), np.uint8, seed=4)
    check_all(
        evaluate("MatMulInteger", [x[0], y[0], row]),
        [(x[0].astype(np.int32) - row[:, None]) @ y[0].astype(np.int32)],
    )


@pytest.mark.parametrize(("a", "b"), MATMULS)
@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize("per_column", [False, True])
def test_qlinear_matmul(a: Any, b: Any, dtype: Any, per_column: bool) -> None:
    columns = () if not per_column else (b[-1],) if len(b) == 2 else (*b[:-2], 1, b[-1])
    inputs = [
        sample(a, dtype), scales(), np.asarray(3, dtype),
        sample(b, np.int8, seed=1), scales(*columns), sample(columns, np.int8, seed=2),
        np.float32(2.5).reshape(()), np.asarray(7, dtype),
    ]  # fmt: skip
    got, want = evaluate("QLinearMatMul", inputs), ort("QLinearMatMul", inputs, opset=21)
    assert got[0].shape == want[0].shape and got[0].dtype == want[0].dtype
    # A product of scales may be rounded in another order: one step at most.
    assert np.abs(got[0].astype(int) - want[0].astype(int)).max(initial=0) <= 1
    assert np.mean(got[0] != want[0]) <= 0.01 if got[0].size else True


# x, w, attributes
CONVS: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((1, 3, 8, 8), (4, 3, 3, 3), {"pads": [1, 1, 1, 1]}),
    ((2, 4, 7, 9), (6, 2, 3, 2), {"group": 2, "strides": [2, 1], "pads": [1, 0, 0, 1]}),
    ((1, 4, 9, 9), (4, 1, 3, 3), {"group": 4, "dilations": [2, 2]}),
    ((1, 2, 15), (3, 2, 4), {"auto_pad": "SAME_UPPER", "strides": [2]}),
]


@pytest.mark.parametrize(("x", "w", "attrs"), CONVS)
def test_conv_integer(x: Any, w: Any, attrs: dict[str, Any]) -> None:
    inputs = [
        sample(x, np.uint8),
        sample(w, np.uint8, seed=1),
        np.uint8(12).reshape(()),
        np.uint8(3).reshape(()),
    ]
    check_all(evaluate("ConvInteger", inputs, **attrs), ort("ConvInteger", inputs, **attrs))
    signed = [inputs[0].astype(np.int8), sample(w, np.int8, seed=1)]
    wide = ort("Conv", [t.astype(np.float32) for t in signed], **attrs)[0].astype(np.int32)
    check_all(evaluate("ConvInteger", signed, **attrs), [wide])


@pytest.mark.parametrize(("x", "w", "attrs"), CONVS)
@pytest.mark.parametrize("dtype", BYTES)
@pytest.mark.parametrize("per_filter", [False, True])
def test_qlinear_conv(x: Any, w: Any, attrs: dict[str, Any], dtype: Any, per_filter: bool) -> None:
    filters = (w[0],) if per_filter else ()
    inputs = [
        sample(x, dtype), scales(), np.asarray(9, dtype),
        sample(w, np.int8, seed=1), scales(*filters), np.zeros(filters, np.int8),
        np.float32(3.0).reshape(()), np.asarray(20, dtype),
        sample((w[0],), np.int32, seed=3) * 10,
    ]  # fmt: skip
    got, want = evaluate("QLinearConv", inputs, **attrs), ort("QLinearConv", inputs, **attrs)
    assert got[0].shape == want[0].shape and got[0].dtype == want[0].dtype
    assert np.abs(got[0].astype(int) - want[0].astype(int)).max() <= 1
    assert np.mean(got[0] != want[0]) <= 0.01


@pytest.mark.parametrize("scale", [0.0, -1.0, np.nan, np.inf])
@pytest.mark.parametrize("op", ["QuantizeLinear", "DequantizeLinear", "QLinearMatMul"])
def test_a_scale_must_be_finite_and_positive(op: str, scale: float) -> None:
    s, z, q = np.asarray(scale, np.float32), np.uint8(0).reshape(()), sample((2, 2), np.uint8)
    good = np.float32(1).reshape(())
    inputs: list[np.ndarray | None] = {
        "QuantizeLinear": [normal(2, 2), s],
        "DequantizeLinear": [q, s],
        "QLinearMatMul": [q, good, z, q, s, z, good, z],
    }[op]
    with pytest.raises(pyneo.errors.Error, match="scale"):
        evaluate(op, inputs)


@pytest.mark.parametrize(
    ("op", "inputs", "attrs", "names"),
    [
        ("QuantizeLinear", [normal(2, 5), scales(4)], {}, r"\[5\]"),
        ("QuantizeLinear", [normal(2, 5), scales(5), np.zeros(4, np.uint8)], {}, "zero point"),
        ("QuantizeLinear", [normal(2, 5), scales(5), np.zeros(5, np.int32)], {}, "dtype"),
        ("QuantizeLinear", [normal(2, 5), scales(5), np.zeros(5, np.int8)], {"output_dtype": 2}, "dtype"),
        ("QuantizeLinear", [normal(2, 5), scales(5)], {"axis": 2}, "axis"),
        ("QuantizeLinear", [normal(2, 5), scales(2, 2)], {"block_size": 2}, r"\[2, 3\]"),
        ("QuantizeLinear", [normal(2, 5), scales(2, 2)], {"block_size": -1}, "block_size"),
        ("QuantizeLinear", [normal(2, 5), scales()], {"output_dtype": 300}, "dtype"),
        (
            "MatMulInteger",
            [np.ones((2, 3), np.int8), np.ones((3, 4), np.int8), np.ones(3, np.int8)],
            {},
            "row",
        ),
        (
            "ConvInteger",
            [np.ones((1, 2, 4), np.int8), np.ones((3, 2, 2), np.int8), np.ones(2, np.int8)],
            {},
            "one number",
        ),
    ],
)
def test_operands_that_do_not_fit_are_refused(
    op: str, inputs: Any, attrs: dict[str, Any], names: str
) -> None:
    with pytest.raises(pyneo.errors.Error, match=names):
        evaluate(op, inputs, **attrs)
