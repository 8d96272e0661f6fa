# SPDX-License-Identifier: Apache-2.0
"""Products where tokens become images and images tokens: what remains, and that onnxruntime agrees."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.passes import Case, check, f32, ints

TOKENS = {"x": (2, 35, 8)}
CONSTANTS = {
    "w": f32(8, 20) / 3,
    "b": f32(20),
    "square": f32(8, 8) / 3,
    "deep": f32(20, 1, 3, 3) / 3,
    "deep8": f32(8, 1, 3, 3) / 3,
    "back": f32(20, 8) / 4,
    "b8": f32(8),
    "slim": f32(20, 15) / 4,
    "image": ints(2, 20, 5, 7),
    "image8": ints(2, 8, 5, 7),
    "split": ints(2, 5, 7, 20),
    "flat": ints(2, 20, 35),
    "flat8": ints(2, 8, 35),
    "first": ints(1),
    "kernel": f32(20, 20, 3) / 8,
}
HIDDEN = "p = MatMul(x, w) m = Add(p, b) "
TURN = "t = Transpose<perm=[0, 2, 1]>(m) i = Reshape(t, image) "
DEEP = "d = Conv<group=20, pads=[1, 1, 1, 1]>(i, deep) "
HOME = "f = Reshape(d, flat) o = Transpose<perm=[0, 2, 1]>(f) "
IMAGE = "Transpose Reshape Conv+bias "

CASES = [
    Case("the_narrow_side_is_turned", f"{HIDDEN}{TURN}{DEEP}y = Exp(d)", f"{IMAGE}Conv Exp"),
    Case(
        "activation_in_between",
        f"{HIDDEN}r = Relu(m) t = Transpose<perm=[0, 2, 1]>(r) i = Reshape(t, image) {DEEP}y = Exp(d)",
        "Transpose Reshape Conv+bias+relu Conv Exp",
    ),
    Case(
        "split_before_it_is_turned",
        f"{HIDDEN}s = Reshape(m, split) i = Transpose<perm=[0, 3, 1, 2]>(s) {DEEP}y = Exp(d)",
        f"{IMAGE}Conv Exp",
    ),
    Case(
        "images_of_one_axis",
        f"{HIDDEN}t = Transpose<perm=[0, 2, 1]>(m) y = Conv(t, kernel)",
        "Transpose Conv+bias Conv",
    ),
    Case(
        "both_ways",
        f"{HIDDEN}{TURN}{DEEP}{HOME}g = Relu(o) q = MatMul(g, back) c = Add(q, b8) y = Add(c, x)",
        f"{IMAGE}Conv+relu Conv+bias Reshape Transpose Add",
    ),
    Case(
        "an_image_as_wide_is_not_turned_twice",
        "i8 = Reshape(x, image8) a = Conv<group=8, pads=[1, 1, 1, 1]>(i8, deep8) f = Reshape(a, flat8) "
        "o = Transpose<perm=[0, 2, 1]>(f) p = MatMul(o, square) t = Transpose<perm=[0, 2, 1]>(p) "
        "i = Reshape(t, image8) y = Conv<group=8, pads=[1, 1, 1, 1]>(i, deep8)",
        "Reshape Conv Conv Conv",
    ),
    # Left as they are.
    Case(
        "tokens_as_wide_as_the_image",
        "p = MatMul(x, square) t = Transpose<perm=[0, 2, 1]>(p) i = Reshape(t, image8) "
        "y = Conv<group=8, pads=[1, 1, 1, 1]>(i, deep8)",
        "MatMul Transpose Reshape Conv",
    ),
    Case("no_image_follows", f"{HIDDEN}{TURN}y = Exp(i)", "MatMul+bias Transpose Reshape Exp"),
    Case(
        "tokens_have_a_second_reader",
        f"{HIDDEN}{TURN}{DEEP}y = Exp(d) z = Exp(m)",
        "MatMul+bias Transpose Reshape Conv Exp Exp",
        outputs=("y", "z"),
    ),
    Case(
        "an_image_for_many_columns",
        f"{HIDDEN}{TURN}{DEEP}{HOME}y = MatMul(o, slim)",
        f"{IMAGE}Conv Reshape Transpose MatMul",
    ),
    Case(
        "the_turned_image_has_a_second_reader",
        f"{HIDDEN}{TURN}{DEEP}{HOME}y = MatMul(o, back) z = Exp(o)",
        f"{IMAGE}Conv Reshape Transpose MatMul Exp",
        outputs=("y", "z"),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_what_remains_and_what_it_computes(case: Case) -> None:
    check(replace(case, constants=CONSTANTS | case.constants, inputs=TOKENS))
