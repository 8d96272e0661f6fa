# SPDX-License-Identifier: Apache-2.0
"""Every rule of pyneo/compiler/passes fires where it may, nowhere else, and changes no result.

test_passes_transformer.py has those for transformers.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

import pyneo
from pyneo.compiler.passes.infer import FOLD_BYTES
from tests.support.models import from_text
from tests.support.passes import Case, check, f32, ints, num, optimised

CONSTANTS = {
    "in_order": ints(0, 1, -2, 3),
    "turned": ints(0, 2, 1, 3),
    "w": f32(4, 4, 3, 3) / 6,
    "wg": f32(4, 3, 2, 2) / 2,
    "b": f32(4),
    "gamma": np.abs(f32(4)) + 0.5,
    "beta": f32(4),
    "mean": f32(4),
    "var": np.abs(f32(4)) + 0.5,
    "gamma6": np.abs(f32(6)) + 0.5,
    "beta6": f32(6),
    "mean6": f32(6),
    "var6": np.abs(f32(6)) + 0.5,
    "channel": f32(1, 4, 1, 1),
    "column": f32(6),
    "whole": f32(2, 4, 6, 6),
    "m": f32(8, 5) / 3,
    "mt": f32(5, 8) / 3,
    "row": f32(5),
    "rows": f32(1, 5),
    "side": f32(3, 1),
    "cube": f32(2, 8, 5),
    "three": num(3.0),
    "zero": num(0.0),
    "one": num(1.0),
    "last": ints(-1),
}
MATRIX: dict[str, tuple[int | str, ...]] = {"x": (3, 8)}
PAIR: dict[str, tuple[int | str, ...]] = {"x": (2, 4, 6, 6), "r": (2, 4, 6, 6)}
SAME = "pads=[1, 1, 1, 1]"
CONV = f"c = Conv<{SAME}>(x, w)"
NORM = "gamma, beta, mean, var"

LINEAR = [
    Case("batch_norm_folds_into_conv", f"{CONV} y = BatchNormalization(c, {NORM})", "Conv+bias"),
    Case(
        "batch_norm_folds_into_conv_with_bias",
        f"c = Conv(x, w, b) y = BatchNormalization(c, {NORM})",
        "Conv+bias",
    ),
    Case(
        "batch_norm_folds_into_grouped_transposed_conv",
        "c = ConvTranspose<group=2>(x, wg) y = BatchNormalization(c, gamma6, beta6, mean6, var6)",
        "ConvTranspose+bias",
    ),
    Case(
        "batch_norm_stays_where_the_convolution_has_a_second_reader",
        f"{CONV} n = BatchNormalization(c, {NORM}) s = Sigmoid(c) y = Sub(n, s)",
        "Conv Mul Add Sigmoid Sub",
    ),
    Case(
        "batch_norm_stays_where_the_convolution_is_an_output",
        f"{CONV} y = BatchNormalization(c, {NORM})",
        "Conv Mul Add",
        outputs=("y", "c"),
    ),
    Case(
        "batch_norm_stays_behind_a_bias_that_is_no_constant",
        f"c = Conv(x, w, r) y = BatchNormalization(c, {NORM})",
        "Conv+bias Mul Add",
        inputs={"x": (2, 4, 6, 6), "r": (4,)},
    ),
    Case("batch_norm_alone_is_a_scale_and_a_shift", f"y = BatchNormalization(x, {NORM})", "Mul Add"),
    Case("scale_per_channel_folds_into_conv", f"{CONV} y = Mul(c, channel)", "Conv+bias"),
    Case("shift_per_channel_folds_into_conv", f"{CONV} y = Add(channel, c)", "Conv+bias"),
    Case("difference_folds_into_conv", f"{CONV} y = Sub(c, channel)", "Conv+bias"),
    Case("quotient_folds_into_conv", f"{CONV} y = Div(c, three)", "Conv+bias"),
    Case("difference_from_a_constant_stays", f"{CONV} y = Sub(channel, c)", "Conv Sub"),
    Case("quotient_of_a_constant_stays", f"{CONV} e = Exp(c) y = Div(three, e)", "Conv Exp Div"),
    Case("scale_along_another_axis_stays", f"{CONV} y = Mul(c, column)", "Conv Mul"),
    Case("scale_of_every_element_stays", f"{CONV} y = Mul(c, whole)", "Conv Mul"),
    Case("scale_behind_an_activation_stays", f"{CONV} a = Relu(c) y = Mul(a, channel)", "Conv+relu Mul"),
    Case(
        "scale_stays_where_the_sum_is_an_output",
        f"{CONV} y = Mul(c, channel)",
        "Conv Mul",
        outputs=("c", "y"),
    ),
    Case(
        "conv_on_one_pixel_is_a_matmul",
        "c = Conv(x, many, each) y = Relu(c)",
        "Reshape MatMul+bias+relu Reshape",
        {"many": f32(320, 256, 1, 1) / 16, "each": f32(320)},
        inputs={"x": (1, 256, 1, 1)},
    ),
    Case(
        "conv_on_a_pixel_of_two_images_stays",
        "y = Conv(x, many)",
        "Conv",
        {"many": f32(320, 256, 1, 1) / 16},
        inputs={"x": (2, 256, 1, 1)},
    ),
    Case("gemm_is_a_matmul", "y = Gemm(x, m, row)", "MatMul+bias", inputs=MATRIX),
    Case("gemm_without_bias_is_a_matmul", "y = Gemm(x, m)", "MatMul", inputs=MATRIX),
    Case(
        "gemm_factors_fold",
        "y = Gemm<alpha=0.5, beta=2.0, transB=1>(x, mt, rows)",
        "MatMul+bias",
        inputs=MATRIX,
    ),
    Case("gemm_with_transposed_input_stays", "y = Gemm<transA=1>(x, m)", "Gemm", inputs={"x": (8, 3)}),
    Case("gemm_with_a_bias_per_row_stays", "y = Gemm(x, m, side)", "Gemm+bias", inputs=MATRIX),
    Case("gemm_of_two_activations_stays", "y = Gemm(x, r)", "Gemm", inputs={"x": (3, 8), "r": (8, 5)}),
    Case("row_behind_matmul_is_its_bias", "p = MatMul(x, m) y = Add(row, p)", "MatMul+bias", inputs=MATRIX),
    Case("column_behind_matmul_is_no_bias", "p = MatMul(x, m) y = Add(p, side)", "MatMul Add", inputs=MATRIX),
    Case(
        "row_stays_where_matmul_has_a_second_reader",
        "p = MatMul(x, m) s = Add(p, row) y = Mul(s, p)",
        "MatMul Add Mul",
        inputs=MATRIX,
    ),
    Case(
        "row_stays_behind_a_batch_of_matrices",
        "p = MatMul(x, cube) y = Add(p, row)",
        "MatMul Add",
        inputs={"x": (2, 3, 8)},
    ),
    Case(
        "number_behind_matmul_goes_into_weights_and_bias",
        "p = MatMul(x, m) s = Add(p, row) y = Mul(s, three)",
        "MatMul+bias",
        inputs=MATRIX,
    ),
    Case(
        "quotient_behind_matmul_goes_into_weights",
        "p = MatMul(x, m) y = Div(p, three)",
        "MatMul",
        inputs=MATRIX,
    ),
    Case(
        "number_divided_by_matmul_stays",
        "p = MatMul(x, m) e = Exp(p) q = MatMul(e, mt) y = Div(three, q)",
        "MatMul Exp MatMul Div",
        inputs=MATRIX,
    ),
    Case("row_times_matmul_goes_into_weights", "p = MatMul(x, m) y = Mul(p, row)", "MatMul", inputs=MATRIX),
    Case(
        "row_times_matmul_goes_into_weights_and_bias",
        "p = MatMul(x, m) s = Add(p, row) y = Div(s, rows)",
        "MatMul+bias",
        inputs=MATRIX,
    ),
    Case("column_times_matmul_stays", "p = MatMul(x, m) y = Mul(p, side)", "MatMul Mul", inputs=MATRIX),
    Case(
        "number_behind_a_turned_matmul_goes_into_weights",
        "p = MatMul(x, m) t = Transpose(p) y = Mul(three, t)",
        "MatMul Transpose",
        inputs=MATRIX,
    ),
    Case(
        "row_behind_a_turned_matmul_stays",
        "p = MatMul(x, m) t = Transpose(p) y = Mul(t, row)",
        "MatMul Transpose Mul",
        inputs={"x": (5, 8)},
    ),
]

EPILOGUE = [
    Case("relu_is_part_of_conv", f"{CONV} y = Relu(c)", "Conv+relu"),
    Case("relu_stays_where_conv_is_an_output", f"{CONV} y = Relu(c)", "Conv Relu", outputs=("y", "c")),
    Case("relu_stays_where_conv_has_a_second_reader", f"{CONV} a = Relu(c) y = Mul(a, c)", "Conv Relu Mul"),
    Case("clip_is_part_of_conv", f"{CONV} y = Clip(c, zero, three)", "Conv+clip"),
    Case("clip_from_zero_is_relu", f"{CONV} y = Clip(c, zero)", "Conv+relu"),
    Case(
        "leaky_relu_is_part_of_matmul",
        "p = MatMul(x, m) y = LeakyRelu<alpha=0.3>(p)",
        "MatMul+leaky_relu",
        inputs=MATRIX,
    ),
    Case("relu_is_part_of_sum", "s = Add(x, r) y = Relu(s)", "Add+relu", inputs=PAIR),
    Case("relu_is_no_part_of_difference", "s = Sub(x, r) y = Relu(s)", "Sub Relu", inputs=PAIR),
    Case("residual_joins_conv", f"{CONV} y = Add(c, r)", "Conv+sum", inputs=PAIR),
    Case(
        "residual_on_the_left_joins_conv", f"{CONV} s = Add(r, c) y = Relu(s)", "Conv+sum+relu", inputs=PAIR
    ),
    Case("relu_then_residual", f"{CONV} a = Relu(c) y = Add(a, r)", "Conv+relu+sum", inputs=PAIR),
    Case(
        "relu_residual_relu",
        f"{CONV} a = Relu(c) s = Add(a, r) y = Relu(s)",
        "Conv+relu+sum+relu",
        inputs=PAIR,
    ),
    Case(
        "residual_joins_matmul",
        "p = MatMul(x, m) y = Add(p, r)",
        "MatMul+sum",
        inputs={"x": (3, 8), "r": (3, 5)},
    ),
    Case(
        "residual_that_broadcasts_stays",
        f"{CONV} y = Add(c, r)",
        "Conv Add",
        inputs={"x": (2, 4, 6, 6), "r": (2, 4, 1, 1)},
    ),
    Case(
        "residual_stays_where_conv_has_a_second_reader",
        f"{CONV} s = Add(c, r) y = Mul(s, c)",
        "Conv Add Mul",
        inputs=PAIR,
    ),
    Case(
        "residual_stays_where_conv_is_an_output",
        f"{CONV} y = Add(c, r)",
        "Conv Add",
        inputs=PAIR,
        outputs=("y", "c"),
    ),
    Case(
        "of_two_convolutions_the_later_takes_the_sum",
        f"{CONV} d = Conv<{SAME}>(r, w) y = Add(c, d)",
        "Conv Conv+sum",
        inputs=PAIR,
    ),
    Case("residual_made_after_conv", f"{CONV} e = Exp(r) y = Add(c, e)", "Exp Conv+sum", inputs=PAIR),
    Case("conv_twice_doubles_its_weights", f"{CONV} y = Add(c, c)", "Conv+bias"),
    Case("gather_in_order", "y = Gather<axis = 1>(x, in_order)", "Reshape"),
    Case("gather_out_of_order_stays", "y = Gather<axis = 1>(x, turned)", "Gather"),
    Case("silu", "s = Sigmoid(x) y = Mul(x, s)", "Swish"),
    Case("silu_behind_conv", f"{CONV} s = Sigmoid(c) y = Mul(s, c)", "Conv+silu"),
    Case("gate_of_another_value_is_no_silu", "s = Sigmoid(r) y = Mul(x, s)", "Sigmoid Mul", inputs=PAIR),
    Case(
        "silu_stays_where_the_gate_is_an_output",
        "s = Sigmoid(x) y = Mul(x, s)",
        "Sigmoid Mul",
        outputs=("y", "s"),
    ),
    Case("hard_swish", "s = HardSigmoid<alpha=0.16666667>(x) y = Mul(x, s)", "HardSwish"),
    Case(
        "hard_sigmoid_of_another_slope_is_no_hard_swish",
        "s = HardSigmoid(x) y = Mul(x, s)",
        "HardSigmoid Mul",
    ),
]

IDENTITY = [
    Case(
        "slices_that_take_all_are_a_split",
        "v = Slice(x, two, far, two, one1) u = Slice(x, zero1, two, two) n = Neg(v) y = Concat<axis=2>(n, u)",
        "Split Neg Concat",
        {"two": ints(2), "far": ints(99), "zero1": ints(0), "one1": ints(1)},
    ),
    Case(
        "slices_that_leave_some_stay",
        "v = Slice(x, two, five, two) u = Slice(x, zero1, two, two) n = Neg(v) y = Concat<axis=2>(n, u)",
        "Slice Slice Neg Concat",
        {"two": ints(2), "five": ints(5), "zero1": ints(0)},
    ),
    Case(
        "slices_that_share_some_stay",
        "v = Slice(x, two, far, two) u = Slice(x, zero1, three1, two) n = Neg(v) y = Concat<axis=2>(n, u)",
        "Slice Slice Neg Concat",
        {"two": ints(2), "far": ints(99), "zero1": ints(0), "three1": ints(3)},
    ),
    Case(
        "slices_in_steps_stay",
        "v = Slice(x, one1, far, two, two) u = Slice(x, zero1, far, two, two) y = Sub(v, u)",
        "Slice Slice Sub",
        {"two": ints(2), "far": ints(99), "zero1": ints(0), "one1": ints(1)},
    ),
    Case(
        "expanded_operand_is_read_as_it_was",
        "n = ReduceL2<axes=[-1]>(x) e = Expand(n, square) y = Div(x, e)",
        "ReduceL2 Div",
        {"square": ints(2, 4, 6, 6)},
    ),
    Case(
        "expand_that_widens_the_result_stays",
        "n = ReduceL2<axes=[-1]>(x) e = Expand(n, square) y = Div(n, e)",
        "ReduceL2 Expand Div",
        {"square": ints(2, 4, 6, 6)},
    ),
    Case(
        "expanded_condition_is_read_as_it_was",
        "n = ReduceL2<axes=[-1]>(x) c = Less(n, three) e = Expand(c, square) y = Where(e, x, three)",
        "ReduceL2 Less Where",
        {"square": ints(2, 4, 6, 6)},
    ),
    Case(
        "add_zero_and_times_one_vanish",
        "a = Add(x, zero) b1 = Mul(one, a) c = Div(b1, one) y = Exp(c)",
        "Exp",
    ),
    Case("cast_to_the_same_type_vanishes", "a = Cast<to=1>(x) y = Exp(a)", "Exp"),
    Case("zero_less_a_value_stays", "y = Sub(zero, x)", "Sub"),
    Case("one_over_a_value_stays", "e = Exp(x) y = Div(one, e)", "Exp Div"),
    Case("an_input_that_is_an_output_is_copied", "y = Identity(x)", "Identity"),
    Case("identity_to_an_output_keeps_its_name", "e = Exp(x) y = Identity(e)", "Exp"),
    Case(
        "two_outputs_of_one_value_keep_their_names",
        "e = Exp(x) y = Identity(e) z = Identity(e)",
        "Exp Identity",
        outputs=("y", "z"),
    ),
    Case(
        "full_slice_vanishes",
        "a = Slice(x, s0, s1, ax) y = Exp(a)",
        "Exp",
        {"s0": ints(0), "s1": ints(6), "ax": ints(2)},
    ),
    Case(
        "reversed_slice_stays",
        "a = Slice(x, s0, s1, ax, st) y = Exp(a)",
        "Slice Exp",
        {"s0": ints(-1), "s1": ints(-100), "ax": ints(2), "st": ints(-1)},
    ),
    Case("empty_pad_vanishes", "a = Pad(x, p) y = Exp(a)", "Exp", {"p": ints(*[0] * 8)}),
    Case(
        "reshapes_merge",
        "a = Reshape(x, p) b1 = Flatten(a) y = Exp(b1)",
        "Reshape Exp",
        {"p": ints(2, 4, 36)},
    ),
    Case(
        "reshape_back_vanishes",
        "a = Reshape(x, p) b1 = Reshape(a, q) y = Exp(b1)",
        "Exp",
        {"p": ints(8, 36), "q": ints(2, 4, 6, 6)},
    ),
    Case(
        "transposes_merge",
        "a = Transpose<perm=[0, 2, 3, 1]>(x) b1 = Transpose<perm=[0, 2, 1, 3]>(a) y = Exp(b1)",
        "Transpose Exp",
    ),
    Case(
        "transpose_back_vanishes",
        "a = Transpose<perm=[0, 2, 3, 1]>(x) b1 = Transpose<perm=[0, 3, 1, 2]>(a) y = Exp(b1)",
        "Exp",
    ),
    Case(
        "transpose_of_dims_of_one_is_a_reshape",
        "a = Transpose<perm=[0, 2, 3, 1]>(x) y = Exp(a)",
        "Reshape Exp",
        inputs={"x": (2, 1, 6, 6)},
    ),
    Case(
        "transposes_stay_around_an_activation",
        "a = Transpose<perm=[1, 0, 2, 3]>(x) e = Exp(a) y = Transpose<perm=[1, 0, 2, 3]>(e)",
        "Transpose Exp Transpose",
    ),
    Case("equal_nodes_are_one", "a = Exp(x) b1 = Exp(x) y = Mul(a, b1)", "Exp Mul"),
    Case(
        "equal_chains_are_one", "a = Exp(x) b1 = Sin(a) c = Exp(x) d = Sin(c) y = Mul(b1, d)", "Exp Sin Mul"
    ),
    Case(
        "nodes_with_other_attributes_stay",
        "a = Elu<alpha=1.0>(x) b1 = Elu<alpha=2.0>(x) y = Mul(a, b1)",
        "Elu Elu Mul",
    ),
    Case("equal_nodes_that_are_both_outputs_stay", "y = Exp(x) z = Exp(x)", "Exp Exp", outputs=("y", "z")),
    Case("dead_nodes_go", "a = Exp(x) b1 = Sin(a) y = Cos(x)", "Cos"),
    Case(
        "shape_arithmetic_folds",
        "s = Shape(x) n = Gather(s, zeroth) k = Concat<axis=0>(n, last) y = Reshape(x, k)",
        "Reshape",
        {"zeroth": ints(0)},
    ),
    Case("constants_fold", "a = Mul(channel, three) b1 = Exp(a) y = Sub(x, b1)", "Sub"),
]


@pytest.mark.parametrize("case", [*LINEAR, *EPILOGUE, *IDENTITY], ids=lambda c: c.name)
def test_what_remains_and_what_it_computes(case: Case) -> None:
    check(replace(case, constants=CONSTANTS | case.constants))


@pytest.mark.parametrize(("rows", "folds"), [(1000, True), (FOLD_BYTES // 4000 + 1, False)])
def test_a_constant_grows_by_folding_no_further_than_the_budget(rows: int, folds: bool) -> None:
    model = from_text(
        "big = Expand(c, shape) s = ReduceSum<keepdims=1>(big, first) t = Add(x, big) y = Add(t, s)",
        {"x": (1, 1000)},
        {"c": f32(1, 1000), "shape": ints(rows, 1000), "first": ints(0)},
    )
    assert ("Expand" not in [n.op for n in optimised(model).nodes]) is folds


@pytest.mark.parametrize("indices", [(0, 1, 2, 7), (0, 1, 2, -5)])
def test_gather_of_what_is_not_there_is_no_reshape(indices: tuple[int, ...]) -> None:
    case = Case("beyond", "y = Gather<axis = 1>(x, beyond)", "Gather", {"beyond": ints(*indices)})
    assert [n.op for n in optimised(case.model()).nodes] == ["Gather"]


def test_a_batch_norm_in_training_mode_goes_by_the_batch() -> None:
    # Against onnx's evaluator: onnxruntime is built without training.
    body = "n = BatchNormalization<training_mode=1>(x, gamma, beta, mean, var) y = Exp(n)"
    model = from_text(body, {"x": (2, 4, 6, 6)}, {n: CONSTANTS[n] for n in ("gamma", "beta", "mean", "var")})
    x = f32(2, 4, 6, 6)
    (wanted,) = ReferenceEvaluator(model).run(None, {"x": x})
    got = pyneo.Model.load(pyneo.compile(model), allow_unsigned=True).predict(x)
    np.testing.assert_allclose(got, wanted, rtol=1e-4)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_a_resize_to_its_own_size_by_a_scale_of_more_than_one_still_moves_pixels(mode: str) -> None:
    # Against onnx's evaluator: onnxruntime copies where the sizes are the same.
    scales = {"s": np.array([1, 1, 1.07, 1.07], np.float32)}
    model = from_text(f'a = Resize<mode="{mode}">(x, , s) y = Exp(a)', {"x": (1, 2, 9, 9)}, scales)
    x = f32(1, 2, 9, 9)
    (wanted,) = ReferenceEvaluator(model).run(None, {"x": x})
    got = pyneo.Model.load(pyneo.compile(model), allow_unsigned=True).predict(x)
    np.testing.assert_allclose(got, wanted, rtol=1e-5)
    assert np.abs(got - np.exp(x)).max() > 0.1
