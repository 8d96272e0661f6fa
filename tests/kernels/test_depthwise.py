# SPDX-License-Identifier: Apache-2.0
"""Depthwise convolution over channel blocks against the reference operator."""

import numpy as np
import pytest

from tests.kernels.compare import BLOCK, accepting, check, each_tier
from tests.kernels.harness import PLAIN, Node

# (batch, channels, in, kernel, stride, dilation, pads)
CASES = [
    (1, 16, (7, 7), (3, 3), (1, 1), (1, 1), (1, 1, 1, 1)),
    (1, 33, (14, 15), (3, 3), (1, 1), (1, 1), (1, 1, 1, 1)),
    (1, 20, (25, 5), (3, 3), (1, 1), (1, 1), (1, 1, 1, 1)),
    (2, 16, (6, 19), (3, 3), (1, 1), (1, 1), (0, 1, 2, 0)),
    (1, 17, (1, 9), (3, 3), (1, 1), (1, 1), (1, 0, 1, 0)),
    (1, 128, (64, 96), (3, 3), (1, 1), (1, 1), (1, 1, 1, 1)),
    (2, 24, (17, 40), (3, 3), (2, 2), (1, 1), (0, 1, 1, 1)),
    (1, 5, (9, 29), (5, 5), (1, 1), (1, 1), (2, 2, 2, 2)),
    (1, 40, (28, 28), (5, 5), (2, 2), (1, 1), (2, 2, 2, 2)),
    (1, 17, (12, 12), (7, 7), (1, 1), (1, 1), (3, 3, 3, 3)),
    (1, 20, (9, 27), (7, 7), (1, 1), (1, 1), (3, 2, 3, 4)),
    (1, 16, (20, 33), (3, 3), (1, 1), (2, 3), (2, 3, 2, 3)),
    (1, 16, (10, 31), (3, 3), (3, 4), (1, 1), (1, 1, 1, 1)),
    (1, 8, (11, 6), (1, 4), (2, 1), (1, 1), (0, 0, 0, 3)),
    (1, 16, (2, 2), (3, 3), (1, 1), (1, 1), (1, 1, 1, 1)),
    (1, 16, (1, 1), (5, 5), (1, 1), (1, 1), (2, 2, 2, 2)),
    (1, 64, (56, 56), (3, 3), (1, 1), (1, 1), (1, 1, 1, 1)),
    (1, 16, (4, 4), (3, 3), (1, 1), (1, 1), (5, 5, 5, 5)),
    (1, 33, (5, 9, 11), (3, 3, 3), (1, 1, 1), (1, 1, 1), (1, 1, 1, 1, 1, 1)),
    (2, 20, (7, 12, 9), (3, 3, 3), (2, 2, 2), (1, 1, 1), (1, 1, 1, 1, 0, 1)),
    (1, 16, (1, 8, 20), (3, 3, 3), (1, 1, 1), (1, 1, 1), (1, 1, 1, 1, 1, 1)),
    (1, 24, (6, 5, 7), (5, 1, 1), (1, 1, 1), (1, 1, 1), (2, 0, 0, 2, 0, 0)),
    (1, 17, (9, 6, 10), (2, 5, 5), (1, 1, 2), (3, 1, 1), (2, 2, 2, 1, 2, 2)),
    (1, 8, (4, 3, 1), (3, 2, 1), (1, 2, 1), (1, 1, 2), (0, 1, 0, 2, 0, 0)),
]


def operands(case, bias=True, residual=False):
    batch, channels, size, kernel, stride, dilation, pads = case
    rng = np.random.default_rng(1)
    x = rng.standard_normal((batch, channels, *size), dtype=np.float32)
    w = rng.standard_normal((channels, 1, *kernel), dtype=np.float32)
    b = rng.standard_normal(channels, dtype=np.float32) if bias else None
    out = [
        (size[i] + pads[i] + pads[i + len(size)] - (kernel[i] - 1) * dilation[i] - 1) // stride[i] + 1
        for i in range(len(size))
    ]
    z = rng.standard_normal((batch, channels, *out), dtype=np.float32)
    return [x, w, b, z] if residual else [x, w, b]


def attrs(case, **extra):
    _, channels, _, _, stride, dilation, pads = case
    return {
        "group": channels,
        "strides": list(stride),
        "dilations": list(dilation),
        "pads": list(pads),
        **extra,
    }


def conv(case, bias=True, residual=False, **extra):
    return Node("Conv", operands(case, bias, residual), attrs(case, **extra))


@each_tier
@pytest.mark.parametrize("case", CASES, ids=str)
def test_matches_reference(case, tier):
    check(conv(case), "f32_depthwise", tier, [BLOCK, PLAIN, PLAIN], BLOCK)


@each_tier
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("act", ["relu", "clip", "silu", "hard_swish", "leaky_relu"])
def test_activation(act, bias, tier):
    limits = {"act_alpha": 0.0, "act_beta": 1.5} if act == "clip" else {}
    check(conv(CASES[2], bias, act=act, **limits), "f32_depthwise", tier, [BLOCK, PLAIN, PLAIN], BLOCK)


@each_tier
@pytest.mark.parametrize(
    "act,post", [("", "relu"), ("relu", ""), ("silu", "tanh"), ("clip", "sigmoid"), ("", "")]
)
def test_residual_is_added_between_the_activations(act, post, tier):
    node = conv(CASES[1], residual=True, act=act, post_act=post, act_alpha=-0.5, act_beta=0.75)
    check(node, "f32_depthwise", tier, [BLOCK, PLAIN, PLAIN, BLOCK], BLOCK)


@each_tier
@pytest.mark.parametrize("act,post", [("", "clip"), ("tanh", "relu"), ("relu", "tanh")])
def test_post_activation_without_residual(act, post, tier):
    node = conv(CASES[1], act=act, post_act=post, post_act_alpha=-0.5, post_act_beta=0.75)
    check(node, "f32_depthwise", tier, [BLOCK, PLAIN, PLAIN], BLOCK)


@each_tier
def test_one_dimension(tier):
    rng = np.random.default_rng(2)
    x = rng.standard_normal((2, 19, 50), dtype=np.float32)
    w = rng.standard_normal((19, 1, 5), dtype=np.float32)
    check(Node("Conv", [x, w], {"group": 19, "pads": [2, 2]}), "f32_depthwise", tier, [BLOCK, PLAIN], BLOCK)


@each_tier
def test_refuses_other_groups(tier):
    x, w = np.zeros((1, 32, 8, 8), np.float32), np.zeros((32, 2, 3, 3), np.float32)
    names = accepting(Node("Conv", [x, w], {"group": 16}), tier, [BLOCK, PLAIN], BLOCK)
    assert not [n for n in names if n.startswith("f32_depthwise")]
