# SPDX-License-Identifier: Apache-2.0
"""The exceptions of pyneo: one hierarchy; every message says what was expected, found, and what to do."""

from __future__ import annotations


class Error(Exception):
    """Base of every exception pyneo raises on purpose."""


class PackageError(Error):
    """The file is not a package, is broken, or was made for another version of the format.

    `reason` is a short word for programs ("unsigned", "untrusted-key", ...: docs/security.md lists them).
    """

    def __init__(self, message: str, reason: str = "package") -> None:
        super().__init__(message)
        self.reason = reason


class SignatureError(PackageError):
    """The package is unsigned, altered after signing, or signed by a key that is not trusted."""


class ExpiredError(SignatureError):
    """The package's expiry date, or its key's period of validity, does not cover the present time."""


class RollbackError(SignatureError):
    """An older release of the package than the newest one seen on this device."""


class TargetError(PackageError):
    """The package was compiled for another kind of machine."""


class CompileError(Error):
    """The model cannot be compiled; `problems` lists every reason, each with its node's name."""

    def __init__(self, message: str, problems: list[str] | None = None) -> None:
        super().__init__(message)
        self.problems = problems or [message]


class ValueNeededError(CompileError):
    """A shape depends on the value of a tensor that only a run can compute."""


class InputError(Error, ValueError):
    """An array given to predict has the wrong name, rank, shape or value."""


class InputTypeError(InputError, TypeError):
    """An array given to predict has the wrong dtype, or is no array."""


class ModelError(Error):
    """The model computed something impossible, such as an index outside its tensor."""


class OutOfMemoryError(Error, MemoryError):
    """An allocation failed; the model stays usable."""


# The exception of each pn_status (pyneo.h), PN_OK first: for both faces of the C library.
BY_STATUS: tuple[type[Error], ...] = (
    Error, PackageError, InputError, CompileError, OutOfMemoryError,
    ValueNeededError, ModelError, PackageError, SignatureError, Error, Error,
)  # fmt: skip
