# SPDX-License-Identifier: Apache-2.0
"""Convolutions whose kernels are computed: no Conv remains, and onnxruntime's word on the result."""

from __future__ import annotations

import pytest

from tests.support.passes import Case, check, optimised

X = {"x": (2, 4, 9, 8)}
CASES = [
    Case("pointwise", "y = Conv(x, w)", "Reshape Reshape MatMul Reshape", inputs=X | {"w": (6, 4, 1, 1)}),
    Case("pointwise_with_strides", "y = Conv<strides=[2,3]>(x, w, b)", "",
         inputs=X | {"w": (6, 4, 1, 1), "b": (6,)}),
    Case("padded", "y = Conv<pads=[1,0,2,1]>(x, w, b)", "", inputs=X | {"w": (5, 4, 3, 2), "b": (5,)}),
    Case("dilated", "y = Conv<dilations=[2,1], strides=[1,2]>(x, w)", "", inputs=X | {"w": (3, 4, 3, 3)}),
    Case("depthwise", "y = Conv<group=4, pads=[1,1,1,1]>(x, w, b)", "",
         inputs=X | {"w": (4, 1, 3, 3), "b": (4,)}),
    Case("groups", "y = Conv<group=2>(x, w)", "", inputs=X | {"w": (6, 2, 2, 2)}),
    Case("all_of_the_image", "y = Conv(x, w)", "", inputs=X | {"w": (3, 4, 9, 8)}),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_products_in_place_of_convolutions(case: Case) -> None:
    ops = [n.op for n in optimised(case.model()).nodes]
    assert "Conv" not in ops and ops.count("MatMul") == 1
    check(Case(case.name, case.body, case.expected or " ".join(ops), inputs=case.inputs))
