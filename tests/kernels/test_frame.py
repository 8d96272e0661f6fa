# SPDX-License-Identifier: Apache-2.0
"""Pad over channel blocks."""

from __future__ import annotations

import numpy as np
import pytest

from tests.kernels.compare import BLOCK, PLAIN, accepting, check, each_wide_tier
from tests.kernels.harness import Node

LAYOUTS = [BLOCK, PLAIN, PLAIN]


def pad(shape, pads, mode="constant", value=None):
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    return Node("Pad", [x, np.array(pads), None if value is None else np.float32([value])], {"mode": mode})


@each_wide_tier
@pytest.mark.parametrize("value", [None, -1.5])
@pytest.mark.parametrize(
    "shape,pads",
    [
        ((2, 21, 5, 7), [0, 0, 1, 2, 0, 0, 3, 0]),
        ((1, 16, 1, 1), [0, 0, 4, 0, 0, 0, 0, 5]),
        ((1, 24, 3, 4), [0, 0, 0, 0, 0, 4, 0, 0]),
        ((2, 5, 3, 4), [0, 0, 1, 1, 0, 40, 1, 1]),
        ((2, 21, 9), [0, 0, 3, 0, 0, 2]),
        ((1, 32, 4, 4), [0] * 8),
    ],
)
def test_constant(shape, pads, value, tier):
    check(pad(shape, pads, value=value), "f32_pad", tier, LAYOUTS, BLOCK, rtol=0, atol=0)


@each_wide_tier
@pytest.mark.parametrize("mode", ["reflect", "edge"])
@pytest.mark.parametrize(
    "shape,pads", [((2, 21, 5, 7), [0, 0, 4, 6, 0, 0, 3, 1]), ((1, 16, 30), [0, 0, 9, 0, 0, 2])]
)
def test_repeated(shape, pads, mode, tier):
    check(pad(shape, pads, mode), "f32_pad", tier, LAYOUTS, BLOCK, rtol=0, atol=0)


@each_wide_tier
@pytest.mark.parametrize(
    "node",
    [
        pad((1, 16, 4, 4), [0, 1, 0, 0, 0, 0, 0, 0]),
        pad((1, 16, 4, 4), [1, 0, 0, 0, 0, 0, 0, 0]),
        pad((1, 16, 4, 4), [0, 0, -1, 0, 0, 0, 0, 0]),
        pad((1, 16, 4, 4), [0, 0, 0, 0, 0, 2, 0, 0], "edge"),
        pad((1, 16, 4, 4), [0, 0, 5, 0, 0, 0, 0, 0], "reflect"),
        pad((1, 16, 4, 4), [0, 0, 1, 0, 0, 0, 0, 0], "wrap"),
        pad((1, 16, 4, 4, 4), [0, 0, 1, 0, 0, 0, 0, 0, 0, 0]),
    ],
    ids=range(7),
)
def test_others_are_refused(node, tier):
    assert not accepting(node, tier, LAYOUTS, BLOCK)
