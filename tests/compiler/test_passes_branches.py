# SPDX-License-Identifier: Apache-2.0
"""Sums of convolutions of one tensor, as networks trained with several branches are exported."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.passes import Case, check, f32, num, optimised

CONSTANTS = {
    "w3": f32(4, 4, 3, 3) / 6,
    "b3": f32(4),
    "w1": f32(4, 4, 1, 1) / 2,
    "b1": f32(4),
    "w5": f32(4, 4, 5, 5) / 10,
    "wide": f32(4, 4, 1, 3) / 3,
    "d3": f32(4, 1, 3, 3),
    "d1": f32(4, 1, 1, 1),
    "g3": f32(4, 2, 3, 3) / 4,
    "d7": f32(4, 1, 7, 7) / 7,
    "db": f32(4),
    "scale": f32(4),
    "shift": f32(4),
    "mean": f32(4),
    "var": f32(4) ** 2 + 0.5,
    "two": num(2.0),
    "w8": f32(8, 4, 3, 3) / 6,
    "e8": f32(8, 4, 1, 1) / 6,
}
C3, C1 = "a = Conv<pads=[1,1,1,1]>(x, w3, b3) ", "c = Conv(x, w1, b1) "
D3 = "a = Conv<pads=[1,1,1,1], group=4>(x, d3, db) "
NORM = "n = BatchNormalization(x, scale, shift, mean, var) "

CASES = [
    Case("kernels_of_two_sizes", f"{C3}{C1}y = Add(a, c)", "Conv+bias"),
    Case("the_larger_one_last", f"{C3}{C1}y = Add(c, a)", "Conv+bias"),
    Case("a_difference", f"{C3}{C1}y = Sub(c, a)", "Conv+bias"),
    Case("a_normalised_shortcut", f"{C3}{C1}{NORM}s = Add(a, c) y = Add(n, s)", "Conv+bias"),
    Case("behind_an_activation", f"{C3}{C1}{NORM}s = Add(a, c) t = Add(n, s) y = Relu(t)", "Conv+bias+relu"),
    Case("without_bias", "a = Conv<pads=[1,1,1,1]>(x, w3) c = Conv(x, w1) y = Add(a, c)", "Conv+bias"),
    Case(
        "strides",
        "a = Conv<pads=[1,1,1,1], strides=[2,2]>(x, w3, b3) c = Conv<strides=[2,2]>(x, w1) y = Add(a, c)",
        "Conv+bias",
    ),
    Case("a_shortcut_stays_a_residual", f"{C3}{C1}s = Add(a, c) y = Add(s, x)", "Conv+bias+sum"),
    Case("depthwise_takes_the_shortcut", f"{D3}y = Add(x, a)", "Conv+bias"),
    Case(
        "depthwise_of_three_sizes",
        f"{D3}c = Conv<group=4>(x, d1) e = Conv<group=4, pads=[3,3,3,3]>(x, d7) s = Add(c, a) y = Add(s, e)",
        "Conv+bias",
    ),
    Case("less_itself_normalised", f"{D3}{NORM}d = Sub(a, n) m = Mul(d, two) y = Add(x, m)", "Conv+bias"),
    Case("depthwise_into_groups", f"{D3}g = Conv<pads=[1,1,1,1], group=2>(x, g3) y = Add(g, a)", "Conv+bias"),
    Case("depthwise_into_dense", f"{D3}c = Conv<pads=[2,2,2,2]>(x, w5) y = Add(c, a)", "Conv+bias"),
    Case("dense_stays_apart_from_depthwise", f"{D3}{C1}y = Add(c, a)", "Conv+bias Conv+bias+sum"),
    Case(
        "dilation_of_a_larger_kernel",
        "a = Conv<pads=[2,2,2,2], dilations=[2,2]>(x, w3) c = Conv(x, w1) y = Add(a, c)",
        "Conv+bias",
    ),
    Case(
        "dilated_taps_between_the_others",
        "a = Conv<pads=[2,2,2,2], dilations=[2,2]>(x, w3) c = Conv<pads=[1,1,1,1]>(x, w3) y = Add(a, c)",
        "Conv Conv+sum",
    ),
    Case(
        "crossing_kernels",
        "a = Conv<pads=[0,1,0,1]>(x, wide) c = Conv<pads=[1,1,1,1]>(x, w3) y = Add(a, c)",
        "Conv+bias",
    ),
    Case("other_outputs", "a = Conv<pads=[1,1,1,1]>(x, w8) c = Conv(x, e8) y = Add(a, c)", "Conv+bias"),
    Case("other_inputs", f"r = Abs(x) {C3}c = Conv(r, w1) y = Add(a, c)", "Abs Conv+bias Conv+sum"),
    Case("a_third_term", f"r = Exp(x) {C3}{C1}s = Add(a, r) y = Sub(s, c)", "Exp Conv+bias+sum"),
    Case("one_less_the_branches", f"r = Exp(x) {C3}{C1}s = Sub(r, a) y = Sub(s, c)", "Exp Conv+bias+sum"),
    Case(
        "two_tensors_two_branches_each",
        f"r = Exp(x) {C3}{C1}d = Conv<pads=[1,1,1,1]>(r, w3) e = Conv(r, w1) "
        "s = Add(a, d) t = Add(c, e) y = Sub(s, t)",
        "Exp Conv+bias Conv+bias+sum",
    ),
    Case(
        "read_elsewhere",
        f"{C3}{C1}y = Add(a, c) z = Exp(c)",
        "Conv+bias Conv+bias+sum Exp",
        outputs=("y", "z"),
    ),
    Case("broadcast", "c = Conv(x, w1) a = Conv(x, w5) y = Add(a, c)", "Conv Conv Add",
         inputs={"x": (1, 4, 5, 5)}),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_branches(case: Case) -> None:
    check(replace(case, constants=CONSTANTS))


def test_one_dimension() -> None:
    check(
        Case(
            "one_dimension",
            "a = Conv<pads=[2,2]>(x, w) c = Conv(x, v) s = Add(a, x) y = Add(s, c)",
            "Conv+bias+sum",
            {"w": f32(4, 4, 5) / 4, "v": f32(4, 4, 1)},
            {"x": (2, 4, 9)},
        )
    )


@pytest.mark.parametrize("terms,left", [(64, 1), (65, 65)])
def test_long_sums_are_left_alone(terms: int, left: int) -> None:
    weights = {f"w{i}": f32(4, 4, 1, 1) for i in range(terms)}
    convs = "".join(f"c{i} = Conv(x, w{i}) " for i in range(terms))
    sums = "".join(f"s{i} = Add({f's{i - 1}' if i > 1 else 'c0'}, c{i}) " for i in range(1, terms))
    graph = optimised(Case("long", f"{convs}{sums}y = Identity(s{terms - 1})", "", weights).model())
    assert [n.op for n in graph.nodes].count("Conv") == left
