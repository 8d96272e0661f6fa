# SPDX-License-Identifier: Apache-2.0
"""DeformConv against ONNX Runtime, Det against numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pyneo.errors
from tests.ops.cases import check_all, evaluate, normal, ort

# x, w, attributes
DEFORMED: list[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = [
    ((1, 1, 3, 3), (1, 1, 2, 2), {}),
    ((2, 4, 6, 7), (6, 4, 3, 3), {"pads": [1, 1, 1, 1]}),
    ((1, 4, 9, 8), (4, 2, 3, 2), {"group": 2, "strides": [2, 1], "offset_group": 2}),
    ((1, 4, 9, 9), (2, 4, 3, 3), {"dilations": [2, 2], "offset_group": 4, "pads": [0, 1, 2, 3]}),
]


def operands(x: Any, w: Any, attrs: dict[str, Any], scale: float = 1.5) -> list[np.ndarray]:
    """X, W, offsets, bias and mask; the offsets' shape follows from the plain convolution's."""
    plain = {k: v for k, v in attrs.items() if k != "offset_group"}
    n, _, *out = ort("Conv", [normal(*x), normal(*w)], **plain)[0].shape
    taps = attrs.get("offset_group", 1) * int(np.prod(w[2:]))
    return [
        normal(*x), normal(*w, seed=1), normal(n, taps * len(out), *out, seed=2) * np.float32(scale),
        normal(w[0], seed=3), normal(n, taps, *out, seed=4),
    ]  # fmt: skip


@pytest.mark.parametrize(("x", "w", "attrs"), DEFORMED)
@pytest.mark.parametrize("count", [3, 4, 5])
def test_deform_conv(x: Any, w: Any, attrs: dict[str, Any], count: int) -> None:
    inputs = operands(x, w, attrs)[:count]
    want = ort("DeformConv", inputs, opset=19, **attrs)
    check_all(evaluate("DeformConv", inputs, **attrs), want, atol=5e-5)


def test_without_offsets_it_is_a_convolution_over_any_axes() -> None:
    for x, w in (((1, 2, 9), (3, 2, 4)), ((1, 2, 4, 5, 6), (3, 2, 2, 3, 2))):
        inputs = operands(x, w, {"pads": [1] * 2 * (len(x) - 2)}, scale=0)[:4]
        want = ort("Conv", [inputs[0], inputs[1], inputs[3]], pads=[1] * 2 * (len(x) - 2))
        check_all(evaluate("DeformConv", inputs, pads=[1] * 2 * (len(x) - 2)), want)


def test_offsets_out_of_this_world_read_zeros() -> None:
    inputs = operands((1, 2, 5, 5), (1, 2, 3, 3), {})[:3]
    for far in (1e30, -1e30, np.inf, np.nan):
        inputs[2][:] = far
        assert not evaluate("DeformConv", inputs)[0].any()


def test_deform_conv_refuses_what_does_not_fit() -> None:
    x, w, offsets, bias, mask = operands((1, 4, 5, 5), (2, 4, 3, 3), {})
    with pytest.raises(pyneo.errors.Error, match="offset_group"):
        evaluate("DeformConv", [x, w, offsets], offset_group=3)
    with pytest.raises(pyneo.errors.Error, match="input 2"):
        evaluate("DeformConv", [x, w, mask])
    with pytest.raises(pyneo.errors.Error, match="input 3"):
        evaluate("DeformConv", [x, w, offsets, bias[:1]])
    with pytest.raises(pyneo.errors.Error, match="input 4"):
        evaluate("DeformConv", [x, w, offsets, bias, offsets])


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (20, 20), (2, 5, 4, 4), (2, 0, 0), (0, 3, 3)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_det(shape: Any, dtype: Any) -> None:
    x = normal(*shape, dtype=dtype)
    want = np.asarray(np.linalg.det(x.astype(np.float64))).astype(dtype)
    check_all(evaluate("Det", [x]), [want], rtol=1e-6)


def test_det_of_what_is_no_matrix_or_singular() -> None:
    x = normal(4, 4)
    x[2] = x[1]
    assert abs(evaluate("Det", [x])[0]) < 1e-6
    assert evaluate("Det", [np.zeros((3, 3), np.float32)])[0] == 0
    for shape in ((3, 4), (3,)):
        with pytest.raises(pyneo.errors.Error, match="square"):
            evaluate("Det", [normal(*shape)])
