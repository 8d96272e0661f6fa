# SPDX-License-Identifier: Apache-2.0
"""Strings into a model and out of it, and rows as dicts: what the core, which knows numbers, does not.

The core has int64 codes: a string's position in the manifest's table. A string that is not in the table
gets a code behind its end, which holds for one call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pyneo.errors import InputError, InputTypeError, ModelError

if TYPE_CHECKING:
    from pyneo.inputs import Array
    from pyneo.model import TensorInfo


class Text:
    """The strings of one model."""

    def __init__(
        self, table: Sequence[str], inputs: Sequence[bool], outputs: Sequence[bool],
        keys: Sequence[tuple[int | str, ...]],
    ) -> None:  # fmt: skip
        """inputs, outputs: which are strings, in order. keys: of outputs whose rows are dicts, else ()."""
        self._codes = {text: i for i, text in enumerate(table)}
        self._table = tuple(table)
        self._inputs = inputs
        self._outputs = outputs
        self._keys = keys

    def call(self) -> Call:
        """One call's codes."""
        return Call(self._codes, self._table, self._inputs, self._outputs, self._keys)


class Call:
    """One call: codes for its inputs, values for its outputs."""

    def __init__(
        self, codes: dict[str, int], table: tuple[str, ...], inputs: Sequence[bool], outputs: Sequence[bool],
        keys: Sequence[tuple[int | str, ...]],
    ) -> None:  # fmt: skip
        self._codes, self._table = codes, table
        self._inputs, self._outputs, self._keys = inputs, outputs, keys
        self._new: dict[str, int] = {}

    def encode(self, arrays: Sequence[Array], infos: Sequence[TensorInfo]) -> list[Array]:
        """The arrays as the core takes them; InputTypeError for anything but strings where those belong."""
        return [
            self._encode(x, t) if is_text else x
            for x, t, is_text in zip(arrays, infos, self._inputs, strict=True)
        ]

    def _encode(self, x: Array, info: TensorInfo) -> Array:
        if x.dtype.kind not in "UTO":
            raise InputTypeError(
                f"input {info.name!r} expects strings {list(info.shape)}, found {x.dtype.name}; pass an "
                "array of str"
            )
        known, new, size = self._codes, self._new, len(self._codes)
        codes = np.empty(x.size, np.int64)
        for i, text in enumerate(x.reshape(-1).tolist()):
            if not isinstance(text, str):
                raise InputTypeError(
                    f"input {info.name!r} expects strings, found {type(text).__name__} at element {i}"
                )
            code = known.get(text)
            codes[i] = new.setdefault(text, size + len(new)) if code is None else code
        return codes.reshape(x.shape)

    def targets(self, out: Sequence[Any] | None) -> list[Any] | None:
        """`out` for the core; InputError where it names an array for what is no array of numbers."""
        if out is None:
            return None
        for y, is_text, keys in zip(out, self._outputs, self._keys, strict=False):
            if y is not None and (is_text or keys):
                raise InputError("out= takes arrays for numbers only; this model returns strings or dicts")
        return list(out)

    def decode(self, arrays: Sequence[Array]) -> list[Any]:
        """What the user gets: str arrays for codes, lists of dicts for rows with keys."""
        table = self._table + tuple(self._new)
        found: list[Any] = []
        for y, is_text, keys in zip(arrays, self._outputs, self._keys, strict=True):
            if is_text:
                if y.size and (y.min() < 0 or y.max() >= len(table)):
                    raise ModelError("an output holds the code of no string; compile the model again")
                y = np.array([table[code] for code in y.reshape(-1).tolist()], str).reshape(y.shape)
            if keys and y.shape[-1:] != (len(keys),):
                raise ModelError(
                    f"an output has shape {list(y.shape)} for {len(keys)} keys; compile the model again"
                )
            found.append([dict(zip(keys, row, strict=True)) for row in _rows(y, len(keys))] if keys else y)
        return found


def _rows(y: Array, columns: int) -> list[list[Any]]:
    rows: list[list[Any]] = y.reshape(-1, columns).tolist()
    return rows
