# SPDX-License-Identifier: Apache-2.0
"""The fused 1x1 and depthwise convolution: the reference against two Convs, kernels against the reference."""

import numpy as np
import pytest

from tests.kernels.compare import BLOCK, accepting, check, each_wide_tier
from tests.kernels.harness import PLAIN, Node

# (batch, channels, expanded, in, kernel, stride, dilation, pads)
CASES = [
    (1, 16, 32, (7, 7), (3, 3), (1, 1), (1, 1), (1, 1, 1, 1)),
    (1, 24, 144, (14, 15), (3, 3), (1, 1), (1, 1), (1, 1, 1, 1)),
    (2, 9, 40, (17, 40), (3, 3), (2, 2), (1, 1), (0, 1, 1, 1)),
    (1, 5, 17, (9, 29), (5, 5), (1, 1), (1, 1), (2, 2, 2, 2)),
    (1, 40, 48, (28, 28), (5, 5), (2, 2), (1, 1), (2, 2, 2, 2)),
    (1, 3, 7, (12, 12), (7, 7), (1, 1), (1, 1), (3, 3, 3, 3)),
    (1, 16, 16, (20, 33), (3, 3), (1, 1), (2, 3), (5, 3, 5, 3)),
    (1, 16, 33, (10, 31), (3, 3), (3, 4), (1, 1), (1, 1, 1, 1)),
    (1, 8, 8, (11, 6), (1, 4), (2, 1), (1, 1), (0, 0, 0, 3)),
    (1, 16, 64, (2, 2), (3, 3), (1, 1), (1, 1), (1, 1, 1, 1)),
    (1, 1, 1, (1, 1), (5, 5), (1, 1), (1, 1), (2, 2, 2, 2)),
    (1, 24, 96, (56, 60), (3, 3), (1, 1), (1, 1), (1, 1, 1, 1)),
    (3, 16, 96, (112, 112), (3, 3), (2, 2), (1, 1), (1, 1, 1, 1)),
    (1, 16, 16, (4, 4), (3, 3), (1, 1), (1, 1), (5, 5, 5, 5)),
    (1, 16, 16, (40, 3), (1, 1), (5, 1), (1, 1), (0, 0, 0, 0)),
]


def node(case, **extra):
    batch, channels, expanded, size, kernel, stride, dilation, pads = case
    rng = np.random.default_rng(1)
    x = rng.standard_normal((batch, channels, *size), dtype=np.float32)
    first = rng.standard_normal((expanded, channels), dtype=np.float32) / np.float32(channels**0.5)
    second = rng.standard_normal((expanded, *kernel), dtype=np.float32)
    biases = rng.standard_normal(2 * expanded, dtype=np.float32)
    attrs = {
        "group": expanded,
        "kernel_shape": list(kernel),
        "strides": list(stride),
        "dilations": list(dilation),
        "pads": list(pads),
        **extra,
    }
    return Node("PointwiseDepthwise", [x, np.concatenate([first.ravel(), second.ravel()]), biases], attrs)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_reference_is_two_convolutions(case):
    fused = node(case, inner_act="silu", act="relu")
    x, weights, biases = fused.inputs
    expanded, channels = case[2], case[1]
    first = weights[: expanded * channels].reshape(expanded, channels, 1, 1)
    second = weights[expanded * channels :].reshape(expanded, 1, *case[4])
    wide = Node("Conv", [x, first, biases[:expanded]], {"act": "silu"}).reference()
    attrs = {k: v for k, v in fused.attrs.items() if k != "inner_act"}
    want = Node("Conv", [wide, second, biases[expanded:]], attrs).reference()
    np.testing.assert_allclose(fused.reference(), want, rtol=1e-5, atol=1e-5)


@each_wide_tier
@pytest.mark.parametrize("case", CASES, ids=str)
def test_matches_reference(case, tier):
    fused = node(case, inner_act="clip", inner_act_alpha=0.0, inner_act_beta=1.0)
    check(fused, "f32_pointwise_depthwise", tier, [BLOCK, PLAIN, PLAIN], BLOCK, atol=3e-5)


@each_wide_tier
@pytest.mark.parametrize("inner,act", [("", ""), ("silu", "silu"), ("relu", "hard_swish"), ("tanh", "clip")])
@pytest.mark.parametrize("case", [CASES[1], CASES[2], CASES[12]], ids=str)
def test_activations_and_mean(case, inner, act, tier):
    fused = node(case, inner_act=inner, act=act, act_alpha=-0.5, act_beta=0.75)
    check(fused, "f32_pointwise_depthwise", tier, [BLOCK, PLAIN, PLAIN], BLOCK, outputs=2, atol=3e-5)


@each_wide_tier
def test_refuses_plain_layouts_and_other_sizes(tier):
    fused = node(CASES[0])
    assert accepting(fused, tier, [BLOCK, PLAIN, PLAIN], BLOCK)
    assert not accepting(fused, tier, PLAIN, PLAIN)


@pytest.mark.parametrize("broken,word", [("weights", "weights"), ("biases", "biases"), ("group", "group")])
def test_infer_names_what_does_not_fit(broken, word):
    fused = node(CASES[0])
    if broken == "group":
        fused.attrs["group"] = 0
    else:
        i = 1 if broken == "weights" else 2
        fused.inputs[i] = fused.inputs[i][:-1]
    with pytest.raises(Exception, match=word):
        fused.infer()
