# SPDX-License-Identifier: Apache-2.0
"""Kernels that move data: every element arrives, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from tests.kernels.compare import BLOCK, accepting, check, each_tier, each_wide_tier
from tests.kernels.harness import PLAIN, Node, block_of


def count(*shape, dtype=np.float32):
    return np.arange(np.prod(shape)).astype(dtype).reshape(shape)


@each_tier
@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8])
@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_concat_plain(axis, dtype, tier):
    shapes = [[3, 4, 5] for _ in range(3)]
    for i, s in enumerate(shapes):
        s[axis] = 2 * i
    check(
        Node("Concat", [count(*s, dtype=dtype) for s in shapes], {"axis": axis}),
        "concat",
        tier,
        rtol=0,
        atol=0,
    )


@each_tier
@pytest.mark.parametrize(
    "axis,sizes", [(1, (16, 32, 5)), (1, (48,)), (0, (1, 3)), (2, (2, 7)), (3, (1, 4, 2))]
)
def test_concat_in_blocks(axis, sizes, tier):
    parts = []
    for i, n in enumerate(sizes):
        shape = [2, 21, 3, 5]
        shape[axis] = n
        parts.append(count(*shape) + 1000 * i)
    check(Node("Concat", parts, {"axis": axis}), "concat", tier, BLOCK, BLOCK, rtol=0, atol=0)


# Channels of parts that begin and end within blocks, one lane and less than a block among them.
LANES = [(5, 16), (8, 8), (1, 1, 1, 30), (24, 24), (16, 7, 9, 40), (3, 0, 50), (58, 58)]


@each_wide_tier
@pytest.mark.parametrize("pixels", [(1,), (3, 5), (2, 3, 50)])
@pytest.mark.parametrize("sizes", LANES, ids=str)
def test_concat_of_lanes(sizes, pixels, tier):
    parts = [count(2, n, *pixels) + 1000 * i for i, n in enumerate(sizes)]
    for axis in (1, -1 - len(pixels)):
        check(Node("Concat", parts, {"axis": axis}), "f32_concat", tier, BLOCK, BLOCK, rtol=0, atol=0)


@each_wide_tier
@pytest.mark.parametrize("pixels", [(1,), (3, 5), (2, 3, 50)])
@pytest.mark.parametrize("sizes", LANES, ids=str)
def test_split_of_lanes(sizes, pixels, tier):
    node = Node("Split", [count(2, sum(sizes), *pixels), np.array(sizes)], {"axis": 1})
    check(node, "f32_split", tier, [BLOCK, PLAIN], BLOCK, outputs=len(sizes), rtol=0, atol=0)


@each_tier
def test_other_axes_and_types_keep_whole_blocks(tier):
    wide = Node("Concat", [count(1, 5, 2, 2), count(1, 5, 2, 3)], {"axis": 3})
    assert not [k for k in accepting(wide, tier, BLOCK, BLOCK) if k.startswith("f32_concat")]
    mixed = Node("Concat", [count(1, 5, 2, 2), count(1, 16, 2, 2)], {"axis": 1})
    assert not accepting(mixed, tier, [BLOCK, PLAIN], BLOCK)
    assert "concat" not in accepting(mixed, tier, BLOCK, BLOCK)


@each_tier
@pytest.mark.parametrize("layout", [PLAIN, BLOCK])
def test_split(layout, tier):
    channels = Node("Split", [count(2, 53, 3, 4), np.array([16, 32, 5])], {"axis": 1})
    check(channels, "split", tier, [layout, PLAIN], layout, outputs=3, rtol=0, atol=0)
    rows = Node("Split", [count(2, 21, 7, 4), np.array([3, 4])], {"axis": 2})
    check(rows, "split", tier, [layout, PLAIN], layout, outputs=2, rtol=0, atol=0)


@each_tier
def test_long_runs_use_both_threads(tier):
    check(Node("Concat", [count(300_000), count(70_001)], {"axis": 0}), "concat", tier, rtol=0, atol=0)


TRANSPOSES = [
    ((5, 7), [1, 0]),
    ((16, 16), [1, 0]),
    ((33, 70), [1, 0]),
    ((2, 33, 3, 8), [0, 2, 1, 3]),
    ((2, 3, 40), [0, 2, 1]),
    ((1, 84, 400), [0, 2, 1]),
    ((2, 3, 4, 5), [0, 2, 3, 1]),
    ((2, 20, 17, 3), [0, 3, 1, 2]),
    ((4, 1, 6), [2, 1, 0]),
    ((3, 4), [0, 1]),
    ((2, 3, 4, 5), [2, 3, 0, 1]),
    ((0, 4), [1, 0]),
    ((2, 3, 4), [2, 1, 0]),
    ((2, 3, 4, 5, 6), [4, 1, 3, 0, 2]),
    ((1, 40, 16, 40), [3, 1, 2, 0]),
    ((2, 2, 2, 2, 2, 2, 2, 2), [7, 0, 6, 1, 5, 2, 4, 3]),
]


@each_tier
@pytest.mark.parametrize("dtype", [np.float32, np.int32])
@pytest.mark.parametrize("shape,perm", TRANSPOSES, ids=str)
def test_transpose(shape, perm, dtype, tier):
    x = count(*shape, dtype=dtype)
    check(
        Node("Transpose", [x], {"perm": perm}),
        "x32_transpose",
        tier,
        want=[x.transpose(perm)],
        rtol=0,
        atol=0,
    )


@each_tier
@pytest.mark.parametrize(
    "shape", [(2, 48, 3, 5), (1, 21, 4, 4), (2, 5, 3, 1), (1, 16, 130), (2, 37, 2, 3, 4), (1, 32, 0, 3)]
)
def test_transpose_between_channels_in_blocks_and_channels_last(shape, tier):
    rank = len(shape)
    last, first = [0, *range(2, rank), 1], [0, rank - 1, *range(1, rank - 1)]
    x = count(*shape)
    out = Node("Transpose", [x], {"perm": last})
    check(out, "x32_transpose", tier, BLOCK, PLAIN, want=[x.transpose(last)], rtol=0, atol=0)
    y = np.ascontiguousarray(x.transpose(last))
    back = Node("Transpose", [y], {"perm": first})
    check(back, "x32_transpose", tier, PLAIN, BLOCK, want=[x], rtol=0, atol=0)


@each_tier
@pytest.mark.parametrize("perm", [[0, 1, 3, 2], [1, 0, 2, 3]])
def test_transpose_in_blocks(perm, tier):
    x = count(2, 37, 3, 5) if perm[1] == 1 else count(1, 1, 3, 5)
    node = Node("Transpose", [x], {"perm": perm})
    if perm[1] == 1:
        check(node, "x32_transpose", tier, BLOCK, BLOCK, want=[x.transpose(perm)], rtol=0, atol=0)
    else:
        assert not accepting(node, tier, BLOCK, BLOCK)


@each_tier
@pytest.mark.parametrize("layouts", [(PLAIN, BLOCK), (BLOCK, PLAIN)])
@pytest.mark.parametrize("shape", [(2, 48, 3, 5), (1, 21, 17, 19), (3, 3, 200), (1, 16, 1, 1), (0, 4, 5)])
def test_reorder(shape, layouts, tier):
    x = count(*shape)
    check(Node("Reorder", [x]), "f32_reorder", tier, layouts[0], layouts[1], want=[x], rtol=0, atol=0)


@each_tier
@pytest.mark.parametrize("mode", ["DCR", "CRD"])
@pytest.mark.parametrize(
    "shape,block", [((2, 12, 3, 5), 2), ((1, 9, 7, 40), 3), ((1, 64, 4, 4), 2), ((1, 5, 3, 3), 1)]
)
def test_depth_to_space_and_back(shape, block, mode, tier):
    x = count(*shape)
    node = Node("DepthToSpace", [x], {"blocksize": block, "mode": mode})
    check(node, "x32_depth_to_space", tier, rtol=0, atol=0)
    y = node.reference()
    back = Node("SpaceToDepth", [y], {"blocksize": block, "mode": mode})
    check(back, "x32_space_to_depth", tier, want=[x], rtol=0, atol=0)
    whole = mode == "DCR" and y.shape[1] % block_of(tier) == 0
    assert bool(accepting(node, tier, BLOCK, BLOCK)) == whole
    if whole:
        check(node, "x32_depth_to_space", tier, BLOCK, BLOCK, rtol=0, atol=0)


@each_tier
def test_reshape_of_pixels_stays_in_blocks(tier):
    x = count(2, 21, 4, 6)
    node = Node("Reshape", [x, np.array([2, 21, 24])])
    check(node, "f32_reshape", tier, [BLOCK, PLAIN], BLOCK, want=[x.reshape(2, 21, 24)], rtol=0, atol=0)
    assert not accepting(Node("Reshape", [x, np.array([2, 42, 12])]), tier, [BLOCK, PLAIN], BLOCK)


@each_tier
def test_orders_of_other_elements_are_refused(tier):
    assert not accepting(Node("Transpose", [count(2, 3, dtype=np.int64)], {"perm": [1, 0]}), tier)
    assert not accepting(Node("DepthToSpace", [count(1, 4, 2, 2, dtype=np.uint8)], {"blocksize": 2}), tier)
