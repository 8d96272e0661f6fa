# SPDX-License-Identifier: Apache-2.0
"""Einsum becomes transpositions and a matrix product where it is one."""

from __future__ import annotations

import pytest

from tests.support.passes import Case, check, f32

W, SQUARE = f32(6, 5), f32(2, 4, 6, 6)


def case(
    name: str, equation: str, expected: str, *inputs: tuple[int | str, ...], **constants: object
) -> Case:
    names = [chr(ord("p") + i) for i in range(len(inputs))]
    operands = ", ".join([*names, *constants])
    body = f'y = Einsum<equation="{equation}">({operands})'
    return Case(name, body, expected, dict(constants), dict(zip(names, inputs, strict=True)))  # type: ignore[arg-type]


CASES = [
    case("last_axes_of_any_rank", "...ij->...ji", "Transpose", (2, 3, 4, 5)),
    case("permutation", "abc->cab", "Transpose", (2, 3, 4)),
    case("matrix_product", "ij,jk->ik", "MatMul", (3, 6), w=W),
    case("scores_of_attention", "bhid,bhjd->bhij", "Transpose MatMul", (2, 4, 6, 5), (2, 4, 7, 5)),
    case("batch_inside", "bihd,bjhd->bhij", "Transpose Transpose MatMul", (2, 6, 4, 5), (2, 7, 4, 5)),
    case("result_turned", "bhij,bjhd->bihd", "Transpose MatMul Transpose", (2, 4, 6, 7), (2, 7, 4, 5)),
    case("ellipsis", "...ij,...jk->...ik", "MatMul", (2, 4, 6, 3), (2, 4, 3, 5)),
    case("capitals_beside_an_ellipsis_stay", "...ia,aHi->...", "Einsum", (2, 3, 4, 3), (3, 3, 4)),
    case("groups_of_axes", "abij,ijk->abk", "Reshape Reshape MatMul Reshape", (2, 3, 4, 5), (4, 5, 6)),
    case("no_columns", "bij,bj->bi", "Reshape MatMul Reshape", (2, 3, 4), (2, 4)),
    case("outer_product_stays", "i,j->ij", "Einsum", (3,), (4,)),
    case("product_of_elements_stays", "ij,ij->ij", "Einsum", (3, 4), (3, 4)),
    case("diagonal_stays", "ii->i", "Einsum", (3, 3)),
    case("sum_stays", "ij->i", "Einsum", (3, 4)),
    case("letter_that_is_only_summed_stays", "ij,jk->k", "Einsum", (3, 4), (4, 5)),
    case("broadcast_ellipsis_stays", "...ij,...jk->...ik", "Einsum", (2, 1, 6, 3), (2, 4, 3, 5)),
    case("implicit_result_stays", "ij,jk", "Einsum", (3, 4), (4, 5)),
]


@pytest.mark.parametrize("c", CASES, ids=[c.name for c in CASES])
def test_einsum(c: Case) -> None:
    check(c)
