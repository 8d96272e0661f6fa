# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from pyneo.errors import Error
from tests.ops.cases import BF16, check_all, evaluate, onnx_reference, ort, same, sample


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int16, np.int32, np.int64])
@pytest.mark.parametrize(
    "start,limit,delta",
    [
        (3, 9, 3),
        (10, 4, -2),
        (0, 5, 1),
        (0, 0, 1),
        (5, 0, 1),
        (0, 5, -1),
        (-3, 4, 5),
        (1, 2, 7),
        (0, 1000, 7),
    ],
)
def test_range_agrees_with_onnxruntime(start, limit, delta, dtype):
    inputs = [np.array(v, dtype) for v in (start, limit, delta)]
    same(evaluate("Range", inputs), ort("Range", inputs))


@pytest.mark.parametrize("start,limit,delta", [(0.1, 0.95, 0.25), (1.0, -1.0, -0.3), (0.0, 1.0, 0.1)])
def test_range_of_fractions_agrees_with_onnxruntime(start, limit, delta):
    inputs = [np.array(v, np.float32) for v in (start, limit, delta)]
    # The definition multiplies; ONNX Runtime adds delta up, so it is a few roundings away.
    check_all(evaluate("Range", inputs), ort("Range", inputs), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, BF16])
def test_range_of_halves_is_computed_in_float32(dtype):
    inputs = [np.array(v, dtype) for v in (0, 1500, 7)]
    same(evaluate("Range", inputs), [np.arange(0, 1500, 7, dtype=np.float32).astype(dtype)])


@pytest.mark.parametrize(
    "values,dtype,what",
    [
        ((0, 5, 0), np.int64, "delta is 0"),
        ((0, 5, 0), np.float32, "has no end"),
        ((0, np.inf, 1), np.float32, "has no end"),
        ((0, np.nan, 1), np.float32, "has no end"),
        ((-(2**63), 2**63 - 1, 1), np.int64, "do not fit|does not fit"),
        ((0, 2**62, 1), np.int64, "does not fit"),
        ((0, 1e30, 1e-30), np.float64, "has no end"),
        ((0, 5, 1), np.uint8, "uint8"),
    ],
)
def test_range_refuses_what_has_no_end(values, dtype, what):
    with pytest.raises(Error, match=what):
        evaluate("Range", [np.array(v, dtype) for v in values])


def test_range_reaches_both_ends_of_int64():
    inputs = [np.array(v, np.int64) for v in (-(2**63), 2**63 - 1, 2**62)]
    same(evaluate("Range", inputs), [np.array([-(2**63), -(2**62), 0, 2**62], np.int64)])


@pytest.mark.parametrize("k", [0, 1, -1, 3, -4, 100, -100, 2**63 - 1, -(2**63)])
@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3), (0, 3), (1, 1)])
def test_eye_like_agrees_with_numpy(shape, k):
    near = max(min(k, 1000), -1000)
    same(evaluate("EyeLike", [sample(shape)], k=k), [np.eye(*shape, near, np.float32)])


@pytest.mark.parametrize(
    "number,dtype", [(1, np.float32), (11, np.float64), (10, np.float16), (7, np.int64), (9, np.bool_)]
)
def test_eye_like_of_another_dtype(number, dtype):
    same(evaluate("EyeLike", [sample((3, 4), np.int32)], dtype=number, k=1), [np.eye(3, 4, 1, dtype)])


def test_eye_like_refuses_other_ranks_and_dtypes():
    with pytest.raises(Error, match="found rank 3"):
        evaluate("EyeLike", [sample((2, 3, 4))])
    with pytest.raises(Error, match="dtype number 8 "):
        evaluate("EyeLike", [sample((2, 3))], dtype=8)


@pytest.mark.parametrize("axis", [-1, 0, 1, -2])
@pytest.mark.parametrize("shape", [(3,), (2, 3), (0, 3)])
@pytest.mark.parametrize("itype", [np.int64, np.int32, np.float32, np.uint8])
def test_one_hot_agrees_with_onnx(shape, axis, itype):
    j = np.random.default_rng(3).integers(0 if itype == np.uint8 else -9, 9, shape).astype(itype)
    inputs = [j, np.array(5, np.int64), np.array([2, 7], np.int32)]
    same(evaluate("OneHot", inputs, axis=axis), onnx_reference("OneHot", inputs, axis=axis))


@pytest.mark.parametrize(
    "values", [np.array([0, 1], np.float32), np.array([False, True]), np.array([1, -1], np.int8)]
)
def test_one_hot_takes_every_value_and_depth_dtype(values):
    for depth in (np.array(4, np.float32), np.array(4, np.int32), np.array([4], np.uint8)):
        got = evaluate("OneHot", [np.array([0, 3, 4, -1, -5]), depth, values])
        same(got, [np.array([[values[int(i == w)] for i in range(4)] for w in (0, 3, 9, 3, 9)])])


@pytest.mark.parametrize(
    "depth,values,attrs,what",
    [
        (np.array([-1]), [0, 1], {}, "depth -1 is not a count"),
        (np.array([3, 4]), [0, 1], {}, "depth must be one number"),
        (np.array(np.nan), [0, 1], {}, "is not a count"),
        (np.array(3), [0, 1, 2], {}, "found 3 elements"),
        (np.array(3), [0, 1], {"axis": 2}, "axis 2 is outside"),
        (np.array(2**62), [0, 1], {}, "does not fit"),
    ],
)
def test_one_hot_refuses_what_has_no_meaning(depth, values, attrs, what):
    with pytest.raises(Error, match=what):
        evaluate("OneHot", [np.arange(3), depth, np.array(values, np.float32)], **attrs)


@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize("k", [None, 0, 1, -1, 5, -7, 2**63 - 1, -(2**63)])
@pytest.mark.parametrize(
    "shape,dtype",
    [
        ((4, 5), np.float32),
        ((5, 3), np.int64),
        ((2, 3, 3), np.bool_),
        ((3, 0), np.float32),
        ((300, 200), np.float16),
    ],
)
def test_trilu_agrees_with_numpy(shape, dtype, k, upper):
    x = sample(shape, dtype)
    near = max(min(k or 0, 1000), -1000)
    want = (np.triu if upper else np.tril)(x, near)
    same(evaluate("Trilu", [x] + ([] if k is None else [np.array(k, np.int64)]), upper=upper), [want])


def test_trilu_refuses_a_vector_and_several_k():
    with pytest.raises(Error, match="found rank 1"):
        evaluate("Trilu", [sample((3,))])
    with pytest.raises(Error, match="k must be one number"):
        evaluate("Trilu", [sample((3, 3)), np.array([1, 2])])


@pytest.mark.parametrize(
    "attrs",
    [
        {},
        {"start": 1},
        {"end": -1},
        {"start": -2, "end": 9},
        {"start": 2, "end": 1},
        {"start": -9, "end": -9},
        {"start": 2**62},
        {"start": -(2**63), "end": 2**63 - 1},
    ],
)
def test_shape_agrees_with_onnx(attrs):
    x = sample((2, 0, 4))
    same(evaluate("Shape", [x], **attrs), onnx_reference("Shape", [x], **attrs))


@pytest.mark.parametrize("shape", [(), (3,), (2, 0, 4), (2, 3, 4)])
def test_size_counts(shape):
    same(evaluate("Size", [sample(shape)]), [np.array(np.prod(shape), np.int64)])
