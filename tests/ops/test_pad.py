# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from pyneo.errors import Error
from tests.ops.cases import evaluate, onnx_reference, ort, same, sample

PADS = [
    ((), []),
    ((5,), [2, 3]),
    ((5,), [0, 0]),
    ((1,), [2, 1]),
    ((3, 4), [1, 0, 0, 2]),
    ((3, 4), [2, 3, 2, 3]),
    ((2, 3, 4), [0, 1, 0, 1, 0, 0]),
    ((2, 3, 4), [1, 0, 2, 0, 1, 3]),
    ((1, 2, 30, 40), [0, 0, 3, 5, 0, 0, 4, 6]),
    ((1, 3, 100, 120), [0, 0, 1, 1, 0, 0, 1, 1]),
    ((4, 1, 5), [0, 3, 0, 0, 2, 0]),
]


def ints(values, dtype=np.int64):
    return np.array(values, dtype)


def widths(pads):
    n = len(pads) // 2
    return list(zip(pads[:n], pads[n:], strict=True))


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
@pytest.mark.parametrize("shape,pads", PADS)
def test_pad_agrees_with_numpy(shape, pads, mode):
    x = sample(shape)
    same(evaluate("Pad", [x, ints(pads)], mode=mode), [np.pad(x, widths(pads), mode) if shape else x])


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.int32, np.float64, np.bool_])
def test_pad_takes_every_element_size_and_its_constant(dtype):
    x = sample((3, 4), dtype)
    value = np.array(1, dtype)
    want = np.pad(x, [(1, 2), (0, 3)], constant_values=value)
    same(evaluate("Pad", [x, ints([1, 0, 2, 3]), value]), [want])


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "wrap"])
def test_pad_longer_than_the_axis_repeats_as_numpy_does(mode):
    x = sample((3, 4))
    same(evaluate("Pad", [x, ints([7, 9, 8, 11])], mode=mode), [np.pad(x, [(7, 8), (9, 11)], mode)])


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect"])
@pytest.mark.parametrize(
    "pads", [[-1, 0, 0, 0], [0, -2, 1, 0], [-1, 2, -1, -1], [1, -3, 1, 0], [-2, -2, -1, -1]]
)
def test_negative_pads_cut_as_in_onnxruntime(pads, mode):
    inputs = [sample((4, 5)), ints(pads)]
    same(evaluate("Pad", inputs, mode=mode), ort("Pad", inputs, mode=mode))


@pytest.mark.parametrize("axes", [[1], [-1], [2, 0], [-3, -2]])
def test_pad_of_some_axes_agrees_with_onnxruntime(axes):
    pads = ints(range(1, 2 * len(axes) + 1))
    inputs = [sample((2, 3, 4)), pads, np.array(1.5, np.float32), ints(axes)]
    same(evaluate("Pad", inputs), ort("Pad", inputs))


def test_an_empty_axis_is_padded_by_constants_only():
    x = sample((0, 3))
    same(evaluate("Pad", [x, ints([1, 0, 1, 1])]), [np.zeros((2, 4), np.float32)])
    with pytest.raises(Error, match="axis 0 has nothing to repeat"):
        evaluate("Pad", [x, ints([1, 0, 1, 1])], mode="edge")


@pytest.mark.parametrize(
    "inputs,attrs,what",
    [
        ([ints([1, 2, 3])], {}, "3 pads for 2 axes"),
        ([ints([-5, 0, 0, 0])], {}, "axis 0 of size 3"),
        ([ints([-2, 0, -2, 0])], {}, "cannot be padded"),
        ([ints([0] * 4)], {"mode": "mirror"}, "mode 'mirror'"),
        ([ints([0, 0]), None, ints([2])], {}, "axis 2 is outside"),
        ([ints([0, 0, 0, 0]), None, ints([0, -2])], {}, "axis 0 is named twice"),
        ([ints([2**63 - 1, 0, 2**63 - 1, 0])], {}, "overflows"),
        ([ints([2**61, 0, 0, 0])], {}, "does not fit"),
        ([ints([-(2**63), 0, 0, 0])], {}, "axis 0 of size 3"),
        ([ints([0] * 4), np.array(1)], {}, "one float32"),
        ([ints([0] * 4), sample((2,))], {}, "one float32"),
    ],
)
def test_pad_refuses_what_does_not_fit(inputs, attrs, what):
    with pytest.raises(Error, match=what):
        evaluate("Pad", [sample((3, 4)), *inputs], **attrs)


@pytest.mark.parametrize(
    "shape,size,axes",
    [
        ((20, 10, 3), [10, 7, 3], None),
        ((20, 8, 3), [10, 9, 3], None),
        ((5, 7), [6, 4], None),
        ((5, 7), [4, 10], [1, 0]),
        ((2, 3, 4), [7], [-1]),
        ((3, 4), [0, 5], None),
        ((0, 4), [3, 4], None),
        ((3, 4), [3, 4], None),
    ],
)
def test_center_crop_pad_agrees_with_onnx(shape, size, axes):
    inputs = [sample(shape), ints(size)]
    attrs = {} if axes is None else {"axes": axes}
    same(evaluate("CenterCropPad", inputs, **attrs), onnx_reference("CenterCropPad", inputs, **attrs))


@pytest.mark.parametrize(
    "size,attrs,what",
    [
        ([3], {}, "1 sizes for 2 axes"),
        ([-1, 3], {}, "size of axis 0 is -1"),
        ([3, 3], {"axes": [0, -2]}, "named twice"),
        ([3], {"axes": [2]}, "axis 2"),
    ],
)
def test_center_crop_pad_refuses_what_does_not_fit(size, attrs, what):
    with pytest.raises(Error, match=what):
        evaluate("CenterCropPad", [sample((5, 7)), ints(size)], **attrs)
