# SPDX-License-Identifier: Apache-2.0
"""Transposed convolutions as convolutions, volumes as planes: what remains, and onnxruntime's word on it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.support.passes import Case, check, f32, ints

CONSTANTS = {
    "one9": f32(5, 1, 9, 9) / 20,
    "three4": f32(5, 3, 4, 4) / 6,
    "two3": f32(5, 2, 3, 3) / 4,
    "two1": f32(5, 2, 1, 1),
    "many": f32(5, 8, 2, 2),
    "b1": f32(1),
    "b3": f32(3),
    "w222": f32(5, 3, 2, 2, 2),
    "w345": f32(5, 3, 3, 4, 5) / 8,
    "w111": f32(5, 3, 1, 1, 1),
    "large": f32(64, 70, 4, 4) / 8,
    "three_of9": f32(3, 8, 9, 9) / 25,
    "one_of5": f32(1, 9, 5, 4) / 12,
    "one_of3": f32(1, 8, 3, 3) / 8,
    "three_of3": f32(3, 8, 3, 3) / 8,
    "twice": np.float32([1, 1, 2, 2, 2]),
    "uneven": np.float32([1, 1, 1.5, 2, 0.5]),
    "given": ints(1, 5, 7, 5, 11),
}
PLANE = {"x": (2, 5, 4, 7)}
VOLUME = {"x": (1, 5, 4, 3, 6)}
SHUFFLED = "Conv+bias Reshape Transpose Reshape"
PLANES = "Reshape Resize Reshape Resize Reshape"

CASES = [
    Case(
        "super_resolution",
        "y = ConvTranspose<strides=[3,3], pads=[4,4,4,4], output_padding=[2,2]>(x, one9, b1)",
        "Conv+bias DepthToSpace",
    ),
    Case(
        "generator",
        "y = ConvTranspose<strides=[2,2], pads=[1,1,1,1]>(x, three4, b3)",
        "Conv+bias DepthToSpace",
    ),
    Case(
        "padding_before_and_after",
        "y = ConvTranspose<strides=[2,2], pads=[0,1,1,0]>(x, two3)",
        "Conv DepthToSpace",
    ),
    Case("no_padding", "y = ConvTranspose<strides=[2,2]>(x, three4, b3)", "Conv+bias DepthToSpace"),
    Case(
        "more_outputs_than_windows",
        "y = ConvTranspose<strides=[2,2], output_padding=[1,1]>(x, two1)",
        "Conv DepthToSpace",
    ),
    Case(
        "fewer_outputs_than_inputs",
        "y = ConvTranspose<strides=[2,2], pads=[3,4,3,2]>(x, three4)",
        "Conv DepthToSpace",
    ),
    Case("an_odd_size", "y = ConvTranspose<strides=[2,2]>(x, two3)", "Conv DepthToSpace Slice"),
    Case("many_outputs_stay", "y = ConvTranspose<strides=[2,2]>(x, many)", "ConvTranspose"),
    Case("unequal_strides_stay", "y = ConvTranspose<strides=[2,1]>(x, two3)", "ConvTranspose"),
    Case(
        "a_size_that_is_given_stays",
        "y = ConvTranspose<strides=[2,2], output_shape=[8,14]>(x, two3)",
        "ConvTranspose",
    ),
    Case(
        "an_activation_behind",
        "c = ConvTranspose<strides=[2,2]>(x, three4, b3) y = Tanh(c)",
        "Conv+bias DepthToSpace Tanh",
    ),
    Case(
        "an_image_of_many_channels",
        "y = Conv<pads=[4,4,4,4]>(x, three_of9, b3)",
        "Conv+bias DepthToSpace",
        inputs={"x": (2, 8, 12, 10)},
    ),
    Case(
        "one_output_without_bias_unevenly_padded",
        "c = Conv<pads=[0,3,4,0]>(x, one_of5) y = Tanh(c)",
        "Conv DepthToSpace Tanh",
        inputs={"x": (1, 9, 8, 8)},
    ),
    Case("one_output_of_3x3", "y = Conv(x, one_of3)", "Conv DepthToSpace", inputs={"x": (1, 8, 10, 14)}),
    Case(
        "three_outputs_of_3x3_stay", "y = Conv(x, three_of3)", "Conv", inputs={"x": (1, 8, 10, 14)}
    ),
    Case(
        "an_odd_plane_stays",
        "y = Conv<pads=[4,4,4,4]>(x, three_of9)",
        "Conv",
        inputs={"x": (1, 8, 9, 11)},
    ),
    Case(
        "strides_stay",
        "y = Conv<pads=[4,4,4,4], strides=[2,2]>(x, three_of9)",
        "Conv",
        inputs={"x": (1, 8, 12, 12)},
    ),
    Case("a_volume_doubled", "y = ConvTranspose<strides=[2,2,2]>(x, w222, b3)", SHUFFLED, inputs=VOLUME),
    Case(
        "a_volume_with_strides_of_its_own",
        "y = ConvTranspose<strides=[1,2,3], pads=[1,1,1,1,1,1]>(x, w345, b3)",
        SHUFFLED,
        inputs=VOLUME,
    ),
    Case(
        "a_volume_with_gaps",
        "y = ConvTranspose<strides=[2,2,2], output_padding=[1,1,1]>(x, w111, b3)",
        SHUFFLED,
        inputs=VOLUME,
    ),
    Case("a_whole_volume", "y = ConvTranspose<pads=[1,2,1,0,1,3]>(x, w345, b3)", "Conv+bias", inputs=VOLUME),
    Case(
        "a_volume_of_one_pixel",
        "y = ConvTranspose<strides=[2,3,1], pads=[1,0,2,0,1,1], output_padding=[1,2,0]>(x, w345, b3)",
        "Reshape MatMul+bias Reshape",
        inputs={"x": (2, 5, 1, 1, 1)},
    ),
    Case("one_pixel", "y = ConvTranspose(x, large)", "Reshape MatMul Reshape", inputs={"x": (1, 64, 1, 1)}),
    Case("resized", 'y = Resize<mode="linear">(x, , twice)', PLANES, inputs=VOLUME),
    Case("resized_to_corners", 'y = Resize<mode="linear", coordinate_transformation_mode="align_corners">'
         "(x, , , given)", PLANES, inputs=VOLUME),
    Case("resized_unevenly", 'y = Resize<mode="linear">(x, , uneven)', PLANES, inputs=VOLUME),
    Case("resized_within_a_box", 'y = Resize<mode="linear", keep_aspect_ratio_policy="not_larger">'
         "(x, , , given)", "Resize", inputs=VOLUME, opset=18),
    Case("repeated", 'y = Resize<mode="nearest", coordinate_transformation_mode="asymmetric", '
         'nearest_mode="floor">(x, , twice)', PLANES, inputs=VOLUME),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_phases(case: Case) -> None:
    inputs = PLANE if case.inputs == Case("", "", "").inputs else case.inputs
    check(replace(case, constants=CONSTANTS, inputs=inputs))
