# SPDX-License-Identifier: Apache-2.0
"""Files written so that a reader sees the old content or the new, never a half."""

from __future__ import annotations

import os
from collections.abc import Iterable

Buffer = bytes | bytearray | memoryview


def write_atomically(path: str, pieces: Iterable[Buffer], mode: int = 0o666) -> None:
    """Writes a temporary file beside `path`, syncs it, and renames it over `path`.

    The result's permissions are `mode` less the umask. On any failure `path` is untouched and the
    temporary file is gone. A symbolic link at `path` is replaced, not followed.
    """
    folder, name = os.path.split(os.path.abspath(path))
    temporary = os.path.join(folder, f".{name[:200]}.{os.getpid()}.{os.urandom(4).hex()}.tmp")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(fd, "wb") as f:
            for piece in pieces:
                f.write(piece)
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    sync_folder(folder)


def sync_folder(folder: str) -> None:
    """Makes a rename or creation in `folder` survive a power cut."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError:  # some network file systems cannot sync a folder
        pass
    finally:
        os.close(fd)
