# SPDX-License-Identifier: Apache-2.0
"""pyneo.namedtuple does what typing.NamedTuple does."""

from __future__ import annotations

import copy
import pickle
import typing

import pytest

from pyneo import namedtuple


class Ours(namedtuple.NamedTuple):
    """Doc."""

    name: str
    size: int = 3
    tags: tuple[str, ...] = ()

    @property
    def double(self) -> int:
        return 2 * self.size


class Theirs(typing.NamedTuple):
    """Doc."""

    name: str
    size: int = 3
    tags: tuple[str, ...] = ()

    @property
    def double(self) -> int:
        return 2 * self.size


GOOD = [
    (("a",), {}),
    (("a", 4), {}),
    (("a", 4, ("t",)), {}),
    (("a",), {"tags": ("t",)}),
    ((), {"size": 1, "name": "b"}),
]
BAD = [((), {}), (("a", 1, (), 4), {}), (("a",), {"name": "b"}), (("a",), {"colour": 1}), ((), {"size": 1})]


@pytest.mark.parametrize(("given", "named"), GOOD)
def test_what_typing_makes_of_the_same_arguments(given, named):
    ours, theirs = Ours(*given, **named), Theirs(*given, **named)
    assert ours == theirs == tuple(theirs) and hash(ours) == hash(theirs) and isinstance(ours, tuple)
    assert (ours.name, ours.size, ours.tags, ours.double) == (
        theirs.name,
        theirs.size,
        theirs.tags,
        theirs.double,
    )
    assert repr(ours) == repr(theirs).replace("Theirs", "Ours")
    assert ours._asdict() == theirs._asdict() and ours._replace(size=9) == theirs._replace(size=9)
    for again in (copy.copy(ours), copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert again == ours and type(again) is Ours


@pytest.mark.parametrize(("given", "named"), BAD)
def test_arguments_that_typing_refuses_are_refused(given, named):
    for kind in (Ours, Theirs):
        with pytest.raises(TypeError):
            kind(*given, **named)


def test_classes_have_the_same_parts_and_elements_stay_what_they_are():
    assert Ours._fields == Theirs._fields and Ours._field_defaults == Theirs._field_defaults
    assert Ours.__match_args__ == Theirs.__match_args__ and Ours.__doc__ == Theirs.__doc__
    value = Ours("a")
    for name in ("name", "other"):
        with pytest.raises(AttributeError):
            setattr(value, name, 1)
    with pytest.raises(TypeError):
        value._replace(other=1)


def test_a_class_derived_from_one_keeps_its_fields():
    class Derived(Ours):
        pass

    assert Derived("a", 5) == ("a", 5, ()) and Derived("a").size == 3
