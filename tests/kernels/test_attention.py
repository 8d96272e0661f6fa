# SPDX-License-Identifier: Apache-2.0
"""The fused attention kernel against the reference operator."""

from __future__ import annotations

import numpy as np
import pytest

from tests.kernels.compare import accepting, check, each_wide_tier
from tests.kernels.harness import Node


def draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def packed(batch, heads, kv_heads, queries, keys, width, v_width=None, mask=None, **attrs):
    q = draw(batch, queries, heads * width)
    k = draw(batch, keys, kv_heads * width, seed=1)
    v = draw(batch, keys, kv_heads * (v_width or width), seed=2)
    inputs = [q, k, v] + ([mask] if mask is not None else [])
    return Node("Attention", inputs, {"q_num_heads": heads, "kv_num_heads": kv_heads, **attrs})


# batch, heads, key heads, queries, keys, width, width of V
CASES = [
    (1, 2, 2, 128, 128, 64, None),
    (2, 3, 3, 33, 33, 64, None),
    (1, 4, 2, 50, 70, 20, None),
    (1, 1, 1, 1, 1, 1, None),
    (1, 2, 1, 17, 200, 33, 48),
    (2, 1, 1, 5, 64, 8, 16),
    (1, 2, 2, 31, 65, 96, 7),
    (1, 1, 1, 3, 9, 128, 130),
    (1, 2, 2, 197, 197, 64, None),
    (1, 1, 1, 300, 500, 40, 80),  # several blocks of keys
    (1, 1, 1, 70, 600, 33, 17),
    (1, 1, 1, 65, 260, 512, 500),
    (3, 2, 1, 49, 49, 32, None),
    (1, 1, 1, 33, 32, 16, 1),
    (1, 2, 2, 1, 1, 16, None),  # few rows of queries, one by one
    (2, 6, 2, 1, 513, 64, None),
    (1, 4, 1, 4, 70, 32, 48),
    (1, 2, 2, 2, 31, 128, 112),
    (1, 1, 1, 3, 2, 16, 32),
]


@each_wide_tier
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("causal", [0, 1])
def test_packed_heads(case, causal, tier):
    check(packed(*case, is_causal=causal), "f32_attention", tier)


@each_wide_tier
@pytest.mark.parametrize(
    "mask", [(1, 1, 1, 70), (2, 1, 1, 70), (2, 3, 40, 70), (40, 70), (2, 1, 40, 70), (3, 1, 66)]
)
def test_masks(mask, tier):
    numbers = draw(*mask, seed=3)
    numbers[..., 5:9] = -np.inf
    check(packed(2, 3, 3, 40, 70, 32, mask=numbers), "f32_attention", tier)
    check(packed(2, 3, 3, 40, 70, 32, mask=numbers > 0.5, is_causal=1), "f32_attention", tier)


@each_wide_tier
@pytest.mark.parametrize("keys", [500, 470])
def test_masks_over_blocks_of_keys(keys, tier):
    numbers = draw(1, 2, 90, keys, seed=3)
    numbers[..., :300] -= 1000  # what counts comes last
    numbers[0, 0, 5] = -np.inf
    check(packed(1, 2, 2, 90, 500, 64, mask=numbers), "f32_attention", tier)
    check(packed(1, 2, 2, 90, 500, 64, mask=numbers > -999, is_causal=1), "f32_attention", tier)


@each_wide_tier
@pytest.mark.parametrize("mask", [(1, 1, 1, 70), (2, 3, 2, 70), (2, 70), (3, 1, 66)])
def test_few_queries_behind_many_keys(mask, tier):
    numbers = draw(*mask, seed=3)
    numbers[..., 5:9] = -np.inf
    check(packed(2, 3, 3, 2, 70, 32, mask=numbers, softcap=1.5), "f32_attention", tier)
    numbers[-1, ...] = -np.inf  # nothing that may be seen
    check(packed(2, 3, 3, 2, 70, 32, mask=numbers > 0.5), "f32_attention", tier)


@each_wide_tier
def test_a_query_that_may_see_nothing_gives_zeros(tier):
    mask = np.ones((40, 130), bool)
    mask[7], mask[8, :100] = False, False
    check(packed(1, 2, 2, 40, 130, 16, mask=mask), "f32_attention", tier)


@each_wide_tier
def test_large_negative_mask(tier):
    mask = np.where(np.arange(100) < 60, 0, np.finfo(np.float32).min).astype(np.float32).reshape(1, 1, 1, 100)
    check(packed(1, 2, 2, 100, 100, 64, mask=mask), "f32_attention", tier)


@each_wide_tier
def test_scale_and_softcap(tier):
    check(packed(1, 2, 2, 40, 90, 32, scale=0.3, softcap=2.0), "f32_attention", tier)
    check(packed(1, 2, 2, 40, 90, 32, scale=-0.4), "f32_attention", tier)
    check(packed(1, 2, 2, 40, 90, 32, scale=0.0), "f32_attention", tier)


@each_wide_tier
def test_heads_of_their_own(tier):
    q, k, v = draw(2, 4, 37, 24), draw(2, 2, 50, 24, seed=1), draw(2, 2, 50, 40, seed=2)
    check(Node("Attention", [q, k, v]), "f32_attention", tier)


@each_wide_tier
def test_large_scores(tier):
    node = packed(1, 1, 1, 20, 150, 16)
    node.inputs[0] *= 100
    check(node, "f32_attention", tier, rtol=1e-4, atol=1e-4)


@each_wide_tier
def test_windows_and_present_outputs_are_left_to_the_reference(tier):
    assert not accepting(packed(1, 1, 1, 8, 8, 8, left_window_size=2), tier)
    assert not accepting(packed(1, 1, 1, 8, 8, 8), tier, outputs=3)
