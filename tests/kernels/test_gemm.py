# SPDX-License-Identifier: Apache-2.0
"""Matrix product kernels of every tier against numpy."""

from __future__ import annotations

import numpy as np
import pytest

from tests.kernels.harness import TIERS, Node, assert_close, kernels, run

RNG = np.random.default_rng(5)


def draw(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape, dtype=np.float32)


# A's shape, B's shape
PRODUCTS = {
    "square": ((64, 64), (64, 64)),
    "one of everything": ((1, 1), (1, 1)),
    "one row": ((1, 300), (300, 1000)),
    "one row of many panels": ((1, 33), (33, 2500)),
    "one column": ((50, 40), (40, 1)),
    "one k": ((17, 1), (1, 33)),
    "a vector": ((70,), (70, 90)),
    "tails": ((37, 53), (53, 71)),
    "one vector of columns": ((29, 20), (20, 16)),
    "batches in rows": ((2, 3, 11, 24), (24, 40)),
    "page-sized rows": ((45, 1024), (1024, 48)),
    "many rows": ((1000, 40), (40, 24)),
    "few rows": ((3, 257), (257, 129)),
    "two blocks of k": ((13, 1537), (1537, 99)),
    "two blocks of k, whole panels": ((50, 1600), (1600, 128)),
    "five rows": ((5, 64), (64, 96)),
    "four rows": ((4, 64), (64, 80)),
    "two rows": ((2, 64), (64, 64)),
}


def check(
    node: Node, expected: np.ndarray, tier: str, want: str, target: dict[str, int] | None = None
) -> None:
    """At least one kernel named `want`..., and every kernel that accepts, agrees at 1, 2 and 3 threads."""
    names = kernels(node, tier, 0, 0)
    assert any(n.startswith(want) for n in names)
    for name in names:
        one, _ = run(node, name, tier, 0, 0, target=target)
        assert_close(one, expected, node.inputs[0].shape[-1])
        for threads in (2, 3):
            many, _ = run(node, name, tier, 0, 0, threads=threads, target=target)
            assert np.array_equal(one, many), f"{name}: {threads} threads change the result"


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("product", PRODUCTS)
def test_matmul_agrees_with_numpy(product: str, tier: str) -> None:
    a, b = (draw(*s) for s in PRODUCTS[product])
    check(Node("MatMul", [a, b]), a @ b, tier, "f32_matmul_packed")


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("product", ["tails", "page-sized rows", "many rows", "two blocks of k"])
def test_matmul_with_small_caches_still_agrees(product: str, tier: str) -> None:
    a, b = (draw(*s) for s in PRODUCTS[product])
    check(Node("MatMul", [a, b]), a @ b, tier, "f32_matmul_packed", {"l1_bytes": 4096, "l2_bytes": 16384})


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize(
    "product",
    ["square", "one row", "one row of many panels", "tails", "batches in rows", "two blocks of k"],
)
def test_matmul_epilogue_agrees_with_numpy(product: str, tier: str) -> None:
    a, b = (draw(*s) for s in PRODUCTS[product])
    b /= np.float32(b.shape[0] ** 0.5)  # sums that tanh does not saturate, nor their rounding exceed its own
    bias, z = draw(b.shape[-1]), draw(*(a @ b).shape)
    y = np.maximum(a @ b + bias, 0)
    check(Node("MatMul", [a, b, bias], {"act": "relu"}), y, tier, "f32_matmul_packed")
    check(Node("MatMul", [a, b, bias, z], {"act": "relu"}), y + z, tier, "f32_matmul_packed")
    gate = 1 / (1 + np.exp(-(a @ b + bias)))
    check(Node("MatMul", [a, b, bias], {"act": "sigmoid"}), gate, tier, "f32_matmul_packed")
    check(
        Node("MatMul", [a, b, bias, z], {"act": "relu", "post_act": "tanh"}),
        np.tanh(y + z),
        tier,
        "f32_matmul_packed",
    )
    check(
        Node("MatMul", [a, b, None, z], {"post_act": "clip", "post_act_alpha": -1.0, "post_act_beta": 2.0}),
        np.clip(a @ b + z, -1, 2),
        tier,
        "f32_matmul_packed",
    )


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("c_shape", [None, (), (1,), (71,), (1, 71), (1, 1)])
def test_gemm_agrees_with_numpy(c_shape: tuple[int, ...] | None, transposed: int, tier: str) -> None:
    a, b = draw(37, 53), draw(53, 71)
    c = None if c_shape is None else draw(*c_shape)
    y = 0.5 * (a @ b) + (0 if c is None else 2 * c)
    stored = np.ascontiguousarray(b.T) if transposed else b
    attrs = {"transB": transposed, "alpha": 0.5, "beta": 2.0, "act": "relu"}
    check(Node("Gemm", [a, stored, c], attrs), np.maximum(y, 0), tier, "f32_gemm_packed")


# A's shape, B's shape: both known only at run time
BATCHED = {
    "scores": ((2, 3, 29, 64), (2, 3, 64, 29)),
    "tails": ((5, 17, 21), (5, 21, 35)),
    "many rows": ((2, 100, 33), (2, 33, 70)),
    "B broadcast": ((4, 2, 9, 8), (2, 8, 40)),
    "A broadcast": ((1, 20, 16), (6, 16, 16)),
    "one column": ((3, 5, 7), (7,)),
    "one of everything": ((1, 1, 1), (1, 1, 1)),
    "large enough for threads": ((3, 130, 96), (3, 96, 130)),
    "two blocks of k": ((2, 49, 800), (2, 800, 70)),
    "two blocks of k, few rows": ((2, 7, 800), (2, 800, 64)),
}


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("product", BATCHED)
def test_batched_matmul_agrees_with_numpy(product: str, tier: str) -> None:
    a, b = (draw(*s) for s in BATCHED[product])
    check(Node("MatMul", [a, b]), a @ b, tier, "f32_matmul")


@pytest.mark.parametrize("tier", TIERS)
def test_batched_matmul_epilogue_agrees_with_numpy(tier: str) -> None:
    a, b = (draw(*s) for s in BATCHED["many rows"])
    bias, z = draw(70), draw(2, 100, 70)
    expected = np.maximum(np.tanh(a @ b + bias) + z, 0)
    check(Node("MatMul", [a, b, bias, z], {"act": "tanh", "post_act": "relu"}), expected, tier, "f32_matmul")


def test_packed_gemm_refuses_what_it_cannot_pack() -> None:
    a, b = draw(8, 8), draw(8, 8)
    for node in (
        Node("Gemm", [a, b], {"transA": 1}),
        Node("Gemm", [a, b, draw(8, 8)]),
        Node("Gemm", [a, b, draw(8, 1)]),
    ):
        for tier in TIERS:
            assert not any("packed" in n for n in kernels(node, tier, 0, 0))
    for tier in TIERS:
        assert not any(
            "packed" in n for n in kernels(Node("MatMul", [draw(2, 8, 8), draw(2, 8, 8)]), tier, 0, 0)
        )
