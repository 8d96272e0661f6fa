# SPDX-License-Identifier: Apache-2.0
"""GELU, LayerNormalization and attention written out are found in every order, and nothing else is."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest

import pyneo
from pyneo.compiler.driver import _declare_symbols
from pyneo.compiler.frontends.onnx import load_onnx
from pyneo.compiler.passes import optimise
from tests.support.passes import Case, check, f32, ints, num

CONSTANTS = {
    "one": num(1.0),
    "half": num(0.5),
    "two": num(2.0),
    "three": num(3.0),
    "near_root2": num(1.5),
    "root2": num(2**0.5),
    "inverse_root2": num(0.5**0.5),
    "root_2_pi": num((2 / np.pi) ** 0.5),
    "cubic": num(0.044715),
    "epsilon": num(1e-5),
    "epsilon4": np.full((1, 1, 1, 1), 1e-5, np.float32),
    "near_half": num(0.50004),
    "gamma": f32(8),
    "beta": f32(8),
    "column": f32(3, 1),
    "half5": np.full((1, 1, 1, 1, 1), 0.5, np.float32),
    "gamma4": f32(1, 1, 1, 8),
    "last": ints(-1),
    "second": ints(1),
    "split": ints(2, 5, 2, 4),
    "merged": ints(2, 5, 8),
    "depth": num(0.5),
    "root_depth": num(2.0),
    "mask": np.triu(np.full((5, 5), -1e9, np.float32), 1),
    "wq": f32(8, 8) / 3,
    "wk": f32(8, 8) / 3,
    "wv": f32(8, 8) / 3,
}
X: dict[str, tuple[int | str, ...]] = {"x": (2, 3, 8)}

# erf(x / sqrt 2) in two spellings, then the three factors in their orders.
ERF = {"div": "a = Div(x, root2) e = Erf(a)", "mul": "a = Mul(inverse_root2, x) e = Erf(a)"}
FACTORS = {
    "x_then_half": "p = Add(e, one) q = Mul(x, p) y = Mul(q, half)",
    "half_then_x": "p = Add(one, e) q = Mul(half, p) y = Mul(q, x)",
    "half_of_x_first": "h = Mul(x, half) p = Add(e, one) y = Mul(h, p)",
    "x_over_two_first": "h = Div(x, two) p = Add(e, one) y = Mul(p, h)",
}
CUBE = {"pow": "c = Pow(x, three)", "mul": "s = Mul(x, x) c = Mul(s, x)"}
TANH = "d = Mul(c, cubic) i = Add(x, d) a = Mul(root_2_pi, i) e = Tanh(a)"

GELU = [
    *(
        Case(f"gelu_erf_{k}_{j}", f"{ERF[k]} {FACTORS[j]}", "Gelu", inputs=X)
        for k, j in itertools.product(ERF, FACTORS)
    ),
    *(
        Case(f"gelu_tanh_{k}_{j}", f"{CUBE[k]} {TANH} {FACTORS[j]}", "Gelu", inputs=X)
        for k, j in itertools.product(CUBE, FACTORS)
    ),
    Case(
        "gelu_of_another_divisor_stays",
        f"a = Div(x, near_root2) e = Erf(a) {FACTORS['x_then_half']}",
        "Div Erf Add Mul Mul",
        inputs=X,
    ),
    Case(
        "gelu_of_nearly_half_stays",
        f"{ERF['div']} p = Add(e, one) q = Mul(x, p) y = Mul(q, near_half)",
        "Div Erf Add Mul Mul",
        inputs=X,
    ),
    Case(
        "gelu_around_another_value_stays",
        f"{ERF['div']} p = Add(e, one) q = Mul(r, p) y = Mul(q, half)",
        "Div Erf Add Mul Mul",
        inputs=X | {"r": (2, 3, 8)},
    ),
    Case(
        "gelu_whose_factor_adds_dims_stays",
        f"{ERF['div']} p = Add(e, one) q = Mul(x, p) y = Mul(q, half5)",
        "Div Erf Add Mul Mul",
        inputs=X,
    ),
    Case(
        "gelu_stays_where_its_middle_is_an_output",
        f"{ERF['div']} {FACTORS['x_then_half']}",
        "Div Erf Add Mul Mul",
        inputs=X,
        outputs=("y", "p"),
    ),
]

CENTRED = "m = ReduceMean<axes=[-1]>(x) d = Sub(x, m)"
POWER = "v = Pow(d, two) w = ReduceMean<axes=[-1]>(v)"
DEVIATION = "t = Add(w, epsilon) s = Sqrt(t) n = Div(d, s)"
WRITTEN_OUT = "ReduceMean Sub Pow ReduceMean Add Sqrt Div"

LAYER_NORM = [
    Case(
        "layer_norm",
        f"{CENTRED} {POWER} {DEVIATION} g = Mul(n, gamma) y = Add(g, beta)",
        "LayerNormalization",
        inputs=X,
    ),
    Case(
        "layer_norm_with_its_operands_the_other_way",
        f"{CENTRED} v = Mul(d, d) w = ReduceMean<axes=[-1]>(v) t = Add(epsilon, w) s = Sqrt(t) n = Div(d, s) "
        "g = Mul(gamma, n) y = Add(beta, g)",
        "LayerNormalization",
        inputs=X,
    ),
    Case(
        "layer_norm_that_subtracts_twice",
        f"{CENTRED} d2 = Sub(x, m) v = Pow(d2, two) w = ReduceMean<axes=[-1]>(v) "
        f"{DEVIATION} y = Mul(n, gamma)",
        "LayerNormalization",
        inputs=X,
    ),
    Case(
        "layer_norm_without_scale",
        f"{CENTRED} {POWER} {DEVIATION} y = Exp(n)",
        "LayerNormalization Exp",
        inputs=X,
    ),
    Case(
        "layer_norm_with_a_factor_per_row_keeps_it",
        f"{CENTRED} {POWER} {DEVIATION} y = Mul(n, column)",
        "LayerNormalization Mul",
        inputs=X,
    ),
    Case(
        "layer_norm_with_a_scale_that_adds_dims_keeps_it",
        f"{CENTRED} {POWER} {DEVIATION} y = Mul(n, gamma4)",
        "LayerNormalization Mul",
        inputs=X,
    ),
    Case(
        "norm_whose_epsilon_adds_dims_stays",
        f"{CENTRED} {POWER} t = Add(w, epsilon4) s = Sqrt(t) n = Div(d, s) y = Exp(n)",
        f"{WRITTEN_OUT} Exp",
        inputs=X,
    ),
    Case(
        "norm_whose_means_are_over_different_axes_stays",
        f"{CENTRED} v = Pow(d, two) w = ReduceMean<axes=[1]>(v) {DEVIATION} y = Exp(n)",
        f"{WRITTEN_OUT} Exp",
        inputs=X,
    ),
    Case(
        "norm_over_a_middle_axis_stays",
        "m = ReduceMean<axes=[1]>(x) d = Sub(x, m) v = Pow(d, two) w = ReduceMean<axes=[1]>(v) "
        f"{DEVIATION} y = Exp(n)",
        f"{WRITTEN_OUT} Exp",
        inputs=X,
    ),
    Case(
        "norm_of_another_power_stays",
        f"{CENTRED} a = Abs(d) v = Pow(a, three) w = ReduceMean<axes=[-1]>(v) {DEVIATION} y = Exp(n)",
        "ReduceMean Sub Abs Pow ReduceMean Add Sqrt Div Exp",
        inputs=X,
    ),
]

SQUARES = {"pow": "s = Pow(x, two)", "mul": "s = Mul(x, x)"}
OVER = {
    "div": "n = Div(x, r)",
    "reciprocal": "i = Reciprocal(r) n = Mul(x, i)",
    "one_over": "i = Div(one, r) n = Mul(i, x)",
}
ROOT = "m = ReduceMean<axes=[-1]>(s) e = Add(m, epsilon) r = Sqrt(e)"
RMS_NORM = [
    *(
        Case(
            f"rms_norm_{k}_{j}",
            f"{SQUARES[k]} {ROOT} {OVER[j]} y = Mul(gamma, n)",
            "RMSNormalization",
            inputs=X,
        )
        for k, j in itertools.product(SQUARES, OVER)
    ),
    Case(
        "rms_norm_alone",
        f"{SQUARES['pow']} {ROOT} {OVER['div']} y = Exp(n)",
        "RMSNormalization Exp",
        inputs=X,
    ),
    Case(
        "rms_norm_with_a_factor_per_row_keeps_it",
        f"{SQUARES['pow']} {ROOT} {OVER['div']} y = Mul(n, column)",
        "RMSNormalization Mul",
        inputs=X,
    ),
    Case(
        "another_numerator_stays",
        f"{SQUARES['pow']} {ROOT} a = Abs(x) y = Div(a, r)",
        "Pow ReduceMean Add Sqrt Abs Div",
        inputs=X,
    ),
    Case(
        "a_deviation_that_adds_dims_stays",
        f"{SQUARES['pow']} m = ReduceMean<axes=[-1]>(s) e = Add(m, epsilon4) r = Sqrt(e) y = Div(x, r)",
        "Pow ReduceMean Add Sqrt Div",
        inputs=X,
    ),
    Case(
        "a_deviation_that_others_read_stays",
        f"{SQUARES['pow']} {ROOT} y = Div(x, r)",
        "Pow ReduceMean Add Sqrt Div",
        inputs=X,
        outputs=("y", "r"),
    ),
]

TOKENS: dict[str, tuple[int | str, ...]] = {"x": (2, 5, 8)}
HEADS = (
    "q0 = MatMul(x, wq) k0 = MatMul(x, wk) v0 = MatMul(x, wv) "
    "q1 = Reshape(q0, split) k1 = Reshape(k0, split) v1 = Reshape(v0, split) "
    "q = Transpose<perm=[0, 2, 1, 3]>(q1) k = Transpose<perm=[0, 2, 3, 1]>(k1) "
    "v = Transpose<perm=[0, 2, 1, 3]>(v1) "
)
SCORES = "p = MatMul(q, k) "
BEHIND = "w = Softmax(s) c0 = MatMul(w, v) c1 = Transpose<perm=[0, 2, 1, 3]>(c0) y = Reshape(c1, merged)"
HEADS_STAY = "MatMul MatMul MatMul Reshape Reshape Reshape Transpose Transpose Transpose MatMul"
BEHIND_STAYS = "Softmax MatMul Transpose Reshape"
ATTENTION_IS_ONE = "MatMul MatMul MatMul Attention"

ATTENTION = [
    Case(
        "attention_scaled_by_mul",
        f"{HEADS} {SCORES} s = Mul(p, depth) {BEHIND}",
        ATTENTION_IS_ONE,
        inputs=TOKENS,
    ),
    Case(
        "attention_scaled_by_div",
        f"{HEADS} {SCORES} s = Div(p, root_depth) {BEHIND}",
        ATTENTION_IS_ONE,
        inputs=TOKENS,
    ),
    Case("attention_without_scale", f"{HEADS} s = MatMul(q, k) {BEHIND}", ATTENTION_IS_ONE, inputs=TOKENS),
    Case(
        "attention_with_both_sides_scaled",
        f"{HEADS} qs = Mul(q, depth) ks = Div(k, root_depth) s = MatMul(qs, ks) {BEHIND}",
        ATTENTION_IS_ONE,
        inputs=TOKENS,
    ),
    Case(
        "attention_with_a_constant_mask",
        f"{HEADS} {SCORES} z = Mul(p, depth) s = Add(z, mask) {BEHIND}",
        ATTENTION_IS_ONE,
        inputs=TOKENS,
    ),
    Case(
        "attention_with_a_mask_that_is_an_input",
        f"{HEADS} {SCORES} z = Div(p, root_depth) s = Add(bias, z) {BEHIND}",
        ATTENTION_IS_ONE,
        inputs=TOKENS | {"bias": (2, 1, 1, 5)},
    ),
    Case(
        "attention_whose_weights_are_an_output_stays",
        f"{HEADS} {SCORES} s = Mul(p, depth) {BEHIND}",
        f"{HEADS_STAY} Mul {BEHIND_STAYS}",
        inputs=TOKENS,
        outputs=("y", "w"),
    ),
    Case(
        "softmax_over_queries_is_no_attention",
        f"{HEADS} {SCORES} s = Mul(p, depth) {BEHIND.replace('Softmax(s)', 'Softmax<axis=2>(s)')}",
        f"{HEADS_STAY} Mul {BEHIND_STAYS}",
        inputs=TOKENS,
    ),
    Case(
        "a_number_over_scores_is_no_scale",
        f"{HEADS} {SCORES} e = Exp(p) s = Div(depth, e) {BEHIND}",
        f"{HEADS_STAY} Exp Div {BEHIND_STAYS}",
        inputs=TOKENS,
    ),
    Case(
        "a_number_over_the_product_itself_is_no_scale",
        f"{HEADS} {SCORES} s = Div(depth, p) {BEHIND}",
        f"{HEADS_STAY} Div {BEHIND_STAYS}",
        inputs=TOKENS,
    ),
]

# What scaled_dot_product_attention is exported as, operands of any origin. The fewest rows that count: 8.
H = {"q": (2, 3, 9, 4), "k": (2, 3, 9, 4), "v": (2, 3, 9, 4)}
TURNED = "t = Transpose<perm=[0, 1, 3, 2]>(k) "
GUARD = "n = IsNaN(w) g = Where(n, zero, w) y = MatMul(g, v)"
HEADS_9 = (
    "q1 = Reshape(x, split9) k1 = Reshape(u, split9) v1 = Reshape(x, split9) "
    "q = Transpose<perm=[0, 2, 1, 3]>(q1) k = Transpose<perm=[0, 2, 1, 3]>(k1) "
    "v = Transpose<perm=[0, 2, 1, 3]>(v1) "
)
FIVE = "r = Reshape(p, five) a = Add(r, windows) s = Reshape(a, whole) w = Softmax(s) y = MatMul(w, v)"
WINDOWS = {
    "five": ints(1, 2, 3, 9, 9),
    "whole": ints(2, 3, 9, 9),
    "windows": f32(1, 2, 1, 9, 9),
    "by_head": f32(3, 1, 1),
    "by_query": f32(9, 1),
    "bias": f32(3, 9, 9),
}
BY_HEADS = [
    Case(
        "a_factor_for_each_head",
        f"{TURNED} p = MatMul(q, t) z = Mul(p, by_head) s = Add(z, bias) w = Softmax(s) y = MatMul(w, v)",
        "Mul Attention",
        WINDOWS,
        inputs=H,
    ),
    Case("a_mask_for_each_window", f"{TURNED} p = MatMul(q, t) {FIVE}", "Attention", WINDOWS, inputs=H),
    Case(
        "a_mask_for_each_window_behind_a_bias_and_a_factor",
        f"{TURNED} m = MatMul(q, t) f = Mul(by_head, m) p = Add(f, bias) {FIVE}",
        "Mul Attention",
        WINDOWS,
        inputs=H,
    ),
    Case(
        "a_factor_for_each_query_stays",
        f"{TURNED} p = MatMul(q, t) s = Mul(p, by_query) w = Softmax(s) y = MatMul(w, v)",
        "Transpose MatMul Mul Softmax MatMul",
        WINDOWS,
        inputs=H,
    ),
    Case(
        "windows_of_two_images_stay",
        f"{TURNED} p = MatMul(q, t) {FIVE}",
        "Transpose MatMul Reshape Add Reshape Softmax MatMul",
        WINDOWS | {"five": ints(2, 1, 3, 9, 9), "windows": f32(1, 1, 1, 9, 9)},
        inputs=H,
    ),
    Case(
        "guarded_attention",
        f"{TURNED} a = Mul(q, depth) b = Mul(t, depth) s = MatMul(a, b) w = Softmax(s) {GUARD}",
        "Attention",
        inputs=H,
    ),
    Case(
        "guarded_attention_whose_mask_forbids_whole_rows",
        f"{TURNED} p = MatMul(q, t) s = Add(p, shut) w = Softmax(s) {GUARD}",
        "Attention",
        inputs=H,
    ),
    Case(
        "scores_chosen_by_a_condition",
        f"{TURNED} p = MatMul(q, t) z = Mul(p, depth) s = Where(causal, z, lowest) w = Softmax(s) "
        "y = MatMul(w, v)",
        "Attention",
        inputs=H,
    ),
    Case(
        "scores_chosen_against_a_small_number_stay",
        f"{TURNED} p = MatMul(q, t) s = Where(causal, p, one) w = Softmax(s) y = MatMul(w, v)",
        "Transpose MatMul Where Softmax MatMul",
        inputs=H,
    ),
    Case(
        "two_masks",
        f"{TURNED} p = MatMul(q, t) r = Add(p, shut) s = Add(bias, r) w = Softmax(s) {GUARD}",
        "Add Attention",
        inputs=H | {"bias": (1, 3, 9, 9)},
    ),
    Case(
        "a_mask_of_one_column_stays",
        f"{TURNED} p = MatMul(q, t) s = Add(p, bias) w = Softmax(s) y = MatMul(w, v)",
        "Transpose MatMul Add Softmax MatMul",
        inputs=H | {"bias": (1, 3, 9, 1)},
    ),
    Case(
        "few_queries_of_keys_as_they_lie",
        f"{TURNED} p = MatMul(q, t) z = Mul(p, depth) s = Add(z, bias) w = Softmax(s) y = MatMul(w, v)",
        "Attention",
        inputs={"q": (2, 3, 1, 16), "k": (2, 3, 9, 16), "v": (2, 3, 9, 16), "bias": (2, 1, 1, 9)},
    ),
    Case(
        "scores_kept_within_a_cap",
        f"{TURNED} p = MatMul(q, t) z = Mul(p, depth) d = Div(z, three) h = Tanh(d) m = Mul(three, h) "
        f"s = Add(m, shut) w = Softmax(s) {GUARD}",
        "Attention",
        inputs=H,
    ),
    Case(
        "a_mask_within_a_cap_stays",
        f"{TURNED} p = MatMul(q, t) z = Add(p, bias) h = Tanh(z) s = Mul(three, h) w = Softmax(s) "
        "y = MatMul(w, v)",
        "Transpose MatMul Add+tanh Mul Softmax MatMul",
        inputs=H | {"bias": (1, 3, 9, 9)},
    ),
    Case(
        "few_queries_stay_products",
        "p = MatMul(q, t) w = Softmax(p) y = MatMul(w, v)",
        "MatMul Softmax MatMul",
        inputs={"q": (2, 3, 2, 4), "t": (2, 3, 4, 9), "v": (2, 3, 9, 4)},
    ),
    Case(
        "batches_of_one_head",
        "t = Transpose<perm=[0, 2, 1]>(k) p = MatMul(q, t) r = Mul(p, depth) s = Add(r, bias) "
        "w = Softmax(s) y = MatMul(w, v)",
        "Reshape Reshape Reshape Reshape Attention Reshape",
        inputs={"q": (6, 9, 4), "k": (6, 10, 4), "v": (6, 10, 5), "bias": (6, 9, 10)},
    ),
    Case(
        "keys_repeated_for_groups_of_queries",
        "k1 = Unsqueeze(k, two_i) k2 = Expand(k1, groups) k3 = Reshape(k2, grouped) "
        "v1 = Unsqueeze(v, two_i) v2 = Expand(v1, groups) v3 = Reshape(v2, grouped) "
        "t = Transpose<perm=[0, 1, 3, 2]>(k3) p = MatMul(q, t) w = Softmax(p) y = MatMul(w, v3)",
        "Attention",
        inputs={"q": (2, 6, 9, 4), "k": (2, 3, 9, 4), "v": (2, 3, 9, 4)},
    ),
    Case(
        "heads_go_back_into_columns",
        f"{HEADS_9} {TURNED} p = MatMul(q, t) w = Softmax(p) c = MatMul(w, v) "
        "o = Transpose<perm=[0, 2, 1, 3]>(c) e = Exp(o) y = Neg(e)",
        "Attention Reshape Exp Neg",
        inputs={"x": (2, 9, 8), "u": (2, 9, 8)},
    ),
    Case(
        "keys_turned_with_their_heads_merged",
        "m = Reshape(k, merged3) n = Transpose<perm=[0, 2, 1]>(m) t = Reshape(n, turned4) p = MatMul(q, t) "
        "w = Softmax(p) y = MatMul(w, v)",
        "Attention",
        inputs=H,
    ),
]
CONSTANTS |= {
    "zero": num(0.0),
    "lowest": num(-3.4028235e38),
    "causal": np.tril(np.ones((9, 9), bool)),
    "shut": np.where(np.tri(9, k=-1), np.float32(0), -np.inf).astype(np.float32),
    "two_i": ints(2),
    "groups": ints(2, 3, 2, 9, 4),
    "grouped": ints(2, 6, 9, 4),
    "split9": ints(2, 9, 2, 4),
    "merged3": ints(6, 9, 4),
    "turned4": ints(2, 3, 4, 9),
}


@pytest.mark.parametrize("case", [*GELU, *LAYER_NORM, *RMS_NORM, *ATTENTION, *BY_HEADS], ids=lambda c: c.name)
def test_what_remains_and_what_it_computes(case: Case) -> None:
    check(replace(case, constants=CONSTANTS | case.constants))


def test_attention_of_open_batch_and_length_reads_rows_of_heads() -> None:
    """What exporters write for scaled_dot_product_attention with dynamic axes: no Transpose stays."""
    body = (
        "q1 = Reshape(x, open_split) k1 = Reshape(x, open_split) v1 = Reshape(x, open_split) "
        "q = Transpose<perm=[0, 2, 1, 3]>(q1) k = Transpose<perm=[0, 2, 1, 3]>(k1) "
        "v = Transpose<perm=[0, 2, 1, 3]>(v1) t = Transpose<perm=[0, 1, 3, 2]>(k) a = Mul(q, depth) "
        f"p = MatMul(a, t) w = Softmax(p) {GUARD.replace('y =', 'c =')} "
        "o = Transpose<perm=[0, 2, 1, 3]>(c) y = Reshape(o, open_merge)"
    )
    constants = CONSTANTS | {"open_split": ints(0, 0, 2, 4), "open_merge": ints(0, 0, 8)}
    case = Case("open", body, "", constants, inputs={"x": ("N", "T", 8)})
    graph = load_onnx(case.model())
    _declare_symbols(graph)
    optimise(graph)
    assert [n.op for n in graph.nodes if n.op != "Reshape"] == ["Attention"]
    x = f32(3, 11, 8)
    model = pyneo.Model.load(pyneo.compile(case.model()), allow_unsigned=True)
    peer = onnxruntime.InferenceSession(case.model().SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(model.predict(x), peer.run(None, {"x": x})[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("choose", [False, True], ids=["added", "chosen"])
@pytest.mark.parametrize("cap", [False, True], ids=["plain", "capped"])
def test_a_cache_whose_mask_has_a_length_of_its_own(choose: bool, cap: bool) -> None:
    """Decoders are exported with one symbol for the cache and one for the mask, which must turn out equal."""
    masked = "s = Where(allowed, z, lowest)" if choose else "s = Add(z, bias)"
    capped = "d = Div(r, three) h = Tanh(d) z = Mul(h, three)" if cap else "z = Identity(r)"
    body = (
        "k = Concat<axis=2>(past_k, new_k) v = Concat<axis=2>(past_v, new_v) "
        "k1 = Unsqueeze(k, two_i) v1 = Unsqueeze(v, two_i) k2 = Expand(k1, twice) v2 = Expand(v1, twice) "
        "k3 = Reshape(k2, heads) v3 = Reshape(v2, heads) t = Transpose<perm=[0, 1, 3, 2]>(k3) "
        f"allowed = Greater(bias, zero) p = MatMul(q, t) r = Mul(p, depth) {capped} {masked} "
        "w = Softmax(s) c = MatMul(w, v3) o = Transpose<perm=[0, 2, 1, 3]>(c) y = Reshape(o, merge)"
    )
    twice, heads = ints(1, 1, 2, 1, 1), ints(0, 4, -1, 16)
    constants = CONSTANTS | {"twice": twice, "heads": heads, "merge": ints(0, 0, 64)}
    new: tuple[int | str, ...] = ("N", 2, "T", 16)
    past: tuple[int | str, ...] = ("N", 2, "P", 16)
    inputs = {"q": ("N", 4, "T", 16), "new_k": new, "new_v": new, "past_k": past, "past_v": past}
    case = Case("cache", body, "", constants, inputs=inputs | {"bias": ("N", 1, "T", "S")})
    graph = load_onnx(case.model())
    _declare_symbols(graph)
    optimise(graph)
    assert [n.op for n in graph.nodes if n.op in ("Attention", "MatMul", "Softmax", "Tanh")] == ["Attention"]
    assert all(n.is_known for n in graph.nodes)
    model = pyneo.Model.load(pyneo.compile(case.model()), allow_unsigned=True)
    peer = onnxruntime.InferenceSession(case.model().SerializeToString(), providers=["CPUExecutionProvider"])
    # The mask's last length: that of the keys, or one for all of them.
    cases = [
        (1, 1, 0, 1),
        (2, 1, 7, 8),
        (1, 1, 40, 41),
        (1, 3, 9, 12),
        (1, 9, 4, 13),
        (2, 1, 7, 1),
        (1, 9, 4, 1),
    ]
    for bound in cases:
        sizes = dict(zip("NTPS", bound, strict=True))
        shapes = {k: [sizes[d] if isinstance(d, str) else d for d in dims] for k, dims in case.inputs.items()}
        feeds = {k: f32(*shape) for k, shape in shapes.items()}
        feeds["bias"][..., 0] = 1
        np.testing.assert_allclose(model.predict(feeds)["y"], peer.run(None, feeds)[0], rtol=1e-4, atol=1e-5)
    feeds["bias"] = f32(1, 1, 9, 12)
    with pytest.raises(pyneo.Error):
        model.predict(feeds)
