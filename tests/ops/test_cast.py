# SPDX-License-Identifier: Apache-2.0
"""Cast between all pairs of dtypes against numpy and ml_dtypes; BitCast against views."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from pyneo.errors import Error
from tests.ops.cases import BF16, FLOATS, INTS, check, evaluate, sample

ALL = [*FLOATS, *INTS, np.dtype(np.bool_)]


def number(dtype: np.dtype) -> int:
    return helper.np_dtype_to_tensor_dtype(dtype)


@pytest.mark.parametrize("to", ALL, ids=str)
@pytest.mark.parametrize("source", ALL, ids=str)
def test_every_pair(source, to):
    for shape in [(), (0,), (3, 100)]:
        x = sample(shape, source, seed=1, low=0 if to.kind == "u" else -100, high=100)
        check(evaluate("Cast", [x], to=number(to))[0], x.astype(to), rtol=0, atol=0)
        check(evaluate("CastLike", [x, np.zeros((2, 2), to)])[0], x.astype(to), rtol=0, atol=0)


@pytest.mark.parametrize("to", INTS, ids=str)
@pytest.mark.parametrize("source", INTS, ids=str)
def test_integers_out_of_range_lose_their_high_bits(source, to):
    info = np.iinfo(source)
    x = np.array([info.min, info.max, info.max // 3, 1], source)
    check(evaluate("Cast", [x], to=number(to))[0], x.astype(to))


@pytest.mark.parametrize("to", [np.dtype(np.int32), np.dtype(np.int64)], ids=str)
def test_floats_outside_an_integer_are_defined(to):
    x = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30], np.float32)
    check(evaluate("Cast", [x], to=number(to))[0], np.full(5, np.iinfo(to).min, to))


def test_rounding_to_float16_is_to_nearest_even_for_every_neighbourhood():
    exact = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float64)
    middle = (exact[:-1] + exact[1:]) / 2
    x = np.concatenate(
        [exact, middle, np.nextafter(middle, 0), np.nextafter(middle, 1e9), [65519.99, 65520.0, 1e300]]
    )
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(evaluate("Cast", [x], to=10)[0], x.astype(np.float16))
        np.testing.assert_array_equal(
            evaluate("Cast", [-x.astype(np.float32)], to=10)[0], (-x.astype(np.float32)).astype(np.float16)
        )


def test_rounding_to_bfloat16_is_to_nearest_even():
    bits = np.random.default_rng(0).integers(0, 2**32, 20000, dtype=np.uint32)
    bits[:4] = [0x3F808000, 0x3F818000, 0x3F808001, 0x7F7FFFFF]
    x = bits.view(np.float32)
    x = x[~np.isnan(x)]
    y = evaluate("Cast", [x], to=16)[0]
    np.testing.assert_array_equal(y.view(np.uint16), x.astype(BF16).view(np.uint16))


def test_float_to_bool_is_not_zero():
    x = np.array([0.0, -0.0, 0.25, np.nan, np.inf, -1e-40], np.float32)
    check(evaluate("Cast", [x], to=9)[0], np.array([False, False, True, True, True, True]))


@pytest.mark.parametrize(
    ("source", "to"), [("float32", "int32"), ("uint64", "float64"), ("int16", "float16"), ("int8", "uint8")]
)
def test_bit_cast_keeps_the_bytes(source, to):
    x = sample((3, 5), np.dtype(source), 1)
    y = evaluate("BitCast", [x], to=number(np.dtype(to)))[0]
    np.testing.assert_array_equal(y.view(np.uint8), x.view(to).view(np.uint8))


def test_bad_targets_are_refused():
    x = np.zeros(3, np.float32)
    for to in (0, 8, 77, -1):
        with pytest.raises(Error, match="'to'"):
            evaluate("Cast", [x], to=to)
    with pytest.raises(Error, match="float32 and int64"):
        evaluate("BitCast", [x], to=7)
