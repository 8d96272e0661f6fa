# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from pyneo.errors import Error
from tests.ops.cases import BF16, check_all, evaluate, onnx_reference, ort, same, sample

REDUCTIONS = ["none", "add", "mul", "max", "min"]
ELEMENTS = [
    ((5,), (3,), 0),
    ((4, 5), (2, 5), 0),
    ((4, 5), (4, 2), 1),
    ((3, 4, 5), (2, 4, 3), -2),
    ((4, 5), (1, 1), -1),
    ((4, 5), (0, 5), 0),
    ((2, 3, 4), (2, 3, 4), 2),
]


def distinct(shape, size, axis, seed=5):
    """Indices in [-size, size) that name no place twice along the axis."""
    rng = np.random.default_rng(seed)
    order = np.argsort(rng.random((*shape[:axis], size, *shape[axis + 1 :])), axis=axis)
    j = np.take(order, np.arange(shape[axis]), axis=axis)
    return np.where(rng.random(shape) < 0.5, j, j - size)


@pytest.mark.parametrize("op", ["ScatterElements", "Scatter"])
@pytest.mark.parametrize("shape,picked,axis", ELEMENTS)
@pytest.mark.parametrize("itype", [np.int64, np.int32])
def test_scatter_elements_agrees_with_onnxruntime(op, shape, picked, axis, itype):
    j = distinct(picked, shape[axis], axis % len(shape)).astype(itype)
    inputs = [sample(shape), j, sample(picked, seed=1)]
    same(evaluate(op, inputs, axis=axis), ort("ScatterElements", inputs, axis=axis))


@pytest.mark.parametrize("reduction", REDUCTIONS[1:])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.int64, np.uint8, np.int8])
def test_reductions_of_repeated_places_agree_with_onnxruntime(dtype, reduction):
    j = np.random.default_rng(1).integers(-4, 4, (6, 3))
    inputs = [sample((4, 3), dtype), j, sample((6, 3), dtype, seed=1)]
    attrs = {"axis": 0, "reduction": reduction}
    check_all(evaluate("ScatterElements", inputs, **attrs), ort("ScatterElements", inputs, **attrs))


@pytest.mark.parametrize("dtype", [np.float16, BF16])
@pytest.mark.parametrize(
    "reduction,f", [("add", np.add), ("mul", np.multiply), ("max", np.maximum), ("min", np.minimum)]
)
def test_halves_are_combined_in_float32(dtype, reduction, f):
    x, u = sample((7,), dtype), sample((7,), dtype, seed=1)
    want = f(x.astype(np.float32), u.astype(np.float32)).astype(dtype)
    same(evaluate("ScatterElements", [x, np.arange(7), u], reduction=reduction), [want])


@pytest.mark.parametrize(
    "reduction,f",
    [("add", np.logical_or), ("mul", np.logical_and), ("max", np.logical_or), ("min", np.logical_and)],
)
def test_bools_are_combined_as_truth(reduction, f):
    x, u = np.array([0, 0, 1, 1], bool), np.array([0, 1, 0, 1], bool)
    same(evaluate("ScatterElements", [x, np.arange(4), u], reduction=reduction), [f(x, u)])


def test_maximum_and_minimum_pass_nan_on():
    x, u = np.array([np.nan, 1, 2], np.float32), np.array([0, np.nan, 3], np.float32)
    for reduction, f in (("max", np.maximum), ("min", np.minimum)):
        same(evaluate("ScatterElements", [x, np.arange(3), u], reduction=reduction), [f(x, u)])


@pytest.mark.parametrize("bad", [4, -5, 2**63 - 1, -(2**63)])
def test_an_index_outside_is_named(bad):
    with pytest.raises(Error, match=rf"index {bad} at position 1 is outside \[-4, 3\]"):
        evaluate("ScatterElements", [sample((4,)), np.array([0, bad]), sample((2,))])
    with pytest.raises(Error, match=rf"index {bad} at position 1 is outside \[-4, 3\]"):
        evaluate("ScatterND", [sample((4,)), np.array([[0], [bad]]), sample((2,))])


@pytest.mark.parametrize(
    "inputs,attrs,what",
    [
        ([sample((4, 5)), np.zeros((2, 5), np.int64), sample((2, 4))], {}, "do not fit data"),
        ([sample((4, 5)), np.zeros((2, 6), np.int64), sample((2, 6))], {}, "do not fit data"),
        ([sample((4, 5)), np.zeros((2, 5), np.int64), sample((2, 5), np.int32)], {}, "input 2 is int32"),
        ([sample((4, 5)), np.zeros((2, 5), np.int64), sample((2, 5))], {"axis": 2}, "axis 2"),
        (
            [sample((4, 5)), np.zeros((2, 5), np.int64), sample((2, 5))],
            {"reduction": "sum"},
            "reduction 'sum'",
        ),
        ([sample((4, 5)), np.zeros((2, 5), np.float32), sample((2, 5))], {}, "input 1 has dtype float32"),
    ],
)
def test_scatter_elements_refuses_what_does_not_fit(inputs, attrs, what):
    with pytest.raises(Error, match=what):
        evaluate("ScatterElements", inputs, **attrs)


ND = [
    ((8,), [[4], [3], [1], [7]]),
    ((4, 4, 3), [[0], [-2]]),
    ((4, 4, 3), [[[0, 1], [3, -4]]]),
    ((2, 3), [[1, 2], [0, -3]]),
    ((3, 0), [[1]]),
    ((3, 4), np.zeros((0, 1), np.int64)),
]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("shape,places", ND)
def test_scatter_nd_agrees_with_onnx(shape, places, reduction):
    j = np.array(places, np.int64)
    inputs = [sample(shape), j, sample((*j.shape[:-1], *shape[j.shape[-1] :]), seed=1)]
    check_all(
        evaluate("ScatterND", inputs, reduction=reduction),
        onnx_reference("ScatterND", inputs, reduction=reduction),
    )


@pytest.mark.parametrize(
    "picked,updates", [((2, 3), (2,)), ((2, 1), (2, 5)), ((2, 0), (2, 4, 5)), ((), (4, 5)), ((2, 2), (3,))]
)
def test_scatter_nd_refuses_what_does_not_fit(picked, updates):
    with pytest.raises(Error, match="do not fit data"):
        evaluate("ScatterND", [sample((4, 6)), np.zeros(picked, np.int64), sample(updates)])


@pytest.mark.parametrize("mode", ["linear", "circular"])
@pytest.mark.parametrize(
    "cache,update,axis,starts",
    [
        ((2, 3, 8, 4), (2, 3, 1, 4), None, [0, 7]),
        ((2, 3, 8, 4), (2, 3, 5, 4), -2, [2, 3]),
        ((3, 6), (3, 6), 1, [0, 0, 0]),
        ((2, 6, 2), (2, 2, 2), 1, None),
        ((2, 6), (2, 0), 1, [1, 6]),
    ],
)
def test_tensor_scatter_agrees_with_onnx(cache, update, axis, starts, mode):
    inputs = [sample(cache), sample(update, seed=1)] + (
        [] if starts is None else [np.array(starts, np.int64)]
    )
    attrs = {"mode": mode} | ({} if axis is None else {"axis": axis})
    want = onnx_reference("TensorScatter", inputs, opset=24, **attrs)
    same(evaluate("TensorScatter", inputs, **attrs), want)


def test_tensor_scatter_wraps_around_in_circular_mode():
    inputs = [sample((2, 5, 3)), sample((2, 4, 3), seed=1), np.array([3, -1])]
    want = inputs[0].copy()
    for b, start in enumerate((3, 4)):
        for k in range(4):
            want[b, (start + k) % 5] = inputs[1][b, k]
    same(evaluate("TensorScatter", inputs, mode="circular"), [want])


@pytest.mark.parametrize(
    "update,starts,attrs,what",
    [
        ((2, 2, 3), [0, 4], {}, "sample 1 writes 2 rows from 4 on into a cache of 5"),
        ((2, 2, 3), [-1, 0], {}, "sample 0"),
        ((2, 2, 3), [0, 2**63 - 1], {}, "sample 1"),
        ((2, 6, 3), [0, 0], {}, "does not fit the cache"),
        ((2, 2, 3), [0], {}, "one index for each of 2"),
        ((2, 2, 3), [0, 0], {"axis": 0}, "axis 0 is the batch"),
        ((2, 2, 3), [0, 0], {"mode": "ring"}, "neither linear nor circular"),
    ],
)
def test_tensor_scatter_refuses_what_does_not_fit(update, starts, attrs, what):
    with pytest.raises(Error, match=what):
        evaluate(
            "TensorScatter", [sample((2, 5, 3)), sample(update), np.array(starts)], **({"axis": 1} | attrs)
        )
