# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from pyneo.errors import Error
from tests.ops.cases import check_all, evaluate, ort, same, sample


def regions(count, width, height, seed=0, reach=0.2):
    """[x1, y1, x2, y2] in and a little around an image."""
    rng = np.random.default_rng([seed, count])
    x = np.sort(rng.uniform(-reach * width, (1 + reach) * width, (count, 2)), 1)
    y = np.sort(rng.uniform(-reach * height, (1 + reach) * height, (count, 2)), 1)
    return np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], 1).astype(np.float32)


@pytest.mark.parametrize("pixels", ["half_pixel", "output_half_pixel"])
@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("ratio", [0, 1, 2, 3])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_roi_align_agrees_with_onnxruntime(scale, ratio, mode, pixels):
    x = sample((2, 3, 10, 12), low=0, high=4) if mode == "max" else sample((2, 3, 10, 12))
    rois = regions(6, 12 / scale, 10 / scale, reach=0.0 if mode == "max" else 0.2)
    inputs = [x, rois, np.array([0, 1, 1, 0, 0, 1])]
    attrs = {
        "output_height": 4,
        "output_width": 3,
        "sampling_ratio": ratio,
        "spatial_scale": scale,
        "mode": mode,
        "coordinate_transformation_mode": pixels,
    }
    check_all(
        evaluate("RoiAlign", inputs, **attrs),
        ort("RoiAlign", inputs, opset=16, **attrs),
        rtol=1e-4,
        atol=1e-4,
    )


def test_regions_reaching_far_outside_are_quick_and_finite():
    boxes = np.array(
        [[-1e9, -1e9, 1e9, 1e9], [0, 0, np.inf, np.inf], [np.nan, 0, 5, 5], [5, 5, 0, 0]], np.float32
    )
    y = evaluate(
        "RoiAlign",
        [np.ones((1, 1, 8, 8), np.float32), boxes, np.zeros(4, np.int64)],
        output_height=2,
        output_width=2,
    )[0]
    assert y.shape == (4, 1, 2, 2)
    assert np.abs(y[0]).max() < 1e-3  # all but a speck of the region lies outside


def test_a_region_twice_the_image_averages_in_the_outside():
    inputs = [sample((1, 2, 6, 6)), np.array([[-6, -6, 12, 12]], np.float32), np.array([0])]
    attrs = {"output_height": 2, "output_width": 2}
    check_all(
        evaluate("RoiAlign", inputs, **attrs),
        ort("RoiAlign", inputs, opset=16, **attrs),
        rtol=1e-4,
        atol=1e-5,
    )


def test_no_region_gives_an_empty_output():
    got = evaluate(
        "RoiAlign",
        [sample((1, 2, 5, 5)), np.zeros((0, 4), np.float32), np.zeros(0, np.int64)],
        output_height=3,
    )
    same(got, [np.zeros((0, 2, 3, 1), np.float32)])


@pytest.mark.parametrize(
    "inputs,attrs,what",
    [
        (
            [sample((2, 3, 5, 5)), regions(2, 5, 5), np.array([0, 2])],
            {},
            "region 1 names image 2, outside \\[0, 2\\)",
        ),
        ([sample((2, 3, 5, 5)), regions(2, 5, 5), np.array([-1, 0])], {}, "region 0 names image -1"),
        ([sample((2, 3, 5, 5)), regions(2, 5, 5), np.array([0])], {}, "one index for each of 2"),
        ([sample((2, 3, 5)), regions(2, 5, 5), np.array([0, 0])], {}, "expected \\[N, C, H, W\\]"),
        ([sample((2, 3, 5, 5)), regions(2, 5, 5)[:, :3], np.array([0, 0])], {}, "rois \\[2, 3\\]"),
        ([sample((2, 3, 0, 5)), regions(2, 5, 5), np.array([0, 0])], {}, "no elements to pool"),
        ([sample((2, 3, 5, 5)), regions(2, 5, 5), np.array([0, 0])], {"mode": "sum"}, "neither avg nor max"),
        ([sample((2, 3, 5, 5)), regions(2, 5, 5), np.array([0, 0])], {"output_height": 0}, "output of 0 x 1"),
        (
            [sample((2, 3, 5, 5)), regions(2, 5, 5), np.array([0, 0])],
            {"sampling_ratio": -1},
            "sampling_ratio -1",
        ),
        (
            [sample((2, 3, 5, 5)), regions(2, 5, 5), np.array([0, 0])],
            {"coordinate_transformation_mode": "x"},
            "half_pixel",
        ),
    ],
)
def test_roi_align_refuses_what_does_not_fit(inputs, attrs, what):
    with pytest.raises(Error, match=what):
        evaluate("RoiAlign", inputs, **attrs)


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("pooled", [[2, 2], [3, 5], [1, 1], [8, 8]])
def test_max_roi_pool_agrees_with_onnxruntime(pooled, scale):
    boxes = np.concatenate(
        [np.array([[0], [1], [0], [1]], np.float32), regions(4, 9 / scale, 8 / scale).round()], 1
    )
    inputs = [sample((2, 3, 8, 9)), boxes]
    attrs = {"pooled_shape": pooled, "spatial_scale": scale}
    same(evaluate("MaxRoiPool", inputs, **attrs), ort("MaxRoiPool", inputs, opset=21, **attrs))


@pytest.mark.parametrize("image", [2, -1, np.nan, np.inf])
def test_max_roi_pool_names_an_image_outside(image):
    with pytest.raises(Error, match="region 0 names image"):
        evaluate(
            "MaxRoiPool",
            [sample((2, 1, 4, 4)), np.array([[image, 0, 0, 2, 2]], np.float32)],
            pooled_shape=[2, 2],
        )


def test_max_roi_pool_reads_nothing_outside():
    boxes = np.array(
        [[0, -1e30, -1e30, 1e30, 1e30], [0, np.nan, 0, np.inf, 3], [0, 90, 90, 95, 95]], np.float32
    )
    y = evaluate("MaxRoiPool", [sample((1, 1, 4, 4)), boxes], pooled_shape=[2, 2])[0]
    assert np.isfinite(y).all()
    same([y[2]], [np.zeros((1, 2, 2), np.float32)])


@pytest.mark.parametrize("attrs", [{}, {"pooled_shape": [2]}, {"pooled_shape": [0, 2]}])
def test_max_roi_pool_refuses_an_output_without_size(attrs):
    with pytest.raises(Error, match="MaxRoiPool"):
        evaluate("MaxRoiPool", [sample((1, 1, 4, 4)), np.zeros((1, 5), np.float32)], **attrs)
