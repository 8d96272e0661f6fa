# SPDX-License-Identifier: Apache-2.0
"""Symbolic dims: how they are written, what bounds they get, and the samples that stand for them."""

from __future__ import annotations

import pytest

from pyneo.compiler.ir.symbols import MAX_SIZE, Symbols
from pyneo.errors import CompileError


@pytest.mark.parametrize(
    ("text", "name", "bounds", "spelled"),
    [
        ("N", "N", (0, MAX_SIZE), "N"),
        ("N<=8", "N", (0, 8), "N<=8"),
        ("2<=N<=8", "N", (2, 8), "2<=N<=8"),
        ("3<=N", "N", (3, MAX_SIZE), "3<=N"),
        ("  batch size <= 4 ", "batch size", (0, 4), "batch size<=4"),
        ("x.0", "x.0", (0, MAX_SIZE), "x.0"),
        ("5<=N<=5", "N", (5, 5), "5<=N<=5"),
    ],
)
def test_a_dim_is_read_with_its_bounds_and_written_back(
    text: str, name: str, bounds: tuple[int, int], spelled: str
) -> None:
    symbols = Symbols()
    assert symbols.declare(text).strip() == name
    found = symbols.declare(text)
    assert symbols.bounds[found] == bounds
    assert symbols.spell(found).replace(" <=", "<=") == spelled


@pytest.mark.parametrize("text", ["", "<=8", "N<8", "N>=2", "8>=N", "N<=", "N<=M", "a<=b<=c"])
def test_what_is_no_dim_is_refused_with_the_forms_there_are(text: str) -> None:
    with pytest.raises(CompileError, match=r"is no size; write a number, 'N', 'N<=8' or '2<=N<=8'"):
        Symbols().declare(text)


def test_bounds_that_leave_no_size_are_refused() -> None:
    with pytest.raises(CompileError, match="'9<=N<=8' has no size between 9 and 8"):
        Symbols().declare("9<=N<=8")


def test_bounds_of_the_same_name_narrow_each_other() -> None:
    symbols = Symbols()
    symbols.declare("2<=N")
    symbols.declare("N<=8")
    symbols.declare("N<=16")
    assert symbols.bounds == {"N": (2, 8)}


def test_bounds_of_the_same_name_that_contradict_are_refused() -> None:
    symbols = Symbols()
    symbols.declare("N<=4")
    with pytest.raises(CompileError, match=r"'N' has no size: '8<=N' contradicts"):
        symbols.declare("8<=N")


@pytest.mark.parametrize("texts", [("N",), ("N<=8", "M"), ("2<=N<=4", "3<=M<=5"), tuple("ABCDEFGHIJKLMNOP")])
def test_samples_keep_the_bounds_and_tell_symbols_apart(texts: tuple[str, ...]) -> None:
    symbols = Symbols()
    names = [symbols.declare(t) for t in texts]
    samples = symbols.samples()
    for name in names:
        low, high = symbols.bounds[name]
        sizes = [s[name] for s in samples]
        assert all(low <= n <= high for n in sizes)
        assert len(set(sizes)) > 1
        assert symbols.dim(sizes) == name
    columns = {tuple(s[name] for s in samples) for name in names}
    assert len(columns) == len(names)


def test_equal_sizes_are_a_number_and_unknown_ones_get_a_name_that_lasts() -> None:
    symbols = Symbols()
    symbols.declare("N")
    sizes = [2 * s["N"] for s in symbols.samples()]
    assert symbols.dim([7, 7, 7]) == 7
    name = symbols.dim(sizes)
    assert isinstance(name, str) and name != "N"
    assert symbols.dim(sizes) == name
