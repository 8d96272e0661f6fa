# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from pyneo.errors import Error
from tests.ops.cases import evaluate, ort, same, sample


def ints(values):
    return np.array(values, np.int64)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8, np.float16])
@pytest.mark.parametrize(
    "shape,target",
    [
        ((), []),
        ((), [2, 3]),
        ((1,), [4]),
        ((3, 1), [3, 4]),
        ((3, 1), [1]),
        ((3, 1), [2, 1, 6]),
        ((1, 3, 1), [5, 1, 4]),
        ((1,), [0]),
        ((0, 1), [1, 4]),
        ((1, 256, 1), [40, 256, 60]),
    ],
)
def test_expand_agrees_with_numpy(shape, target, dtype):
    x = sample(shape, dtype)
    want = np.broadcast_to(x, np.broadcast_shapes(shape, tuple(target)))
    same(evaluate("Expand", [x, ints(target)]), [want])


@pytest.mark.parametrize(
    "target,what",
    [
        ([3, 2], "do not broadcast"),
        ([-1, 4], "dim 0 of the shape is -1"),
        ([1] * 9, "at most 8"),
        ([1 << 40, 1 << 40, 3, 4], "does not fit"),
    ],
)
def test_expand_refuses_a_shape_that_does_not_fit(target, what):
    with pytest.raises(Error, match=what):
        evaluate("Expand", [sample((3, 4)), ints(target)])


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8, np.float16])
@pytest.mark.parametrize(
    "shape,repeats",
    [
        ((), []),
        ((3,), [4]),
        ((2, 3), [2, 2]),
        ((2, 3), [1, 1]),
        ((2, 3), [0, 2]),
        ((0, 3), [2, 2]),
        ((2, 1, 3), [3, 4, 1]),
        ((50, 60), [10, 7]),
        ((1, 2, 1, 2, 1, 2, 1, 2), [2, 1, 2, 1, 2, 1, 2, 2]),
    ],
)
def test_tile_agrees_with_numpy(shape, repeats, dtype):
    x = sample(shape, dtype)
    same(evaluate("Tile", [x, ints(repeats)]), [np.tile(x, repeats)])


@pytest.mark.parametrize(
    "repeats,what",
    [
        ([2], "1 repeats for a tensor of rank 2"),
        ([2, -1], "-1"),
        ([1 << 62, 1 << 62], "overflows|does not fit"),
    ],
)
def test_tile_refuses_repeats_that_do_not_fit(repeats, what):
    with pytest.raises(Error, match=what):
        evaluate("Tile", [sample((3, 4)), ints(repeats)])


@pytest.mark.parametrize("shape", [[], [3], [2, 0, 4], [7, 5], [300, 400]])
@pytest.mark.parametrize(
    "value",
    [
        None,
        np.array([2.5], np.float32),
        np.array([-3], np.int64),
        np.array([True]),
        np.array(7, np.int8),
        np.array([1.5], np.float16),
    ],
)
def test_constant_of_shape_fills(shape, value):
    want = np.full(shape, 0 if value is None else value.item(), np.float32 if value is None else value.dtype)
    same(evaluate("ConstantOfShape", [ints(shape)] + ([] if value is None else [value])), [want])


def test_constant_of_shape_refuses_negative_dims_and_long_values():
    with pytest.raises(Error, match="dim 1 of the shape is -2"):
        evaluate("ConstantOfShape", [ints([2, -2])])
    with pytest.raises(Error, match="must be one element"):
        evaluate("ConstantOfShape", [ints([2]), sample((2,))])


def test_expand_agrees_with_onnxruntime_where_the_shape_is_smaller():
    inputs = [sample((2, 3, 1)), ints([3, 4])]
    same(evaluate("Expand", inputs), ort("Expand", inputs))
