# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyneo.errors import Error
from tests.ops.cases import evaluate, ort, same, sample

FAR = 2**63 - 1


def ints(values, dtype=np.int64):
    return None if values is None else np.array(values, dtype)


@pytest.mark.parametrize(
    "shape,starts,ends,axes,steps",
    [
        ((10,), [2], [8], None, None),
        ((10,), [8], [2], None, [-1]),
        ((10,), [-3], [FAR], [0], [2]),
        ((10,), [FAR], [-FAR - 1], [0], [-3]),
        ((10,), [0], [-FAR - 1], [0], [-1]),
        ((10,), [5], [5], None, None),
        ((10,), [9], [0], [0], [-FAR - 1]),
        ((10,), [0], [FAR], [0], [FAR]),
        ((4, 5, 6), [1, -2], [3, 100], [0, 2], [1, 1]),
        ((4, 5, 6), [-1, 0, 4], [-10, 5, 0], [-3, 1, 2], [-1, 2, -2]),
        ((4, 5), [20], [30], [1], None),
        ((0, 3), [0], [5], [0], [-1]),
        ((3, 0), [0], [2], [0], [1]),
        ((64, 300, 20), [5, 1], [60, 299], [0, 1], [3, 2]),
        ((3, 4), [], [], [], []),
    ],
)
def test_slice_agrees_with_onnxruntime(shape, starts, ends, axes, steps):
    x = sample(shape)
    inputs = [x, ints(starts), ints(ends), ints(axes), ints(steps)]
    same(evaluate("Slice", inputs), ort("Slice", inputs))


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 6), st.integers(-9, 9), st.integers(-9, 9), st.integers(-4, 4).filter(bool))
def test_slice_agrees_with_python(n, start, stop, step):
    x = np.arange(n, dtype=np.float32)
    # Stepping backward, ONNX clamps a start before the first element to it; python takes nothing.
    want = x[max(start, -n) if step < 0 and n else start : stop : step]
    same(evaluate("Slice", [x, ints([start]), ints([stop]), ints([0]), ints([step])]), [want])


def test_slice_takes_int32_and_every_element_size():
    for dtype in (np.int8, np.float16, np.float32, np.float64):
        x = sample((5, 6, 7), dtype)
        got = evaluate(
            "Slice",
            [
                x,
                ints([4, 1], np.int32),
                ints([0, 6], np.int32),
                ints([0, 2], np.int32),
                ints([-2, 3], np.int32),
            ],
        )
        same(got, [x[4:0:-2, :, 1:6:3]])


@pytest.mark.parametrize(
    "starts,ends,axes,steps,what",
    [
        ([0], [1], [2], [1], "axis 2 is outside"),
        ([0], [1], [0], [0], "step of axis 0 is 0"),
        ([0, 0], [1], None, None, "2 starts, 1 ends"),
        ([0, 0], [1, 1], [1, -1], None, "axis 1 is named twice"),
        ([0, 0, 0], [1, 1, 1], None, None, "axis 2"),
        ([0], [1], [0], [1, 1], "2 steps"),
    ],
)
def test_slice_refuses_what_has_no_meaning(starts, ends, axes, steps, what):
    with pytest.raises(Error, match=what):
        evaluate("Slice", [sample((3, 4)), ints(starts), ints(ends), ints(axes), ints(steps)])


@pytest.mark.parametrize("starts", [np.zeros(1, np.float32), np.zeros((1, 1), np.int64)])
def test_slice_refuses_starts_of_another_kind(starts):
    with pytest.raises(Error, match="input 1"):
        evaluate("Slice", [sample((3, 4)), starts, ints([1])])
