# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from pyneo.errors import Error
from tests.ops.cases import evaluate, ort, same, sample


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.bool_, np.float16])
@pytest.mark.parametrize(
    "shapes,axis",
    [
        ([(3,)], 0),
        ([(3,), (0,), (4,)], 0),
        ([(2, 3), (2, 1), (2, 5)], 1),
        ([(2, 3), (4, 3)], -2),
        ([(2, 3, 4), (2, 1, 4), (2, 0, 4), (2, 7, 4)], 1),
        ([(0, 3), (0, 2)], 1),
        ([(5, 64, 100), (5, 32, 100)], 1),
    ],
)
def test_concat_agrees_with_numpy(shapes, axis, dtype):
    xs = [sample(s, dtype, i) for i, s in enumerate(shapes)]
    same(evaluate("Concat", xs, axis=axis), [np.concatenate(xs, axis)])


@pytest.mark.parametrize(
    "xs,attrs,what",
    [
        ([sample((2, 3))], {"axis": 2}, "axis 2 is outside"),
        ([sample((2, 3))], {}, "axis is missing"),
        ([sample((2, 3)), sample((3, 3))], {"axis": 1}, "differ outside axis 1"),
        ([sample((2, 3)), sample((2, 3), np.int32)], {"axis": 1}, "int32"),
        ([sample((2, 3)), sample((2,))], {"axis": 0}, "differ outside"),
    ],
)
def test_concat_refuses_what_does_not_fit(xs, attrs, what):
    with pytest.raises(Error, match=what):
        evaluate("Concat", xs, **attrs)


@pytest.mark.parametrize(
    "shape,axis,sizes",
    [
        ((6,), 0, [1, 2, 3]),
        ((6,), 0, [6]),
        ((2, 7), 1, [3, 0, 4]),
        ((2, 7, 3), -2, [5, 2]),
        ((0, 4), 1, [2, 2]),
        ((4, 90, 200), 1, [30, 50, 10]),
    ],
)
def test_split_by_sizes_agrees_with_onnxruntime(shape, axis, sizes):
    x = sample(shape)
    args = [x, np.array(sizes, np.int64)], len(sizes)
    same(evaluate("Split", *args, axis=axis), ort("Split", *args, axis=axis))


@pytest.mark.parametrize("rows,parts", [(6, 3), (7, 3), (7, 4), (1, 1), (10, 3)])
def test_split_by_count_gives_a_smaller_last_part(rows, parts):
    x = sample((2, rows, 3))
    attrs = {"axis": 1, "num_outputs": parts}
    same(evaluate("Split", [x], parts, **attrs), ort("Split", [x], parts, **attrs))


@pytest.mark.parametrize(
    "sizes,outputs,attrs,what",
    [
        ([3, 4], 2, {"axis": 1}, "2 rows|output 1 takes 4"),
        ([3, 1], 2, {"axis": 1}, "sum to 4"),
        ([-1, 7], 2, {"axis": 1}, "takes -1"),
        ([3, 3], 3, {"axis": 1}, "each of 3 outputs"),
        ([3, 3], 2, {"axis": 3}, "axis 3"),
        ([1 << 62, 1 << 62], 2, {"axis": 1}, "output 0 takes"),
    ],
)
def test_split_refuses_sizes_that_do_not_add_up(sizes, outputs, attrs, what):
    with pytest.raises(Error, match=what):
        evaluate("Split", [sample((2, 6)), np.array(sizes, np.int64)], outputs, **attrs)


def test_split_refuses_more_parts_than_its_count():
    with pytest.raises(Error, match="num_outputs is 3"):
        evaluate("Split", [sample((6,))], 2, num_outputs=3)
    with pytest.raises(Error, match="output 2 takes 2 rows where 1 of 5"):
        evaluate("Split", [sample((5,))], 4, num_outputs=4)
