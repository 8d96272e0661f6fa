# SPDX-License-Identifier: Apache-2.0
"""Einsum against numpy.einsum."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pyneo.errors
from tests.ops.cases import BF16, check_all, evaluate, normal, sample

EQUATIONS: list[tuple[str, list[tuple[int, ...]]]] = [
    ("ij,jk->ik", [(3, 4), (4, 5)]),
    ("ij,jk", [(3, 4), (4, 5)]),
    ("ba", [(3, 4)]),
    ("ij->ji", [(3, 4)]),
    ("ij->", [(3, 4)]),
    ("ii->i", [(4, 4)]),
    ("ii", [(4, 4)]),
    ("i,i", [(5,), (5,)]),
    ("i,j->ij", [(5,), (3,)]),
    ("bhid,bhjd->bhij", [(2, 3, 4, 5), (2, 3, 6, 5)]),
    ("bhij, bhjd -> bihd", [(2, 3, 4, 5), (2, 3, 5, 6)]),
    ("...ij,...jk->...ik", [(2, 3, 4), (2, 4, 5)]),
    ("...ij,...jk->...ik", [(7, 1, 3, 4), (2, 4, 5)]),
    ("...ij,...jk", [(2, 3, 4), (4, 5)]),
    ("i...->...", [(3, 4, 5)]),
    ("...i->i...", [(3, 4, 5)]),
    ("b...c,cd->b...d", [(2, 3, 4, 5), (5, 6)]),
    ("ijk,jil,kl->il", [(2, 3, 4), (3, 2, 5), (4, 5)]),
    ("Ab,bC->AC", [(2, 3), (3, 4)]),
    ("abc,cd,de,ef->af", [(2, 2, 3), (3, 2), (2, 4), (4, 2)]),
    ("ij,jk->ik", [(0, 4), (4, 5)]),
    ("ij,jk->ik", [(3, 0), (0, 5)]),
    (",ij->ij", [(), (2, 3)]),
    ("...,...", [(2, 3), (3,)]),
]


@pytest.mark.parametrize(("equation", "shapes"), EQUATIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64, np.uint8])
def test_einsum_follows_numpy(equation: str, shapes: Any, dtype: Any) -> None:
    inputs = [sample(s, dtype, seed=i) for i, s in enumerate(shapes)]
    check_all(evaluate("Einsum", inputs, equation=equation), [np.einsum(equation, *inputs)])


@pytest.mark.parametrize("dtype", [np.float16, BF16])
def test_einsum_of_narrow_floats(dtype: Any) -> None:
    a, b = normal(3, 9, dtype=dtype), normal(9, 4, seed=1, dtype=dtype)
    want = (a.astype(np.float32) @ b.astype(np.float32)).astype(dtype)
    check_all(evaluate("Einsum", [a, b], equation="ij,jk->ik"), [want], rtol=8e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("equation", "shapes", "names"),
    [
        ("", [(2,)], "empty"),
        ("ij", [(2,)], "rank"),
        ("ij,jk->ik", [(2, 3)], "more terms"),
        ("ij", [(2, 3), (3, 4)], "fewer terms"),
        ("ij,jk->ik", [(2, 3), (4, 5)], "disagree"),
        ("ij->ii", [(2, 3)], "twice"),
        ("ij->k", [(2, 3)], "no operand"),
        ("i1->i", [(2, 3)], "position 1"),
        ("i......->i", [(2, 3)], "position"),
        ("ij-ij", [(2, 3)], "->"),
        ("ij->i,j", [(2, 3)], "one term"),
        ("abcdefgh,ijkl->abcdefghi", [(1,) * 8, (1,) * 4], "8 dims"),
        ("a" * 500, [(2, 3)], "too long"),
    ],
)
def test_equations_that_make_no_sense_are_refused(equation: str, shapes: Any, names: str) -> None:
    with pytest.raises(pyneo.errors.Error, match=names):
        evaluate("Einsum", [normal(*s) for s in shapes], equation=equation)
