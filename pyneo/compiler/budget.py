# SPDX-License-Identifier: Apache-2.0
"""What one compilation may spend: a hostile or broken model ends in a sentence, not in a night of work."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from pyneo.errors import CompileError

MAX_SECONDS = 1800.0
# Multiply-adds of all matrix products and convolutions that are folded, and bytes of the constants that
# folding makes. Beyond, a node on constants stays a node: it is computed on the device.
FOLD_WORK = 1 << 31
FOLD_BYTES = 1 << 30
# A loop is unrolled if that makes no more nodes than this; one that builds sequences, which have no form at
# run time, may make more. All loops of a model together have a limit, too.
UNROLL_NODES = 512
UNROLL_SEQUENCES = 3_000
UNROLL_MODEL = 3_000


@dataclass
class Budget:
    """What is left of it."""

    seconds: float = MAX_SECONDS
    work: int = FOLD_WORK
    bytes: int = FOLD_BYTES
    nodes: int = UNROLL_MODEL
    begun: float = field(default_factory=time.monotonic)

    def check_time(self) -> None:
        """CompileError if the time is over."""
        if time.monotonic() - self.begun > self.seconds:
            raise CompileError(
                f"compiling took more than {self.seconds:g} seconds; simplify the model, or give it more "
                "time with max_seconds="
            )

    def fold(self, work: int, nbytes: int) -> bool:
        """Whether a constant of that size may be made with that many multiply-adds; if so, it is paid for."""
        if work > self.work or nbytes > self.bytes:
            return False
        self.work -= work
        self.bytes -= nbytes
        return True

    def unroll(self, nodes: int, sequences: bool) -> bool:
        """Whether a loop may be written out as that many nodes; if so, they are paid for."""
        if nodes > min(UNROLL_SEQUENCES if sequences else UNROLL_NODES, self.nodes):
            return False
        self.nodes -= nodes
        return True
