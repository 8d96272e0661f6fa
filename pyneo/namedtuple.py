# SPDX-License-Identifier: Apache-2.0
"""`NamedTuple`: what typing.NamedTuple makes, in a tenth of the time.

Loading a model imports a dozen of them before a byte of the package is read, and typing's compiles source
text for each class and for each annotation. To a type checker this one is typing's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["NamedTuple"]

if TYPE_CHECKING:
    from typing import NamedTuple
else:
    from operator import itemgetter

    class _Meta(type):
        def __new__(mcs, name, bases, space):
            space["__slots__"] = ()
            fields = tuple(space.get("__annotations__", ()))
            if fields or bases == (tuple,):  # a class derived from one has the fields of that one
                space["__match_args__"] = space["_fields"] = fields
                space["_field_defaults"] = {f: space[f] for f in fields if f in space}
            for i, field in enumerate(fields):
                space[field] = property(itemgetter(i))
            return super().__new__(mcs, name, bases, space)

    class NamedTuple(tuple, metaclass=_Meta):
        """A tuple whose elements have the names, in order, and the defaults that a class body states."""

        def __new__(cls, *given, **named):
            if len(given) != len(cls._fields) or named:
                rest = cls._fields[len(given) :]
                if len(given) > len(cls._fields) or not named.keys() <= set(rest):
                    raise TypeError(f"{cls.__name__}() takes {', '.join(cls._fields)}, each once")
                values = {**cls._field_defaults, **named}
                missing = [f for f in rest if f not in values]
                if missing:
                    raise TypeError(f"{cls.__name__}() needs {', '.join(missing)}")
                given += tuple([values[f] for f in rest])
            return tuple.__new__(cls, given)

        def __getnewargs__(self):  # for copy and pickle
            return tuple(self)

        def __repr__(self):
            return f"{type(self).__name__}({', '.join([f'{f}={v!r}' for f, v in self._asdict().items()])})"

        def _asdict(self):
            return dict(zip(self._fields, self, strict=True))

        def _replace(self, **changed):
            return type(self)(**{**self._asdict(), **changed})
