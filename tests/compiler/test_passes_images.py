# SPDX-License-Identifier: Apache-2.0
"""Padding before a convolution, group norms in pieces and pixel shuffles, as exporters write them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pyneo.compiler.driver import _declare_symbols
from pyneo.compiler.frontends.onnx import load_onnx
from pyneo.compiler.passes import optimise
from tests.support.passes import Case, check, f32, ints, num, optimised

CONSTANTS = {
    "w": f32(6, 4, 3, 3) / 6,
    "b": f32(6),
    "around": ints(0, 0, 1, 2, 0, 0, 0, 3),
    "channels_too": ints(0, 1, 1, 1, 0, 0, 1, 1),
    "cut": ints(0, 0, -1, 0, 0, 0, 0, 0),
    "zero": num(0.0),
    "one": num(1.0),
    "grouped": ints(2, 2, -1),
    "whole": ints(2, 4, 6, 6),
    "other": ints(2, 4, 36),
    "ones": np.float32([1, 1]),
    "scale2": np.float32([0.5, 2.0]),
    "shift2": np.float32([1.0, -3.0]),
    "gamma": f32(4, 1, 1),
    "beta": f32(1, 4, 1, 1),
    "zeros": np.zeros(2, np.float32),
    "column": f32(6, 1),
    "w8": f32(8, 4, 3, 3) / 6,
    "b8": f32(8),
}
PARTS = "g = Reshape(x, grouped) n = InstanceNormalization(g, ones, zeros) r = Reshape(n, whole) "

CASES = [
    Case("a_mean_of_the_plane", "y = AveragePool<kernel_shape=[6,6], strides=[6,6]>(x)", "GlobalAveragePool"),
    Case("the_most_of_the_plane", 'y = MaxPool<kernel_shape=[6,6], auto_pad="VALID">(x)', "GlobalMaxPool"),
    Case("a_padded_plane", "y = AveragePool<kernel_shape=[6,6], pads=[1,1,0,0]>(x)", "AveragePool"),
    Case("not_all_of_the_plane", "y = AveragePool<kernel_shape=[6,5], strides=[1,2]>(x)", "AveragePool"),
    Case("zeros_around_an_image", "p = Pad(x, around) y = Conv(p, w, b)", "Conv+bias"),
    Case("zeros_given", "p = Pad(x, around, zero) y = Conv<pads=[2, 0, 1, 1]>(p, w)", "Conv"),
    Case("zeros_with_strides", "p = Pad(x, around) y = Conv<strides=[2, 2]>(p, w)", "Conv"),
    Case(
        "one_pad_for_two_readers",
        "p = Pad(x, around) y = Conv(p, w) z = Relu(p)",
        "Pad Conv Relu",
        outputs=("y", "z"),
    ),
    Case("other_numbers_stay", "p = Pad(x, around, one) y = Conv(p, w)", "Pad Conv"),
    Case("reflections_stay", 'p = Pad<mode = "reflect">(x, around) y = Conv(p, w)', "Pad Conv"),
    Case(
        "channels_stay",
        "p = Pad(x, channels_too) y = Conv(p, w)",
        "Pad Conv",
        inputs={"x": (2, 3, 6, 6)},
    ),
    Case("cuts_stay", "p = Pad(x, cut) y = Conv(p, w)", "Pad Conv"),
    Case("group_norm", f"{PARTS} m = Mul(r, gamma) y = Add(m, beta)", "GroupNormalization"),
    Case("group_norm_with_scale_only", f"{PARTS} m = Mul(gamma, r) y = Exp(m)", "GroupNormalization Exp"),
    Case(
        "group_norm_with_numbers_for_groups",
        "g = Reshape(x, grouped) n = InstanceNormalization<epsilon=0.1>(g, scale2, shift2) "
        "r = Reshape(n, whole) m = Mul(r, gamma) y = Add(m, beta)",
        "GroupNormalization",
    ),
    Case("group_norm_and_a_factor_per_row", f"{PARTS} y = Mul(r, column)", "GroupNormalization Mul"),
    Case(
        "norm_that_leaves_in_another_shape_stays",
        "g = Reshape(x, grouped) n = InstanceNormalization(g, ones, zeros) y = Reshape(n, other)",
        "Reshape InstanceNormalization Reshape",
    ),
    Case(
        "pixel_shuffle_behind_a_convolution",
        'c = Conv(x, w8, b8) a = Relu(c) y = DepthToSpace<blocksize=2, mode = "CRD">(a)',
        "Conv+bias+relu DepthToSpace",
    ),
    Case(
        "pixel_shuffle_of_what_others_read",
        'c = Conv(x, w8) y = DepthToSpace<blocksize=2, mode = "CRD">(c) z = Exp(c)',
        "Conv DepthToSpace Exp",
        outputs=("y", "z"),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_what_remains_and_what_it_computes(case: Case) -> None:
    check(replace(case, constants=CONSTANTS))


# (image, kernel, attributes of Conv, what is left of the kernel)
CROPPED: dict[str, tuple] = {
    "only_the_centre": ((7, 7), (3, 3), "dilations=[9, 9], pads=[9, 9, 9, 9]", (1, 1)),
    "as_far_as_the_image": ((7, 7), (3, 3), "dilations=[7, 7], pads=[7, 7, 7, 7]", (1, 1)),
    "one_pixel_of_the_outer_taps": ((7, 7), (3, 3), "dilations=[6, 6], pads=[6, 6, 6, 6]", (3, 3)),
    "one_axis": ((20, 7), (3, 3), "dilations=[9, 9], pads=[9, 9, 9, 9]", (3, 1)),
    "outer_taps_of_five": ((7, 7), (5, 5), "dilations=[4, 4], pads=[8, 8, 8, 8]", (3, 3)),
    "one_side": ((4, 4), (3, 3), "pads=[3, 3, 0, 0], strides=[4, 4]", (3, 3)),
    "one_side_of_an_axis": ((6, 6), (3, 3), "dilations=[1, 8], pads=[1, 16, 1, 0]", (3, 1)),
    "more_padding_than_the_kernel": ((3, 3), (3, 3), "dilations=[5, 5], pads=[7, 8, 9, 6]", (2, 2)),
    "strides_that_jump_over_the_image": (
        (5, 5),
        (3, 3),
        "strides=[8, 8], dilations=[7, 7], pads=[7, 7, 7, 7]",
        (1, 1),
    ),
    "padding_less_than_a_step": ((20, 20), (3, 3), "dilations=[9, 9], pads=[8, 8, 8, 8]", (3, 3)),
    "one_axis_of_three": ((3, 4, 5), (3, 1, 3), "dilations=[4, 1, 2], pads=[4, 0, 2, 4, 0, 2]", (1, 1, 3)),
    "a_line": ((9,), (7,), "dilations=[5], pads=[15, 15]", (3,)),
    "groups": ((5, 5), (3, 3), "group=2, dilations=[6, 6], pads=[6, 6, 6, 6]", (1, 1)),
}


@pytest.mark.parametrize("name", CROPPED)
def test_taps_that_meet_only_padding_are_dropped(name: str) -> None:
    image, kernel, attrs, left = CROPPED[name]
    weights = f32(6, 2 if "group" in attrs else 4, *kernel) / 6
    case = Case(
        name,
        f"y = Conv<{attrs}>(x, weights, bias)",
        "Conv+bias",
        constants={"weights": weights, "bias": f32(6)},
        inputs={"x": (2, 4, *image)},
    )
    kept = optimised(case.model()).nodes[0].const(1)
    assert kept is not None and kept.shape[2:] == left
    check(case)


@pytest.mark.parametrize(("image", "left"), [(("n", 4, 7, 7), (1, 1)), ((2, 4, "h", 7), (3, 3))])
def test_taps_stay_where_the_image_is_open(image: tuple[int | str, ...], left: tuple[int, ...]) -> None:
    body = "y = Conv<dilations=[9, 9], pads=[9, 9, 9, 9]>(x, w)"
    graph = load_onnx(Case("open", body, "Conv", constants=CONSTANTS, inputs={"x": image}).model())
    _declare_symbols(graph)
    optimise(graph)
    weights = graph.nodes[0].const(1)
    assert weights is not None and weights.shape[2:] == left


FAR = {
    "w3": f32(64, 384, 3, 3) / 59,
    "b64": f32(64),
    "w5": f32(32, 256, 5, 1) / 36,
}
DILATED = "Conv<dilations=[12,12], pads=[12,12,12,12]>"


@pytest.mark.parametrize(
    "case",
    [
        Case(
            "rows_and_columns",
            f"y = {DILATED}(x, w3, b64)",
            "Split Conv Pad Conv Pad Split Conv Pad Conv Pad Conv+bias+sum Add Add Add",
            inputs={"x": (2, 384, 14, 14)},
        ),
        Case(
            "uneven_planes",
            f"c = {DILATED}(x, w3) y = Relu(c)",
            "Split Conv Pad Conv Pad Conv+sum Add+relu",
            inputs={"x": (1, 384, 16, 40)},
        ),
        Case("near_taps_stay", "y = Conv<pads=[1,1,1,1]>(x, w3)", "Conv", inputs={"x": (1, 384, 14, 14)}),
        Case("small_planes_stay", f"y = {DILATED}(x, w3)", "Conv", inputs={"x": (1, 384, 13, 2)}),
        Case(
            "four_edges",
            "y = Conv<dilations=[7,1], pads=[14,0,14,0]>(x, w5)",
            "Conv",
            inputs={"x": (1, 256, 20, 64)},
        ),
    ],
    ids=lambda c: c.name,
)
def test_taps_that_meet_an_edge(case: Case) -> None:
    check(replace(case, constants=FAR))
