# SPDX-License-Identifier: Apache-2.0
"""Products between transposes: what remains, and that it computes what onnxruntime does."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.passes import Case, check, f32

CONSTANTS = {
    "w": f32(4, 4) / 2,
    "narrow": f32(4, 3) / 2,
    "wide": f32(4, 40) / 2,
    "b": f32(4),
}
SCORES = {"x": (2, 4, 9, 9)}
THERE = "t = Transpose<perm=[0, 2, 3, 1]>(x) "
BACK = "r = Transpose<perm=[0, 3, 1, 2]>(m) "

MIXED = [
    Case(
        "heads_are_mixed_from_the_left",
        f"{THERE} m = MatMul(t, w) {BACK} y = Exp(r)",
        "Reshape MatMul Reshape Exp",
        inputs=SCORES,
    ),
    Case(
        "bias_is_added_to_each_head",
        f"{THERE} p = MatMul(t, narrow) m = Add(b3, p) {BACK} y = Exp(r)",
        "Reshape MatMul Add Reshape Exp",
        {"b3": f32(3)},
        inputs=SCORES,
    ),
    Case(
        "bias_goes_where_a_softmax_follows",
        f"{THERE} p = MatMul(t, w) m = Add(b, p) {BACK} y = Softmax<axis=-1>(r)",
        "Reshape MatMul Reshape Softmax",
        inputs=SCORES,
    ),
    Case(
        "bias_stays_where_a_softmax_over_heads_follows",
        f"{THERE} p = MatMul(t, w) m = Add(b, p) {BACK} y = Softmax<axis=1>(r)",
        "Reshape MatMul Add Reshape Softmax",
        inputs=SCORES,
    ),
    Case(
        "first_axis_is_mixed",
        "t = Transpose<perm=[1, 2, 0]>(x) m = MatMul(t, w) r = Transpose<perm=[2, 0, 1]>(m) y = Exp(r)",
        "Reshape MatMul Reshape Exp",
        inputs={"x": (4, 3, 5)},
    ),
    Case(
        "the_turned_tensor_has_a_second_reader",
        f"{THERE} m = MatMul(t, w) {BACK} y = Exp(r) z = Exp(t)",
        "Transpose Reshape MatMul Reshape Exp Exp",
        inputs=SCORES,
        outputs=("y", "z"),
    ),
    # Left as they are.
    Case(
        "the_product_has_a_second_reader",
        f"{THERE} m = MatMul(t, w) {BACK} y = Exp(r) z = Exp(m)",
        "Transpose MatMul Transpose Exp Exp",
        inputs=SCORES,
        outputs=("y", "z"),
    ),
    Case(
        "turned_elsewhere",
        f"{THERE} m = MatMul(t, w) r = Transpose<perm=[0, 3, 2, 1]>(m) y = Exp(r)",
        "Transpose MatMul Transpose Exp",
        inputs=SCORES,
    ),
    Case(
        "many_columns",
        f"{THERE} m = MatMul(t, wide) {BACK} y = Exp(r)",
        "Transpose MatMul Transpose Exp",
        inputs=SCORES,
    ),
]


@pytest.mark.parametrize("case", MIXED, ids=lambda c: c.name)
def test_what_remains_and_what_it_computes(case: Case) -> None:
    check(replace(case, constants=CONSTANTS | case.constants))
