# SPDX-License-Identifier: Apache-2.0
"""Where a prediction's time goes: per node, as a table, JSON, or a Chrome trace, beside the machine's limits.

The limits are those of the roofline model (Williams, Waterman, Patterson: "Roofline", CACM 52(4), 2009): what
one core was measured to multiply and add, and to read from memory beyond its caches.
"""

from __future__ import annotations

import functools
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
    flops: int  # multiply-adds count as two; 0 for operators that are not made of them

    @property
    def gflop_per_s(self) -> float:
        """Billions of floating-point operations a second."""
        return self.flops / self.us / 1e3 if self.us else 0.0

    @property
    def gb_per_s(self) -> float:
        """Bytes read and written in its time: what caches and memory had to deliver at least."""
        return (self.bytes_read + self.bytes_written) / self.us / 1e3 if self.us else 0.0


class Limits(NamedTuple):
    """What one core of this machine was measured to reach: GFLOP/s in registers, GB/s from memory."""

    gflop_per_s: float
    gb_per_s: float


@functools.cache
def core_limits() -> Limits:
    """Measured once in a process; takes about a fifth of a second."""
    from pyneo import _core

    flops, size = _core.core_limits()
    return Limits(flops / 1e9, size / 1e9)


class Profile:
    """Times of every node of a model, in execution order. `print(profile)` shows the table."""

    def __init__(self, runs: Sequence[Sequence[tuple[Any, ...]]], limits: Limits, threads: int) -> None:
        """runs: for each run its nodes (name, op, kernel, start ns, duration ns, bytes read, written, flops).

        limits: of one core; threads: how many cores the runs could use.
        """
        self.runs = len(runs)
        self.threads = threads
        self.limits = limits
        self.nodes: list[NodeTime] = []
        begin = runs[0][0][3] if runs[0] else 0
        for i, (name, op, kernel, start, _, read, written, flops) in enumerate(runs[0]):
            times = sorted(run[i][4] for run in runs)
            median = times[len(times) // 2] / 1e3
            self.nodes.append(NodeTime(name, op, kernel, (start - begin) / 1e3, median, read, written, flops))

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
        peak, memory = self.limits.gflop_per_s * self.threads, self.limits.gb_per_s
        lines = [
            f"{'us':>10} {'share':>6} {'GFLOP/s':>8} {'of peak':>8} {'GB/s':>7} {'of DRAM':>8}"
            f"  {'operator':<20} {'kernel':<34} node"
        ]
        for n in sorted(self.nodes, key=lambda n: -n.us):
            work = f"{n.gflop_per_s:8.1f} {n.gflop_per_s / peak:8.0%}" if n.flops else " " * 17
            lines.append(
                f"{n.us:10.1f} {n.us / total:6.1%} {work} {n.gb_per_s:7.1f} {n.gb_per_s / memory:8.0%}"
                f"  {n.op:<20} {n.kernel or 'reference':<34} {n.name}"
            )
        flops = sum(n.flops for n in self.nodes)
        rate = flops / total / 1e3
        lines += [
            f"{self.total_us:10.1f} {1:6.1%} {rate:8.1f} {rate / peak:8.0%} {'':16}"
            f"  {len(self.nodes)} nodes, {flops / 1e9:.3g} GFLOP, median of {self.runs} runs",
            f"limits measured: {self.limits.gflop_per_s:.0f} GFLOP/s a core, {self.threads} of them; "
            f"{memory:.1f} GB/s from memory to one core (more than 100 % comes out of caches)",
        ]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """The same as plain values."""
        return {
            "runs": self.runs,
            "threads": self.threads,
            "total_us": self.total_us,
            "core_limits": self.limits._asdict(),
            "nodes": [n._asdict() for n in self.nodes],
        }

    def save_trace(self, path: str | os.PathLike[str]) -> None:
        """Writes a trace for chrome://tracing or ui.perfetto.dev."""
        import json

        events = [
            {
                "name": n.name or n.op, "cat": n.op, "ph": "X", "ts": n.start_us, "dur": n.us, "pid": 0,
                "tid": 0,
                "args": {
                    "kernel": n.kernel or "reference", "read": n.bytes_read, "written": n.bytes_written,
                    "flops": n.flops,
                },
            }
            for n in self.nodes
        ]  # fmt: skip
        with open(path, "w", encoding="utf-8") as f:
            json.dump({"traceEvents": events, "displayTimeUnit": "ns"}, f)
