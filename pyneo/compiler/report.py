# SPDX-License-Identifier: Apache-2.0
"""The compile report: what runs, with which kernels, in how much memory."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from pyneo.compiler.lower.layouts import Tuning
from pyneo.compiler.lower.lower import Lowered
from pyneo.compiler.targets.target import Target


@dataclass(frozen=True)
class Step:
    """One instruction of the plan. `kernel` "" is the portable reference kernel."""

    name: str
    op: str
    kernel: str
    cost_us: float
    output_shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Span:
    """A buffer of the arena: alive from step `first` to step `last`, at [offset, offset + bytes)."""

    name: str
    first: int
    last: int
    offset: int
    bytes: int


@dataclass
class Report:
    """All of it as data; `str()` is the text, `to_json` and `to_html` the other forms."""

    model: str
    target: str
    tier: str
    weights_bytes: int
    arena_bytes: int
    arena_lower_bound: int
    reorders: int
    views: int
    steps: list[Step]
    memory: list[Span] = field(default_factory=list)
    tuning: Tuning | None = None  # where the compiler measured

    @property
    def reference_steps(self) -> list[Step]:
        """Steps that found no fast kernel."""
        return [s for s in self.steps if not s.kernel]

    def to_json(self) -> str:
        """Everything, as JSON."""
        return json.dumps(asdict(self), indent=1)

    def to_html(self) -> str:
        """A page that stands alone, with a picture of the memory plan over time."""
        from pyneo.compiler.report_html import render

        return render(self)

    def __str__(self) -> str:
        ops = Counter(s.op for s in self.steps)
        lines = [
            f"{self.model} for {self.target} (tier {self.tier})",
            f"  steps     {len(self.steps)}: " + ", ".join(f"{n} {op}" for op, n in ops.most_common()),
            f"  weights   {self.weights_bytes:,} bytes",
            f"  arena     {self.arena_bytes:,} bytes, lower bound {self.arena_lower_bound:,}"
            f" ({_percent(self.arena_bytes, self.arena_lower_bound)} above)",
            f"  views     {self.views} nodes need no step; {self.reorders} layout changes inserted",
        ]
        kernels = Counter(s.kernel or "(reference)" for s in self.steps)
        lines += [f"  kernel    {n:4d} x {k}" for k, n in kernels.most_common()]
        if self.tuning is not None:
            gain = 1 - self.tuning.measured_us / self.tuning.estimated_us if self.tuning.estimated_us else 0.0
            lines.append(
                f"  tuning    {self.tuning.measured_us / 1e3:.3f} ms by measured times,"
                f" {gain:.1%} below the cost model's choice; {len(self.tuning.swaps)} nodes changed"
            )
        return "\n".join(lines)


def _percent(a: int, b: int) -> str:
    return f"{100 * (a - b) / b:.1f} %" if b else "0 %"


def make_report(model: str, target: Target, lowered: Lowered) -> Report:
    """The report of a finished lowering."""
    steps = []
    for node in lowered.steps:
        option = lowered.choice.picked.get(node)
        shape = next((v.shape for v in node.outputs if v is not None and v.shape is not None), ())
        steps.append(Step(node.name, node.op, node.kernel, option.cost_us if option else 0.0, shape))
    memory: list[Any] = [
        Span(name, first, last, offset, size) for first, last, offset, size, name in lowered.memory.spans
    ]
    return Report(
        model=model,
        target=target.name,
        tier=target.tier,
        weights_bytes=int(lowered.weights.nbytes),
        arena_bytes=lowered.memory.arena_bytes,
        arena_lower_bound=lowered.memory.lower_bound,
        reorders=lowered.choice.reorders,
        views=len(lowered.views.gone),
        steps=steps,
        memory=memory,
        tuning=lowered.choice.tuning,
    )
