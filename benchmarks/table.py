# SPDX-License-Identifier: Apache-2.0
"""The README's tables, in Markdown, from what one or more runs of compare.py wrote with --json.

    python benchmarks/table.py first.json second.json

Runs may hold different models. Figures are those of the last run that has the model; ratios are shown
for every run, and the mean is one over models, of the geometric mean of each one's ratios.
The runtimes in COLUMNS have columns of their own, of the others the best is shown, with its name.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import geometric_mean

import models
import present
from compare import Comparison, Result

COLUMNS = {"onnxruntime": "ORT", "openvino": "OV", "litert": "LiteRT"}

Row = dict[str, Result]


def read(path: Path) -> Comparison:
    """A run of compare.py."""
    found = json.loads(path.read_text())
    return Comparison(found["machine"], [Result(**r) for r in found["results"]])


def ms(value: float) -> str:
    """Three digits, more before the point."""
    return f"{value:.3f}" if value < 0.1 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def start_ms(r: Result) -> float:
    """From a bare Python to the first result."""
    return r.import_ms + r.load_ms


def has_others(runs: list[Comparison]) -> bool:
    """Whether a runtime was measured that has no column of its own."""
    return any(r.runtime not in (present.OURS, *COLUMNS) for run in runs for r in run.results)


def names(others: bool) -> list[str]:
    return [present.OURS, *COLUMNS.values(), *(["best other"] if others else [])]


def cells(
    row: Row, figure: Callable[[Result], float], show: Callable[[float], str], others: bool
) -> list[str]:
    """pyneo's figure, those of COLUMNS, and if there are `others` the least of theirs and whose it is."""
    named = [present.OURS, *COLUMNS]
    found = [show(figure(row[n])) if n in row else "-" for n in named]
    rest = [r for n, r in row.items() if n not in named]
    best = min(rest, key=figure) if rest else None
    return [*found, *([f"{show(figure(best))} {best.runtime}" if best else "-"] if others else [])]


def markdown(lines: list[list[str]]) -> str:
    head, *rest = lines
    return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *rest])


def merged(runs: list[Comparison], threads: int) -> dict[str, Row]:
    """The last run's row of every model, in the order of models.py."""
    rows: dict[str, Row] = {}
    for run in runs:
        rows |= present.by_model(run.results, threads)
    known = list(models.MODELS)
    return dict(sorted(rows.items(), key=lambda kv: known.index(kv[0]) if kv[0] in known else len(known)))


def latencies(runs: list[Comparison], threads: int) -> str:
    """Medians in ms at one number of threads, with pyneo's ratio to the best of all peers in every run."""
    rows = merged(runs, threads)
    ratios: dict[str, list[float]] = {}
    for run in runs:
        for model, ratio in present.summarise(run).get(str(threads), {"ratio": {}})["ratio"].items():
            ratios.setdefault(model, []).append(ratio)
    title = f"{threads} thread{'s' if threads > 1 else ''}, ms"
    others = has_others(runs)
    lines = [[title, *names(others), "to the best of all"]]
    for model, row in rows.items():
        said = ", ".join(f"{x:.2f}" for x in ratios.get(model, [])) or "-"
        lines.append([model, *cells(row, lambda r: r.median_ms, ms, others), said])
    means = {model: geometric_mean(found) for model, found in ratios.items()}
    if not means:
        return markdown(lines)
    worst = max(means, key=lambda m: means[m])
    mean = geometric_mean(means.values())
    return markdown(lines) + f"\n\nGeometric mean {mean:.2f}, worst {means[worst]:.2f} ({worst})."


def costs(runs: list[Comparison], threads: int) -> str:
    """Error, start (import, load with verification, first result) and memory."""
    others = has_others(runs)
    said = " / ".join(names(others))
    lines = [["", "error", f"start ms: {said}", f"memory MB: {said}"]]
    for model, row in merged(runs, threads).items():
        error = row[present.OURS].error if present.OURS in row else None
        start, memory = (
            cells(row, figure, lambda v: f"{v:.0f}", others) for figure in (start_ms, lambda r: r.peak_mb)
        )
        lines.append([model, "-" if error is None else f"{error:.0e}", " / ".join(start), " / ".join(memory)])
    return markdown(lines)


def main(arguments: list[str]) -> int:
    if not arguments:
        raise SystemExit("usage: table.py RUN.json ...  (files that compare.py --json wrote)")
    runs = [read(Path(a)) for a in arguments]
    counts = sorted({r.threads for run in runs for r in run.results})
    print("\n\n".join([*(latencies(runs, n) for n in counts), costs(runs, counts[0])]))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
