# SPDX-License-Identifier: Apache-2.0
"""Padding before a convolution, group norms in pieces and pixel shuffles, as exporters write them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.support.passes import Case, check, f32, ints, num

CONSTANTS = {
    "w": f32(6, 4, 3, 3) / 6,
    "b": f32(6),
    "around": ints(0, 0, 1, 2, 0, 0, 0, 3),
    "channels_too": ints(0, 1, 1, 1, 0, 0, 1, 1),
    "cut": ints(0, 0, -1, 0, 0, 0, 0, 0),
    "zero": num(0.0),
    "one": num(1.0),
    "grouped": ints(2, 2, -1),
    "whole": ints(2, 4, 6, 6),
    "other": ints(2, 4, 36),
    "ones": np.float32([1, 1]),
    "scale2": np.float32([0.5, 2.0]),
    "shift2": np.float32([1.0, -3.0]),
    "gamma": f32(4, 1, 1),
    "beta": f32(1, 4, 1, 1),
    "zeros": np.zeros(2, np.float32),
    "column": f32(6, 1),
    "w8": f32(8, 4, 3, 3) / 6,
    "b8": f32(8),
}
PARTS = "g = Reshape(x, grouped) n = InstanceNormalization(g, ones, zeros) r = Reshape(n, whole) "

CASES = [
    Case("zeros_around_an_image", "p = Pad(x, around) y = Conv(p, w, b)", "Conv+bias"),
    Case("zeros_given", "p = Pad(x, around, zero) y = Conv<pads=[2, 0, 1, 1]>(p, w)", "Conv"),
    Case("zeros_with_strides", "p = Pad(x, around) y = Conv<strides=[2, 2]>(p, w)", "Conv"),
    Case(
        "one_pad_for_two_readers",
        "p = Pad(x, around) y = Conv(p, w) z = Relu(p)",
        "Pad Conv Relu",
        outputs=("y", "z"),
    ),
    Case("other_numbers_stay", "p = Pad(x, around, one) y = Conv(p, w)", "Pad Conv"),
    Case("reflections_stay", 'p = Pad<mode = "reflect">(x, around) y = Conv(p, w)', "Pad Conv"),
    Case(
        "channels_stay",
        "p = Pad(x, channels_too) y = Conv(p, w)",
        "Pad Conv",
        inputs={"x": (2, 3, 6, 6)},
    ),
    Case("cuts_stay", "p = Pad(x, cut) y = Conv(p, w)", "Pad Conv"),
    Case("group_norm", f"{PARTS} m = Mul(r, gamma) y = Add(m, beta)", "GroupNormalization"),
    Case("group_norm_with_scale_only", f"{PARTS} m = Mul(gamma, r) y = Exp(m)", "GroupNormalization Exp"),
    Case(
        "group_norm_with_numbers_for_groups",
        "g = Reshape(x, grouped) n = InstanceNormalization<epsilon=0.1>(g, scale2, shift2) "
        "r = Reshape(n, whole) m = Mul(r, gamma) y = Add(m, beta)",
        "GroupNormalization",
    ),
    Case("group_norm_and_a_factor_per_row", f"{PARTS} y = Mul(r, column)", "GroupNormalization Mul"),
    Case(
        "norm_that_leaves_in_another_shape_stays",
        "g = Reshape(x, grouped) n = InstanceNormalization(g, ones, zeros) y = Reshape(n, other)",
        "Reshape InstanceNormalization Reshape",
    ),
    Case(
        "pixel_shuffle_behind_a_convolution",
        'c = Conv(x, w8, b8) a = Relu(c) y = DepthToSpace<blocksize=2, mode = "CRD">(a)',
        "Conv+bias+relu DepthToSpace",
    ),
    Case(
        "pixel_shuffle_of_what_others_read",
        'c = Conv(x, w8) y = DepthToSpace<blocksize=2, mode = "CRD">(c) z = Exp(c)',
        "Conv DepthToSpace Exp",
        outputs=("y", "z"),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_what_remains_and_what_it_computes(case: Case) -> None:
    check(replace(case, constants=CONSTANTS))
