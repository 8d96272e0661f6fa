# SPDX-License-Identifier: Apache-2.0
"""Where a package's bytes come from: each byte is fetched once, and what was verified is what is used.

A file is opened once, and every check and every use goes through that one descriptor into one buffer. A file
that is renamed, replaced or rewritten meanwhile changes nothing: its bytes either were fetched before, or
have to pass the digests as they are fetched.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from pyneo.errors import OutOfMemoryError, PackageError
from pyneo.package.container import HEADER_BYTES, parse_header

MAX_PACKAGE_BYTES = 1 << 36  # 64 GiB: more than any model for a CPU, less than what a sparse file can pretend

Allocate = Callable[[int], Any]


class Source:
    """A package in memory, all of it there: bytes, a mapping, or what a subclass fetches.

    owner: the object that holds the memory (it supports the buffer protocol); view: its bytes.
    """

    def __init__(self, owner: Any, name: str = "<bytes>") -> None:
        self.name = name
        self.owner = owner
        self.view = memoryview(owner).cast("B")
        self.size = self.view.nbytes

    def fetch(self, begin: int, end: int) -> memoryview:
        """The bytes [begin, end), to be asked for once."""
        return self.view[begin:end]

    def close(self) -> None:
        """Releases the file; the memory stays."""


class FileSource(Source):
    """A file read piece by piece into memory that `allocate(size)` gives."""

    def __init__(
        self, path: str | os.PathLike[str], allocate: Allocate, limit: int = MAX_PACKAGE_BYTES
    ) -> None:
        self._fd, size = open_package(path, limit)
        try:
            # The header comes first, so that a huge file that is no package costs no memory at all.
            header = os.pread(self._fd, HEADER_BYTES, 0) if size else b""
            parse_header(header, size)
            super().__init__(allocate(size), os.fspath(path))
        except BaseException:
            self.close()
            raise
        self.view[:HEADER_BYTES] = header

    def fetch(self, begin: int, end: int) -> memoryview:
        at = max(begin, HEADER_BYTES)  # which was read already
        while at < end:
            got = os.preadv(self._fd, [self.view[at:end]], at)
            if got <= 0:
                raise PackageError(
                    f"truncated package: the file ends at byte {at} of {self.size}; get it again"
                )
            at += got
        return self.view[begin:end]

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def map_file(path: str | os.PathLike[str], limit: int = MAX_PACKAGE_BYTES) -> Source:
    """A read-only mapping of a file: for storage that nobody can write to while the model is in use."""
    import mmap

    fd, size = open_package(path, limit)
    try:
        if size == 0:
            return Source(b"", os.fspath(path))
        return Source(mmap.mmap(fd, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ), os.fspath(path))
    finally:
        os.close(fd)


def anonymous(size: int) -> Any:
    """Zeroed memory that costs nothing until it is written."""
    import mmap

    try:
        return mmap.mmap(-1, size)
    except OSError:
        raise OutOfMemoryError(f"no memory for a package of {size} bytes; close other programs") from None


def open_package(path: str | os.PathLike[str], limit: int = MAX_PACKAGE_BYTES) -> tuple[int, int]:
    """(descriptor, size) of a regular file; anything else is refused without waiting for it.

    A symbolic link at the end of the path is refused, because what it points to can be changed by whoever
    owns the link; pass os.path.realpath(path) to follow it knowingly.
    """
    import stat

    text = os.fspath(path)
    try:
        # O_NONBLOCK: opening a FIFO without a writer must not wait. It means nothing to a regular file.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as e:
        import errno

        if e.errno == errno.ELOOP:
            raise PackageError(
                f"{text} is a symbolic link; pass the file it points to (os.path.realpath)", "not-a-file"
            ) from None
        raise
    except ValueError:
        raise PackageError(f"{text!r:.80} is no path: it holds a zero byte", "not-a-file") from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise PackageError(
                f"{text} is not a regular file; a package is a file that pyneo compile writes", "not-a-file"
            )
        if status.st_size > limit:
            raise PackageError(
                f"{text} has {status.st_size} bytes; at most {limit} are read (max_bytes)", "too-large"
            )
        return fd, status.st_size
    except BaseException:
        os.close(fd)
        raise
