# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from pyneo.errors import Error
from tests.ops.cases import BF16, FLOATS, INTS, evaluate, ort, same, sample


def stable_topk(x, k, axis, largest):
    """k best along an axis, the lower index first among equals, NaN above all."""
    wide = x.astype(np.float64)
    order = np.argsort(-wide if largest else wide, axis=axis, kind="stable")
    j = np.take(order, np.arange(k), axis=axis)
    return [np.take_along_axis(x, j, axis), j]


SHAPES = [
    ((5,), 3, 0),
    ((5,), 5, 0),
    ((5,), 0, 0),
    ((4, 30), 7, 1),
    ((4, 30), 2, 0),
    ((2, 9, 5), 4, 1),
    ((2, 9, 5), 1, -1),
    ((0, 5), 2, 1),
    ((3, 0), 0, 1),
    ((100, 64), 10, 1),
    ((1, 5000), 300, 1),
    ((1,), 1, 0),
    ((3, 700), 700, 1),
    ((2, 90, 3), 60, 1),
    ((1, 70000), 70000, 1),
]


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("shape,k,axis", SHAPES)
def test_topk_is_stable(shape, k, axis, largest):
    x = sample(shape, np.int32) // 10  # many ties
    got = evaluate("TopK", [x, np.array([k])], 2, axis=axis, largest=largest)
    same(got, stable_topk(x, k, axis, largest))


@pytest.mark.parametrize("dtype", FLOATS + INTS)
@pytest.mark.parametrize("largest", [0, 1])
def test_topk_orders_every_dtype(dtype, largest):
    x = sample((6, 50), dtype)
    same(evaluate("TopK", [x, np.array([9])], 2, largest=largest), stable_topk(x, 9, 1, largest))


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("shape,k,axis", [((4, 30), 7, 1), ((2, 9, 5), 4, 1), ((7, 3), 7, 0)])
def test_topk_agrees_with_onnxruntime(shape, k, axis, largest):
    inputs = [sample(shape), np.array([k])]
    attrs = {"axis": axis, "largest": largest}
    same(evaluate("TopK", inputs, 2, **attrs), ort("TopK", inputs, 2, **attrs))


@pytest.mark.parametrize("dtype", [*FLOATS, *INTS])
@pytest.mark.parametrize("largest", [0, 1])
def test_topk_sorts_long_lists_of_every_dtype(dtype, largest):
    x = sample((2, 500), dtype)
    for k in (500, 300):
        same(evaluate("TopK", [x, np.array([k])], 2, largest=largest), stable_topk(x, k, 1, largest))


def test_unsorted_topk_holds_the_same_elements():
    x = sample((50,))
    values, places = evaluate("TopK", [x, np.array([8])], 2, sorted=0)
    same([np.sort(values)], [np.sort(x)[-8:]])
    same([values], [x[places]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, BF16])
def test_nan_is_greatest_and_signed_zeros_are_equal(dtype):
    x = np.array([0.0, np.nan, -0.0, np.inf, -np.inf, -np.nan, 1.0], dtype)
    same(evaluate("TopK", [x, np.array([7])], 2)[1:], [np.array([1, 5, 3, 6, 0, 2, 4])])
    same(evaluate("TopK", [x, np.array([7])], 2, largest=0)[1:], [np.array([4, 0, 2, 6, 3, 1, 5])])


def test_extremes_of_int64_and_uint64_keep_their_order():
    for dtype, values in (
        (np.int64, [-(2**63), 2**63 - 1, 0, -1]),
        (np.uint64, [0, 2**64 - 1, 2**63, 2**63 - 1]),
    ):
        x = np.array(values, dtype)
        same(evaluate("TopK", [x, np.array([4])], 2)[:1], [np.sort(x)[::-1]])


@pytest.mark.parametrize(
    "k,attrs,what",
    [
        (np.array([6]), {}, "k is 6, axis 1 has 5"),
        (np.array([-1]), {}, "k is -1"),
        (np.array([2**62]), {}, "axis 1 has 5"),
        (np.array([1, 2]), {}, "must hold one integer"),
        (np.array([1]), {"axis": 2}, "axis 2"),
        (np.array([1.0]), {}, "float64"),
    ],
)
def test_topk_refuses_what_does_not_fit(k, attrs, what):
    with pytest.raises(Error, match=what):
        evaluate("TopK", [sample((3, 5)), k], 2, **attrs)
