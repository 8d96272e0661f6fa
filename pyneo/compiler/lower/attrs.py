# SPDX-License-Identifier: Apache-2.0
"""Attribute blocks: a node's attributes as the core reads them (csrc/core/attrs.h)."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from pyneo.compiler.ir.graph import Attr
from pyneo.errors import CompileError

_INTS, _FLOATS, _STRING, _STRINGS = 1, 2, 3, 4
_ENTRY = struct.Struct("<32sIIII")


def pack_attrs(attrs: Mapping[str, Attr]) -> bytes:
    """The attribute block of a node; empty for no attributes.

    Lists hold one kind: ints, floats or strings. An empty list counts as absent.
    """
    entries = [(name, *_encode(name, value)) for name, value in sorted(attrs.items()) if value != []]
    if not entries:
        return b""
    at = 8 + _ENTRY.size * len(entries)
    table, data = b"", b""
    for name, kind, count, payload in entries:
        encoded = name.encode()
        if not 0 < len(encoded) < 32:
            raise CompileError(f"attribute name '{name}' is empty or longer than 31 bytes")
        table += _ENTRY.pack(encoded, kind, count, at + len(data), 0)
        data += payload + bytes(-len(payload) % 8)
    return struct.pack("<II", len(entries), at + len(data)) + table + data


def _encode(name: str, value: Attr) -> tuple[int, int, bytes]:
    if isinstance(value, str):
        raw = value.encode()
        return _STRING, len(raw), raw
    if all(isinstance(v, (bool, int)) for v in value):
        try:
            return _INTS, len(value), struct.pack(f"<{len(value)}q", *value)
        except struct.error:
            raise CompileError(f"attribute '{name}': an integer does not fit 64 bits") from None
    if all(isinstance(v, str) for v in value):
        raws = [str(v).encode() for v in value]
        return _STRINGS, len(raws), b"".join(struct.pack("<I", len(r)) + r for r in raws)
    return _FLOATS, len(value), struct.pack(f"<{len(value)}f", *value)
