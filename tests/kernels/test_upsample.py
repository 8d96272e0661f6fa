# SPDX-License-Identifier: Apache-2.0
"""Resize over channel blocks: pixels repeated by whole factors, and any other weights."""

from __future__ import annotations

import numpy as np
import pytest

from tests.kernels.compare import BLOCK, accepting, check, each_tier, each_wide_tier
from tests.kernels.harness import PLAIN, Node

FLOOR = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
LAYOUTS = [BLOCK, PLAIN, PLAIN]


def node(factors, attrs, shape=(2, 21, 5, 7)):
    x = np.arange(np.prod(shape)).astype(np.float32).reshape(shape)
    return Node("Resize", [x, None, np.float32([1, 1, *factors])], attrs)


@each_tier
@pytest.mark.parametrize("attrs", [FLOOR, {}, {"nearest_mode": "round_prefer_ceil"}], ids=str)
@pytest.mark.parametrize("factors", [(2, 2), (1, 3), (4, 1), (5, 2)])
def test_whole_factors(factors, attrs, tier):
    check(node(factors, attrs), "f32_upsample", tier, LAYOUTS, BLOCK, rtol=0, atol=0)


@each_tier
def test_sizes(tier):
    x = np.arange(16 * 12).astype(np.float32).reshape(1, 16, 3, 4)
    resize = Node("Resize", [x, None, None, np.array([1, 16, 6, 12])], FLOOR)
    check(resize, "f32_upsample", tier, [*LAYOUTS, PLAIN], BLOCK, rtol=0, atol=0)


@each_tier
@pytest.mark.parametrize(
    "factors,attrs",
    [
        ((2.1, 2), FLOOR),
        ((1.5, 1.5), FLOOR),
        ((2, 2), {**FLOOR, "nearest_mode": "ceil"}),
    ],
)
def test_others_are_not_repeated(factors, attrs, tier):
    found = accepting(node(factors, attrs), tier, LAYOUTS, BLOCK)
    assert not [k for k in found if k.startswith("f32_upsample")]


COORDINATES = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric"]


@each_wide_tier
@pytest.mark.parametrize("to", [BLOCK, PLAIN])
@pytest.mark.parametrize("mode", ["linear", "cubic", "nearest"])
@pytest.mark.parametrize("coordinates", COORDINATES)
@pytest.mark.parametrize("factors", [(2, 2), (1.7, 0.6), (3, 1), (0.2, 0.15)])
def test_any_weights(factors, coordinates, mode, to, tier):
    attrs = {"mode": mode, "coordinate_transformation_mode": coordinates}
    check(node(factors, attrs), "f32_resample", tier, LAYOUTS, to, rtol=1e-4, atol=1e-2)


@each_wide_tier
@pytest.mark.parametrize("channels", [1, 8, 16, 17, 40])
@pytest.mark.parametrize("width", [1, 16, 17, 33])
def test_plain_results_of_any_width(width, channels, tier):
    x = np.random.default_rng(0).standard_normal((2, channels, 3, 5)).astype(np.float32)
    resize = Node("Resize", [x, None, None, np.array([2, channels, 4, width])], {"mode": "linear"})
    check(resize, "f32_resample", tier, [*LAYOUTS, PLAIN], PLAIN)


@each_wide_tier
@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("extra", [{"antialias": 1}, {"exclude_outside": 1}, {"cubic_coeff_a": -0.5}])
def test_any_sizes(extra, mode, tier):
    x = np.random.default_rng(0).standard_normal((1, 19, 11, 6)).astype(np.float32)
    resize = Node("Resize", [x, None, None, np.array([1, 19, 4, 13])], {"mode": mode, **extra})
    check(resize, "f32_resample", tier, [*LAYOUTS, PLAIN], BLOCK)


@each_wide_tier
def test_a_region_or_a_policy_is_refused(tier):
    x = np.zeros((1, 16, 4, 4), np.float32)
    crop = {"mode": "linear", "coordinate_transformation_mode": "tf_crop_and_resize"}
    roi = np.float32([0, 0, 0, 0, 1, 1, 0.5, 0.5])
    assert not accepting(Node("Resize", [x, roi, np.float32([1, 1, 2, 2])], crop), tier, LAYOUTS, BLOCK)
    policy = {"mode": "linear", "keep_aspect_ratio_policy": "not_larger"}
    sizes = np.array([1, 16, 8, 12])
    assert not accepting(Node("Resize", [x, None, None, sizes], policy), tier, [*LAYOUTS, PLAIN], BLOCK)
