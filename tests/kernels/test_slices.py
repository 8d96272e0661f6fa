# SPDX-License-Identifier: Apache-2.0
"""Products from byte slices (tier amx): as exact as float32, and left to others where they would not be."""

from __future__ import annotations

import numpy as np
import pytest

from pyneo import _core
from tests.kernels.harness import TIERS, Node, run

pytestmark = pytest.mark.skipif("amx" not in TIERS, reason="this CPU has no AMX")
RNG = np.random.default_rng(7)
KERNEL, VECTORS = "f32_matmul_amx", "f32_matmul_packed_n64"


def product(a: np.ndarray, b: np.ndarray, kernel: str = KERNEL) -> np.ndarray:
    return run(Node("MatMul", [a, b]), kernel, "amx", 0, 0)[0]


def draw(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape, dtype=np.float32)


def relu(*shape: int) -> np.ndarray:
    return np.maximum(draw(*shape), 0)


def with_outliers(m: int, k: int) -> np.ndarray:
    """Some columns a hundred times the others, as layer norms of transformers leave them."""
    a = draw(m, k)
    a[:, ::97] *= 100
    return a


def of_many_sizes(m: int, k: int) -> np.ndarray:
    """Rows from 1e-20 to 1e20."""
    return draw(m, k) * np.logspace(-20, 20, m, dtype=np.float32)[:, None]


@pytest.mark.parametrize("k", [16, 64, 100, 768, 3072])
@pytest.mark.parametrize("values", [draw, relu, with_outliers, of_many_sizes], ids=lambda f: f.__name__)
def test_error_is_that_of_multiply_adds(values, k: int) -> None:
    """The rms error is at most twice that of a chain of multiply-adds, or 2e-7 of the norms."""
    a, b = values(64, k), draw(k, 96) * np.logspace(-3, 3, 96, dtype=np.float32)
    wide = a.astype(np.float64), b.astype(np.float64)
    exact, norms = (
        wide[0] @ wide[1],
        np.linalg.norm(wide[0], axis=1)[:, None] * np.linalg.norm(wide[1], axis=0),
    )
    rms = {n: np.sqrt(np.mean(((product(a, b, n) - exact) / norms) ** 2)) for n in (KERNEL, VECTORS)}
    assert rms[KERNEL] <= (2e-7 if values is with_outliers else max(2 * rms[VECTORS], 1e-7))


def test_small_integers_are_exact() -> None:
    a = RNG.integers(-1000, 1000, (48, 500)).astype(np.float32)
    b = RNG.integers(-16, 16, (500, 64)).astype(np.float32)
    assert np.array_equal(product(a, b), a @ b)


def test_equal_rows_and_columns_give_equal_bits() -> None:
    a, b = np.repeat(draw(1, 300), 45, axis=0), np.repeat(draw(300, 1), 70, axis=1)
    assert len(np.unique(product(a, b))) == 1


@pytest.mark.parametrize(
    "largest", [1.0, 1 - 2.0**-9, 1 - 2.0**-8, 1 - 2.0**-7, 1 - 2.0**-24, 2.0**-120, 2.0**100]
)
def test_largest_numbers_fit_three_bytes(largest: float) -> None:
    a = np.full((16, 64), largest, np.float32) * np.where(np.arange(64) % 2, -1, 1).astype(np.float32)
    b = np.full((64, 16), 1 - 2.0**-24, np.float32) * np.where(np.arange(64) % 2, -1, 1)[:, None].astype(
        np.float32
    )
    np.testing.assert_allclose(product(a, b), a.astype(np.float64) @ b.astype(np.float64), rtol=3e-7)


def test_what_is_not_finite_stays_in_its_row_and_column() -> None:
    a, b = draw(40, 96), draw(96, 40)
    a[3, 5], a[20, 95], b[7, 30] = np.nan, np.inf, -np.inf
    y = product(a, b)
    touched = np.zeros(y.shape, bool)
    touched[[3, 20]] = touched[:, 30] = True
    assert np.array_equal(np.isnan(y), touched)
    clean = ~touched
    np.testing.assert_allclose(y[clean], product(a, b, VECTORS)[clean], rtol=1e-4, atol=1e-4)


def test_rows_and_columns_of_zeros_give_zeros() -> None:
    a, b = draw(32, 128), draw(128, 48)
    a[4], b[:, 9] = 0, 0
    y = product(a, b)
    assert not y[4].any()
    assert not y[:, 9].any()


def filterbank(k: int, n: int) -> np.ndarray:
    """A few neighbours for each column, zeros else: small results beside large numbers."""
    b = np.zeros((k, n), np.float32)
    for i in range(n):
        b[i * k // n : i * k // n + 3, i] = 1
    return b


UNEVEN = {"filters": filterbank(512, 64), "unit matrix": np.eye(512, dtype=np.float32)}


@pytest.mark.parametrize("kind", ["dense", *UNEVEN])
def test_uneven_columns_are_left_to_others(kind: str) -> None:
    weights = UNEVEN.get(kind, draw(512, 64))
    node = Node("MatMul", [draw(128, 512), weights])
    dtype, shape = node.infer()
    found = _core.kernel_list(
        node.op, node.blob(), [(1, (128, 512), 0), weights], [(dtype, shape, 0)], {"tier": TIERS.index("amx")}
    )
    cost = {k["name"]: k["cost_us"] for k in found}
    assert (cost[KERNEL] < 1e20) == (kind == "dense")
