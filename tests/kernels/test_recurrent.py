# SPDX-License-Identifier: Apache-2.0
"""LSTM, GRU and RNN kernels against the reference operators."""

from __future__ import annotations

import numpy as np
import pytest

from tests.kernels.compare import accepting, check, each_wide_tier, run_kernel
from tests.kernels.harness import Node


def draw(*shape, seed=0):
    return (np.random.default_rng(seed).standard_normal(shape) * 0.5).astype(np.float32)


def node(op, steps, batch, inputs, hidden, direction="forward", bias=True, state=True, **attrs):
    gates, dirs = {"LSTM": 4, "GRU": 3, "RNN": 1}[op], 2 if direction == "bidirectional" else 1
    x = draw(steps, batch, inputs)
    w, r = draw(dirs, gates * hidden, inputs, seed=1), draw(dirs, gates * hidden, hidden, seed=2)
    r /= np.float32(
        hidden**0.5
    )  # larger ones make the recursion chaotic: rounding would grow with every step
    ins = [x, w, r, draw(dirs, 2 * gates * hidden, seed=3) if bias else None, None]
    if state:
        ins.append(draw(dirs, batch, hidden, seed=4))
        if op == "LSTM":
            ins.append(draw(dirs, batch, hidden, seed=5))
    return Node(op, ins, {"direction": direction, "hidden_size": hidden, **attrs})


def outputs(op):
    return 3 if op == "LSTM" else 2


SIZES = [
    (7, 1, 10, 16), (1, 1, 3, 5), (12, 3, 40, 33), (5, 9, 7, 24), (49, 1, 40, 128), (4, 2, 1, 1),
    (6, 4, 5, 70), (3, 15, 8, 50), (5, 6, 3, 40), (4, 7, 9, 17), (3, 13, 4, 8),
]  # fmt: skip


@each_wide_tier
@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_sizes_and_directions(op, size, direction, tier):
    check(node(op, *size, direction), "f32_", tier, outputs=outputs(op))


@each_wide_tier
@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("bias,state", [(False, True), (True, False), (False, False)])
def test_absent_operands(op, bias, state, tier):
    check(node(op, 6, 2, 9, 20, bias=bias, state=state), "f32_", tier, outputs=outputs(op))


@each_wide_tier
@pytest.mark.parametrize("batch", [1, 5])
def test_reset_after_the_product(batch, tier):
    check(node("GRU", 11, batch, 13, 37, "bidirectional", linear_before_reset=1), "f32_gru", tier, outputs=2)


@each_wide_tier
def test_weights_shared_between_threads(tier):
    check(node("LSTM", 3, 1, 16, 450), "f32_lstm", tier, outputs=3)
    check(node("GRU", 3, 1, 16, 450, "bidirectional"), "f32_gru", tier, outputs=2)
    check(node("RNN", 3, 1, 16, 900, "bidirectional"), "f32_rnn", tier, outputs=2)


@each_wide_tier
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("direction", ["reverse", "bidirectional"])
def test_rnn_with_relu(size, direction, tier):
    names = ["Relu"] * (2 if direction == "bidirectional" else 1)
    check(node("RNN", *size, direction, activations=names), "f32_rnn", tier, outputs=2)


@each_wide_tier
@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
def test_sequences_of_their_own_lengths(op, direction, tier):
    for attrs in [{}, {"linear_before_reset": 1}] if op == "GRU" else [{}]:
        made = node(op, 9, 5, 12, 21, direction, **attrs)
        made.inputs[4] = np.array([9, 4, 0, 1, 7], np.int32)
        check(made, f"f32_{op.lower()}", tier, outputs=outputs(op))


@each_wide_tier
@pytest.mark.parametrize("op", ["LSTM", "GRU"])
def test_lengths_with_weights_shared_between_threads(op, tier):
    made = node(op, 3, 2, 16, 450, "bidirectional")
    made.inputs[4] = np.array([2, 3], np.int32)
    check(made, f"f32_{op.lower()}", tier, outputs=outputs(op))


@each_wide_tier
@pytest.mark.parametrize("length", [-1, 5])
def test_lengths_outside_the_sequence_are_refused(length, tier):
    made = node("LSTM", 4, 2, 3, 4)
    made.inputs[4] = np.array([4, length], np.int32)
    (kernel,) = accepting(made, tier, outputs=3)
    with pytest.raises(Exception, match=rf"sequence_lens\[1\] is {length}, expected 0 to 4"):
        run_kernel(made, kernel, tier, outputs=3)


@each_wide_tier
def test_other_activations_and_clip_are_left_to_the_reference(tier):
    assert not accepting(node("GRU", 2, 1, 3, 4, activations=["Sigmoid", "Relu"]), tier, outputs=2)
    assert not accepting(node("LSTM", 2, 1, 3, 4, clip=1.0), tier, outputs=3)
    assert accepting(node("GRU", 2, 1, 3, 4, activations=["Sigmoid", "Tanh"]), tier, outputs=2)
    mixed = node("RNN", 2, 1, 3, 4, "bidirectional", activations=["Tanh", "Relu"])
    assert not accepting(mixed, tier, outputs=2)
    assert not accepting(node("RNN", 2, 1, 3, 4, activations=["Softsign"]), tier, outputs=2)
    assert not accepting(node("RNN", 2, 1, 3, 4, clip=1.0), tier, outputs=2)
    assert accepting(node("RNN", 2, 1, 3, 4, activations=["Tanh", "Tanh"]), tier, outputs=2)
