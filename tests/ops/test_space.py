# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from pyneo.errors import Error
from tests.ops.cases import check_all, evaluate, onnx_reference, ort, same, sample


@pytest.mark.parametrize("dtype", [np.float32, np.int8, np.float16, np.float64])
@pytest.mark.parametrize("mode", ["DCR", "CRD"])
@pytest.mark.parametrize(
    "shape,block",
    [((1, 8, 2, 3), 2), ((2, 18, 3, 2), 3), ((1, 4, 5, 7), 1), ((0, 4, 2, 2), 2), ((2, 12, 40, 60), 2)],
)
def test_depth_to_space_and_back_agree_with_onnx(shape, block, mode, dtype):
    x = sample(shape, dtype)
    attrs = {"blocksize": block, "mode": mode}
    y = evaluate("DepthToSpace", [x], **attrs)
    if shape[0]:
        same(y, onnx_reference("DepthToSpace", [x], **attrs))
    same(evaluate("SpaceToDepth", y, **attrs), [x])


@pytest.mark.parametrize("shape,block", [((1, 2, 4, 6), 2), ((2, 1, 9, 3), 3), ((1, 3, 80, 64), 4)])
def test_space_to_depth_agrees_with_onnxruntime(shape, block):
    x = sample(shape)
    same(evaluate("SpaceToDepth", [x], blocksize=block), ort("SpaceToDepth", [x], blocksize=block))


@pytest.mark.parametrize(
    "op,shape,attrs,what",
    [
        ("DepthToSpace", (1, 6, 2, 2), {"blocksize": 2}, "6 channels do not divide"),
        ("DepthToSpace", (1, 4, 2, 2), {"blocksize": 0}, "blocksize 0"),
        ("DepthToSpace", (1, 4, 2, 2), {}, "blocksize 0"),
        ("DepthToSpace", (1, 4, 2, 2), {"blocksize": 2**62}, "blocksize"),
        ("DepthToSpace", (4, 2, 2), {"blocksize": 2}, "rank 3"),
        ("DepthToSpace", (1, 4, 2, 2), {"blocksize": 2, "mode": "RCD"}, "neither DCR nor CRD"),
        ("SpaceToDepth", (1, 4, 3, 2), {"blocksize": 2}, "3 x 2 does not divide"),
        ("SpaceToDepth", (1, 4, 0, 0), {"blocksize": 2**31 - 1}, "overflows|does not fit"),
    ],
)
def test_blocks_that_do_not_fit_are_refused(op, shape, attrs, what):
    with pytest.raises(Error, match=what):
        evaluate(op, [sample(shape)], **attrs)


@pytest.mark.parametrize("time_axis", [0, 1])
@pytest.mark.parametrize(
    "shape,lengths", [((4, 4), [4, 3, 2, 1]), ((3, 3, 2), [1, 0, 3]), ((1, 1), [1]), ((0, 0), [])]
)
def test_reverse_sequence_agrees_with_python(shape, lengths, time_axis):
    x = sample(shape)
    steps = x if time_axis == 0 else np.swapaxes(x, 0, 1)
    want = steps.copy()
    for s, n in enumerate(lengths):
        want[:n, s] = steps[:n, s][::-1]
    want = want if time_axis == 0 else np.swapaxes(want, 0, 1)
    got = evaluate(
        "ReverseSequence", [x, np.array(lengths, np.int64)], time_axis=time_axis, batch_axis=1 - time_axis
    )
    same(got, [want])


def test_reverse_sequence_agrees_with_onnxruntime():
    inputs = [sample((5, 3, 4)), np.array([2, 5, 1])]
    same(evaluate("ReverseSequence", inputs), ort("ReverseSequence", inputs))


@pytest.mark.parametrize(
    "lengths,attrs,what",
    [
        ([1, 5], {}, "length 5 of sequence 1"),
        ([-1, 1], {}, "length -1"),
        ([1], {}, "one length for each of 2"),
        ([1, 1], {"batch_axis": 0}, "must be 0 and 1"),
        ([1, 1], {"batch_axis": 2, "time_axis": -1}, "must be 0 and 1"),
    ],
)
def test_reverse_sequence_refuses_what_does_not_fit(lengths, attrs, what):
    with pytest.raises(Error, match=what):
        evaluate("ReverseSequence", [sample((4, 2)), np.array(lengths, np.int64)], **attrs)


def columns(batch, channels, image, block, strides=None, pads=None, dilations=None):
    """A column tensor of the length that fits."""
    n = len(image)
    strides, pads, dilations = strides or [1] * n, pads or [0] * 2 * n, dilations or [1] * n
    counts = [
        (image[i] + pads[i] + pads[n + i] - dilations[i] * (block[i] - 1) - 1) // strides[i] + 1
        for i in range(n)
    ]
    return sample((batch, channels * int(np.prod(block)), int(np.prod(counts))))


@pytest.mark.parametrize(
    "batch,channels,image,block,attrs",
    [
        (1, 1, [5, 5], [1, 5], {}),
        (1, 1, [5, 5], [5, 1], {}),
        (2, 3, [6, 7], [3, 2], {}),
        (1, 1, [5, 5], [3, 3], {"strides": [2, 2]}),
        (1, 2, [5, 5], [3, 3], {"pads": [1, 0, 1, 2]}),
        (1, 1, [6, 6], [2, 2], {"dilations": [1, 5]}),
        (2, 1, [9, 8], [3, 2], {"strides": [2, 3], "pads": [2, 1, 0, 3], "dilations": [2, 1]}),
        (1, 2, [4, 5, 6], [1, 2, 3], {"strides": [1, 2, 1]}),
        (1, 3, [7], [3], {"pads": [2, 2]}),
        (3, 8, [30, 30], [3, 3], {}),
    ],
)
def test_col2im_agrees_with_onnxruntime(batch, channels, image, block, attrs):
    inputs = [
        columns(batch, channels, image, block, **attrs),
        np.array(image, np.int64),
        np.array(block, np.int64),
    ]
    check_all(evaluate("Col2Im", inputs, **attrs), ort("Col2Im", inputs, **attrs))


def test_col2im_sums_every_number_dtype():
    inputs = [sample((1, 9, 9), np.int32), np.array([5, 5]), np.array([3, 3])]
    want = ort("Col2Im", [inputs[0].astype(np.float32), *inputs[1:]])[0]
    for dtype in (np.int32, np.float64, np.float16, np.int64):
        same(evaluate("Col2Im", [inputs[0].astype(dtype), *inputs[1:]]), [want.astype(dtype)])


@pytest.mark.parametrize(
    "shape,image,block,attrs,what",
    [
        ((1, 9, 8), [5, 5], [3, 3], {}, "blocks of 9 elements, 9 of them"),
        ((1, 10, 9), [5, 5], [3, 3], {}, "10 rows"),
        ((9, 9), [5, 5], [3, 3], {}, "rank 2"),
        ((1, 9, 9), [5, 5], [3], {}, "2 entries, block_shape 1"),
        ((1, 9, 9), [5, 5], [0, 3], {}, "a block of 0"),
        ((1, 9, 9), [-5, 5], [3, 3], {}, "an image of -5"),
        ((1, 9, 9), [5, 5], [3, 3], {"strides": [0, 1]}, "strides is 0"),
        ((1, 9, 9), [5, 5], [3, 3], {"pads": [-1, 0, 0, 0]}, "pads is -1"),
        ((1, 9, 9), [5, 5], [3, 3], {"dilations": [1]}, "dilations has 1 entries"),
        ((1, 9, 9), [5, 5], [2**31 - 1] * 2, {"dilations": [2**31 - 1] * 2}, "are needed"),
    ],
)
def test_col2im_refuses_what_does_not_fit(shape, image, block, attrs, what):
    with pytest.raises(Error, match=what):
        evaluate("Col2Im", [sample(shape), np.array(image, np.int64), np.array(block, np.int64)], **attrs)
