# SPDX-License-Identifier: Apache-2.0
"""Measure how long a package takes on this machine, on random inputs."""

from __future__ import annotations

import argparse
import time
from typing import Any

from pyneo.cli.common import count, json_argument, load, model_arguments, print_json, print_rows, size

HELP = "measure a package's latency"


def arguments(parser: argparse.ArgumentParser) -> None:
    model_arguments(parser)
    parser.add_argument("--runs", type=count, default=100, metavar="N", help="runs that count (default: 100)")
    parser.add_argument(
        "--warmup", type=count, default=10, metavar="N", help="runs before them (default: 10)"
    )
    parser.add_argument("--profile", action="store_true", help="show the time of every node as well")
    parser.add_argument("--trace", metavar="FILE", help="write the profile as a Chrome trace")
    json_argument(parser)


def run(args: argparse.Namespace) -> int:
    runs = max(1, args.runs)
    start = time.perf_counter()
    model = load(args)
    loaded = time.perf_counter()
    session = model.session()
    inputs = random_inputs(model.inputs)
    begin = time.perf_counter()
    session.predict(*inputs)
    first = time.perf_counter() - begin
    times = measure(lambda: session.predict(*inputs), args.warmup, runs)
    found: dict[str, Any] = {
        "package": args.package,
        "threads": args.threads,
        "runs": runs,
        "load_ms": (loaded - start) * 1e3,
        "first_ms": first * 1e3,
        "median_ms": times[runs // 2],
        "p90_ms": times[min(runs - 1, runs * 9 // 10)],
        "min_ms": times[0],
        "memory": session.memory,
    }
    profile = session.profile(*inputs) if args.profile or args.trace else None
    if profile is not None and args.trace:
        profile.save_trace(args.trace)
    if args.json:
        print_json({**found, **({"profile": profile.to_json()} if profile is not None else {})})
        return 0
    print_rows([
        ("model", model),
        ("load", f"{found['load_ms']:.2f} ms, verification included; first run {found['first_ms']:.3f} ms"),
        ("median", f"{found['median_ms']:.3f} ms"),
        ("p90", f"{found['p90_ms']:.3f} ms"),
        ("min", f"{found['min_ms']:.3f} ms of {runs} runs, threads {args.threads or 'all'}"),
        ("memory", ", ".join(f"{k.removesuffix('_bytes')} {size(v)}" for k, v in session.memory.items())),
    ])  # fmt: skip
    if args.profile:
        print(profile)
    return 0


def measure(call: Any, warmup: int, runs: int) -> list[float]:
    """Milliseconds of each run, sorted; a bar shows on a terminal if it takes long."""
    from pyneo.compiler.progress import Progress

    for _ in range(warmup):
        call()
    times = []
    with Progress(None) as show:
        for i in range(runs):
            begin = time.perf_counter_ns()
            call()
            times.append((time.perf_counter_ns() - begin) / 1e6)
            if sum(times[-1:]) > 20:  # quick runs must not be disturbed by drawing
                show(f"run {i + 1} of {runs}")
    return sorted(times)


def random_inputs(infos: Any) -> list[Any]:
    """Arrays of the model's shapes: normal numbers for floats, zeros and ones for everything else."""
    import numpy as np

    rng = np.random.default_rng(0)
    arrays = []
    for t in infos:
        shape = tuple(d if isinstance(d, int) else 1 for d in t.shape)
        values = rng.standard_normal(shape) if t.dtype.kind == "f" else rng.integers(0, 2, shape)
        arrays.append(np.asarray(values, dtype=t.dtype))
    return arrays
