# SPDX-License-Identifier: Apache-2.0
"""Concat, Split and Transpose kernels: every element arrives, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from tests.kernels.compare import BLOCK, accepting, check, each_tier
from tests.kernels.harness import PLAIN, Node


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


@each_tier
def test_concat_of_parts_of_blocks_is_refused(tier):
    node = Node("Concat", [count(1, 5, 2, 2), count(1, 16, 2, 2)], {"axis": 1})
    assert not accepting(node, tier, BLOCK, BLOCK)


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
def test_transpose_refuses_what_is_no_exchange(tier):
    assert not accepting(Node("Transpose", [count(2, 3, 4)], {"perm": [2, 1, 0]}), tier)
    assert not accepting(Node("Transpose", [count(2, 3, dtype=np.int64)], {"perm": [1, 0]}), tier)
