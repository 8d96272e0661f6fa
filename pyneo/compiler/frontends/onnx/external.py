# SPDX-License-Identifier: Apache-2.0
"""Reads tensors stored outside the model file, without ever leaving the model's folder.

The checks hold by construction, not by pattern: the location is split into plain names, and each is
opened relative to the folder before it (openat) with O_NOFOLLOW, so that no link is ever followed and
nothing can be swapped between a check and its use. The file must be regular and have one name only: a
hard link could be another user's secret under an innocent name.
"""

from __future__ import annotations

import bisect
import os
import re
import stat
from collections.abc import Iterable

from .limits import MAX_EXTERNAL_BYTES, Problem

_KEYS = ("location", "offset", "length", "checksum")
_NUMBER = re.compile(r"[0-9]{1,19}", re.ASCII)


class ExternalFiles:
    """The files that a model's tensors name, relative to its folder; None: the model came without one."""

    def __init__(self, folder: str | os.PathLike[str] | None) -> None:
        self._folder = folder
        self._files: dict[str, int] = {}
        self._ranges: dict[str, list[tuple[int, int]]] = {}  # sorted, disjoint (start, end)
        self._read_bytes = 0

    def __enter__(self) -> ExternalFiles:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        for fd in self._files.values():
            os.close(fd)
        self._files.clear()

    def read(self, entries: Iterable[tuple[str, str]], expected: int) -> bytearray:
        """The bytes that `external_data` entries describe; Problem unless they are exactly `expected`."""
        location, offset, length = _parse(entries)
        if self._folder is None:
            raise Problem(
                f"its data lies in the file {location!r}, but the model was given without a folder; "
                "give the model's path instead of its bytes"
            )
        fd = self._open(location)
        size = os.fstat(fd).st_size
        if offset > size:
            raise Problem(f"its offset {offset} lies past the end of {location!r}, which has {size} bytes")
        if length is None:
            length = expected
        if length != expected:
            raise Problem(f"its external length is {length} bytes, but its shape and type need {expected}")
        if length > size - offset:
            raise Problem(
                f"bytes {offset} to {offset + length} were asked of {location!r}, which has {size} bytes"
            )
        self._claim(location, offset, length)
        self._read_bytes += length
        if self._read_bytes > MAX_EXTERNAL_BYTES:
            raise Problem(f"the model's external data exceeds {MAX_EXTERNAL_BYTES} bytes")
        return _read_exactly(fd, offset, length, location)

    def _claim(self, location: str, offset: int, length: int) -> None:
        """Tensors may share a whole range (tied weights), never a part of one."""
        ranges = self._ranges.setdefault(location, [])
        mine = (offset, offset + length)
        at = bisect.bisect_left(ranges, mine)
        if length == 0 or ranges[at : at + 1] == [mine]:
            return
        for start, end in ranges[max(at - 1, 0) : at + 1]:
            if offset < end and start < offset + length:
                raise Problem(
                    f"its bytes {offset} to {offset + length} of {location!r} overlap another "
                    f"tensor's ({start} to {end})"
                )
        ranges.insert(at, mine)

    def _open(self, location: str) -> int:
        if location in self._files:
            return self._files[location]
        if os.open not in os.supports_dir_fd or not hasattr(os, "O_NOFOLLOW"):
            raise Problem(
                f"its data lies in the file {location!r}, which this operating system cannot open safely; "
                "save the model with its weights inside"
            )
        names = _split(location)
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        assert self._folder is not None
        at = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for folder in names[:-1]:
                down = _openat(folder, flags | os.O_DIRECTORY, at, location)
                os.close(at)
                at = down
            # O_NONBLOCK: opening a FIFO must not wait for a writer.
            fd = _openat(names[-1], flags | os.O_NONBLOCK, at, location)
        finally:
            os.close(at)
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode) or info.st_nlink != 1:
            os.close(fd)
            what = (
                "is no regular file" if not stat.S_ISREG(info.st_mode) else f"has {info.st_nlink} hard links"
            )
            raise Problem(
                f"its external file {location!r} {what}; external data must be a plain file of its "
                "own beside the model"
            )
        self._files[location] = fd
        return fd


def _parse(entries: Iterable[tuple[str, str]]) -> tuple[str, int, int | None]:
    found: dict[str, str] = {}
    for key, value in entries:
        if key not in _KEYS:
            raise Problem(f"its external data has the unknown key {key!r}; expected only {', '.join(_KEYS)}")
        if key in found:
            raise Problem(f"its external data gives {key!r} twice")
        found[key] = value
    if not found.get("location"):
        raise Problem("its external data names no location")
    offset = _number("offset", found.get("offset", "0"))
    length = _number("length", found["length"]) if "length" in found else None
    return found["location"], offset, length


def _number(key: str, text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise Problem(f"its external {key} is {text[:40]!r}, not a non-negative decimal number")
    value = int(text)
    if value >= 1 << 63:
        raise Problem(f"its external {key} {value} does not fit in 63 bits")
    return value


def _split(location: str) -> list[str]:
    """The plain names of a relative path; anything else is refused, whatever the operating system."""
    bad = (
        "\\" in location
        or "\0" in location
        or location.startswith(("/", "~"))
        or re.match(r"[A-Za-z]:", location) is not None
    )
    names = location.split("/")
    if names[:1] == ["."]:
        names = names[1:]
    if bad or not names or any(n in ("", ".", "..") for n in names):
        raise Problem(
            f"its external location {location[:200]!r} is refused; expected a relative path inside "
            "the model's folder "
            "with no '..', drive, '~' or backslash"
        )
    return names


def _openat(name: str, flags: int, at: int, location: str) -> int:
    try:
        return os.open(name, flags, dir_fd=at)
    except FileNotFoundError:
        raise Problem(f"its external file {location!r} does not exist beside the model") from None
    except (OSError, ValueError) as e:
        raise Problem(
            f"its external file {location!r} cannot be opened ({e}); links are not followed, "
            "so put the file itself beside the model"
        ) from None


def _read_exactly(fd: int, offset: int, length: int, location: str) -> bytearray:
    try:
        data = bytearray(length)
    except MemoryError:
        raise Problem(f"{length} bytes of {location!r} do not fit in memory") from None
    view = memoryview(data)
    done = 0
    while done < length:
        n = os.preadv(fd, [view[done : done + (1 << 30)]], offset + done)
        if n == 0:
            raise Problem(f"{location!r} became shorter while it was read")
        done += n
    return data
