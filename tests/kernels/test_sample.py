# SPDX-License-Identifier: Apache-2.0
"""GridSample against the reference operator."""

from __future__ import annotations

import numpy as np
import pytest

from tests.kernels.compare import accepting, check, each_wide_tier
from tests.kernels.harness import Node


def node(shape, points, attrs, reach=1.6):
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).astype(np.float32)
    grid = rng.uniform(-reach, reach, (shape[0], *points, 2)).astype(np.float32)
    return Node("GridSample", [x, grid], attrs)


@each_wide_tier
@pytest.mark.parametrize("align", [0, 1])
@pytest.mark.parametrize("padding", ["zeros", "border"])
@pytest.mark.parametrize(
    "shape,points",
    [((1, 1, 4, 5), (3, 4)), ((2, 3, 7, 6), (8, 9)), ((1, 2, 1, 5), (4, 4)), ((1, 5, 9, 1), (1, 33))],
)
def test_images(shape, points, padding, align, tier):
    attrs = {"mode": "linear", "padding_mode": padding, "align_corners": align}
    check(node(shape, points, attrs), "f32_grid_sample", tier)


@each_wide_tier
@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_points_that_are_no_places(padding, tier):
    case = node((1, 2, 5, 6), (5, 7), {"padding_mode": padding})
    case.inputs[1][0, 0, :4, 0] = [np.inf, -np.inf, 3e38, -3e38]
    case.inputs[1][0, 1, :4, 1] = [np.inf, -np.inf, 3e38, -3e38]
    check(case, "f32_grid_sample", tier)


@each_wide_tier
def test_infinite_pixels_outside_do_not_count(tier):
    case = node((1, 1, 3, 3), (4, 4), {"padding_mode": "zeros", "align_corners": 1}, reach=2.5)
    case.inputs[0][0, 0, ::2, ::2] = np.inf
    case.inputs[1][np.abs(case.inputs[1]) < 1.1] = 0
    check(case, "f32_grid_sample", tier)


@each_wide_tier
def test_other_modes_are_left_to_the_reference(tier):
    for attrs in ({"mode": "nearest"}, {"mode": "cubic"}, {"padding_mode": "reflection"}):
        assert not accepting(node((1, 1, 4, 5), (3, 4), attrs), tier)
