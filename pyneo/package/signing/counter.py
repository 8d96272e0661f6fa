# SPDX-License-Identifier: Apache-2.0
"""The newest release of each package seen on a device, so that an older one, though signed, is refused."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from pyneo.errors import RollbackError, SignatureError
from pyneo.package.files import write_atomically

if TYPE_CHECKING:
    from pyneo.package.manifest import Manifest


class CounterStore:
    """Remembers, in a small JSON file, the highest release counter loaded of each package name.

    With allow_rollback=True an older release is accepted and becomes the remembered one. Keep the file where
    an attacker cannot write: whoever can delete it can go back.

    Raises SignatureError (reason "counter") if the file is damaged: a broken memory must not forget silently.
    """

    def __init__(self, path: str | os.PathLike[str], *, allow_rollback: bool = False) -> None:
        self.path = os.fspath(path)
        self.allow_rollback = allow_rollback

    def check(self, manifest: Manifest) -> None:
        """RollbackError if a newer release of this name was loaded before."""
        newest = self._read().get(manifest.name, 0)
        if manifest.release < newest and not self.allow_rollback:
            raise RollbackError(
                f"release {manifest.release} of {manifest.name!r} is older than release {newest}, which was "
                "loaded on this device before; install that or a newer one, or allow the rollback explicitly",
                "rollback",
            )

    def record(self, manifest: Manifest) -> None:
        """Checks again and remembers the release, safe against other processes that do the same."""
        import fcntl
        import json

        lock = os.open(self.path + ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self.check(manifest)
            counters = self._read()
            if counters.get(manifest.name) != manifest.release:
                counters[manifest.name] = manifest.release
                write_atomically(self.path, [json.dumps(counters, sort_keys=True).encode()], 0o600)
        finally:
            os.close(lock)

    def _read(self) -> dict[str, int]:
        import json

        try:
            with open(self.path, "rb") as f:
                value = json.load(f)
        except FileNotFoundError:
            return {}
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict) or not all(type(v) is int and v >= 0 for v in value.values()):
            raise SignatureError(
                f"the counter store {self.path} is damaged; restore it from a backup", "counter"
            )
        return value
