# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from pyneo.errors import Error
from tests.ops.cases import BF16, check_all, evaluate, onnx_reference, ort, same, sample


def grid(shape, seed=0, reach=1.6):
    """Points in and around [-1, 1]."""
    return np.random.default_rng([seed, *shape]).uniform(-reach, reach, shape).astype(np.float32)


@pytest.mark.parametrize("align", [0, 1])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize(
    "shape,points",
    [((1, 1, 4, 5), (3, 4)), ((2, 3, 7, 6), (8, 9)), ((1, 2, 1, 5), (4, 2)), ((1, 1, 1, 1), (2, 2))],
)
def test_grid_sample_of_images_agrees_with_onnxruntime(shape, points, mode, padding, align):
    inputs = [sample(shape), grid((shape[0], *points, 2))]
    attrs = {"mode": mode, "padding_mode": padding, "align_corners": align}
    want = ort("GridSample", inputs, opset=20, **attrs)
    check_all(evaluate("GridSample", inputs, **attrs), want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("align", [0, 1])
@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_grid_sample_of_volumes_agrees_with_onnxruntime(mode, padding, align):
    inputs = [sample((2, 2, 3, 4, 5)), grid((2, 2, 3, 4, 3))]
    attrs = {"mode": mode, "padding_mode": padding, "align_corners": align}
    check_all(
        evaluate("GridSample", inputs, **attrs),
        ort("GridSample", inputs, opset=20, **attrs),
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_grid_sample_of_lines_and_cubic_volumes_agree_with_onnx(mode):
    for shape, points in (((1, 2, 6), (1, 5, 1)), ((1, 1, 3, 4, 3), (1, 2, 2, 2, 3))):
        inputs = [sample(shape), grid(points, reach=1.2)]
        attrs = {"mode": mode, "padding_mode": "zeros"}
        want = onnx_reference("GridSample", inputs, opset=22, **attrs)
        check_all(evaluate("GridSample", inputs, **attrs), want, rtol=1e-4, atol=1e-4)


def test_a_large_grid_sample_is_split_over_threads():
    inputs = [sample((2, 4, 60, 70)), grid((2, 50, 64, 2))]
    check_all(evaluate("GridSample", inputs), ort("GridSample", inputs, opset=20), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, -1e20])
def test_points_anywhere_read_nothing_outside_the_input(value, mode, padding):
    g = np.full((1, 2, 2, 2), value, np.float32)
    y = evaluate("GridSample", [sample((1, 1, 3, 4)), g], mode=mode, padding_mode=padding)[0]
    assert y.shape == (1, 1, 2, 2)
    if mode == "nearest" and padding == "zeros":
        same([y], [np.zeros((1, 1, 2, 2), np.float32)])


@pytest.mark.parametrize("dtype", [np.float16, BF16])
def test_grid_sample_of_halves_is_computed_in_float32(dtype):
    x, g = sample((1, 2, 4, 5), dtype), grid((1, 3, 3, 2))
    want = ort("GridSample", [x.astype(np.float32), g], opset=20)[0].astype(dtype)
    check_all(evaluate("GridSample", [x, g]), [want], None, None)


@pytest.mark.parametrize(
    "x,g,attrs,what",
    [
        ((1, 1, 3, 4), (1, 2, 2, 3), {}, "as many axes"),
        ((1, 1, 3, 4), (2, 2, 2, 2), {}, "as many axes"),
        ((1, 1), (1, 0), {}, "as many axes"),
        ((1, 1, 3, 4), (1, 2, 2), {}, "as many axes"),
        ((1, 1, 2, 2, 2, 2), (1, 1, 1, 1, 1, 4), {}, "as many axes"),
        ((1, 1, 0, 4), (1, 2, 2, 2), {}, "without elements"),
        ((1, 1, 3, 4), (1, 2, 2, 2), {"mode": "area"}, "mode is none"),
        ((1, 1, 3, 4), (1, 2, 2, 2), {"padding_mode": "wrap"}, "padding_mode is none"),
    ],
)
def test_grid_sample_refuses_what_does_not_fit(x, g, attrs, what):
    with pytest.raises(Error, match=what):
        evaluate("GridSample", [sample(x), grid(g)], **attrs)


@pytest.mark.parametrize("align", [0, 1])
@pytest.mark.parametrize("size", [[2, 3, 4, 5], [1, 1, 1, 6], [2, 1, 3, 4, 5], [0, 1, 2, 2], [1, 1, 0, 3]])
def test_affine_grid_agrees_with_onnxruntime(size, align):
    inputs = [sample((size[0], len(size) - 2, len(size) - 1)), np.array(size)]
    got = evaluate("AffineGrid", inputs, align_corners=align)
    if 0 in size or (align and 1 in size[2:]):  # no step between one point: it lies in the middle
        assert np.isfinite(got[0]).all()
        assert got[0].shape == (size[0], *size[2:], len(size) - 2)
    else:
        check_all(got, ort("AffineGrid", inputs, opset=20, align_corners=align), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "theta,size,what",
    [
        ((2, 2, 3), [1, 1, 4, 4], "N agreeing"),
        ((1, 2, 3), [1, 1, 4, 4, 4], "expected"),
        ((1, 2, 3), [1, 1, -4, 4], "size 2 is -4"),
        ((1, 2, 3), [1, 1, 4], "expected"),
        ((1, 2, 4), [1, 1, 4, 4], "expected"),
        ((1, 2, 3), [1], "expected"),
    ],
)
def test_affine_grid_refuses_what_does_not_fit(theta, size, what):
    with pytest.raises(Error, match=what):
        evaluate("AffineGrid", [sample(theta), np.array(size)])
