# SPDX-License-Identifier: Apache-2.0
"""GFLOP/s of single kernels, and their share of what this core's multiply-add units can do.

python benchmarks/micro/kernels.py                      every shape, every kernel that accepts it
python benchmarks/micro/kernels.py --only 3x3 --tier avx2 --rounds 30

Peak and kernels are measured in turns, the best of each is shown: other work on the machine only ever
slows them down. "cost" is what the kernel's cost function expects, by which the compiler chooses.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pyneo import _core
from pyneo.compiler.lower.attrs import pack_attrs
from pyneo.compiler.targets.target import TIERS, block_of


@dataclass
class Case:
    """One node: operands in plain layout, the layouts to run it in, and its multiply-adds times two."""

    title: str
    op: str
    inputs: list[np.ndarray]
    attrs: dict[str, Any]
    blocked_in: bool
    blocked_out: bool
    flops: float


def conv(channels: int, size: int, filters: int, kernel: int, stride: int = 1, plain: bool = False) -> Case:
    rng = np.random.default_rng(0)
    pad = kernel // 2
    out = (size + 2 * pad - kernel) // stride + 1
    x = rng.standard_normal((1, channels, size, size), dtype=np.float32)
    w = rng.standard_normal((filters, channels, kernel, kernel), dtype=np.float32)
    attrs = {"strides": [stride, stride], "pads": [pad] * 4}
    title = f"{kernel}x{kernel}/{stride} {channels}x{size}x{size} -> {filters}"
    flops = 2.0 * filters * channels * kernel**2 * out**2
    return Case(title, "Conv", [x, w, np.zeros(filters, np.float32)], attrs, not plain, True, flops)


def matmul(m: int, k: int, n: int) -> Case:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((m, k), dtype=np.float32), rng.standard_normal((k, n), dtype=np.float32)
    return Case(f"matmul {m}x{k}x{n}", "MatMul", [a, b], {}, False, False, 2.0 * m * n * k)


def cases() -> list[Case]:
    wide = [(256, 14, 1024), (1024, 14, 256), (128, 28, 512), (512, 28, 128), (64, 56, 256), (256, 56, 64)]
    deep = [(2048, 7, 512), (512, 7, 2048)]
    narrow = [(16, 112, 96), (96, 56, 24), (144, 28, 32), (960, 7, 320)]
    three = [
        (64, 56, 64),
        (128, 28, 128),
        (256, 14, 256),
        (512, 7, 512),
        (16, 160, 16),
        (32, 80, 32),
        (64, 40, 64),
    ]
    return [
        *(conv(*s, 1) for s in wide + deep + narrow),
        *(conv(*s, 3) for s in three),
        *(conv(*s, 3, 2) for s in [(128, 56, 128), (512, 14, 512), (32, 160, 64)]),
        conv(256, 56, 512, 1, 2),
        conv(3, 224, 64, 7, 2, plain=True),
        conv(3, 224, 32, 3, 2, plain=True),
        *(matmul(128, k, n) for k, n in [(768, 768), (768, 3072), (3072, 768), (384, 1536), (1536, 384)]),
        matmul(512, 512, 512),
        *(matmul(1, k, n) for k, n in [(768, 768), (1280, 1000), (2048, 1000)]),
    ]


class Peak:
    """Multiply-adds of this core on a tier's vectors; AMX, which has tiles beside them, may pass it."""

    def __init__(self, tier: str) -> None:
        self._tier = TIERS[tier]
        self.best = 0.0

    def sample(self) -> None:
        """GFLOP/s of the best burst so far."""
        self.best = max(self.best, _core.peak_flops(self._tier, 4) * 1e-9)


def measure(case: Case, tier: str, threads: int, rounds: int, peak: Peak) -> list[dict[str, Any]]:
    """One row for each kernel of the tier that accepts the case, fastest first."""
    attrs = pack_attrs({k: v if isinstance(v, list) else [v] for k, v in case.attrs.items()})
    block = block_of(tier)
    target = {"tier": TIERS[tier]}
    layouts = [block if case.blocked_in else 0] + [0] * (len(case.inputs) - 1)
    layout_out = block if case.blocked_out else 0
    ((dtype, shape),) = _core.op_infer(case.op, attrs, case.inputs)
    described = [(1, a.shape, layout) for a, layout in zip(case.inputs, layouts, strict=True)]
    outputs = [(dtype, shape, layout_out)]
    found = _core.kernel_list(case.op, attrs, described, outputs, target)
    least = min(target["tier"], TIERS["avx512"])  # amx has few tables of its own, AVX-512 serves the rest
    cost = {k["name"]: k["cost_us"] for k in found if k["tier"] >= least}
    inputs = list(zip(case.inputs, layouts, strict=True))
    repeats = max(2, int(1e8 / case.flops))
    best = dict.fromkeys(cost, float("inf"))
    for _ in range(rounds):
        peak.sample()
        for name in best:
            _, ns = _core.kernel_eval(case.op, attrs, inputs, outputs, name, threads, repeats, target)
            best[name] = min(best[name], float(ns))
    return [
        {
            "shape": case.title,
            "kernel": name,
            "us": ns / 1e3,
            "gflops": case.flops / ns,
            "cost_us": cost[name],
        }
        for name, ns in sorted(best.items(), key=lambda item: item[1])
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tier", choices=TIERS, default=list(TIERS)[_core.host_target()["tier"]])
    parser.add_argument("--only", default="", help="shapes whose title contains this")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", type=Path, help="write the rows here as well")
    arguments = parser.parse_args()
    peak = Peak(arguments.tier)
    rows: list[dict[str, Any]] = []
    print(f"{'shape':30} {'kernel':30} {'us':>9} {'GFLOP/s':>8} {'of peak':>8} {'cost':>9}")
    for case in cases():
        if arguments.only not in case.title:
            continue
        for row in measure(case, arguments.tier, arguments.threads, arguments.rounds, peak):
            row["peak"] = row["gflops"] / (peak.best * arguments.threads)
            rows.append(row)
            numbers = f"{row['us']:9.1f} {row['gflops']:8.1f} {row['peak']:8.1%} {row['cost_us']:9.1f}"
            print(f"{row['shape']:30} {row['kernel']:30} {numbers}", flush=True)
    print(f"peak of one core, {arguments.tier}: {peak.best:.0f} GFLOP/s")
    if arguments.json:
        arguments.json.write_text(json.dumps({"peak_gflops": peak.best, "rows": rows}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
