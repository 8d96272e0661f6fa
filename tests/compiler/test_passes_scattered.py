# SPDX-License-Identifier: Apache-2.0
"""Scattered writes to known places as slices and rows: what remains, and onnxruntime's word on it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.passes import Case, check, ints


def box(*runs: tuple[int, int] | int) -> np.ndarray:
    """Indices of every element of the box; a number is an axis on which there is but one."""
    lengths = [range(*r) if isinstance(r, tuple) else [r] for r in runs]
    grid = np.stack(np.meshgrid(*lengths, indexing="ij"), -1)
    return grid.reshape(*(len(n) for n, r in zip(lengths, runs, strict=True) if isinstance(r, tuple)), -1)


X = (2, 5, 6)
SCATTER = "y = ScatterND(x, at, u)"
CASES = [
    Case("all_of_it", f"{SCATTER} z = Neg(y)", "Neg", {"at": box((0, 2), (0, 5), (0, 6))},
         {"x": X, "u": X}, ("z",)),
    Case("a_corner", SCATTER, "Slice Concat Slice Concat", {"at": box((0, 2), (1, 5), (0, 4))},
         {"x": X, "u": (2, 4, 4)}),
    Case("the_middle_of_the_first_axes", SCATTER, "Slice Slice Concat", {"at": box((0, 2), (1, 4))},
         {"x": X, "u": (2, 3, 6)}),
    Case("from_the_end", SCATTER, "Slice Concat", {"at": box((0, 2), (-3, 0), (0, 6))},
         {"x": X, "u": (2, 3, 6)}),
    Case("one_row", SCATTER, "Reshape Slice Slice Concat", {"at": box((0, 2), 2, (0, 6))},
         {"x": X, "u": (2, 6)}),
    Case("a_column_of_one", SCATTER, "Slice Concat", {"at": box((0, 2), (0, 5), (5, 6))},
         {"x": X, "u": (2, 5, 1)}),
    Case("every_second_row_stays", SCATTER, "ScatterND", {"at": box((0, 2), (0, 5))[:, ::2].copy()},
         {"x": X, "u": (2, 3, 6)}),
    Case("places_in_another_order_stay", SCATTER, "ScatterND", {"at": box((0, 2), (0, 5))[:, ::-1].copy()},
         {"x": X, "u": (2, 5, 6)}),
    Case("few_places_stay", SCATTER, "ScatterND", {"at": box((1, 2), (1, 3), (1, 2))},
         {"x": X, "u": (1, 2, 1)}),
    Case("sums_stay", 'y = ScatterND<reduction="add">(x, at, u)', "ScatterND",
         {"at": box((0, 2), (0, 5), (0, 6))}, {"x": X, "u": X}, opset=18),
    Case("rows_that_are_summed", 'e = Expand(at, wide) y = ScatterElements<axis=0, reduction="add">(x, e, u)',
         "ScatterND", {"at": ints(3, 0, -2, 3)[:, None], "wide": ints(4, 6)},
         {"x": (5, 6), "u": (4, 6)}, opset=18),
    Case("rows_of_planes", "e = Expand(at, wide) y = ScatterElements<axis=0>(x, e, u)", "ScatterND",
         {"at": ints(1, 0)[:, None, None], "wide": ints(2, 3, 4)}, {"x": (5, 3, 4), "u": (2, 3, 4)}),
    Case("shorter_rows_stay", "e = Expand(at, wide) y = ScatterElements<axis=0>(x, e, u)",
         "ScatterElements", {"at": ints(3, 0)[:, None], "wide": ints(2, 4)}, {"x": (5, 6), "u": (2, 4)}),
    Case("columns_stay", "e = Expand(at, wide) y = ScatterElements<axis=1>(x, e, u)", "ScatterElements",
         {"at": ints(3, 0)[:, None], "wide": ints(2, 6)}, {"x": (2, 6), "u": (2, 6)}, opset=18),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_what_remains_and_what_it_computes(case: Case) -> None:
    check(case)
