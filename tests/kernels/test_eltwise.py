# SPDX-License-Identifier: Apache-2.0
"""Element-wise kernels: functions against double precision, broadcasting and chains against the reference."""

from __future__ import annotations

from math import erf

import numpy as np
import pytest

from pyneo import _core
from pyneo.errors import Error
from tests.kernels.compare import BLOCK, accepting, check, each_tier, run_kernel
from tests.kernels.harness import PLAIN, Node


def draw(*shape, scale=3.0, seed=0):
    return np.asarray(np.random.default_rng(seed).standard_normal(shape) * scale, np.float32)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softplus(x):
    return np.logaddexp(0, x)


# (operator, function in double precision, largest error in units in the last place, low, high)
EXACT = [
    ("Exp", np.exp, 2, -104, 90),
    ("Log", np.log, 2, 1e-45, 3e38),
    ("Tanh", np.tanh, 4, -100, 100),
    ("Sigmoid", sigmoid, 5, -84, 100),
    ("Erf", np.vectorize(erf), 6, -10, 10),
    ("Softplus", softplus, 4, -84, 100),
    ("Elu", lambda x: np.where(x < 0, np.expm1(x), x), 4, -100, 100),
    ("Sqrt", np.sqrt, 1, 0, 3e38),
    ("Reciprocal", lambda x: 1 / x, 1, 1e-30, 1e30),
]


def sweep(low, high):
    """Floats spread evenly over the bit patterns between two numbers, and so over magnitudes."""

    def order(v):
        bits = int(np.float32(v).view(np.int32))
        return bits if bits >= 0 else -(bits & 0x7FFFFFFF)

    at = np.linspace(order(low), order(high), 200_003).astype(np.int64)
    bits = np.where(at >= 0, at, 0x80000000 - at).astype(np.uint32)
    return bits.view(np.float32)


@each_tier
@pytest.mark.parametrize("op,function,ulp,low,high", EXACT, ids=[e[0] for e in EXACT])
def test_error_in_units_in_the_last_place(op, function, ulp, low, high, tier):
    x = sweep(low, high)
    (kernel,) = accepting(Node(op, [x]), tier)
    (y,), _ = run_kernel(Node(op, [x]), kernel, tier)
    with np.errstate(all="ignore"):
        want = function(x.astype(np.float64))
        finite = np.abs(want) <= np.finfo(np.float32).max
        spacing = np.spacing(np.abs(want[finite]).astype(np.float32)).astype(np.float64)
    assert np.max(np.abs(y[finite] - want[finite]) / spacing) <= ulp
    assert np.isinf(y[~finite]).all()


UNARY = {
    "Relu": {},
    "LeakyRelu": {"alpha": 0.2},
    "Sigmoid": {},
    "Tanh": {},
    "HardSwish": {},
    "Elu": {"alpha": 0.7},
    "HardSigmoid": {"alpha": 0.3, "beta": 0.4},
    "Softplus": {},
    "Mish": {},
    "Swish": {"alpha": 1.5},
    "Exp": {},
    "Log": {},
    "Sqrt": {},
    "Abs": {},
    "Neg": {},
    "Reciprocal": {},
    "Erf": {},
    "Floor": {},
    "Ceil": {},
    "Round": {},
    "Gelu": {"approximate": "tanh"},
    "com.microsoft.FastGelu": {},
    "Clip": {},
}


@each_tier
@pytest.mark.parametrize("op", UNARY)
@pytest.mark.parametrize("shape", [(), (1,), (0, 4), (3, 37), (1, 5, 4, 3)], ids=str)
def test_unary(op, shape, tier):
    x = draw(*shape)
    if op in ("Log", "Sqrt"):
        x = np.asarray(np.abs(x))
    check(Node(op, [x], UNARY[op]), "f32_eltwise", tier)
    if len(shape) == 4:
        check(Node(op, [x], UNARY[op]), "f32_eltwise", tier, BLOCK, BLOCK)


@each_tier
@pytest.mark.parametrize("op", UNARY)
def test_nan_infinities_and_zeros(op, tier):
    x = np.array(
        [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-42, -1e-42, 3e38, -3e38, 0.5, 1.5, 2.5, -0.5], np.float32
    )
    check(Node(op, [x], UNARY[op]), "f32_eltwise", tier)


@each_tier
def test_large_tensor_runs_on_both_threads(tier):
    check(Node("Gelu", [draw(3, 70_001)]), "f32_eltwise_gelu", tier)


BROADCASTS = [
    ((4, 5), (4, 5)),
    ((7,), ()),
    ((), (7,)),
    ((2, 3, 50), (50,)),
    ((2, 3, 50), (3, 1)),
    ((2, 3, 50), (2, 3, 1)),
    ((2, 3, 1), (2, 3, 50)),
    ((1, 6, 4, 5), (1, 6, 1, 1)),
    ((2, 1, 9), (1, 8, 9)),
    ((3, 1), (1, 40)),
    ((2, 4, 3, 9), (2, 1, 3, 9)),
    ((5, 0), (1, 1)),
    ((2, 300, 33), (300, 1)),
    ((100, 1, 4), (1, 90, 4)),  # short rows, many to a tile
    ((7000, 3), (3,)),
    ((3, 500, 2), (500, 1)),
    ((2, 3, 41, 5), (2, 1, 41, 1)),
    ((1, 600, 63), (30, 1, 63)),
    ((2, 0, 3), (3,)),
]


@each_tier
@pytest.mark.parametrize("a,b", BROADCASTS, ids=str)
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Max", "Min"])
def test_binary_broadcast(op, a, b, tier):
    check(Node(op, [draw(*a), draw(*b, seed=1)]), "f32_eltwise", tier)


@each_tier
@pytest.mark.parametrize("channels", [1, 8, 16, 21, 40])
@pytest.mark.parametrize(
    "other,layout",
    [
        ((2, -1, 5, 3), BLOCK),
        ((1, -1, 5, 3), BLOCK),
        ((2, -1, 1, 1), BLOCK),
        ((1, -1, 1, 1), BLOCK),
        ((1, -1, 1, 1), PLAIN),
        ((2, -1, 1, 1), PLAIN),
        ((-1, 1, 1), PLAIN),
        ((), PLAIN),
        ((1, 1, 1, 1), PLAIN),
    ],
    ids=str,
)
def test_binary_in_blocks(channels, other, layout, tier):
    shape = tuple(channels if n == -1 else n for n in other)
    x, b = draw(2, channels, 5, 3), draw(*shape, seed=1)
    check(Node("Mul", [x, b]), "f32_eltwise", tier, [BLOCK, layout], BLOCK)
    check(Node("Sub", [b, x]), "f32_eltwise", tier, [layout, BLOCK], BLOCK)


@each_tier
def test_blocks_refuse_a_map_shared_by_all_channels(tier):
    node = Node("Mul", [draw(1, 16, 4, 4), draw(1, 1, 4, 4)])
    assert not accepting(node, tier, BLOCK, BLOCK)
    assert not accepting(node, tier, [BLOCK, PLAIN], BLOCK)


@each_tier
def test_binary_activations(tier):
    x, b = draw(2, 33, 4), draw(2, 33, 4, seed=1)
    check(Node("Add", [x, b], {"act": "relu"}), "f32_eltwise_add", tier)
    check(
        Node("Mul", [x, b], {"act": "silu", "post_act": "clip", "post_act_alpha": 0.1}), "f32_eltwise", tier
    )


@each_tier
@pytest.mark.parametrize("op", ["Max", "Min", "Sum"])
@pytest.mark.parametrize("count", [2, 3, 8])
def test_variadic(op, count, tier):
    inputs = [draw(3, 1 if i % 2 else 20, seed=i) for i in range(count)]
    inputs[0][0, 0] = np.nan
    inputs[1][2, 0] = np.nan
    check(Node(op, inputs), "f32_eltwise", tier)


@each_tier
@pytest.mark.parametrize("exponent", [2.0, 3.0, 0.5, -0.5, -1.0])
def test_power_by_a_constant(exponent, tier):
    node = Node("Pow", [np.abs(draw(2, 37)) + 0.1, np.float32([exponent])])
    described = [(1, (2, 37), 0), node.inputs[1]]  # the exponent's value is known
    found = _core.kernel_list("Pow", node.blob(), described, [(1, (2, 37), 0)], {"tier": 0})
    assert [k["name"] for k in found] == ["f32_eltwise_pow"]
    (y,), _ = run_kernel(node, "f32_eltwise_pow", tier)
    np.testing.assert_allclose(y, node.reference(), rtol=1e-6)


@each_tier
def test_prelu(tier):
    check(
        Node("PRelu", [draw(2, 21, 5, 3), draw(21, 1, 1, seed=1)]), "f32_eltwise", tier, [BLOCK, PLAIN], BLOCK
    )
    check(Node("PRelu", [draw(2, 21, 5), draw(21, 1, seed=1)]), "f32_eltwise", tier)


@each_tier
def test_gelu_after_a_bias(tier):
    for op in ("com.microsoft.BiasGelu", "com.microsoft.FastGelu"):
        check(Node(op, [draw(4, 50), draw(50, seed=1)]), "f32_eltwise", tier)


def chain(inputs, *steps):
    """steps: (function, a, b, alpha, beta)."""
    args = [n for s in steps for n in s[1:3]]
    params = [float(v) for s in steps for v in s[3:5]]
    return Node("Eltwise", inputs, {"fns": [s[0] for s in steps], "args": args, "params": params})


GATE = [("sigmoid", 0, -1, 0, 0), ("mul", 0, 8, 0, 0), ("add", 9, 1, 0, 0), ("affine", 10, -1, 0.5, 2)]


def test_chain_is_the_composition_of_its_steps():
    x, b = draw(3, 40), draw(40, seed=1)
    want = 0.5 * (x * sigmoid(x) + b) + 2
    np.testing.assert_allclose(chain([x, b], *GATE).reference(), want, rtol=1e-6)


@each_tier
@pytest.mark.parametrize("shape", [(1,), (3, 40), (2, 5000), (2, 3, 4, 700)], ids=str)
def test_chain(shape, tier):
    check(chain([draw(*shape), draw(shape[-1], seed=1)], *GATE), "f32_eltwise_chain", tier)


@each_tier
@pytest.mark.parametrize("row", [1, 2, 3, 5, 16, 31, 63])
def test_chain_over_short_rows(row, tier):
    inputs = [draw(41, 1, row), draw(1, 53, row, seed=1), draw(41, 53, 1, seed=2), draw(row, seed=3)]
    steps = [("add", 0, 1, 0, 0), ("leaky_relu", 8, -1, 0.2, 0), ("mul", 9, 2, 0, 0), ("sub", 10, 3, 0, 0)]
    check(chain(inputs, *steps, ("max", 11, 8, 0, 0)), "f32_eltwise_chain", tier)


@each_tier
def test_chain_in_blocks(tier):
    x, s, b = draw(2, 21, 40, 40), draw(2, 21, 1, 1, seed=1), draw(1, 21, 1, 1, seed=2)
    steps = [("mul", 0, 1, 0, 0), ("sub", 8, 2, 0, 0), ("hard_swish", 9, -1, 0, 0), ("max", 10, 0, 0, 0)]
    check(chain([x, s, b], *steps), "f32_eltwise_chain", tier, [BLOCK, BLOCK, PLAIN], BLOCK)


@each_tier
def test_chain_with_many_results_alive(tier):
    x = draw(2, 900)
    steps = [("affine", 0, -1, k + 1, k) for k in range(5)]
    steps += [("mul", 8, 9, 0, 0), ("add", 13, 10, 0, 0), ("add", 14, 11, 0, 0), ("sub", 15, 12, 0, 0)]
    check(chain([x], *steps), "f32_eltwise_chain", tier, rtol=1e-4)


@pytest.mark.parametrize(
    "step,message",
    [
        (("add", 0, -1, 0, 0), "names neither an input nor an earlier step"),
        (("relu", 8, -1, 0, 0), "names neither"),
        (("relu", 1, -1, 0, 0), "names neither"),
        (("frobnicate", 0, -1, 0, 0), "'frobnicate', which is no function"),
    ],
)
def test_a_broken_chain_is_refused(step, message):
    with pytest.raises(Error, match=message):
        chain([draw(4)], step).reference()
