# SPDX-License-Identifier: Apache-2.0
"""Resize by whole factors over channel blocks."""

from __future__ import annotations

import numpy as np
import pytest

from tests.kernels.compare import BLOCK, accepting, check, each_tier
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
        ((2, 2), {"mode": "linear"}),
    ],
)
def test_others_are_refused(factors, attrs, tier):
    assert not accepting(node(factors, attrs), tier, LAYOUTS, BLOCK)
