# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyneo.errors import Error
from tests.ops.cases import BF16, FLOATS, INTS, evaluate, ort, same, sample


@pytest.mark.parametrize("dtype", [t for t in FLOATS + INTS if t != BF16] + [np.dtype(bool)])
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_unique_agrees_with_numpy(dtype, axis):
    x = np.random.default_rng(0).integers(0, 2, (7, 3, 2)).astype(dtype)
    want = np.unique(x, True, True, True, axis)
    got = evaluate("Unique", [x], 4, **({} if axis is None else {"axis": axis}))
    same(got, [want[0], *(np.asarray(w).ravel() for w in want[1:])])


@pytest.mark.parametrize(
    "shape,axis",
    [((9,), None), ((9,), 0), ((4, 5), None), ((6, 2), 0), ((2, 6), 1), ((1, 1), None), ((40, 30), None)],
)
@pytest.mark.parametrize("ordered", [0, 1])
def test_unique_agrees_with_onnxruntime(shape, axis, ordered):
    x = np.random.default_rng(1).integers(0, 3, shape).astype(np.float32)
    attrs = {"sorted": ordered} | ({} if axis is None else {"axis": axis})
    same(evaluate("Unique", [x], 4, **attrs), ort("Unique", [x], 4, **attrs))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(-3, 3), max_size=40), st.integers(1, 4))
def test_unique_rebuilds_its_input(values, outputs):
    x = np.array(values, np.int64)
    got = evaluate("Unique", [x], outputs, sorted=0)
    same(got[:1], [np.array(list(dict.fromkeys(values)), np.int64)])  # order of first occurrence
    if outputs > 2:
        same([got[0][got[2]]], [x])
        same([x[got[1]]], [got[0]])
    if outputs > 3:
        assert got[3].sum() == len(values)


def test_nan_is_one_value_at_the_end():
    x = np.array([np.nan, 1, -np.nan, 0.0, -0.0], np.float32)
    got = evaluate("Unique", [x], 4)
    same(
        got,
        [
            np.array([0, 1, np.nan], np.float32),
            np.array([3, 1, 0]),
            np.array([2, 1, 2, 0, 0]),
            np.array([2, 1, 2]),
        ],
    )


def test_unique_refuses_an_axis_outside():
    with pytest.raises(Error, match="axis 2"):
        evaluate("Unique", [sample((3, 4))], 1, axis=2)


@pytest.mark.parametrize("dtype", FLOATS + INTS + [np.dtype(bool)])
@pytest.mark.parametrize("shape", [(6,), (3, 4), (2, 3, 4), (0, 3), (1,), (3, 0, 2)])
def test_nonzero_agrees_with_numpy(shape, dtype):
    x = np.random.default_rng(2).integers(0, 2, shape).astype(dtype)
    same(evaluate("NonZero", [x]), [np.array(np.nonzero(x), np.int64).reshape(len(shape), -1)])


def test_nonzero_of_signed_zeros_and_nan():
    x = np.array([-0.0, np.nan, 0.0, -1e-45], np.float32)
    same(evaluate("NonZero", [x]), [np.array([[1, 3]])])


@pytest.mark.parametrize("value,count", [(0.0, 0), (2.0, 1)])
def test_nonzero_of_a_scalar_has_no_rows(value, count):
    assert evaluate("NonZero", [np.array(value, np.float32)])[0].shape == (0, count)
