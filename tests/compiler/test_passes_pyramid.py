# SPDX-License-Identifier: Apache-2.0
"""Pointwise convolutions and what resizes: what remains, and that it computes what onnxruntime does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.support.passes import Case, check, f32, ints

WIDE = 200  # channels enough for a sum to cost less than what it saves
X = {"x": (1, WIDE, 3, 4), "z": (1, 24, 6, 8)}
CONSTANTS = {
    "mix": f32(24, 24 + WIDE, 1, 1) / 8,
    "mix_first": f32(24, WIDE + 24, 1, 1) / 8,
    "twice": f32(24, 2 * WIDE, 1, 1) / 8,
    "alone": f32(24, WIDE, 1, 1) / 8,
    "window": f32(24, 24 + WIDE, 3, 3) / 16,
    "b": f32(24),
    "sizes": ints(1, WIDE, 6, 8),
    "larger": ints(1, WIDE, 12, 16),
    "factors": np.float32([1, 1, 2, 2]),
    "kernel": f32(6, WIDE, 3, 3) / 16,
    "six": f32(6),
    "out": f32(24, 6, 1, 1),
    "less": f32(4, 6, 1, 1),
    "four": f32(4),
}
SIZED = 'u = Resize<mode="linear">(x, , , sizes) '
MIX = "c = Concat<axis=1>(z, u) m = Conv(c, mix, b) y = Exp(m)"

RESIZED = [
    Case("one_of_two_grows", f"{SIZED}{MIX}", "Conv Resize Conv+bias+sum Exp"),
    Case(
        "growing_by_factors", f'u = Resize<mode="cubic">(x, , factors) {MIX}', "Conv Resize Conv+bias+sum Exp"
    ),
    Case(
        "what_grows_is_first",
        f"{SIZED}c = Concat<axis=1>(u, z) m = Conv(c, mix_first) y = Exp(m)",
        "Conv Resize Conv+sum Exp",
    ),
    Case(
        "activation_behind_the_sum",
        f"{SIZED}c = Concat<axis=1>(z, u) m = Conv(c, mix, b) y = Relu(m)",
        "Conv Resize Conv+bias+sum+relu",
    ),
    Case(
        "all_grow",
        'v = Exp(x) u = Resize<mode="nearest">(x, , factors) w = Resize<mode="linear">(v, , , sizes) '
        "c = Concat<axis=1>(u, w) y = Conv(c, twice, b)",
        "Exp Conv+bias Resize Conv Resize Add",
    ),
    Case("no_concat", f"{SIZED}m = Conv(u, alone, b) y = Exp(m)", "Conv+bias Resize Exp"),
    # Left as they are.
    Case(
        "cubic_weights_need_not_add_up_to_one",
        'u = Resize<mode="cubic", exclude_outside=1>(x, , , sizes) m = Conv(u, alone, b) y = Exp(m)',
        "Resize Conv+bias Exp",
    ),
    Case(
        "a_window_mixes_pixels", f"{SIZED}c = Concat<axis=1>(z, u) y = Conv(c, window)", "Resize Concat Conv"
    ),
    Case(
        "the_image_has_a_second_reader",
        f"{SIZED}{MIX} w = Exp(u)",
        "Resize Concat Conv+bias Exp Exp",
        outputs=("y", "w"),
    ),
    Case(
        "shrinking_leaves_fewer_pixels",
        'u = Resize<mode="linear">(z, , , small) c = Concat<axis=1>(x, u) m = Conv(c, mix_first) y = Exp(m)',
        "Resize Concat Conv Exp",
        {"small": ints(1, 24, 3, 4)},
    ),
    Case(
        "few_channels_are_not_worth_a_sum",
        'u = Resize<mode="linear">(n, , , grown) c = Concat<axis=1>(z, u) m = Conv(c, few) y = Exp(m)',
        "Resize Concat Conv Exp",
        {"grown": ints(1, 8, 6, 8), "few": f32(24, 32, 1, 1)},
        inputs={"z": (1, 24, 6, 8), "n": (1, 8, 3, 4)},
    ),
]

MERGED = [
    Case("two_are_one", "a = Conv<pads=[1, 1, 1, 1]>(x, kernel, six) y = Conv(a, less, four)", "Conv+bias"),
    Case("the_first_has_the_bias", "a = Conv<strides=[2, 2]>(x, kernel, six) y = Conv(a, less)", "Conv+bias"),
    Case(
        "the_second_has_an_activation_and_a_sum",
        "a = Conv(x, kernel) c = Conv(a, less, four) e = Exp(c) s = Add(c, r) y = Relu(s)",
        "Conv+bias+sum+relu",
        inputs={"x": (1, WIDE, 3, 4), "r": (1, 4, 1, 2)},
    ),
    # Left as they are.
    Case("few_between_many", "a = Conv(x, kernel) y = Conv(a, out)", "Conv Conv"),
    Case("activation_in_between", "a = Conv(x, kernel) r = Relu(a) y = Conv(r, less)", "Conv+relu Conv"),
    Case(
        "the_first_has_a_second_reader",
        "a = Conv(x, kernel) y = Conv(a, less) w = Exp(a)",
        "Conv Conv Exp",
        outputs=("y", "w"),
    ),
]


@pytest.mark.parametrize("case", RESIZED, ids=lambda c: c.name)
def test_mixing_before_growing(case: Case) -> None:
    inputs = {n: s for n, s in (X | case.inputs if "n" in case.inputs else X).items()}
    inputs = {
        n: s
        for n, s in inputs.items()
        if f"({n}," in case.body or f", {n})" in case.body or f"({n})" in case.body
    }
    check(replace(case, constants=CONSTANTS | case.constants, inputs=inputs))


@pytest.mark.parametrize("case", MERGED, ids=lambda c: c.name)
def test_convolutions_in_a_row(case: Case) -> None:
    inputs = case.inputs if "r" in case.inputs else {"x": X["x"]}
    check(replace(case, constants=CONSTANTS | case.constants, inputs=inputs))
