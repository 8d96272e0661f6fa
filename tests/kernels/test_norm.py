# SPDX-License-Identifier: Apache-2.0
"""Softmax and normalisations against the reference operators."""

from __future__ import annotations

import numpy as np
import pytest

from tests.kernels.compare import BLOCK, accepting, check, each_tier, run_kernel
from tests.kernels.harness import PLAIN, Node


def draw(*shape, scale=1.0, seed=0):
    return np.asarray(np.random.default_rng(seed).standard_normal(shape) * scale, np.float32)


@each_tier
@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax"])
@pytest.mark.parametrize(
    "shape,axis",
    [
        ((3, 1000), -1),
        ((2, 4, 128), 2),
        ((5, 1), 1),
        ((7,), 0),
        ((3, 15), 1),
        ((2, 17), 1),
        ((4, 0), 1),
        ((2, 5, 9), 1),
        ((3, 21, 4, 10), 1),
        ((40, 3), 0),
        ((300, 130), 1),
        ((8, 31), -1),
        ((2, 33, 16), 1),
        ((3, 100, 4), 1),  # few columns: parts of one in many lanes
        ((2, 77, 3), 1),
        ((1, 500, 12), 1),
        ((2, 41, 2), 1),
        ((1, 3001, 5), 1),  # more than a tile holds
        ((1, 700, 20), 1),
        ((1, 21, 1000), 1),
        ((2, 0, 3), 1),
        ((2, 3, 0), 1),
    ],
    ids=str,
)
def test_softmax(op, shape, axis, tier):
    kernel = {"Softmax": "f32_softmax", "LogSoftmax": "f32_log_softmax"}[op]
    check(Node(op, [draw(*shape, scale=4)], {"axis": axis}), kernel, tier)


@each_tier
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_softmax_of_extremes(axis, tier):
    x = draw(6, 40)
    x[0, :] = 1e4
    x[1, 3] = np.inf
    x[2, 4] = np.nan
    x[3, 1:30] = -np.inf
    x[4, :] = -np.inf
    x[5, :20] = -3e38
    if axis == 2:  # rows as few columns
        x = np.ascontiguousarray(x.T)[None].repeat(2, axis=0)
        axis = 1
    elif axis == 0:
        x = np.ascontiguousarray(np.tile(x.T, (1, 3)))
    check(Node("Softmax", [x], {"axis": axis}), "f32_softmax", tier)


ROWS = [
    ((4, 768), -1),
    ((2, 3, 50), -1),
    ((2, 3, 50), 1),
    ((5, 7), -1),
    ((3, 1), -1),
    ((1, 16), -1),
    ((40, 384), -1),
]


@each_tier
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape,axis", ROWS, ids=str)
def test_layer_norm(shape, axis, bias, tier):
    x, width = draw(*shape, scale=3), shape[axis:]
    inputs = [x + 5, draw(*width, seed=1)] + ([draw(*width, seed=2)] if bias else [])
    check(
        Node("LayerNormalization", inputs, {"axis": axis, "epsilon": 1e-6}), "f32_layer_norm", tier, atol=2e-5
    )


@each_tier
def test_layer_norm_far_from_zero(tier):
    x = draw(2, 512, scale=0.01) + 1000
    inputs = [x, np.ones(512, np.float32), np.zeros(512, np.float32)]
    check(Node("LayerNormalization", inputs), "f32_layer_norm", tier, rtol=0, atol=5e-3)


@each_tier
@pytest.mark.parametrize("op", ["RMSNormalization", "SimplifiedLayerNormalization"])
@pytest.mark.parametrize("shape,axis", ROWS, ids=str)
def test_rms_norm(op, shape, axis, tier):
    check(Node(op, [draw(*shape), draw(*shape[axis:], seed=1)], {"axis": axis}), "f32_", tier)


@each_tier
@pytest.mark.parametrize("outputs", [1, 4])
@pytest.mark.parametrize("bias", [True, False])
def test_skip_layer_norm(bias, outputs, tier):
    x, skip = draw(2, 9, 77), draw(2, 9, 77, seed=1)
    inputs = [x, skip, draw(77, seed=2), draw(77, seed=3)] + ([draw(77, seed=4)] if bias else [])
    node = Node("com.microsoft.SkipLayerNormalization", inputs)
    if outputs == 1:
        check(node, "f32_skip_layer_norm", tier)
    else:  # mean and deviation are left to the reference
        assert not accepting(node, tier, outputs=4)


@each_tier
def test_skip_rms_norm(tier):
    inputs = [draw(6, 50), draw(6, 50, seed=1), draw(50, seed=2), draw(50, seed=3)]
    check(Node("com.microsoft.SkipSimplifiedLayerNormalization", inputs), "f32_skip_rms", tier)


@each_tier
@pytest.mark.parametrize("channels", [3, 16, 21])
@pytest.mark.parametrize("layout", [PLAIN, BLOCK])
def test_batch_and_instance_norm(channels, layout, tier):
    x = draw(2, channels, 5, 9) + 2
    scale, shift, mean = (draw(channels, seed=s) for s in (1, 2, 3))
    variance = np.abs(draw(channels, seed=4)) + 0.1
    layouts = [layout] + [PLAIN] * 4
    check(Node("BatchNormalization", [x, scale, shift, mean, variance]), "f32_batch", tier, layouts, layout)
    node = Node("InstanceNormalization", [x, scale, shift])
    check(node, "f32_instance", tier, layouts[:3], layout, atol=3e-5)


@each_tier
@pytest.mark.parametrize("groups", [1, 3, 12])
def test_group_norm(groups, tier):
    inputs = [draw(2, 12, 7, 5), draw(12, seed=1), draw(12, seed=2)]
    check(Node("GroupNormalization", inputs, {"num_groups": groups}), "f32_group", tier)


@each_tier
def test_sum_output_of_a_residual(tier):
    x, skip, scale = draw(3, 40), draw(3, 40, seed=1), draw(40, seed=2)
    node = Node("com.microsoft.SkipLayerNormalization", [x, skip, scale])
    (y,), _ = run_kernel(node, "f32_skip_layer_norm", tier)
    s = (x + skip).astype(np.float64)
    want = (s - s.mean(1, keepdims=True)) / np.sqrt(s.var(1, keepdims=True) + 1e-12) * scale
    np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-5)


@each_tier
@pytest.mark.parametrize(
    "shape,groups",
    [((2, 48, 3, 5), 6), ((1, 64, 4, 4), 2), ((2, 24, 7), 1), ((1, 21, 5, 3), 7), ((1, 96, 2, 2, 2), 32)],
)
def test_group_norm_in_blocks(shape, groups, tier):
    x = draw(*shape, seed=1) + 30
    node = Node("GroupNormalization", [x, draw(shape[1]), draw(shape[1], seed=2)], {"num_groups": groups})
    check(node, "f32_group_norm", tier, [BLOCK, PLAIN, PLAIN], BLOCK, rtol=1e-4, atol=1e-4)
