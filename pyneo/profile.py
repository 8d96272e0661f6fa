# SPDX-License-Identifier: Apache-2.0
"""Where a prediction's time goes: per node, as a table, JSON, or a Chrome trace."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple


class NodeTime(NamedTuple):
    """One node: microseconds (median over the runs), start within the run, and bytes it touches."""

    name: str
    op: str
    kernel: str
    start_us: float
    us: float
    bytes_read: int
    bytes_written: int

    @property
    def gb_per_s(self) -> float:
        """Bytes read and written in its time: what the memory had to deliver at least."""
        return (self.bytes_read + self.bytes_written) / self.us / 1e3 if self.us else 0.0


class Profile:
    """Times of every node of a model, in execution order. `print(profile)` shows the table."""

    def __init__(self, runs: Sequence[Sequence[tuple[Any, ...]]]) -> None:
        """runs: for each run its nodes (name, op, kernel, start ns, duration ns, bytes read, written)."""
        self.runs = len(runs)
        self.nodes: list[NodeTime] = []
        begin = runs[0][0][3] if runs[0] else 0
        for i, (name, op, kernel, start, _, read, written) in enumerate(runs[0]):
            times = sorted(run[i][4] for run in runs)
            median = times[len(times) // 2] / 1e3
            self.nodes.append(NodeTime(name, op, kernel, (start - begin) / 1e3, median, read, written))

    @property
    def total_us(self) -> float:
        """Sum of the nodes' times."""
        return sum(n.us for n in self.nodes)

    def by_op(self) -> dict[str, tuple[int, float]]:
        """(count, microseconds) of each operator, the most expensive first."""
        found: dict[str, tuple[int, float]] = {}
        for n in self.nodes:
            count, us = found.get(n.op, (0, 0.0))
            found[n.op] = (count + 1, us + n.us)
        return dict(sorted(found.items(), key=lambda item: -item[1][1]))

    def __str__(self) -> str:
        total = self.total_us or 1.0
        lines = [f"{'us':>10} {'share':>6} {'GB/s':>7}  {'operator':<24} {'kernel':<34} node"]
        for n in sorted(self.nodes, key=lambda n: -n.us):
            kernel = n.kernel or "reference"
            lines.append(
                f"{n.us:10.1f} {n.us / total:6.1%} {n.gb_per_s:7.1f}  {n.op:<24} {kernel:<34} {n.name}"
            )
        lines.append(
            f"{self.total_us:10.1f} {1:6.1%} {'':7}  {len(self.nodes)} nodes, median of {self.runs} runs"
        )
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return {"runs": self.runs, "total_us": self.total_us, "nodes": [n._asdict() for n in self.nodes]}

    def save_trace(self, path: str | os.PathLike[str]) -> None:
        """Writes a trace for chrome://tracing or ui.perfetto.dev."""
        import json

        events = [
            {
                "name": n.name or n.op, "cat": n.op, "ph": "X", "ts": n.start_us, "dur": n.us, "pid": 0,
                "tid": 0,
                "args": {"kernel": n.kernel or "reference", "read": n.bytes_read, "written": n.bytes_written},
            }
            for n in self.nodes
        ]  # fmt: skip
        with open(path, "w", encoding="utf-8") as f:
            json.dump({"traceEvents": events, "displayTimeUnit": "ns"}, f)
