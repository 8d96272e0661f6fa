# SPDX-License-Identifier: Apache-2.0
"""A profile counts the work of every node as the operator's definition does, beside the machine's limits."""

import numpy as np
import pytest

import pyneo
from pyneo.profile import core_limits
from tests.support.models import from_text

# body, shape of x, shapes of constants, multiply-adds of the node
CASES = {
    "conv": ("y = Conv(x, w)", (2, 8, 10, 12), {"w": (4, 8, 3, 3)}, 2 * 4 * 8 * 10 * 72),
    "grouped": ("y = Conv<group=8>(x, w)", (1, 8, 10, 12), {"w": (8, 1, 3, 3)}, 8 * 8 * 10 * 9),
    "transposed": ("y = ConvTranspose<strides=[2,2]>(x, w)", (1, 8, 5, 5), {"w": (8, 4, 2, 2)}, 200 * 16),
    "matmul": ("y = MatMul(x, w)", (5, 7, 9), {"w": (9, 11)}, 5 * 7 * 9 * 11),
    "gru": (
        "y = GRU<hidden_size=4>(x, w, r)", (6, 2, 5), {"w": (1, 12, 5), "r": (1, 12, 4)}, 1296,
    ),
    "dynamic": ("y = MatMul(x, w)", ("n", 9), {"w": (9, 11)}, 3 * 9 * 11),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_work_of_a_node(name):
    body, shape, weights, multiply_adds = CASES[name]
    constants = {k: np.ones(s, np.float32) for k, s in weights.items()}
    model = pyneo.Model.load(
        pyneo.compile(from_text(body, {"x": shape}, constants)), allow_unsigned=True, threads=1
    )
    x = np.ones([d if isinstance(d, int) else 3 for d in shape], np.float32)
    profile = model.profile(x, runs=2)
    assert sum(n.flops for n in profile.nodes) == 2 * multiply_adds
    assert all(n.bytes_read > 0 and n.bytes_written > 0 for n in profile.nodes)
    assert profile.to_json()["nodes"][0]["flops"] == profile.nodes[0].flops


def test_a_node_without_multiply_adds_counts_bytes_only():
    model = pyneo.Model.load(pyneo.compile(from_text("y = Relu(x)", {"x": (4, 5)}, {})), allow_unsigned=True)
    (node,) = model.profile(np.ones((4, 5), np.float32)).nodes
    assert (node.flops, node.bytes_read, node.bytes_written) == (0, 80, 80)


def test_the_limits_are_of_this_machine():
    limits = core_limits()
    assert 0.1 < limits.gflop_per_s < 2000 and 0.05 < limits.gb_per_s < 2000
    assert core_limits() is limits
