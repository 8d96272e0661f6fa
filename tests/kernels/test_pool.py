# SPDX-License-Identifier: Apache-2.0
"""Pools and reductions against the reference operators."""

from __future__ import annotations

import numpy as np
import pytest

from tests.kernels.compare import BLOCK, accepting, check, each_tier
from tests.kernels.harness import PLAIN, Node


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


# (input, attributes)
WINDOWS = [
    ((1, 16, 12, 12), {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ((1, 64, 28, 29), {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    ((2, 21, 13, 20), {"kernel_shape": [5, 5], "pads": [2, 2, 2, 2]}),
    ((1, 16, 11, 14), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    ((1, 16, 11, 14), {"kernel_shape": [3, 2], "strides": [1, 3], "pads": [0, 0, 2, 1], "ceil_mode": 1}),
    ((1, 8, 15, 17), {"kernel_shape": [3, 3], "dilations": [2, 3], "pads": [1, 2, 2, 1]}),
    ((1, 3, 1, 1), {"kernel_shape": [1, 1]}),
    ((1, 5, 9, 9), {"kernel_shape": [9, 9]}),
    ((2, 17, 30), {"kernel_shape": [4], "strides": [3], "pads": [2, 1]}),
    ((1, 16, 8, 9), {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
]


@each_tier
@pytest.mark.parametrize("shape,attrs", WINDOWS, ids=str)
def test_windows(shape, attrs, tier):
    x = draw(*shape)
    check(Node("MaxPool", [x], attrs), "f32_max_pool", tier, BLOCK, BLOCK)
    for include in (0, 1):
        check(
            Node("AveragePool", [x], {**attrs, "count_include_pad": include}),
            "f32_average",
            tier,
            BLOCK,
            BLOCK,
        )


@each_tier
def test_max_pool_keeps_nan_and_infinities(tier):
    x = draw(1, 16, 20, 20)
    x[0, 3, 4, 4], x[0, 4, 10, 10], x[0, 5] = np.nan, np.inf, -np.inf
    check(
        Node("MaxPool", [x], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
        "f32_max_pool",
        tier,
        BLOCK,
        BLOCK,
    )


@each_tier
def test_max_pool_with_indices_is_left_to_the_reference(tier):
    node = Node("MaxPool", [draw(1, 16, 4, 4)], {"kernel_shape": [2, 2]})
    assert not accepting(node, tier, BLOCK, BLOCK, outputs=2)


@each_tier
@pytest.mark.parametrize("op", ["GlobalAveragePool", "GlobalMaxPool"])
@pytest.mark.parametrize(
    "shape", [(1, 16, 7, 7), (2, 37, 5, 9), (1, 3, 1, 1), (1, 1000, 2, 2), (2, 9, 130)], ids=str
)
@pytest.mark.parametrize("layouts", [(BLOCK, BLOCK), (BLOCK, PLAIN), (PLAIN, PLAIN)])
def test_global(op, shape, layouts, tier):
    check(Node(op, [draw(*shape)]), "f32_global", tier, *layouts)


REDUCTIONS = [
    ((4, 37), [-1], 1),
    ((4, 37), [1], 0),
    ((3, 5, 40), [1], 0),
    ((3, 5, 40), [0, 1], 1),
    ((2, 3, 4, 5), [2, 3], 1),
    ((33,), [0], 0),
    ((2, 16, 1), [1], 1),
    ((1, 200, 3), [1], 0),
    ((7, 300), [0], 1),
    ((3, 50000), [1], 1),
    ((2, 3), [], 1),
    ((6, 1, 33), [0, 2], 1),
]


@each_tier
@pytest.mark.parametrize("op", ["ReduceMean", "ReduceSum", "ReduceMax", "ReduceSumSquare", "ReduceL2"])
@pytest.mark.parametrize("shape,axes,keep", REDUCTIONS, ids=str)
def test_reduce(op, shape, axes, keep, tier):
    node = Node(op, [draw(*shape), np.array(axes, np.int64)], {"keepdims": keep})
    check(node, "f32_reduce", tier, rtol=2e-5, atol=2e-5)


@each_tier
@pytest.mark.parametrize("axes,keep,out", [([2, 3], 1, BLOCK), ([-1, -2], 1, PLAIN), ([2, 3], 0, PLAIN)])
def test_reduce_pixels_of_blocks(axes, keep, out, tier):
    node = Node("ReduceMean", [draw(2, 21, 6, 7), np.array(axes, np.int64)], {"keepdims": keep})
    check(node, "f32_reduce_mean", tier, [BLOCK, PLAIN], out)


@each_tier
def test_reduce_max_with_nan(tier):
    x = draw(3, 50)
    x[1, 20], x[2, 49] = np.nan, np.nan
    check(Node("ReduceMax", [x, np.array([1], np.int64)]), "f32_reduce_max", tier)
    check(Node("ReduceMax", [x, np.array([0], np.int64)]), "f32_reduce_max", tier)


@each_tier
def test_reduce_refuses_separate_axes_and_channels_of_blocks(tier):
    assert not accepting(Node("ReduceSum", [draw(2, 3, 4), np.array([0, 2], np.int64)]), tier)
    channels = Node("ReduceSum", [draw(2, 16, 4, 4), np.array([1], np.int64)])
    assert not accepting(channels, tier, [BLOCK, PLAIN], PLAIN)
