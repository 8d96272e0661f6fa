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
    ((1, 16, 5, 150), {"kernel_shape": [3, 3], "strides": [2, 2]}),
    ((1, 16, 4, 70), {"kernel_shape": [2, 66], "pads": [0, 1, 0, 0]}),
    ((1, 16, 4, 5), {"kernel_shape": [2, 2]}),
    ((1, 3, 1, 1), {"kernel_shape": [1, 1]}),
    ((1, 5, 9, 9), {"kernel_shape": [9, 9]}),
    ((2, 17, 30), {"kernel_shape": [4], "strides": [3], "pads": [2, 1]}),
    ((1, 16, 8, 9), {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    ((2, 9, 6, 7, 12), {"kernel_shape": [2, 2, 2], "strides": [2, 2, 2]}),
    ((1, 17, 5, 4, 9), {"kernel_shape": [3, 1, 3], "strides": [2, 1, 1], "pads": [1, 0, 2, 1, 0, 0]}),
    ((1, 3, 7, 5, 6), {"kernel_shape": [2, 3, 2], "dilations": [3, 1, 2], "pads": [2, 1, 1, 1, 1, 1]}),
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
    x[0, 3, 4, 4], x[0, 4, 10, 10], x[0, 5], x[0, 6, 7, 7] = np.nan, np.inf, -np.inf, -np.nan
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
@pytest.mark.parametrize(
    "op", ["ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceSumSquare", "ReduceL2"]
)
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
@pytest.mark.parametrize("op,kernel", [("ReduceMax", "f32_reduce_max"), ("ReduceMin", "f32_reduce_min")])
def test_extremes_with_nan(op, kernel, tier):
    x = draw(3, 50)
    x[1, 20], x[2, 49] = np.nan, np.nan
    check(Node(op, [x, np.array([1], np.int64)]), kernel, tier)
    check(Node(op, [x, np.array([0], np.int64)]), kernel, tier)


ARGS = [
    ((2, 21, 700), 1),
    *[((4, 37), 1), ((4, 37), 0), ((3, 5, 40), 1), ((2, 1, 9), 1), ((33,), 0), ((7, 300), -2)],
    *[((1,), 0), ((2, 16), -1), ((2, 15), -1), ((5, 21, 6, 7), 1), ((3, 200, 3), 1), ((3, 50000), 1)],
]


@each_tier
@pytest.mark.parametrize("op,kernel", [("ArgMax", "f32_arg_max"), ("ArgMin", "f32_arg_min")])
@pytest.mark.parametrize("shape,axis", ARGS, ids=str)
def test_arg_finds_the_first_of_equals(op, kernel, shape, axis, tier):
    rng = np.random.default_rng(3)
    attrs = {"axis": axis, "keepdims": 0}
    want = np.argmax if op == "ArgMax" else np.argmin
    infinite = np.full(shape, -np.inf if op == "ArgMax" else np.inf, np.float32)
    holes = draw(*shape)
    holes[rng.random(shape) < 0.05] = np.nan
    few = rng.integers(-2, 3, shape).astype(np.float32) * np.float32(0.5)
    for x in (draw(*shape), few, infinite, holes):
        check(Node(op, [x], attrs), kernel, tier, want=[want(x, axis)], rtol=0, atol=0)


@each_tier
def test_arg_refuses_the_last_of_equals_other_types_and_blocks(tier):
    x = draw(2, 16, 4)
    assert accepting(Node("ArgMax", [x], {"axis": 2}), tier)
    assert not accepting(Node("ArgMax", [x], {"axis": 2, "select_last_index": 1}), tier)
    assert not accepting(Node("ArgMax", [x.astype(np.int64)], {"axis": 2}), tier)
    assert not accepting(Node("ArgMax", [x], {"axis": 2}), tier, BLOCK, PLAIN)


@each_tier
def test_reduce_refuses_separate_axes_and_channels_of_blocks(tier):
    assert not accepting(Node("ReduceSum", [draw(2, 3, 4), np.array([0, 2], np.int64)]), tier)
    channels = Node("ReduceSum", [draw(2, 16, 4, 4), np.array([1], np.int64)])
    assert not accepting(channels, tier, [BLOCK, PLAIN], PLAIN)
