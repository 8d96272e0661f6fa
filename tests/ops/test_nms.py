# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from pyneo.errors import Error
from tests.ops.cases import evaluate, ort, same

f32 = np.float32


def boxes(batches, n, seed=0, centered=False):
    rng = np.random.default_rng([seed, batches, n])
    if centered:
        return np.concatenate([rng.random((batches, n, 2)), rng.random((batches, n, 2)) * 0.4], -1).astype(
            f32
        )
    return rng.random((batches, n, 4)).astype(f32)  # corners in any order


def scores(batches, classes, n, ties=False):
    rng = np.random.default_rng([7, batches, classes, n])
    return (
        (rng.integers(0, 5, (batches, classes, n)) / 5) if ties else rng.random((batches, classes, n))
    ).astype(f32)


@pytest.mark.parametrize("centered", [0, 1])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(
    "batches,classes,n,most,overlap,threshold",
    [
        (1, 1, 10, 3, 0.5, None),
        (2, 3, 40, 5, 0.3, 0.4),
        (1, 2, 200, 100, 0.0, 0.1),
        (1, 1, 30, 100, 1.0, None),
        (1, 1, 20, 0, 0.5, 0.0),
        (2, 2, 0, 4, 0.5, None),
        (1, 2, 50, 10, 0.2, 2.0),
        (1, 1, 1, 1, None, None),
    ],
)
def test_nms_agrees_with_onnxruntime(batches, classes, n, most, overlap, threshold, ties, centered):
    inputs = [boxes(batches, n, centered=bool(centered)), scores(batches, classes, n, ties), np.array([most])]
    for v in (overlap, threshold):
        inputs.append(None if v is None else np.array([v], f32))
    attrs = {"center_point_box": centered}
    same(evaluate("NonMaxSuppression", inputs, **attrs), ort("NonMaxSuppression", inputs, **attrs))


def test_without_a_count_nothing_is_kept():
    assert evaluate("NonMaxSuppression", [boxes(1, 5), scores(1, 1, 5)])[0].shape == (0, 3)


def test_boxes_of_nan_and_no_area_suppress_nothing():
    b = np.array([[[0, 0, 1, 1], [np.nan] * 4, [0, 0, 0, 1], [0, 0, 1, 1]]], f32)
    s = np.array([[[0.9, 0.8, 0.7, 0.6]]], f32)
    got = evaluate("NonMaxSuppression", [b, s, np.array([9]), np.array([0.5], f32)])
    same(got, [np.array([[0, 0, 0], [0, 0, 1], [0, 0, 2]])])


@pytest.mark.parametrize(
    "b,s,rest,attrs,what",
    [
        (boxes(1, 5), scores(1, 1, 6), [], {}, "expected \\[B, N, 4\\]"),
        (boxes(2, 5), scores(1, 1, 5), [], {}, "boxes"),
        (boxes(1, 5)[:, :, :3], scores(1, 1, 5), [], {}, "boxes"),
        (boxes(1, 5)[0], scores(1, 1, 5), [], {}, "boxes"),
        (boxes(1, 5).astype(np.float64), scores(1, 1, 5), [], {}, "float64"),
        (boxes(1, 5), scores(1, 1, 5), [np.array([3]), np.array([1.5], f32)], {}, "iou_threshold 1.5"),
        (boxes(1, 5), scores(1, 1, 5), [np.array([3]), np.array([np.nan], f32)], {}, "iou_threshold nan"),
        (boxes(1, 5), scores(1, 1, 5), [np.array([3, 4])], {}, "one integer"),
        (boxes(1, 5), scores(1, 1, 5), [np.array([3])], {"center_point_box": 2}, "center_point_box is 2"),
    ],
)
def test_nms_refuses_what_does_not_fit(b, s, rest, attrs, what):
    with pytest.raises(Error, match=what):
        evaluate("NonMaxSuppression", [b, s, *rest], **attrs)
