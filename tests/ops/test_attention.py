# SPDX-License-Identifier: Apache-2.0
"""Attention, RotaryEmbedding, LinearAttention and CausalConvWithState against onnx.reference and numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pyneo.errors
from tests.ops.cases import BF16, check_all, evaluate, normal, onnx_reference, ort


def qkv(b: int, hq: int, hk: int, sq: int, sk: int, d: int, dv: int) -> list[np.ndarray]:
    return [normal(b, hq, sq, d), normal(b, hk, sk, d, seed=1), normal(b, hk, sk, dv, seed=2)]


def pack(x: np.ndarray) -> np.ndarray:
    b, h, s, d = x.shape
    return np.ascontiguousarray(x.transpose(0, 2, 1, 3)).reshape(b, s, h * d)


def reference(inputs: Any, outputs: int = 1, **attrs: Any) -> list[np.ndarray]:
    return onnx_reference("Attention", inputs, outputs, opset=25, **attrs)


SIZES = [
    (2, 3, 3, 4, 4, 8, 8),
    (1, 6, 2, 5, 70, 9, 5),
    (2, 4, 1, 1, 7, 16, 3),
    (1, 1, 1, 1, 1, 1, 1),
    (1, 2, 2, 9, 130, 4, 4),
]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("packed", [False, True])
def test_attention_shapes(size: Any, causal: int, packed: bool) -> None:
    inputs, attrs = qkv(*size), {"is_causal": causal}
    if packed:
        inputs = [pack(x) for x in inputs]
        attrs |= {"q_num_heads": size[1], "kv_num_heads": size[2]}
    check_all(evaluate("Attention", inputs, **attrs), reference(inputs, **attrs))


MASKS = [(4, 6), (1, 6), (6,), (3, 4, 6), (1, 4, 6), (2, 3, 4, 6), (2, 1, 1, 6), (4, 3), (2, 1, 4, 5)]


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("boolean", [False, True])
@pytest.mark.parametrize("causal", [0, 1])
def test_attention_masks(mask: Any, boolean: bool, causal: int) -> None:
    m = normal(*mask, seed=5)
    m = m > -0.8 if boolean else m
    inputs = qkv(2, 3, 3, 4, 6, 8, 8)
    # onnx.reference takes the number of queries from a causal mask's shape: hand it a full one.
    full = np.ascontiguousarray(np.broadcast_to(m, np.broadcast_shapes(m.shape, (4, 1))))
    want = reference([*inputs, full], is_causal=causal)
    check_all(evaluate("Attention", [*inputs, m], is_causal=causal), want)


@pytest.mark.parametrize("mode", [0, 1, 2, 3])
@pytest.mark.parametrize("causal", [0, 1])
def test_attention_with_past_and_scores(mode: int, causal: int) -> None:
    q, k, v = qkv(2, 4, 2, 3, 3, 8, 6)
    past = [normal(2, 2, 5, 8, seed=7), normal(2, 2, 5, 6, seed=8)]
    mask = normal(3, 8, seed=9)
    mask[1, 2] = -np.inf
    attrs = {"is_causal": causal, "qk_matmul_output_mode": mode, "scale": 0.3}
    got = evaluate("Attention", [q, k, v, mask, *past], 4, **attrs)
    want = reference([q, k, v, mask, *past], 4, **attrs)
    check_all(got, want)
    packed = [pack(x) for x in (q, k, v)]
    got = evaluate("Attention", [*packed, mask, *past], 4, q_num_heads=4, kv_num_heads=2, **attrs)
    check_all(got, [pack(want[0]), *want[1:]])


def test_softcap_bounds_the_logits() -> None:
    inputs = [x * 3 for x in qkv(1, 2, 2, 4, 5, 8, 8)]
    check_all(evaluate("Attention", inputs, softcap=2.0), reference(inputs, softcap=2.0))
    raw = evaluate("Attention", inputs, 4, softcap=2.0, qk_matmul_output_mode=0)[3]
    capped = evaluate("Attention", inputs, 4, softcap=2.0, qk_matmul_output_mode=1)[3]
    check_all([capped], [2 * np.tanh(raw / 2)])
    assert np.abs(raw).max() > 2


@pytest.mark.parametrize("window", [(2, 0), (1, 1), (0, -1), (-1, 0), (0, 0), (100, 100)])
@pytest.mark.parametrize("causal", [0, 1])
def test_sliding_windows(window: Any, causal: int) -> None:
    inputs = qkv(2, 2, 2, 4, 6, 8, 8)
    attrs = {"left_window_size": window[0], "right_window_size": window[1], "is_causal": causal}
    check_all(evaluate("Attention", inputs, **attrs), reference(inputs, **attrs))
    cached = [*inputs, None, None, None, np.array([6, 3], np.int64)]
    check_all(evaluate("Attention", cached, **attrs), reference(cached, **attrs))


@pytest.mark.parametrize("causal", [0, 1])
def test_padding_keys_of_an_external_cache(causal: int) -> None:
    inputs = [*qkv(3, 2, 2, 2, 6, 8, 8), None, None, None, np.array([6, 2, 1], np.int64)]
    check_all(evaluate("Attention", inputs, is_causal=causal), reference(inputs, is_causal=causal))


def test_a_row_without_keys_is_zero() -> None:
    mask = np.ones((4, 6), bool)
    mask[2] = False
    inputs = [*qkv(1, 2, 2, 4, 6, 8, 8), mask]
    y, _, _, p = evaluate("Attention", inputs, 4, qk_matmul_output_mode=3)
    assert not y[:, :, 2].any() and not p[:, :, 2].any() and y[:, :, 1].any()


@pytest.mark.parametrize("dtype", [np.float16, BF16])
def test_attention_of_narrow_floats(dtype: Any) -> None:
    inputs = [x.astype(dtype) for x in qkv(1, 2, 2, 4, 6, 8, 8)]
    want = reference([x.astype(np.float32) for x in inputs])[0].astype(dtype)
    check_all(evaluate("Attention", inputs), [want], rtol=8e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("change", "attrs", "names"),
    [
        ({1: (2, 3, 6, 7)}, {}, "do not fit"),
        ({1: (2, 2, 6, 8), 2: (2, 2, 6, 8)}, {}, "do not fit"),
        ({2: (2, 3, 5, 8)}, {}, "do not fit"),
        ({0: (2, 4, 24)}, {}, "heads"),
        ({0: (2, 4, 25)}, {"q_num_heads": 3}, "heads"),
        ({3: (5, 6)}, {}, "mask"),
        ({3: (4, 7)}, {}, "mask"),
        ({}, {"left_window_size": -2}, "window"),
        ({}, {"qk_matmul_output_mode": 4}, "mode"),
    ],
)
def test_operands_that_do_not_fit_are_refused(change: Any, attrs: dict[str, Any], names: str) -> None:
    inputs: list[Any] = [*qkv(2, 3, 3, 4, 6, 8, 8), None]
    for i, shape in change.items():
        inputs[i] = normal(*shape)
    with pytest.raises(pyneo.errors.Error, match=names):
        evaluate("Attention", inputs, **attrs)


def test_key_counts_outside_the_cache_are_refused() -> None:
    for bad in ([7, 1], [1, -1]):
        with pytest.raises(pyneo.errors.Error, match="nonpad_kv_seqlen"):
            evaluate("Attention", [*qkv(2, 1, 1, 2, 6, 4, 4), None, None, None, np.array(bad, np.int64)])


@pytest.mark.parametrize("interleaved", [0, 1])
@pytest.mark.parametrize("rotated", [0, 4])
@pytest.mark.parametrize("positions", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_rotary_embedding(interleaved: int, rotated: int, positions: bool, packed: bool) -> None:
    x, half = normal(2, 3, 5, 8), (rotated or 8) // 2
    angles = normal(*((50, half) if positions else (2, 5, half)), seed=1)
    ids = [np.random.default_rng(0).integers(0, 50, (2, 5))] if positions else []
    attrs: dict[str, Any] = {"interleaved": interleaved, "rotary_embedding_dim": rotated}
    if packed:
        x = pack(x)
        attrs["num_heads"] = 3
    inputs = [x, np.cos(angles), np.sin(angles), *ids]
    check_all(evaluate("RotaryEmbedding", inputs, **attrs), ort("RotaryEmbedding", inputs, opset=23, **attrs))


def test_rotary_positions_outside_the_cache_are_refused() -> None:
    x, cache = normal(1, 1, 2, 4), normal(5, 2)
    for bad in (5, -1, 2**62):
        with pytest.raises(pyneo.errors.Error, match=str(bad)):
            evaluate("RotaryEmbedding", [x, cache, cache, np.array([[0, bad]], np.int64)])
    with pytest.raises(pyneo.errors.Error, match="cache"):
        evaluate("RotaryEmbedding", [x, cache, cache])


@pytest.mark.parametrize("rule", ["linear", "gated", "delta", "gated_delta"])
@pytest.mark.parametrize("by_key", [False, True])
@pytest.mark.parametrize("past", [False, True])
def test_linear_attention(rule: str, by_key: bool, past: bool) -> None:
    b, t, hq, hk, dk, dv = 2, 5, 4, 2, 6, 3
    inputs = [
        normal(b, t, hq * dk),
        normal(b, t, hk * dk, seed=1) * np.float32(0.3),
        normal(b, t, hk * dv, seed=2),
        normal(b, hk, dk, dv, seed=3) if past else None,
        -np.abs(normal(b, t, hk * dk if by_key else hk, seed=4)) if "gated" in rule else None,
        np.abs(normal(b, t, hk if by_key else 1, seed=5)) * np.float32(0.5) if "delta" in rule else None,
    ]
    attrs = {"update_rule": rule, "q_num_heads": hq, "kv_num_heads": hk}
    check_all(
        evaluate("LinearAttention", inputs, 2, **attrs),
        onnx_reference("LinearAttention", inputs, 2, opset=27, **attrs),
    )


@pytest.mark.parametrize("length", [1, 2, 7])
@pytest.mark.parametrize("past", [False, True])
@pytest.mark.parametrize("activation", ["none", "silu"])
def test_causal_conv_with_state(length: int, past: bool, activation: str) -> None:
    inputs = [
        normal(2, 3, length),
        normal(3, 1, 4, seed=1),
        normal(3, seed=2),
        normal(2, 3, 3, seed=3) if past else None,
    ]
    check_all(
        evaluate("CausalConvWithState", inputs, 2, activation=activation),
        onnx_reference("CausalConvWithState", inputs, 2, opset=27, activation=activation),
    )


def test_linear_attention_refuses_what_does_not_fit() -> None:
    q = normal(1, 2, 8)
    with pytest.raises(pyneo.errors.Error, match="decay"):
        evaluate("LinearAttention", [q, q, q], q_num_heads=2, kv_num_heads=2, update_rule="gated")
    with pytest.raises(pyneo.errors.Error, match="update_rule"):
        evaluate("LinearAttention", [q, q, q], q_num_heads=2, kv_num_heads=2, update_rule="x")
    with pytest.raises(pyneo.errors.Error, match="heads"):
        evaluate("LinearAttention", [q, q, q], q_num_heads=3, kv_num_heads=2, update_rule="linear")
    with pytest.raises(pyneo.errors.Error, match="past_state"):
        evaluate("CausalConvWithState", [normal(1, 2, 5), normal(2, 1, 3), None, normal(1, 2, 3)])
