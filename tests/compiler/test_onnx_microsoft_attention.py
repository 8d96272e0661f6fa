# SPDX-License-Identifier: Apache-2.0
"""Attention of com.microsoft, as the frontend reads it, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pyneo
from pyneo.compiler.frontends.onnx import load_onnx
from tests.ops.cases import Arrays, check_all, feed, model, ort, sample
from tests.support.interpreter import run_graph

MS = "com.microsoft."
B, S, T, HEADS, WIDTH, P = 2, 5, 7, 3, 8, 4
HIDDEN = HEADS * WIDTH


def real(*shape: int, seed: int = 0) -> np.ndarray:
    return sample(shape, np.float32, seed + sum(shape), -1, 1)


def flags(*shape: int) -> np.ndarray:
    made = np.random.default_rng(shape).integers(0, 2, shape).astype(np.int32)
    made[..., 0] = 1
    return made


Q, K, V = real(B, S, HIDDEN), real(B, T, HIDDEN, seed=1), real(B, T, HIDDEN, seed=2)
WIDE = real(B, T, HEADS * 5, seed=3)
BIAS = real(3 * HIDDEN)
PAST = [real(B, HEADS, P, WIDTH, seed=4), real(B, HEADS, P, WIDTH, seed=5)]
LENGTHS = np.array([3, T], np.int32)

Case = tuple[Arrays, int, dict[str, Any]]
MULTI_HEAD: list[Case] = [
    ([Q, K, V], 1, {}),
    ([Q, K, WIDE], 1, {"scale": 0.3}),
    ([Q, K, V, BIAS], 1, {}),
    ([Q, K, WIDE, real(2 * HIDDEN + HEADS * 5)], 1, {}),
    ([Q, Q, Q, BIAS], 1, {"unidirectional": 1}),
    ([Q, K, V, None, flags(B, T)], 1, {}),
    ([Q, K, V, None, np.zeros((B, T), np.int32)], 1, {}),
    ([Q, K, V, None, flags(B, T)], 1, {"mask_filter_value": -3.0}),
    ([Q, K, V, None, flags(B, S, T)], 1, {}),
    ([Q, K, V, None, LENGTHS], 1, {}),
    ([Q, K, V, None, None, real(B, HEADS, S, T)], 1, {}),
    ([Q, K, V, BIAS, flags(B, T), real(1, 1, S, T)], 1, {}),
    ([Q, Q, Q, BIAS, None, None, *PAST], 3, {}),
    ([Q, Q, Q, BIAS, None, real(1, HEADS, S, S + P), *PAST], 3, {"unidirectional": 1}),
    ([Q, Q, Q, None, flags(B, S + P), None, *PAST], 3, {}),
    ([Q, K, V], 3, {}),
    ([Q, real(B, HEADS, T, WIDTH), real(B, HEADS, T, WIDTH, seed=9)], 1, {}),
    ([Q, real(B, HEADS, T, WIDTH), real(B, HEADS, T, WIDTH, seed=9), None, flags(B, T)], 1, {}),
]


def run(op: str, inputs: Arrays, outputs: int, attrs: dict[str, Any]) -> list[np.ndarray]:
    return run_graph(load_onnx(model(MS + op, inputs, outputs, **attrs)), feed(inputs))


def compare(op: str, inputs: Arrays, outputs: int, attrs: dict[str, Any]) -> None:
    check_all(run(op, inputs, outputs, attrs), ort(MS + op, inputs, outputs, **attrs))


@pytest.mark.parametrize("case", MULTI_HEAD, ids=range(len(MULTI_HEAD)))
def test_multi_head_attention_matches_onnx_runtime(case: Case) -> None:
    inputs, outputs, attrs = case
    compare("MultiHeadAttention", inputs, outputs, {"num_heads": HEADS, **attrs})


def test_packed_operands_are_what_onnx_runtime_computes_of_the_parts() -> None:
    attrs = {"num_heads": HEADS}
    packed = real(B, S, HEADS, 3, WIDTH)
    parts = [packed[:, :, :, i].reshape(B, S, HIDDEN) for i in range(3)]
    expected = ort(MS + "MultiHeadAttention", parts, **attrs)
    check_all(run("MultiHeadAttention", [packed], 1, attrs), expected)
    packed = np.stack([k.reshape(B, T, HEADS, WIDTH) for k in (K, V)], 3)
    expected = ort(MS + "MultiHeadAttention", [Q, K, V], **attrs)
    check_all(run("MultiHeadAttention", [Q, packed], 1, attrs), expected)


X, W = real(B, S, 10), real(10, 3 * HIDDEN)
ATTENTION: list[Case] = [
    ([X, W, BIAS], 1, {}),
    ([X, W, BIAS], 2, {"unidirectional": 1}),
    ([X, W, BIAS, np.array([3, S], np.int32)], 1, {}),
    ([X, W, BIAS, flags(B, S)], 1, {}),
    ([X, W, BIAS, flags(B, S, S)], 1, {"mask_filter_value": -50.0}),
    ([X, W, BIAS, flags(B, S + P), np.stack(PAST)], 2, {}),
    ([X, W, BIAS, None, np.stack(PAST)], 2, {"unidirectional": 1, "scale": 0.5}),
    ([X, W, BIAS, None, None, real(1, HEADS, S, S)], 1, {}),
    ([X, real(10, 2 * HIDDEN + HEADS * 5), real(2 * HIDDEN + HEADS * 5)], 1,
     {"qkv_hidden_sizes": [HIDDEN, HIDDEN, HEADS * 5]}),
]  # fmt: skip


@pytest.mark.parametrize("case", ATTENTION, ids=range(len(ATTENTION)))
def test_attention_matches_onnx_runtime(case: Case) -> None:
    inputs, outputs, attrs = case
    compare("Attention", inputs, outputs, {"num_heads": HEADS, **attrs})


@pytest.mark.parametrize("mask", [None, flags(B, S)])
@pytest.mark.parametrize("kind", [np.int8, np.uint8])
def test_quantised_attention_matches_onnx_runtime(mask: np.ndarray | None, kind: type) -> None:
    x, w = sample((B, S, 16), np.uint8, 1), sample((16, 3 * HIDDEN), kind, 2)
    scale, zero = np.float32(0.02), np.uint8(100)
    inputs = [
        x,
        w,
        BIAS,
        np.array(scale),
        np.array(np.float32(0.01)),
        mask,
        np.array(zero),
        np.array(5, kind),
    ]
    compare("QAttention", inputs, 1, {"num_heads": HEADS})


TABLE = real(20, WIDTH // 2), real(20, WIDTH // 2, seed=1)
SOME = np.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]], np.int64)


@pytest.mark.parametrize("x", [Q, real(B, HEADS, S, WIDTH)])
@pytest.mark.parametrize("positions", [SOME, np.array([7], np.int64)])
@pytest.mark.parametrize("interleaved", [0, 1])
def test_rotary_embedding_matches_onnx_runtime(
    x: np.ndarray, positions: np.ndarray, interleaved: int
) -> None:
    for attrs in ({}, {"num_heads": HEADS}) if x.ndim == 3 else ({},):
        compare("RotaryEmbedding", [x, positions, *TABLE], 1, {"interleaved": interleaved, **attrs})
    half = [t[:, :2].copy() for t in TABLE]
    attrs = {"interleaved": interleaved, "num_heads": HEADS, "rotary_embedding_dim": WIDTH // 2}
    compare("RotaryEmbedding", [x, positions, *half], 1, attrs)


@pytest.mark.parametrize(
    ("flags", "rank"), [(f, r) for f in range(1, 16) for r in (2, 3, 4) if r > 2 or f < 4]
)
def test_fused_matmul_transposes_as_onnx_runtime_does(flags: int, rank: int) -> None:
    names = ("transA", "transB", "transBatchA", "transBatchB")
    attrs: dict[str, Any] = {name: flags >> i & 1 for i, name in enumerate(names)}
    batch = (2, 3)[: rank - 2]
    shapes = []
    for side, (rows, columns) in (("A", (4, 5)), ("B", (5, 6))):
        if attrs[f"trans{side}"]:
            rows, columns = columns, rows
        shapes.append((rows, *batch, columns) if attrs[f"transBatch{side}"] else (*batch, rows, columns))
    inputs = [real(*s) for s in shapes]
    compare("FusedMatMul", inputs, 1, {**attrs, "alpha": 0.5})


@pytest.mark.parametrize(
    ("op", "inputs", "attrs", "word"),
    [
        ("Attention", [X, W, BIAS], {"do_rotary": 1}, "do_rotary"),
        ("Attention", [X, W, BIAS, flags(B, 1, S, S)], {}, "rank 4"),
        (
            "MultiHeadAttention",
            [Q, Q, Q, None, None, None, *PAST, np.array(3, np.int32)],
            {},
            "shares a buffer",
        ),
    ],
)
def test_what_is_not_available_is_refused_by_name(op: str, inputs: Arrays, attrs: Any, word: str) -> None:
    with pytest.raises(pyneo.CompileError, match=word):
        load_onnx(model(MS + op, inputs, num_heads=HEADS, **attrs))


GROUPS, WIDE_HEAD = 2, 16  # onnxruntime rotates heads of a multiple of 16 only
NEAR, FAR = [real(16, WIDE_HEAD // 2, seed=n) for n in (7, 8)]


def group_inputs(length: int, past: int, packed: bool, ends: list[int], rotary: bool) -> Arrays:
    batch = len(ends)
    sizes = (4 * WIDE_HEAD, GROUPS * WIDE_HEAD, GROUPS * WIDE_HEAD)
    qkv = [real(batch, length, n, seed=i) for i, n in enumerate(sizes)]
    inputs: list[np.ndarray | None] = [np.concatenate(qkv, 2), None, None] if packed else [*qkv]
    caches = [real(batch, GROUPS, past, WIDE_HEAD, seed=i) for i in (5, 6)] if past else [None, None]
    seen, total = np.array(ends, np.int32) - 1, np.array(length + past, np.int32)
    return [*inputs, *caches, seen, total, *((NEAR, FAR) if rotary else ())]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("rotary", [0, 1])
@pytest.mark.parametrize(
    ("length", "past", "ends"), [(5, 0, [5, 5]), (5, 0, [5, 3]), (1, 6, [7, 7]), (1, 6, [7, 4])]
)
@pytest.mark.parametrize("more", [{}, {"local_window_size": 3}, {"softcap": 2.0, "scale": 0.2}])
def test_group_query_attention_matches_onnx_runtime(
    length: int, past: int, ends: list[int], packed: bool, rotary: int, more: dict[str, Any]
) -> None:
    inputs = group_inputs(length, past, packed, ends, bool(rotary))
    attrs = {"num_heads": 4, "kv_num_heads": GROUPS, "do_rotary": rotary, **more}
    found = run("GroupQueryAttention", inputs, 3, attrs)
    expected = ort(MS + "GroupQueryAttention", inputs, 3, **attrs)
    for b, end in enumerate(ends):  # what lies behind a sequence's end is nobody's
        rows = slice(None, end if not past else None)
        np.testing.assert_allclose(found[0][b, rows], expected[0][b, rows], 1e-4, 2e-5)
        for f, e in zip(found[1:], expected[1:], strict=True):
            assert f.shape == e.shape
            np.testing.assert_allclose(f[b, :, :end], e[b, :, :end], 1e-5, 1e-6)
