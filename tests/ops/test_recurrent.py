# SPDX-License-Identifier: Apache-2.0
"""LSTM, GRU and RNN against ONNX Runtime; layout 1 against layout 0."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pyneo.errors
from tests.ops.cases import BF16, check_all, evaluate, normal, ort

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
STATES = {"LSTM": 2, "GRU": 1, "RNN": 1}


def operands(op: str, steps: int, batch: int, inputs: int, hidden: int, directions: int) -> list[np.ndarray]:
    """X, W, R, B and the initial states, small enough that no gate saturates."""
    g = GATES[op]
    scale = np.float32(0.5)
    return [
        normal(steps, batch, inputs) * scale,
        normal(directions, g * hidden, inputs, seed=1) * scale,
        normal(directions, g * hidden, hidden, seed=2) * scale,
        normal(directions, 2 * g * hidden, seed=3) * scale,
        normal(directions, batch, hidden, seed=4) * scale,
        normal(directions, batch, hidden, seed=5) * scale,
    ]


def inputs_of(
    op: str, o: list[np.ndarray], lengths: Any = None, peepholes: Any = None
) -> list[np.ndarray | None]:
    listed: list[np.ndarray | None] = [*o[:4], lengths, o[4]]
    if op == "LSTM":
        listed += [o[5]] + ([] if peepholes is None else [peepholes])
    return listed


SIZES = [(4, 3, 5, 7), (1, 1, 1, 1), (6, 2, 9, 40), (3, 5, 8, 33)]


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("lens", [False, True])
def test_recurrent_agrees_with_onnx_runtime(op: str, direction: str, size: Any, lens: bool) -> None:
    steps, batch, inputs, hidden = size
    o = operands(op, steps, batch, inputs, hidden, 2 if direction == "bidirectional" else 1)
    lengths = (np.arange(batch) % steps + 1).astype(np.int32) if lens else None
    node = inputs_of(op, o, lengths)
    attrs = {"hidden_size": hidden, "direction": direction}
    n = 1 + STATES[op]
    check_all(evaluate(op, node, n, **attrs), ort(op, node, n, **attrs))


@pytest.mark.parametrize("op", GATES)
def test_optional_operands_may_be_absent(op: str) -> None:
    o = operands(op, 4, 2, 3, 5, 1)
    n = 1 + STATES[op]
    check_all(evaluate(op, o[:3], n, hidden_size=5), ort(op, o[:3], n, hidden_size=5))


@pytest.mark.parametrize("before", [0, 1])
def test_gru_linear_before_reset(before: int) -> None:
    node = inputs_of("GRU", operands("GRU", 5, 3, 4, 6, 2))
    attrs = {"hidden_size": 6, "direction": "bidirectional", "linear_before_reset": before}
    check_all(evaluate("GRU", node, 2, **attrs), ort("GRU", node, 2, **attrs))


def test_lstm_peepholes_and_coupled_gates() -> None:
    node = inputs_of("LSTM", operands("LSTM", 5, 3, 4, 6, 2), None, normal(2, 18, seed=6))
    attrs = {"hidden_size": 6, "direction": "bidirectional"}
    check_all(evaluate("LSTM", node, 3, **attrs), ort("LSTM", node, 3, **attrs))
    attrs = {**attrs, "input_forget": 1}
    check_all(evaluate("LSTM", node, 3, **attrs), ort("LSTM", node, 3, **attrs))


@pytest.mark.parametrize("op", GATES)
def test_clip(op: str) -> None:
    node = inputs_of(op, operands(op, 5, 3, 4, 6, 1))
    n = 1 + STATES[op]
    got = evaluate(op, node, n, hidden_size=6, clip=0.2)
    check_all(got, ort(op, node, n, hidden_size=6, clip=0.2))
    assert not np.allclose(got[0], evaluate(op, node, n, hidden_size=6)[0])


@pytest.mark.parametrize(
    "names",
    [
        ["Relu", "Sigmoid", "Softsign"],
        ["HardSigmoid", "LeakyRelu", "ScaledTanh"],
        ["Affine", "Elu", "Softplus"],
        ["ThresholdedRelu", "Tanh", "Relu"],
    ],
)
def test_custom_activations(names: list[str]) -> None:
    takes = {"HardSigmoid": 2, "LeakyRelu": 1, "ScaledTanh": 2, "Affine": 2, "Elu": 1, "ThresholdedRelu": 1}
    attrs: dict[str, Any] = {"hidden_size": 6, "activations": names}
    attrs["activation_alpha"] = [0.3 + 0.1 * i for i, n in enumerate(names) if n in takes]
    attrs["activation_beta"] = [0.6 + 0.1 * i for i, n in enumerate(names) if takes.get(n) == 2]
    attrs = {k: v for k, v in attrs.items() if v != []}
    node = inputs_of("LSTM", operands("LSTM", 4, 2, 3, 6, 1))
    check_all(evaluate("LSTM", node, 3, **attrs), ort("LSTM", node, 3, **attrs))


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("direction", ["forward", "bidirectional"])
def test_batch_first_layout_is_a_transpose(op: str, direction: str) -> None:
    o = operands(op, 5, 3, 4, 6, 2 if direction == "bidirectional" else 1)
    n = 1 + STATES[op]
    attrs = {"hidden_size": 6, "direction": direction}
    want = ort(op, inputs_of(op, o), n, **attrs)
    swapped = [o[0].swapaxes(0, 1), *o[1:4], o[4].swapaxes(0, 1), o[5].swapaxes(0, 1)]
    node = [x if x is None else np.ascontiguousarray(x) for x in inputs_of(op, swapped)]
    got = evaluate(op, node, n, layout=1, **attrs)
    check_all(got, [want[0].transpose(2, 0, 1, 3), *(s.swapaxes(0, 1) for s in want[1:])])


@pytest.mark.parametrize("dtype", [np.float16, BF16])
def test_narrow_floats_round_the_float32_result(dtype: Any) -> None:
    o = [x.astype(dtype) for x in operands("LSTM", 4, 2, 3, 6, 1)]
    want = ort(
        "LSTM", [x if x is None else x.astype(np.float32) for x in inputs_of("LSTM", o)], 3, hidden_size=6
    )
    got = evaluate("LSTM", inputs_of("LSTM", o), 3, hidden_size=6)
    check_all(got, [w.astype(dtype) for w in want], rtol=8e-3, atol=1e-3)


def test_sequence_lengths_outside_the_input_are_refused() -> None:
    o = operands("LSTM", 4, 2, 3, 6, 1)
    for bad in ([5, 1], [1, -1]):
        with pytest.raises(pyneo.errors.Error, match="sequence_lens"):
            evaluate("LSTM", inputs_of("LSTM", o, np.array(bad, np.int32)), 3, hidden_size=6)


@pytest.mark.parametrize(
    ("change", "attrs", "names"),
    [
        ({}, {"hidden_size": 7}, "hidden"),
        ({}, {"direction": "sideways"}, "sideways"),
        ({}, {"direction": "bidirectional"}, "do not fit"),
        ({}, {"activations": ["Tanh"]}, "activations"),
        ({}, {"activations": ["Tanh", "Nope", "Tanh"]}, "Nope"),
        ({1: (1, 20, 3)}, {}, "do not fit"),
        ({1: (1, 24, 4)}, {}, "do not fit"),
        ({3: (1, 24)}, {}, "input 3"),
        ({4: (1, 3, 6)}, {}, "input 5"),
        ({0: (4, 2)}, {}, "do not fit"),
    ],
)
def test_operands_that_do_not_fit_are_refused(change: Any, attrs: dict[str, Any], names: str) -> None:
    o = operands("LSTM", 4, 2, 3, 6, 1)
    for i, shape in change.items():
        o[i] = normal(*shape)
    with pytest.raises(pyneo.errors.Error, match=names):
        evaluate("LSTM", inputs_of("LSTM", o), 3, **attrs)


def test_nothing_to_do() -> None:
    for steps, batch in ((0, 2), (3, 0)):
        o = operands("GRU", steps, batch, 3, 4, 1)
        y, h = evaluate("GRU", inputs_of("GRU", o), 2, hidden_size=4)
        assert y.shape == (steps, 1, batch, 4)
        np.testing.assert_array_equal(h, o[4])
