# SPDX-License-Identifier: Apache-2.0
"""Conv and ConvTranspose against ONNX Runtime, over tables of shapes and attributes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pyneo.errors
from tests.ops.cases import BF16, check_all, evaluate, normal, ort

# x shape, w shape, attributes
CONV: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((1, 3, 8, 8), (4, 3, 3, 3), {}),
    ((2, 3, 9, 7), (5, 3, 3, 2), {"strides": [2, 3], "pads": [1, 0, 2, 1]}),
    ((1, 4, 10, 10), (6, 2, 3, 3), {"group": 2, "pads": [1, 1, 1, 1]}),
    ((2, 6, 7, 5), (6, 1, 3, 3), {"group": 6, "pads": [1, 1, 1, 1], "strides": [2, 2]}),
    ((1, 4, 9, 9), (8, 1, 3, 3), {"group": 4, "dilations": [2, 3], "pads": [3, 3, 3, 3]}),
    ((1, 3, 11, 11), (2, 3, 3, 3), {"dilations": [2, 2], "strides": [3, 1]}),
    ((1, 3, 7, 7), (2, 3, 4, 4), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ((1, 3, 8, 7), (2, 3, 4, 3), {"auto_pad": "SAME_LOWER", "strides": [3, 2]}),
    ((1, 3, 8, 7), (2, 3, 4, 3), {"auto_pad": "VALID", "kernel_shape": [4, 3]}),
    ((1, 1, 1, 1), (1, 1, 1, 1), {}),
    ((1, 2, 1, 17), (3, 2, 1, 5), {"pads": [0, 4, 0, 0]}),
    ((2, 3, 20), (4, 3, 5), {"strides": [2], "pads": [2, 1], "dilations": [2]}),
    ((1, 4, 13), (4, 1, 3), {"group": 4}),
    ((1, 2, 5, 6, 7), (3, 2, 2, 3, 2), {"strides": [1, 2, 1], "pads": [1, 1, 0, 0, 1, 1]}),
    ((1, 4, 4, 4, 4), (4, 2, 3, 3, 3), {"group": 2, "dilations": [1, 1, 2], "pads": [1, 1, 2, 1, 1, 2]}),
    ((1, 3, 5, 5), (2, 3, 3, 3), {"pads": [7, 0, 0, 9]}),
    ((0, 3, 5, 5), (2, 3, 3, 3), {}),
]


@pytest.mark.parametrize(("x", "w", "attrs"), CONV)
@pytest.mark.parametrize("bias", [False, True])
def test_conv_agrees_with_onnx_ort(x: Any, w: Any, attrs: dict[str, Any], bias: bool) -> None:
    inputs = [normal(*x), normal(*w, seed=1)] + ([normal(w[0], seed=2)] if bias else [])
    check_all(evaluate("Conv", inputs, **attrs), ort("Conv", inputs, **attrs), atol=3e-5)


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_conv_of_other_float_dtypes(dtype: Any) -> None:
    x, w, b = normal(2, 4, 6, 6), normal(3, 4, 3, 3, seed=1), normal(3, seed=2)
    want = ort(
        "Conv",
        [
            x.astype(dtype).astype(np.float32),
            w.astype(dtype).astype(np.float32),
            b.astype(dtype).astype(np.float32),
        ],
    )[0]
    got = evaluate("Conv", [x.astype(dtype), w.astype(dtype), b.astype(dtype)])[0]
    assert got.dtype == dtype
    np.testing.assert_allclose(
        got.astype(np.float64), want, rtol=1e-3, atol=5e-5 if dtype == np.float64 else 5e-3
    )


def test_conv_of_bfloat16_rounds_the_float32_result() -> None:
    x, w = normal(1, 4, 6, 6, dtype=BF16), normal(3, 4, 3, 3, seed=1, dtype=BF16)
    want = ort("Conv", [x.astype(np.float32), w.astype(np.float32)])[0].astype(BF16)
    check_all(evaluate("Conv", [x, w]), [want], rtol=8e-3)


def test_conv_adds_the_residual_between_act_and_post_act() -> None:
    x, w, b, z = normal(1, 4, 6, 6), normal(3, 4, 3, 3, seed=1), normal(3, seed=2), normal(1, 3, 4, 4, seed=3)
    plain = ort("Conv", [x, w, b])[0]
    got = evaluate(
        "Conv",
        [x, w, b, z],
        act="relu",
        post_act="clip",
        post_act_alpha=-0.5,
        post_act_beta=1.5,
    )
    check_all(got, [np.clip(np.maximum(plain, 0) + z, -0.5, 1.5)])
    no_bias = ort("Conv", [x, w])[0]
    check_all(evaluate("Conv", [x, w, None, z], post_act="relu"), [np.maximum(no_bias + z, 0)])


TRANSPOSED: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((1, 3, 4, 4), (3, 2, 3, 3), {}),
    ((2, 3, 5, 4), (3, 4, 3, 2), {"strides": [2, 3], "pads": [1, 0, 0, 1]}),
    (
        (1, 4, 4, 4),
        (4, 3, 3, 3),
        {"group": 2, "strides": [2, 2], "output_padding": [1, 1], "pads": [1, 1, 1, 1]},
    ),
    ((1, 4, 5, 5), (4, 1, 4, 4), {"group": 4, "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ((1, 2, 4, 5), (2, 3, 3, 3), {"dilations": [2, 3]}),
    ((1, 2, 3, 3), (2, 3, 3, 3), {"strides": [3, 2], "output_shape": [10, 8]}),
    ((1, 2, 3, 3), (2, 3, 3, 3), {"strides": [3, 2], "output_shape": [8, 6], "auto_pad": "SAME_UPPER"}),
    ((1, 2, 3, 3), (2, 3, 3, 3), {"strides": [3, 2], "output_shape": [8, 6], "auto_pad": "SAME_LOWER"}),
    ((1, 2, 4, 3), (2, 2, 3, 4), {"strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    ((1, 2, 4, 3), (2, 2, 3, 4), {"strides": [2, 2], "auto_pad": "SAME_LOWER"}),
    ((2, 3, 7), (3, 4, 4), {"strides": [3], "pads": [2, 1], "output_padding": [2]}),
    ((1, 2, 3, 4, 3), (2, 2, 2, 3, 2), {"strides": [2, 1, 2]}),
    ((0, 2, 3, 3), (2, 3, 3, 3), {}),
]


@pytest.mark.parametrize(("x", "w", "attrs"), TRANSPOSED)
@pytest.mark.parametrize("bias", [False, True])
def test_conv_transpose_agrees_with_onnx_ort(x: Any, w: Any, attrs: dict[str, Any], bias: bool) -> None:
    filters = w[1] * attrs.get("group", 1)
    inputs = [normal(*x), normal(*w, seed=1)] + ([normal(filters, seed=2)] if bias else [])
    check_all(evaluate("ConvTranspose", inputs, **attrs), ort("ConvTranspose", inputs, **attrs), atol=3e-5)


def test_conv_transpose_applies_act() -> None:
    x, w = normal(1, 3, 4, 4), normal(3, 2, 3, 3, seed=1)
    check_all(
        evaluate("ConvTranspose", [x, w], act="relu"),
        [np.maximum(ort("ConvTranspose", [x, w])[0], 0)],
    )


HOSTILE: list[tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any], str]] = [
    ("Conv", (1, 3, 8, 8), (4, 3, 3, 3), {"strides": [0, 1]}, "strides"),
    ("Conv", (1, 3, 8, 8), (4, 3, 3, 3), {"strides": [1]}, "strides"),
    ("Conv", (1, 3, 8, 8), (4, 3, 3, 3), {"dilations": [1, 0]}, "dilations"),
    ("Conv", (1, 3, 8, 8), (4, 3, 3, 3), {"pads": [0, 0, 2**31, 0]}, "pads"),
    ("Conv", (1, 3, 8, 8), (4, 3, 3, 3), {"pads": [0, -1, 0, 0]}, "pads"),
    ("Conv", (1, 3, 8, 8), (4, 3, 9, 3), {}, "kernel"),
    ("Conv", (1, 3, 8, 8), (4, 3, 3, 3), {"kernel_shape": [3, 5]}, "kernel_shape"),
    ("Conv", (1, 3, 8, 8), (4, 3, 3, 3), {"group": 0}, "group"),
    ("Conv", (1, 4, 8, 8), (3, 2, 3, 3), {"group": 2}, "group"),
    ("Conv", (1, 5, 8, 8), (4, 3, 3, 3), {}, "group"),
    ("Conv", (1, 3, 8), (4, 3, 3, 3), {}, "rank"),
    ("Conv", (1, 3, 8, 8), (4, 3, 0, 3), {}, "kernel"),
    ("Conv", (1, 3, 8, 8), (4, 3, 3, 3), {"auto_pad": "SAME"}, "auto_pad"),
    ("Conv", (1, 3, 8, 8), (4, 3, 3, 3), {"act": "nonsense"}, "nonsense"),
    ("ConvTranspose", (1, 3, 8, 8), (4, 3, 3, 3), {}, "group"),
    ("ConvTranspose", (1, 3, 8, 8), (3, 3, 3, 3), {"output_padding": [1, 1]}, "output_padding"),
    ("ConvTranspose", (1, 3, 2, 2), (3, 3, 2, 2), {"pads": [2, 2, 2, 2]}, "pads"),
    ("ConvTranspose", (1, 3, 2, 2), (3, 3, 2, 2), {"output_shape": [-1, 3]}, "output dim"),
]


@pytest.mark.parametrize(("op", "x", "w", "attrs", "names"), HOSTILE)
def test_impossible_geometry_is_refused_by_name(
    op: str, x: Any, w: Any, attrs: dict[str, Any], names: str
) -> None:
    with pytest.raises(pyneo.errors.Error, match=names):
        evaluate(op, [normal(*x), normal(*w)], **attrs)


def test_operands_that_do_not_fit_are_refused() -> None:
    x, w = normal(1, 3, 8, 8), normal(4, 3, 3, 3)
    with pytest.raises(pyneo.errors.Error, match="bias"):
        evaluate("Conv", [x, w, normal(3)])
    with pytest.raises(pyneo.errors.Error, match="residual"):
        evaluate("Conv", [x, w, None, normal(1, 4, 6, 5)])
    with pytest.raises(pyneo.errors.Error, match="dtype"):
        evaluate("Conv", [x, w.astype(np.float64)])
