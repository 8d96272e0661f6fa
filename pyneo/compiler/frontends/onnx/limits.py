# SPDX-License-Identifier: Apache-2.0
"""What the importer is willing to spend on one model: a hostile file ends in a sentence, not in swap."""

from __future__ import annotations

from dataclasses import dataclass

MAX_MODEL_BYTES = (1 << 31) - 1  # protobuf's own limit for a message
MAX_EXTERNAL_BYTES = 1 << 34  # all external tensors of a model together
MAX_RANK = 8  # the core's kMaxRank
MAX_DIM = (1 << 62) - 1  # the core counts elements in 62 bits
MAX_STEPS = 500_000  # nodes visited, counting every inlined copy
MAX_NESTING = 48  # subgraphs in subgraphs and functions in functions, together
TOO_DEEP = (
    f"subgraphs and functions are nested more than {MAX_NESTING} deep; flatten the model before compiling it"
)
MAX_PROBLEMS = 200  # problems listed before the import stops looking for more


class Problem(Exception):
    """One reason why a model cannot be imported, as a sentence; the builder adds the node's name."""


class Abandon(Exception):
    """The import cannot go on: a budget is spent. Ends the walk at once."""


@dataclass
class Budget:
    """Steps and nesting depth left."""

    steps: int = MAX_STEPS
    depth: int = 0

    def step(self) -> None:
        self.steps -= 1
        self.afford(0)

    def afford(self, steps: int) -> None:
        """Ends the import if that many steps are more than is left."""
        if self.steps < steps:
            raise Abandon(
                f"the model expands to more than {MAX_STEPS} nodes, functions inlined; "
                "that is over the compiler's budget, so simplify the model or split it"
            )

    def enter(self) -> None:
        self.depth += 1
        if self.depth > MAX_NESTING:
            raise Abandon(TOO_DEEP)

    def leave(self) -> None:
        self.depth -= 1
