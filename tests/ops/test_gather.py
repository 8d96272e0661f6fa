# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from pyneo.errors import Error
from tests.ops.cases import evaluate, ort, same, sample


def index(shape, size, dtype=np.int64, seed=1):
    """Indices in [-size, size)."""
    return np.random.default_rng([seed, *shape]).integers(-size, size, shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8, np.float16])
@pytest.mark.parametrize("itype", [np.int64, np.int32])
@pytest.mark.parametrize(
    "shape,axis,picked",
    [
        ((5,), 0, ()),
        ((5,), 0, (3,)),
        ((5, 3), 0, (2, 4)),
        ((5, 3), 1, (4,)),
        ((2, 5, 3), -2, (2, 2)),
        ((2, 5, 0), 1, (3,)),
        ((2, 5), 1, (0,)),
        ((0, 5), 1, (3,)),
        ((100, 300), 0, (200,)),
        ((3, 100, 7), 1, (500,)),
    ],
)
def test_gather_agrees_with_numpy(shape, axis, picked, itype, dtype):
    x, j = sample(shape, dtype), index(picked, shape[axis], itype)
    same(evaluate("Gather", [x, j], axis=axis), [np.asarray(np.take(x, j, axis))])


@pytest.mark.parametrize("op,attrs", [("Gather", {"axis": 1}), ("GatherElements", {"axis": 1})])
@pytest.mark.parametrize("bad", [5, -6, 2**62, -(2**63), 2**63 - 1])
def test_an_index_outside_is_named(op, attrs, bad):
    j = np.array([[0, 4, bad]], np.int64)
    with pytest.raises(Error, match=rf"{op}: index {bad} at position 2 is outside \[-5, 4\]"):
        evaluate(op, [sample((3, 5)), j], **attrs)


def test_gather_from_an_empty_axis_is_refused():
    with pytest.raises(Error, match="axis of size 0"):
        evaluate("Gather", [sample((0, 3)), np.zeros(1, np.int64)])


@pytest.mark.parametrize(
    "j,attrs,what",
    [
        (np.zeros(1, np.float32), {}, "dtype float32"),
        (np.zeros(1, np.int64), {"axis": 2}, "axis 2 is outside"),
        (np.zeros((1,) * 8, np.int64), {}, "rank 9"),
    ],
)
def test_gather_refuses_indices_of_another_kind(j, attrs, what):
    with pytest.raises(Error, match=what):
        evaluate("Gather", [sample((3, 5)), j], **attrs)


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.uint8, np.float16])
@pytest.mark.parametrize(
    "shape,picked,axis",
    [
        ((5,), (3,), 0),
        ((5,), (9,), 0),
        ((4, 5), (4, 2), 1),
        ((4, 5), (7, 5), 0),
        ((4, 5), (2, 3), 0),
        ((2, 3, 4), (2, 6, 4), 1),
        ((2, 3, 4), (1, 2, 9), -1),
        ((2, 3, 4), (5, 3, 4), -3),
        ((2, 3), (2, 0), 1),
    ],
)
def test_gather_elements_agrees_with_onnxruntime(shape, picked, axis, dtype):
    inputs = [sample(shape, dtype), index(picked, shape[axis])]
    same(evaluate("GatherElements", inputs, axis=axis), ort("GatherElements", inputs, 1, axis=axis))


@pytest.mark.parametrize("picked,attrs", [((4,), {}), ((4, 6), {}), ((5, 5), {"axis": 1})])
def test_gather_elements_refuses_indices_larger_than_data(picked, attrs):
    with pytest.raises(Error, match="do not fit data"):
        evaluate("GatherElements", [sample((4, 5)), np.zeros(picked, np.int64)], **attrs)


@pytest.mark.parametrize(
    "shape,picked,batch",
    [
        ((5,), (1,), 0),
        ((5, 4), (3, 1), 0),
        ((5, 4), (3, 2), 0),
        ((2, 3, 4), (2, 2, 1), 1),
        ((2, 3, 4), (2, 5, 2), 1),
        ((2, 3, 4), (2, 3, 1), 2),
        ((2, 3, 4), (0, 2), 0),
        ((2, 3, 4, 5), (2, 3, 6, 2), 2),
        ((3, 4, 5), (7, 2, 1), 0),
    ],
)
def test_gather_nd_agrees_with_onnxruntime(shape, picked, batch):
    x = sample(shape)
    sizes = shape[batch : batch + picked[-1]]
    j = np.stack([index(picked[:-1], s, seed=i) for i, s in enumerate(sizes)], -1)
    same(evaluate("GatherND", [x, j], batch_dims=batch), ort("GatherND", [x, j], 1, batch_dims=batch))


@pytest.mark.parametrize(
    "picked,attrs,what",
    [
        ((2, 3), {}, "do not address data"),
        ((2, 1), {"batch_dims": 2}, "batch_dims 2 is outside"),
        ((2, 0), {}, "do not address"),
        ((3, 1), {"batch_dims": 1}, "do not address"),
        ((), {}, "at least one axis"),
        ((2, 1), {"batch_dims": -1}, "batch_dims -1"),
    ],
)
def test_gather_nd_refuses_what_does_not_fit(picked, attrs, what):
    with pytest.raises(Error, match=what):
        evaluate("GatherND", [sample((2, 5)), np.zeros(picked, np.int64)], **attrs)


def test_gather_nd_names_an_index_outside():
    with pytest.raises(Error, match=r"GatherND: index 5 at position 3 is outside \[-5, 4\]"):
        evaluate("GatherND", [sample((2, 5)), np.array([[0, 1], [1, 5]])])


@pytest.mark.parametrize(
    "shape,axis,condition",
    [
        ((6,), 0, [1, 0, 1]),
        ((6,), None, [0, 0, 0]),
        ((3, 4), 0, [0, 1, 1]),
        ((3, 4), 1, [1, 0, 1, 1]),
        ((3, 4), -1, []),
        ((3, 4), None, [1, 0, 0, 0, 1, 1, 0]),
        ((2, 3, 2), 1, [1, 0, 1]),
        ((0, 4), 1, [1, 1]),
    ],
)
def test_compress_agrees_with_numpy(shape, axis, condition):
    x, cond = sample(shape), np.array(condition, bool)
    attrs = {} if axis is None else {"axis": axis}
    same(evaluate("Compress", [x, cond], **attrs), [np.compress(cond, x, axis)])


def test_compress_ignores_conditions_past_the_end():
    x = sample((2, 3))
    same(evaluate("Compress", [x, np.ones(9, bool)], axis=0), [x])


@pytest.mark.parametrize(
    "cond,attrs,what",
    [
        (np.ones((1, 2), bool), {}, "must be 1-D"),
        (np.ones(2, np.int64), {}, "bool"),
        (np.ones(2, bool), {"axis": 2}, "axis 2"),
    ],
)
def test_compress_refuses_what_does_not_fit(cond, attrs, what):
    with pytest.raises(Error, match=what):
        evaluate("Compress", [sample((2, 3)), cond], **attrs)


@pytest.mark.parametrize(
    "shape,columns", [((4, 5), [1, 3]), ((4, 5), [4]), ((2, 3, 4), [0, 0, 2]), ((5,), [2, 1])]
)
def test_array_feature_extractor_agrees_with_onnxruntime(shape, columns):
    inputs = [sample(shape), np.array(columns, np.int64)]
    op = "ai.onnx.ml.ArrayFeatureExtractor"
    same(evaluate(op, inputs), ort(op, inputs))


def test_array_feature_extractor_names_a_column_outside():
    with pytest.raises(Error, match="index 5 at position 0"):
        evaluate("ai.onnx.ml.ArrayFeatureExtractor", [sample((4, 5)), np.array([5])])
