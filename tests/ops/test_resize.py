# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from pyneo.errors import Error
from tests.ops.cases import check_all, evaluate, onnx_reference, ort, same, sample

COORDINATES = ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"]


def floats(values):
    return None if values is None else np.array(values, np.float32)


def ints(values):
    return None if values is None else np.array(values, np.int64)


def inputs(x, scales=None, sizes=None, roi=None):
    return [x, floats(roi), floats(scales), ints(sizes)]


SIZES = [
    ((1, 1, 4, 4), [1, 1, 8, 8]),
    ((2, 3, 5, 7), [2, 3, 10, 3]),
    ((1, 2, 6, 5), [1, 2, 6, 13]),
    ((1, 1, 8, 8), [1, 1, 3, 3]),
    ((1, 1, 1, 5), [1, 1, 4, 1]),
    ((1, 1, 3, 1), [1, 1, 1, 7]),
]


@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("shape,sizes", SIZES)
def test_smooth_modes_by_size_agree_with_onnxruntime(shape, sizes, mode, coordinates):
    args = inputs(sample(shape), sizes=sizes)
    attrs = {"mode": mode, "coordinate_transformation_mode": coordinates}
    check_all(evaluate("Resize", args, **attrs), ort("Resize", args, **attrs), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("coordinates", [m for m in COORDINATES if m != "align_corners"])
@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize(
    "shape,scales",
    [((1, 1, 4, 4), [1, 1, 2, 2]), ((1, 2, 5, 6), [1, 1, 0.6, 1.7]), ((2, 1, 9, 9), [1, 1, 0.5, 3])],
)
def test_smooth_modes_by_scale_agree_with_onnxruntime(shape, scales, mode, coordinates):
    args = inputs(sample(shape), scales=scales)
    attrs = {"mode": mode, "coordinate_transformation_mode": coordinates}
    check_all(evaluate("Resize", args, **attrs), ort("Resize", args, **attrs), rtol=1e-4, atol=1e-4)


# Not half_pixel_symmetric: it puts positions on the very boundary, where rounding noise decides.
@pytest.mark.parametrize("nearest", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize("coordinates", [m for m in COORDINATES if m != "half_pixel_symmetric"])
@pytest.mark.parametrize(
    "shape,sizes", [*SIZES, ((1, 1, 7, 6), [1, 1, 21, 14]), ((1, 1, 9, 12), [1, 1, 3, 4])]
)
def test_nearest_by_size_agrees_with_onnxruntime(shape, sizes, coordinates, nearest):
    args = inputs(sample(shape), sizes=sizes)
    attrs = {"mode": "nearest", "coordinate_transformation_mode": coordinates, "nearest_mode": nearest}
    same(evaluate("Resize", args, **attrs), ort("Resize", args, **attrs))


@pytest.mark.parametrize("nearest", ["round_prefer_floor", "floor"])
@pytest.mark.parametrize("scale", [2.0, 3.0, 0.5, 0.7, 2.3333333, 1.0, 0.15])
def test_nearest_by_scale_agrees_with_onnxruntime(scale, nearest):
    args = inputs(sample((1, 2, 10, 12)), scales=[1, 1, scale, scale])
    attrs = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": nearest}
    same(evaluate("Resize", args, **attrs), ort("Resize", args, **attrs))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.float16, np.float64, np.int32, np.int64])
def test_nearest_moves_every_element_size(dtype):
    x = sample((1, 2, 5, 6), dtype)
    attrs = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    want = x.repeat(2, 2).repeat(3, 3)
    same(evaluate("Resize", inputs(x, scales=[1, 1, 2, 3]), **attrs), [want])
    channels_last = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    same(
        evaluate("Resize", inputs(channels_last, scales=[1, 2, 3, 1]), **attrs), [want.transpose(0, 2, 3, 1)]
    )


@pytest.mark.parametrize(
    "shape,sizes",
    [((1, 1, 8, 8), [1, 1, 3, 5]), ((1, 2, 12, 9), [1, 2, 4, 20]), ((1, 1, 30, 31), [1, 1, 2, 3])],
)
@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("exclude", [0, 1])
def test_antialias_agrees_with_onnx(shape, sizes, mode, exclude):
    args = inputs(sample(shape), sizes=sizes)
    attrs = {"mode": mode, "antialias": 1, "exclude_outside": exclude}
    check_all(
        evaluate("Resize", args, **attrs), onnx_reference("Resize", args, **attrs), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("a", [-0.5, -0.75, -1.0])
def test_cubic_coefficient_and_exclude_outside_agree_with_onnx(a):
    args = inputs(sample((1, 1, 4, 5)), scales=[1, 1, 2, 0.8])
    attrs = {"mode": "cubic", "cubic_coeff_a": a, "exclude_outside": 1}
    check_all(
        evaluate("Resize", args, **attrs), onnx_reference("Resize", args, **attrs), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize(
    "roi",
    [
        [0, 0, 0.41, 0.6, 1, 1, 0.63, 0.83],
        [0, 0, -0.21, 0.3, 1, 1, 1.43, 1.2],
        [0, 0, 0.93, 0, 1, 1, 0.12, 1],
    ],
)
def test_crop_and_resize_agrees_with_onnx(roi, mode):
    args = inputs(sample((1, 2, 6, 7)), sizes=[1, 2, 5, 4], roi=roi)
    attrs = {
        "mode": mode,
        "coordinate_transformation_mode": "tf_crop_and_resize",
        "extrapolation_value": 10.0,
    }
    check_all(
        evaluate("Resize", args, **attrs), onnx_reference("Resize", args, **attrs), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    "mode,axes",
    [
        ("nearest", [2, 3]),
        ("nearest", [3, 2]),
        ("nearest", [0, 2]),
        ("linear", [2, 3]),
        ("linear", [3, 2]),
        ("linear", [-1]),
    ],
)
def test_axes_choose_what_is_resized(axes, mode):
    args = inputs(sample((2, 3, 5, 7)), sizes=[4, 6][: len(axes)])
    attrs = {"axes": axes, "mode": mode}
    check_all(evaluate("Resize", args, **attrs), ort("Resize", args, **attrs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("policy", ["not_larger", "not_smaller"])
@pytest.mark.parametrize("sizes", [[7, 8], [10, 3], [3, 10]])
def test_aspect_ratio_policies_agree_with_onnxruntime(sizes, policy):
    args = inputs(sample((1, 1, 4, 5)), sizes=sizes)
    attrs = {"axes": [2, 3], "mode": "linear", "keep_aspect_ratio_policy": policy}
    check_all(evaluate("Resize", args, **attrs), ort("Resize", args, **attrs), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.float16])
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_other_dtypes_are_rounded_and_saturate(dtype, mode):
    x = sample((1, 1, 5, 6), dtype)
    if dtype == np.uint8:
        x = np.where(x > 50, 255, 0).astype(dtype)  # cubic overshoots
    args = inputs(x, sizes=[1, 1, 9, 11])
    got, want = evaluate("Resize", args, mode=mode), onnx_reference("Resize", args, mode=mode)
    assert got[0].dtype == want[0].dtype
    if dtype == np.float16:
        check_all(got, want, None, None)
    else:  # halfway cases may round either way
        assert np.abs(got[0].astype(int) - want[0].astype(int)).max() <= 1
        assert (got[0] != want[0]).mean() < 0.05


@pytest.mark.parametrize(
    "shape,sizes", [((3, 40, 50), [3, 80, 100]), ((4, 64, 64), [4, 128, 96]), ((1, 300, 200), [1, 150, 300])]
)
@pytest.mark.parametrize("mode", ["linear", "nearest"])
def test_large_ones_are_split_over_threads(shape, sizes, mode):
    args = inputs(sample(shape)[None], sizes=[1, *sizes])
    check_all(evaluate("Resize", args, mode=mode), ort("Resize", args, mode=mode), rtol=1e-4, atol=1e-4)


def test_nothing_to_do_copies():
    x = sample((2, 3))
    for mode in ("nearest", "linear", "cubic"):
        same(evaluate("Resize", inputs(x, scales=[1, 1]), mode=mode), [x])
    same(evaluate("Resize", inputs(sample((0, 3)), sizes=[0, 6])), [np.zeros((0, 6), np.float32)])
    same(evaluate("Resize", inputs(x, scales=[0.2, 2])), [np.zeros((0, 6), np.float32)])


@pytest.mark.parametrize(
    "scales,sizes,roi,attrs,what",
    [
        (None, None, None, {}, "found neither"),
        ([1, 1], [2, 3], None, {}, "found both"),
        ([1, 0], None, None, {}, "cannot be scaled by 0"),
        ([1, -2], None, None, {}, "scaled by -2"),
        ([1, np.nan], None, None, {}, "scaled by nan"),
        ([1, np.inf], None, None, {}, "inf"),
        ([1], None, None, {}, "must have 2 entries"),
        (None, [2, -1], None, {}, "size of axis 1 is -1"),
        (None, [2**39, 2**39], None, {}, "does not fit"),
        (None, [2, 2**62], None, {}, "outside \\[0, 2\\^40\\)"),
        ([1, 2], None, None, {"mode": "area"}, "mode 'area'"),
        ([1, 2], None, None, {"antialias": 1}, "antialias needs"),
        ([1, 2], None, None, {"coordinate_transformation_mode": "centre"}, "'centre'"),
        ([1, 2], None, None, {"coordinate_transformation_mode": "tf_crop_and_resize"}, "needs input 1"),
        (
            [1, 2],
            None,
            [0, 1],
            {"coordinate_transformation_mode": "tf_crop_and_resize"},
            "must have 4 entries",
        ),
        ([1, 2], None, None, {"axes": [0, 2]}, "axis 2"),
        ([1, 2], None, None, {"axes": [0, 0]}, "named twice"),
        ([1, 1e30], None, None, {}, "cannot be scaled"),
    ],
)
def test_what_has_no_meaning_is_refused(scales, sizes, roi, attrs, what):
    with pytest.raises(Error, match=what):
        evaluate("Resize", inputs(sample((2, 3)), scales, sizes, roi), **attrs)


def test_an_empty_axis_cannot_grow():
    with pytest.raises(Error, match="axis 0 is empty"):
        evaluate("Resize", inputs(sample((0, 3)), sizes=[2, 3]))


def test_a_region_of_nan_is_extrapolated():
    args = inputs(sample((3, 4)), sizes=[2, 2], roi=[np.nan, 0, 1, 1])
    for mode in ("nearest", "linear"):
        attrs = {
            "mode": mode,
            "coordinate_transformation_mode": "tf_crop_and_resize",
            "extrapolation_value": 3.0,
        }
        same(evaluate("Resize", args, **attrs), [np.full((2, 2), 3, np.float32)])
