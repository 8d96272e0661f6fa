# SPDX-License-Identifier: Apache-2.0
"""Progress of a compilation: one line on a terminal once it takes longer than a second."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any


class Progress:
    """Call it with what happens now. Silent where standard error is no terminal, or `enabled` is False."""

    def __init__(self, enabled: bool | None) -> None:
        self._enabled = sys.stderr.isatty() if enabled is None else enabled
        self._start = time.monotonic()
        self._status: Any = None

    def __call__(self, what: str) -> None:
        if not self._enabled or time.monotonic() - self._start < 1:
            return
        if self._status is None:
            try:
                from rich.console import Console
            except ImportError:  # a device that has no compiler installed
                self._enabled = False
                return
            self._status = Console(stderr=True).status(what)
            self._status.start()
        self._status.update(what)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()
