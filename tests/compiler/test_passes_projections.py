# SPDX-License-Identifier: Apache-2.0
"""Products whose columns are taken apart: what remains, and that it computes what onnxruntime does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnxruntime
import pytest

import pyneo
from pyneo.compiler.driver import _declare_symbols
from pyneo.compiler.frontends.onnx import load_onnx
from pyneo.compiler.passes import optimise
from tests.support.passes import Case, check, f32, ints

X = {"x": (2, 9, 16)}
CONSTANTS = {
    "w": f32(16, 192) / 4,
    "b": f32(192),
    "thirds": ints(64, 64, 64),
    "uneven": ints(32, 160),
    "slim": ints(16, 176),
    "by_three": ints(2, 9, 3, 4, 16),
    "three_last": ints(2, 9, 4, 3, 16),
    "heads": ints(2, 9, 4, 16),
    "three_rows": ints(2, 3, 3, 192),
    "ones": ints(1, 1, 1),
    "first": ints(0),
    "zero": np.array(0, np.int64),
    "one": np.array(1, np.int64),
    "last": np.array(-1, np.int64),
    "rows": ints(4, 5),
}
PRODUCT = "m = MatMul(x, w) p = Add(m, b) "
USE = "e = Exp(q) n = Neg(k) s = Sin(v) t = Add(e, n) y = Mul(t, s)"
PARTS = "MatMul+bias MatMul+bias MatMul+bias Exp Neg Sin Add Mul"
TURN = "r = Reshape(p, by_three) t3 = Transpose<perm=[2, 0, 3, 1, 4]>(r) "

CASES = [
    Case("split_of_columns", f"{PRODUCT} q, k, v = Split<axis=2>(p, thirds) {USE}", PARTS, inputs=X),
    Case("split_from_behind", f"{PRODUCT} q, k, v = Split<axis=-1>(p, thirds) {USE}", PARTS, inputs=X),
    Case(
        "uneven_parts",
        f"{PRODUCT} q, k = Split<axis=2>(p, uneven) e = Exp(q) s = ReduceSum(k, first_axis) y = Mul(e, s)",
        "MatMul+bias MatMul+bias Exp ReduceSum Mul",
        {"first_axis": ints(2)},
        inputs=X,
    ),
    Case(
        "split_behind_a_transpose",
        f"{PRODUCT} {TURN} q1, k1, v1 = Split<axis=0>(t3, ones) q = Squeeze(q1, first) "
        f"k = Squeeze(k1, first) v = Squeeze(v1, first) {USE}",
        "MatMul+bias Reshape Transpose " * 3 + "Exp Neg Sin Add Mul",
        inputs=X,
    ),
    Case(
        "gathered_behind_a_transpose",
        f"{PRODUCT} {TURN} q = Gather<axis=0>(t3, zero) k = Gather<axis=0>(t3, one) "
        f"v = Gather<axis=0>(t3, last) {USE}",
        "MatMul+bias Reshape Transpose " * 3 + "Exp Neg Sin Add Mul",
        inputs=X,
    ),
    Case(
        "columns_not_side_by_side",
        f"{PRODUCT} r = Reshape(p, three_last) q = Gather<axis=3>(r, last) k = Gather<axis=3>(r, zero) "
        f"v = Gather<axis=3>(r, one) {USE}",
        "MatMul+bias Reshape MatMul+bias Reshape MatMul+bias Reshape Exp Neg Sin Add Mul",
        inputs=X,
    ),
    Case(
        "one_part_is_not_read",
        f"{PRODUCT} {TURN} q = Gather<axis=0>(t3, zero) k = Gather<axis=0>(t3, last) "
        "e = Exp(q) y = Mul(e, k)",
        "MatMul+bias Reshape Transpose MatMul+bias Reshape Transpose Exp Mul",
        inputs=X,
    ),
    # Left as they are.
    Case(
        "a_part_too_narrow",
        f"{PRODUCT} q, k = Split<axis=2>(p, slim) e = Exp(q) s = ReduceSum(k, first_axis) y = Mul(e, s)",
        "MatMul+bias Split Exp ReduceSum Mul",
        {"first_axis": ints(2)},
        inputs=X,
    ),
    Case(
        "the_whole_is_read_as_well",
        f"{PRODUCT} q, k, v = Split<axis=2>(p, thirds) c = Concat<axis=2>(q, v, k) y = Add(c, p)",
        "MatMul+bias Split Concat Add",
        inputs=X,
    ),
    Case(
        "rows_are_taken",
        f"{PRODUCT} q, k = Split<axis=1>(p, rows) s = ReduceSum<keepdims=1>(q, second) y = Add(k, s)",
        "MatMul+bias Split ReduceSum Add",
        {"second": ints(1)},
        inputs=X,
    ),
    Case(
        "rows_of_a_reshape_are_taken",
        f"{PRODUCT} r = Reshape(p, three_rows) q = Gather<axis=1>(r, zero) "
        "k = Gather<axis=1>(r, one) y = Mul(q, k)",
        "MatMul+bias Reshape Gather Gather Mul",
        inputs=X,
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_what_remains_and_what_it_computes(case: Case) -> None:
    check(replace(case, constants=CONSTANTS | case.constants))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("take", ["split", "gather"])
def test_packed_projections_with_open_length_become_attention_without_transposes(
    take: str, batch: int
) -> None:
    parts = {
        "split": "q1, k1, v1 = Split<axis=0>(t3, ones) q = Squeeze(q1, first) k = Squeeze(k1, first) "
        "v = Squeeze(v1, first) ",
        "gather": "q = Gather<axis=0>(t3, zero) k = Gather<axis=0>(t3, one) v = Gather<axis=0>(t3, last) ",
    }
    body = (
        f"{PRODUCT} r = Reshape(p, open) t3 = Transpose<perm=[2, 0, 3, 1, 4]>(r) {parts[take]}"
        "t = Transpose<perm=[0, 1, 3, 2]>(k) a = MatMul(q, t) d = Mul(a, quarter) w1 = Softmax(d) "
        "c = MatMul(w1, v) o = Transpose<perm=[0, 2, 1, 3]>(c) y = Reshape(o, merge)"
    )
    constants = CONSTANTS | {
        "open": ints(batch, -1, 3, 4, 16),
        "merge": ints(batch, -1, 64),
        "quarter": np.array(0.25, np.float32),
    }
    case = Case("open", body, "", constants, inputs={"x": (batch, "T", 16)})
    graph = load_onnx(case.model())
    _declare_symbols(graph)
    optimise(graph)
    assert [n.op for n in graph.nodes if n.op != "Reshape"] == ["MatMul"] * 3 + ["Attention"]
    x = f32(batch, 11, 16)
    model = pyneo.Model.load(pyneo.compile(case.model()), allow_unsigned=True)
    peer = onnxruntime.InferenceSession(case.model().SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(model.predict(x), peer.run(None, {"x": x})[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("index", [3, -4])
def test_a_part_that_is_not_there_is_refused_where_it_is_taken(index: int) -> None:
    body = f"{PRODUCT} {TURN} q = Gather<axis=0>(t3, zero) k = Gather<axis=0>(t3, beyond) y = Mul(q, k)"
    case = Case("beyond", body, "", CONSTANTS | {"beyond": np.array(index, np.int64)}, inputs=X)
    model = pyneo.Model.load(pyneo.compile(case.model()), allow_unsigned=True)
    with pytest.raises(pyneo.ModelError, match=f"index {index} .* is outside"):
        model.predict(f32(2, 9, 16))
