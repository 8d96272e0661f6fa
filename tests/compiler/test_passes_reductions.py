# SPDX-License-Identifier: Apache-2.0
"""Reductions written out as others."""

from __future__ import annotations

import numpy as np
import pytest

import pyneo
from tests.support.models import from_text
from tests.support.passes import Case, check, f32, ints

AXES = {"last": ints(-1), "middle": ints(1, 2)}
CUBE: dict[str, tuple[int | str, ...]] = {"x": (3, 4, 5)}
CASES = [
    Case("l1_is_a_sum", "y = ReduceL1(x, last)", "Abs ReduceSum", AXES, CUBE, opset=18),
    Case(
        "log_sum_is_a_sum",
        "e = Abs(x) y = ReduceLogSum<keepdims=0>(e, middle)",
        "Abs ReduceSum Log",
        AXES,
        CUBE,
        opset=18,
    ),
    Case(
        "log_sum_exp_takes_the_largest_off",
        "y = ReduceLogSumExp<keepdims=0>(x, last)",
        "ReduceMax Clip Sub Exp ReduceSum Log Add Reshape",
        AXES,
        CUBE,
        opset=18,
    ),
    Case(
        "log_sum_exp_of_all",
        "y = ReduceLogSumExp(x)",
        "ReduceMax Clip Sub Exp ReduceSum Log Add",
        AXES,
        CUBE,
        opset=18,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_what_remains_and_what_it_computes(case: Case) -> None:
    check(case)


def test_log_sum_exp_of_extremes() -> None:
    x = np.zeros((7, 4), np.float32)
    x[0] = -np.inf
    x[1, 2] = np.inf
    x[2, 1] = np.nan
    x[3] = 3e38
    x[4] = -3e38
    x[5] = [-np.inf, 1, -1000, 1000]
    x[6] = f32(4)
    body = "y = ReduceLogSumExp<keepdims=0>(x, last)"
    model = from_text(body, {"x": x.shape}, {"last": ints(-1)}, ("y",), 18)
    y = pyneo.Model.load(pyneo.compile(model), allow_unsigned=True).predict(x)
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(y, np.logaddexp.reduce(x.astype(np.float64), axis=1), rtol=1e-6)
