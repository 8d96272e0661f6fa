# SPDX-License-Identifier: Apache-2.0
"""Tables, summary and chart of what compare.py measured."""

from __future__ import annotations

import math
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compare import Comparison, Result

OURS = "pyneo"


def machine(isa: str | None = None) -> dict[str, Any]:
    """What the figures were measured on; `isa` is the highest instruction set that runtimes could see."""
    name = platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            name = line.split(":", 1)[1].strip()
            break
    found = {"cpu": name, "cpus": len(os.sched_getaffinity(0)), "system": platform.platform()}
    return found | ({"isa": isa} if isa else {})


def by_model(results: list[Result], threads: int) -> dict[str, dict[str, Result]]:
    """model -> runtime -> result, at one number of threads."""
    found: dict[str, dict[str, Result]] = {}
    for r in results:
        if r.threads == threads:
            found.setdefault(r.model, {})[r.runtime] = r
    return found


def best_peer(row: dict[str, Result]) -> Result | None:
    peers = [r for r in row.values() if r.runtime != OURS]
    return min(peers, key=lambda r: r.median_ms) if peers else None


def summarise(comparison: Comparison) -> dict[str, Any]:
    """By number of threads: pyneo's ratio to the best peer by model, the geometric mean, the worst."""
    summary: dict[str, Any] = {}
    for threads in sorted({r.threads for r in comparison.results}):
        ratios = {}
        for model, row in by_model(comparison.results, threads).items():
            best = best_peer(row)
            if best is not None and OURS in row:
                ratios[model] = row[OURS].median_ms / best.median_ms
        if ratios:
            worst = max(ratios, key=lambda m: ratios[m])
            mean = math.exp(sum(math.log(r) for r in ratios.values()) / len(ratios))
            summary[str(threads)] = {"ratio": ratios, "geometric_mean": mean, "worst": worst}
    return summary


def text(comparison: Comparison, summary: dict[str, Any]) -> str:
    """All of it for a terminal."""
    where = comparison.machine
    versions = {r.runtime: r.version for r in comparison.results}
    lines = [
        f"{where['cpu']}, {where['cpus']} CPUs, {where['system']}"
        + (f", nothing above {where['isa']} used" if "isa" in where else ""),
        ", ".join(f"{name} {version}" for name, version in versions.items()),
    ]
    for threads in sorted({r.threads for r in comparison.results}):
        lines += ["", f"--- {threads} thread{'s' if threads > 1 else ''}: latency in ms (p10 to p90) ---", ""]
        head = f"{'model':<18}{'runtime':<13}{'median':>9} {'p10':>9} {'p90':>9} {'runs':>6}"
        head += f" {'to best peer':>13} {'error':>9} {'load+first':>11} {'import':>8} {'peak MB':>8}"
        lines.append(head)
        for model, row in by_model(comparison.results, threads).items():
            best = best_peer(row)
            for i, r in enumerate(row.values()):
                ratio = f"{r.median_ms / best.median_ms:.2f}" if best else "-"
                error = "-" if r.error is None else f"{r.error:.1e}"
                times = f"{r.median_ms:9.3f} {r.p10_ms:9.3f} {r.p90_ms:9.3f} {r.runs:6d}"
                once = f"{r.load_ms:11.1f} {r.import_ms:8.0f} {r.peak_mb:8.1f}"
                first = model if i == 0 else ""
                lines.append(f"{first:<18}{r.runtime:<13}{times} {ratio:>13} {error:>9} {once}")
        s = summary.get(str(threads))
        if s:
            worst = s["ratio"][s["worst"]]
            lines += [
                "",
                f"pyneo / best peer: geometric mean {s['geometric_mean']:.2f} over {len(s['ratio'])} models, "
                f"worst {worst:.2f} ({s['worst']})",
            ]
    if comparison.skipped:
        lines += ["", "Not measured:"]
        reasons: dict[tuple[str, str], list[str]] = {}
        for skip in comparison.skipped:
            reasons.setdefault((skip.runtime, skip.reason), []).append(skip.model)
        lines += [f"  {runtime} ({', '.join(on)}): {why}" for (runtime, why), on in reasons.items()]
    lines += [
        "",
        "error: largest difference from onnxruntime over the largest magnitude of its output. load+first: ms",
        "from the imported module to the first result, signature check included. peak MB: of the process,",
        "above python, numpy and the inputs.",
    ]
    return "\n".join(lines)


def chart(comparison: Comparison, path: Path) -> None:
    """Bars for each model: latency relative to the best peer's; below 1 is faster."""
    from matplotlib.figure import Figure

    counts = sorted({r.threads for r in comparison.results})
    runtimes = list(dict.fromkeys(r.runtime for r in comparison.results))
    names = list(dict.fromkeys(r.model for r in comparison.results))
    figure = Figure(figsize=(max(8.0, 1.3 * len(names) + 2), 3.2 * len(counts) + 0.8), layout="constrained")
    panels = figure.subplots(len(counts), 1, squeeze=False)[:, 0]
    width = 0.8 / len(runtimes)
    for axes, threads in zip(panels, counts, strict=True):
        rows = by_model(comparison.results, threads)
        for k, runtime in enumerate(runtimes):
            x, height, low, high = [], [], [], []
            for i, model in enumerate(names):
                r = rows.get(model, {}).get(runtime)
                best = best_peer(rows.get(model, {}))
                if r is None or best is None:
                    continue
                x.append(i + (k - (len(runtimes) - 1) / 2) * width)
                height.append(r.median_ms / best.median_ms)
                low.append((r.median_ms - r.p10_ms) / best.median_ms)
                high.append((r.p90_ms - r.median_ms) / best.median_ms)
            axes.bar(
                x, height, width, yerr=[low, high], label=runtime, color=f"C{k}", error_kw={"elinewidth": 0.8}
            )
        axes.axhline(1.0, color="black", linewidth=0.8)
        axes.set_ylim(0, 3)
        axes.set_xticks(range(len(names)), names, rotation=15)
        axes.set_ylabel("latency / best peer's")
        axes.set_title(
            f"{threads} thread{'s' if threads > 1 else ''} (median, bars from p10 to p90, cut at 3)"
        )
    figure.legend(*panels[0].get_legend_handles_labels(), ncols=5, fontsize=8, loc="outside lower center")
    figure.savefig(path, dpi=120)
