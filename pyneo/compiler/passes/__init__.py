# SPDX-License-Identifier: Apache-2.0
"""The compiler's passes: an ordered list of small rules, each a function of the graph.

A pass returns True if it changed anything. `optimise` runs the list again until nothing changes: one
rule's result is often another's pattern.
"""

from __future__ import annotations

from collections.abc import Callable

from pyneo.compiler.ir.graph import Graph
from pyneo.compiler.passes.dead import remove_dead
from pyneo.compiler.passes.infer import infer_and_fold

Pass = Callable[[Graph], bool]

PASSES: list[Pass] = [
    infer_and_fold,
    remove_dead,
]

_ROUNDS = 12


def optimise(graph: Graph, passes: list[Pass] = PASSES, progress: Callable[[str], None] | None = None) -> None:
    """Runs the passes in order until a round changes nothing."""
    for _ in range(_ROUNDS):
        changed = False
        for rule in passes:
            if progress is not None:
                progress(rule.__name__.replace("_", " "))
            changed |= rule(graph)
        if not changed:
            return
