# SPDX-License-Identifier: Apache-2.0
"""MatMul and Gemm against numpy and ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pyneo.errors
from tests.ops.cases import BF16, check_all, evaluate, normal, onnx_reference, ort, sample

PRODUCTS: list[tuple[tuple[int, ...], tuple[int, ...]]] = [
    ((3, 4), (4, 5)),
    ((1, 1), (1, 1)),
    ((5, 17), (17, 67)),
    ((4,), (4,)),
    ((4,), (4, 3)),
    ((2, 4), (4,)),
    ((2, 3, 4), (4, 5)),
    ((2, 3, 4), (2, 4, 5)),
    ((2, 1, 3, 4), (3, 4, 5)),
    ((1, 3, 4), (6, 4, 2)),
    ((5, 1, 2, 4), (1, 3, 4, 2)),
    ((4,), (3, 4, 2)),
    ((3, 2, 4), (4,)),
    ((0, 4), (4, 3)),
    ((3, 0), (0, 2)),
    ((2, 0, 3, 4), (4, 5)),
]


@pytest.mark.parametrize(("a", "b"), PRODUCTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_matmul_follows_numpy(a: Any, b: Any, dtype: Any) -> None:
    x, y = normal(*a, dtype=dtype), normal(*b, seed=1, dtype=dtype)
    check_all(evaluate("MatMul", [x, y]), [np.matmul(x, y)])


@pytest.mark.parametrize("dtype", [np.float16, BF16])
def test_matmul_of_narrow_floats_rounds_the_float32_product(dtype: Any) -> None:
    x, y = normal(3, 9, dtype=dtype), normal(9, 5, seed=1, dtype=dtype)
    want = (x.astype(np.float32) @ y.astype(np.float32)).astype(dtype)
    check_all(evaluate("MatMul", [x, y]), [want], rtol=8e-3, atol=1e-3)


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.int64, np.uint64])
def test_integer_matmul_wraps_around(dtype: Any) -> None:
    x, y = sample((3, 7), dtype), sample((7, 5), dtype, seed=1)
    x[0, 0] = np.iinfo(dtype).max
    check_all(evaluate("MatMul", [x, y]), [np.matmul(x, y)])


def test_matmul_epilogue_is_act_then_residual_then_post_act() -> None:
    x, y, bias, z = normal(2, 3, 4), normal(4, 70, seed=1), normal(70, seed=2), normal(2, 3, 70, seed=3)
    got = evaluate(
        "MatMul", [x, y, bias, z], act="relu", post_act="clip", post_act_alpha=-1.0, post_act_beta=2.0
    )
    check_all(got, [np.clip(np.maximum(x @ y + bias, 0) + z, -1, 2)])
    check_all(evaluate("MatMul", [x, y, None, z]), [x @ y + z])
    check_all(
        evaluate("MatMul", [x, y, bias], act="leaky_relu", act_alpha=0.1),
        ort("LeakyRelu", [x @ y + bias], alpha=0.1),
    )


@pytest.mark.parametrize("trans_a", [0, 1])
@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("c", [None, (), (1,), (67,), (1, 67), (5, 1), (5, 67), (1, 1)])
def test_gemm_agrees_with_onnx_runtime(trans_a: int, trans_b: int, c: Any) -> None:
    a, b = normal(*((9, 5) if trans_a else (5, 9))), normal(*((67, 9) if trans_b else (9, 67)), seed=1)
    inputs = [a, b] + ([] if c is None else [normal(*c, seed=2)])
    attrs = {"transA": trans_a, "transB": trans_b, "alpha": 0.5, "beta": 1.5}
    check_all(evaluate("Gemm", inputs, **attrs), ort("Gemm", inputs, **attrs))


@pytest.mark.parametrize("shapes", [((0, 3), (3, 2)), ((2, 0), (0, 3)), ((2, 3), (3, 0))])
def test_gemm_of_nothing(shapes: Any) -> None:
    a, b = normal(*shapes[0]), normal(*shapes[1])
    check_all(evaluate("Gemm", [a, b, np.float32(2).reshape(1)]), [a @ b + np.float32(2)])


def test_gemm_of_other_dtypes_and_act() -> None:
    a, b, c = sample((3, 4), np.int32), sample((4, 5), np.int32, seed=1), sample((5,), np.int32, seed=2)
    check_all(evaluate("Gemm", [a, b, c], alpha=2.0, beta=-3.0), [2 * (a @ b) - 3 * c])
    x, y, z = (t.astype(np.float64) for t in (a, b, c))
    check_all(evaluate("Gemm", [x, y, z], alpha=0.5), onnx_reference("Gemm", [x, y, z], alpha=0.5))
    x, y, z = (t.astype(np.float32) for t in (x, y, z))
    check_all(evaluate("Gemm", [x, y, z], act="relu"), [np.maximum(x @ y + z, 0)])


@pytest.mark.parametrize(
    ("op", "shapes", "attrs", "names"),
    [
        ("MatMul", [(3, 4), (5, 4)], {}, "last dim"),
        ("MatMul", [(), (4,)], {}, "last dim"),
        ("MatMul", [(2, 3, 4), (3, 4, 5)], {}, "broadcast"),
        ("MatMul", [(3, 4), (4, 5), (4,)], {}, "bias"),
        ("MatMul", [(3, 4), (4, 5), (5,), (1, 5)], {}, "residual"),
        ("Gemm", [(3, 4), (4, 5)], {"transA": 1}, "inner dims"),
        ("Gemm", [(1, 3, 4), (4, 5)], {}, "two matrices"),
        ("Gemm", [(3, 4), (4, 5), (3,)], {}, "broadcast"),
        ("Gemm", [(3, 4), (4, 5), (1, 3, 5)], {}, "broadcast"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(op: str, shapes: Any, attrs: dict[str, Any], names: str) -> None:
    with pytest.raises(pyneo.errors.Error, match=names):
        evaluate(op, [normal(*s) for s in shapes], **attrs)
