# SPDX-License-Identifier: Apache-2.0
import itertools

import numpy as np
import pytest

from pyneo.errors import Error
from tests.ops.cases import evaluate, same, sample

DTYPES = [
    np.float32,
    np.float64,
    np.float16,
    np.int8,
    np.uint8,
    np.int16,
    np.int32,
    np.int64,
    np.uint64,
    np.bool_,
]
PERMS = [
    (shape, perm)
    for shape in [(), (5,), (3, 17), (2, 3, 5), (3, 2, 4, 5), (0, 3, 2), (1, 7, 1, 3)]
    for perm in itertools.permutations(range(len(shape)))
]


@pytest.mark.parametrize("shape,perm", PERMS)
def test_every_permutation_agrees_with_numpy(shape, perm):
    x = sample(shape)
    same(evaluate("Transpose", [x], perm=list(perm)), [np.transpose(x, perm)])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape,perm",
    [
        ((37, 41), (1, 0)),
        ((2, 19, 33, 2), (0, 2, 1, 3)),
        ((3, 33, 20, 4), (0, 3, 1, 2)),
        ((2, 2, 3, 2, 3, 2, 1, 2), (7, 0, 6, 1, 5, 2, 4, 3)),
    ],
)
def test_every_element_size_moves_whole(dtype, shape, perm):
    x = sample(shape, dtype)
    same(evaluate("Transpose", [x], perm=list(perm)), [np.transpose(x, perm)])


@pytest.mark.parametrize(
    "shape,perm",
    [
        ((300, 500), (1, 0)),
        ((2, 64, 56, 56), (0, 2, 3, 1)),
        ((1, 128, 12, 64), (0, 2, 1, 3)),
        ((7, 40000), (1, 0)),
        ((40000, 7), (1, 0)),
    ],
)
def test_large_ones_are_split_over_threads(shape, perm):
    x = sample(shape)
    same(evaluate("Transpose", [x], perm=list(perm)), [np.transpose(x, perm)])


def test_without_perm_axes_are_reversed():
    x = sample((2, 3, 4))
    same(evaluate("Transpose", [x]), [x.T])


@pytest.mark.parametrize(
    "perm,what", [([0, 1], "2 entries"), ([0, 1, 1], "axis 1 twice"), ([0, 1, 3], "axis 3")]
)
def test_a_broken_perm_is_refused(perm, what):
    with pytest.raises(Error, match=what):
        evaluate("Transpose", [sample((2, 3, 4))], perm=perm)
