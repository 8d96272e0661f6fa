# SPDX-License-Identifier: Apache-2.0
"""Every convolution kernel of every tier against the operator's reference."""

from __future__ import annotations

import numpy as np
import pytest

from tests.kernels.harness import TIERS, Node, assert_close, block_of, kernels, run

# (batch, C, spatial, O, kernel, attributes)
SHAPES: dict[str, tuple] = {
    "pointwise": (1, 64, (14, 14), 64, (1, 1), {}),
    "pointwise, tails everywhere": (2, 19, (5, 7), 37, (1, 1), {}),
    "pointwise, one pixel": (1, 33, (1, 1), 50, (1, 1), {}),
    "pointwise, strided": (1, 32, (14, 14), 48, (1, 1), {"strides": [2, 2]}),
    "pointwise, strided, of groups": (2, 48, (15, 23), 80, (1, 1), {"strides": [3, 2], "group": 2}),
    "pointwise, strided, one axis": (1, 24, (37,), 40, (1,), {"strides": [3]}),
    "pointwise, padded": (1, 16, (4, 4), 16, (1, 1), {"pads": [1, 1, 1, 1]}),
    "3x3": (1, 32, (12, 12), 32, (3, 3), {"pads": [1, 1, 1, 1]}),
    "3x3, tails": (2, 21, (9, 11), 43, (3, 3), {"pads": [1, 1, 1, 1]}),
    "3x3, no padding": (1, 16, (10, 10), 16, (3, 3), {}),
    "3x3, stride 2": (1, 32, (15, 15), 64, (3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "3x3, stride 2, tiny plane": (1, 64, (14, 14), 32, (3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "3x3, plane of 7": (1, 48, (7, 7), 48, (3, 3), {"pads": [1, 1, 1, 1]}),
    "3x3, plane of 4": (3, 16, (4, 4), 32, (3, 3), {"pads": [1, 1, 1, 1]}),
    "3x3, many channels": (1, 300, (14, 10), 80, (3, 3), {"pads": [1, 1, 1, 1]}),
    "3x3, many tiles": (1, 70, (41, 37), 33, (3, 3), {"pads": [1, 1, 1, 1]}),
    "3x3, 16 tiles of 4x4": (1, 150, (14, 13), 80, (3, 3), {"pads": [1, 1, 1, 1]}),
    "3x3, 15 tiles of 4x4": (1, 33, (20, 11), 64, (3, 3), {"pads": [1, 1, 1, 1]}),
    "3x3, 16 tiles of 2x2": (2, 260, (7, 8), 48, (3, 3), {"pads": [1, 1, 1, 1]}),
    "3x3, 15 tiles of 2x2, uneven pads": (1, 16, (5, 10), 16, (3, 3), {"pads": [0, 1, 2, 1]}),
    "3x3, one pixel": (1, 16, (1, 1), 32, (3, 3), {"pads": [1, 1, 1, 1]}),
    "3x3, groups of 16 tiles": (1, 64, (13, 13), 64, (3, 3), {"group": 4, "pads": [1, 1, 1, 1]}),
    "3x3, dilated": (1, 16, (16, 16), 16, (3, 3), {"dilations": [2, 2], "pads": [2, 2, 2, 2]}),
    "3x3, uneven pads and strides": (1, 17, (13, 9), 16, (3, 3), {"strides": [2, 1], "pads": [0, 1, 2, 3]}),
    "3x3, pads reach past the kernel": (1, 16, (3, 3), 16, (3, 3), {"pads": [4, 4, 4, 4]}),
    "kernel beyond the image": (1, 16, (2, 2), 16, (5, 5), {"pads": [2, 2, 2, 2]}),
    "5x5": (1, 24, (11, 11), 24, (5, 5), {"pads": [2, 2, 2, 2]}),
    "5x5, tails": (2, 19, (13, 18), 37, (5, 5), {"pads": [2, 2, 2, 2]}),
    "5x5, many tiles": (1, 40, (30, 27), 50, (5, 5), {"pads": [2, 1, 0, 3]}),
    "6x4": (1, 16, (12, 14), 33, (6, 4), {"pads": [2, 1, 3, 2]}),
    "4x3, one pixel": (1, 16, (1, 2), 16, (4, 3), {"pads": [1, 1, 2, 0]}),
    "3-D, 5x5x5": (1, 17, (4, 11, 9), 24, (5, 5, 5), {"pads": [2, 2, 2, 2, 2, 2]}),
    "3-D, 3x3x5": (1, 32, (3, 20, 18), 16, (3, 3, 5), {"pads": [1, 1, 2, 0, 1, 2]}),
    "1x7": (1, 32, (9, 17), 32, (1, 7), {"pads": [0, 3, 0, 3]}),
    "7x1": (1, 32, (17, 9), 32, (7, 1), {"pads": [3, 0, 3, 0]}),
    "first layer": (1, 3, (32, 32), 24, (7, 7), {"strides": [2, 2], "pads": [3, 3, 3, 3]}),
    "grey, dilated": (2, 1, (17, 19), 16, (3, 3), {"dilations": [2, 2], "pads": [1, 1, 1, 1]}),
    "first layer, rows dilated": (2, 1, (17, 19), 16, (3, 3), {"dilations": [2, 1], "pads": [1, 1, 1, 1]}),
    "first layer, 3x3": (1, 3, (35, 71), 16, (3, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "first layer, 4 channels, uneven": (
        2,
        4,
        (13, 29),
        33,
        (5, 3),
        {"strides": [1, 3], "pads": [0, 2, 3, 1]},
    ),
    "first layer, grey, 5x5": (1, 1, (19, 40), 20, (5, 5), {"pads": [2, 2, 2, 2]}),
    "first layer, two channels, 8x8": (1, 2, (21, 33), 48, (8, 8), {"strides": [3, 1]}),
    "first layer, 7x1, tall": (
        1,
        3,
        (40, 5),
        16,
        (7, 1),
        {"strides": [2, 1], "dilations": [2, 1], "pads": [5, 0, 6, 0]},
    ),
    "11x11 of an image": (1, 3, (47, 51), 24, (11, 11), {"strides": [4, 4], "pads": [2, 2, 2, 2]}),
    "first layer, one column": (1, 3, (9, 7), 16, (3, 7), {"pads": [1, 0, 1, 0]}),
    "first layer, pads beyond the image": (1, 3, (2, 2), 16, (3, 3), {"pads": [4, 4, 4, 40]}),
    "first layer, wide": (1, 3, (7, 2300), 16, (3, 3), {"pads": [1, 1, 1, 1]}),
    "first layer, 1-D": (2, 1, (5000,), 40, (10,), {"strides": [5]}),
    "first layer, pointwise": (2, 4, (50, 50), 24, (1, 1), {}),
    "auto_pad": (1, 16, (10, 11), 16, (3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "1-D": (2, 24, (40,), 40, (3,), {"pads": [1, 1]}),
    "1-D, strided, dilated": (1, 16, (200,), 16, (5,), {"strides": [3], "dilations": [2], "pads": [4, 4]}),
    "one column": (1, 16, (40, 1), 16, (3, 1), {"pads": [1, 0, 1, 0]}),
    "groups of whole blocks": (1, 64, (8, 8), 96, (3, 3), {"group": 2, "pads": [1, 1, 1, 1]}),
    "groups of a few": (1, 12, (8, 8), 20, (3, 3), {"group": 4, "pads": [1, 1, 1, 1]}),
    "groups of four": (2, 32, (9, 7), 32, (3, 3), {"group": 8, "pads": [1, 1, 1, 1]}),
    "groups of eight, more filters": (
        1,
        32,
        (7, 9),
        64,
        (3, 3),
        {"group": 4, "strides": [2, 2], "pads": [1, 1, 1, 1]},
    ),
    "groups of four, pointwise": (1, 64, (5, 5), 64, (1, 1), {"group": 16}),
    "far dilated": (1, 16, (20, 20), 32, (3, 3), {"dilations": [9, 9], "pads": [9, 9, 9, 9]}),
    "many bands": (1, 64, (57, 40), 32, (3, 3), {"pads": [1, 1, 1, 1], "strides": [2, 1]}),
    "many bands, one row": (1, 64, (1, 3000), 32, (1, 1), {}),
    "wide panels and narrow ones": (1, 37, (13, 11), 203, (3, 3), {"pads": [1, 1, 1, 1]}),
    "wide panels, many pixels": (1, 40, (17, 13), 112, (1, 1), {}),
    "wide panels, strided": (2, 20, (29, 27), 64, (1, 1), {"strides": [2, 2]}),
    "wide panels, a column": (1, 18, (110, 3), 80, (3, 3), {"pads": [1, 0, 1, 0]}),
    "wide panels, two columns": (1, 16, (60, 2), 64, (3, 3), {"pads": [1, 1, 1, 1]}),
    "wide panels, groups": (1, 32, (10, 16), 160, (3, 3), {"group": 2, "pads": [1, 1, 1, 1]}),
    "one of everything": (1, 1, (1, 1), 1, (1, 1), {}),
    "3-D": (2, 19, (5, 9, 7), 21, (3, 3, 3), {"pads": [1, 1, 1, 1, 1, 1]}),
    "3-D, strided, dilated, uneven": (
        1,
        16,
        (7, 8, 9),
        32,
        (2, 3, 3),
        {"strides": [2, 2, 1], "dilations": [2, 1, 2], "pads": [1, 0, 2, 0, 1, 2]},
    ),
    "3-D, pointwise": (2, 24, (3, 4, 5), 40, (1, 1, 1), {}),
    "3-D, along one axis": (1, 32, (6, 5, 5), 16, (3, 1, 1), {"pads": [1, 0, 0, 1, 0, 0]}),
    "3-D, groups": (1, 32, (3, 6, 6), 64, (3, 3, 3), {"group": 2, "pads": [1, 1, 1, 1, 1, 1]}),
    "3-D, part of a block": (2, 5, (4, 9, 16), 16, (3, 3, 3), {"pads": [2, 1, 1, 1, 1, 1]}),
    "3-D, first layer, dilated": (
        1,
        2,
        (6, 9, 8),
        8,
        (3, 2, 3),
        {"dilations": [2, 1, 2], "pads": [3, 0, 1, 2, 0, 1]},
    ),
    "3-D, slice by slice": (2, 16, (3, 6, 7), 24, (1, 3, 3), {"pads": [0, 0, 1, 0, 0, 1]}),
    "3-D, whole blocks": (1, 16, (4, 7, 6), 40, (3, 1, 3), {"pads": [1, 0, 1, 1, 0, 1]}),
    "3-D, no padding, many blocks": (1, 48, (4, 5, 6), 33, (2, 2, 2), {"strides": [2, 1, 1]}),
    "3-D, 3x3x3, uneven pads": (1, 150, (4, 14, 13), 48, (3, 3, 3), {"pads": [2, 1, 1, 0, 1, 1]}),
    "3-D, 3x3x3, many tiles": (2, 33, (7, 19, 25), 21, (3, 3, 3), {"pads": [1, 1, 1, 1, 1, 1]}),
    "3-D, 3x3x3, one slice": (1, 24, (1, 8, 7), 40, (3, 3, 3), {"pads": [1, 1, 1, 1, 1, 1]}),
    "3-D, 5x3x3": (1, 16, (3, 9, 6), 16, (5, 3, 3), {"pads": [3, 0, 1, 2, 2, 1]}),
    "3-D, 1x3x3, many slices": (1, 18, (9, 5, 5), 70, (1, 3, 3), {"pads": [0, 1, 1, 0, 1, 1]}),
    "3-D, groups of four": (2, 32, (3, 6, 5), 32, (3, 3, 3), {"group": 8, "pads": [1, 1, 1, 1, 1, 1]}),
    "3-D, along the first axis": (
        2,
        19,
        (9, 4, 6),
        40,
        (5, 1, 1),
        {"strides": [2, 1, 1], "pads": [2, 0, 0, 3, 0, 0]},
    ),
    "3-D, along the last axis": (
        1,
        16,
        (3, 4, 30),
        24,
        (1, 1, 3),
        {"strides": [1, 1, 2], "pads": [0, 0, 1, 0, 0, 1]},
    ),
    "3-D, first layer": (
        1,
        3,
        (5, 20, 20),
        24,
        (3, 7, 7),
        {"strides": [1, 2, 2], "pads": [1, 3, 3, 1, 3, 3]},
    ),
}
EPILOGUES: dict[str, dict] = {
    "none": {},
    "relu": {"act": "relu"},
    "relu6 + z, relu": {"act": "clip", "act_alpha": 0.0, "act_beta": 6.0, "z": True, "post_act": "relu"},
    "silu": {"act": "silu"},
    "z, gelu": {"z": True, "post_act": "gelu"},
}


def node(shape: str, epilogue: str = "none", bias: bool = True) -> Node:
    n, c, spatial, o, kernel, attrs = SHAPES[shape]
    extra = dict(EPILOGUES[epilogue])
    residual = extra.pop("z", False)
    rng = np.random.default_rng(3)
    draw = lambda *s: rng.standard_normal(s, dtype=np.float32)  # noqa: E731
    made = Node(
        "Conv",
        [draw(n, c, *spatial), draw(o, c // attrs.get("group", 1), *kernel), draw(o) if bias else None],
        {**attrs, **extra},
    )
    if residual:
        made.inputs.append(draw(*made.infer()[1]))
    return made


def check(made: Node, tier: str, threads: int = 1, target: dict[str, int] | None = None) -> int:
    """Compares every kernel of the tier with the reference; the number of kernels found."""
    block = block_of(tier)
    expected, found = made.reference(), 0
    depth = int(np.prod(made.inputs[1].shape[1:]))
    for act_in, act_out in ((block, block), (0, block), (block, 0), (0, 0)):
        for kernel in kernels(made, tier, act_in, act_out, like_out=(3,)):
            y, _ = run(made, kernel, tier, act_in, act_out, like_out=(3,), threads=threads, target=target)
            # Slices of transformed numbers round three times as much.
            assert_close(y, expected, depth * (9 if "winograd_amx" in kernel else 1))
            found += 1
    return found


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_conv_kernels_agree_with_the_reference(shape: str, tier: str) -> None:
    assert check(node(shape), tier) > 0


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("epilogue", EPILOGUES)
@pytest.mark.parametrize(
    "shape",
    [
        "pointwise, tails everywhere",
        "3x3, tails",
        "3x3, 16 tiles of 4x4",
        "first layer",
        "groups of whole blocks",
        "3-D",
        "3-D, first layer, dilated",
        "3-D, slice by slice",
        "3-D, no padding, many blocks",
        "3-D, 3x3x3, many tiles",
    ],
)
def test_conv_epilogues_agree_with_the_reference(shape: str, epilogue: str, tier: str) -> None:
    assert check(node(shape, epilogue, bias=False), tier) > 0


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize(
    "shape",
    [
        "many bands",
        "many bands, one row",
        "3x3, tails",
        "3x3, many tiles",
        "3x3, stride 2",
        "first layer, 3x3",
        "first layer, 1-D",
        "3-D, 3x3x3, uneven pads",
        "3-D, 3x3x3, many tiles",
        "3-D, 1x3x3, many slices",
    ],
)
def test_conv_with_small_caches_still_agrees(shape: str, tier: str) -> None:
    assert check(node(shape), tier, target={"l1_bytes": 4096, "l2_bytes": 16384}) > 0


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_conv_threads_change_no_bit(shape: str, tier: str) -> None:
    made, block = node(shape, "relu"), block_of(tier)
    for act_in, act_out in ((block, block), (0, block)):
        for kernel in kernels(made, tier, act_in, act_out):
            one, _ = run(made, kernel, tier, act_in, act_out, threads=1)
            for threads in (2, 3):
                many, _ = run(made, kernel, tier, act_in, act_out, threads=threads)
                assert np.array_equal(one, many)


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize(
    "shape", ["pointwise, tails everywhere", "3x3, tails", "3x3, 16 tiles of 4x4", "first layer"]
)
def test_equal_filters_give_equal_bits(shape: str, tier: str) -> None:
    """In whole panels and in tails: a softmax behind may tell sums apart that differ by rounding alone."""
    made, block = node(shape, bias=False), block_of(tier)
    filters = made.inputs[1]
    assert filters is not None
    made.inputs[1] = np.ascontiguousarray(np.broadcast_to(filters[:1], (72, *filters.shape[1:])))
    found = 0
    for act_in in (block, 0):
        for kernel in kernels(made, tier, act_in, block):
            y, _ = run(made, kernel, tier, act_in, block)
            assert np.array_equal(y, np.broadcast_to(y[:, :1], y.shape)), kernel
            found += 1
    assert found > 0


# (batch, C, spatial, O, kernel, attributes)
TRANSPOSED: dict[str, tuple] = {
    "2x2, stride 2": (1, 32, (7, 9), 48, (2, 2), {"strides": [2, 2]}),
    "4x4, stride 2": (2, 19, (8, 15), 21, (4, 4), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "3x3, stride 2, output padding": (
        1,
        16,
        (7, 6),
        32,
        (3, 3),
        {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]},
    ),
    "3x3, stride 1": (1, 16, (9, 9), 16, (3, 3), {"pads": [1, 1, 1, 1]}),
    "3x3, dilated": (1, 16, (9, 9), 16, (3, 3), {"dilations": [2, 3], "pads": [1, 2, 0, 1]}),
    "strides beyond the kernel": (1, 16, (4, 5), 16, (2, 1), {"strides": [3, 4]}),
    "uneven strides and pads": (1, 17, (6, 5), 16, (5, 4), {"strides": [3, 2], "pads": [0, 3, 4, 1]}),
    "pads larger than the kernel": (1, 16, (9, 9), 16, (2, 2), {"strides": [2, 2], "pads": [4, 4, 5, 3]}),
    "one pixel": (1, 40, (1, 1), 32, (4, 4), {}),
    "1-D": (2, 24, (13,), 40, (16,), {"strides": [8], "pads": [4, 4]}),
    "one column": (1, 16, (9, 1), 16, (4, 1), {"strides": [2, 1], "pads": [1, 0, 1, 0]}),
    "groups": (1, 64, (6, 6), 96, (3, 3), {"group": 2, "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "groups of a few": (1, 12, (6, 6), 20, (2, 2), {"group": 4, "strides": [2, 2]}),
    "same padding": (1, 16, (5, 6), 16, (3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "output shape": (1, 16, (5, 6), 16, (3, 3), {"output_shape": [10, 13], "strides": [2, 2]}),
}


def transposed(shape: str, extra: dict[str, str] | None = None) -> Node:
    n, c, spatial, o, kernel, attrs = TRANSPOSED[shape]
    rng = np.random.default_rng(5)
    draw = lambda *s: rng.standard_normal(s, dtype=np.float32)  # noqa: E731
    inputs = [draw(n, c, *spatial), draw(c, o // attrs.get("group", 1), *kernel), draw(o)]
    return Node("ConvTranspose", inputs, {**attrs, **(extra or {})})


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("shape", TRANSPOSED)
def test_transposed_kernels_agree_with_the_reference(shape: str, tier: str) -> None:
    for extra in ({}, {"act": "relu"}, {"act": "silu"}):
        assert check(transposed(shape, extra), tier) > 0


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("shape", TRANSPOSED)
def test_transposed_threads_change_no_bit(shape: str, tier: str) -> None:
    made, block = transposed(shape), block_of(tier)
    for act_in, act_out in ((block, block), (0, block), (0, 0)):
        for kernel in kernels(made, tier, act_in, act_out):
            one, _ = run(made, kernel, tier, act_in, act_out, threads=1)
            two, _ = run(made, kernel, tier, act_in, act_out, threads=2)
            assert np.array_equal(one, two)


def test_blocked_kernel_refuses_groups_that_split_a_block() -> None:
    made = node("groups of a few")
    for tier in TIERS:
        block = block_of(tier)
        assert kernels(made, tier, block, block) == []


def test_a_slice_of_padding_alone_is_left_to_the_reference() -> None:
    rng = np.random.default_rng(4)
    draw = lambda *s: rng.standard_normal(s, dtype=np.float32)  # noqa: E731
    made = Node("Conv", [draw(1, 16, 2, 6, 6), draw(16, 16, 3, 3, 3)], {"pads": [4, 1, 1, 1, 1, 1]})
    for tier in TIERS:
        block = block_of(tier)
        assert kernels(made, tier, block, block) == []
