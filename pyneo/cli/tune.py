# SPDX-License-Identifier: Apache-2.0
"""Time the kernels that could run a model on this machine, and show where the cost model chose another.

The times are kept ($PYNEO_CACHE, or pyneo in the user's cache folder): `pyneo compile --tune` uses them.
"""

from __future__ import annotations

import argparse

from pyneo.cli.common import json_argument, pairs, print_json, print_rows
from pyneo.cli.compile import dims

HELP = "measure a model's candidate kernels on this machine"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", help="the .onnx file")
    parser.add_argument(
        "--target", default="host", help='the machine to tune for (default: "host", this one)'
    )
    parser.add_argument(
        "--shape", action="append", default=[], metavar="NAME=1,3,224,224", help="shape of an input"
    )
    json_argument(parser)


def run(args: argparse.Namespace) -> int:
    import pyneo

    shapes = {name: dims(text) for name, text in pairs(args.shape, "--shape").items()}
    tuning = pyneo.compile(args.model, args.target, shapes=shapes or None, tune=True).report().tuning
    if args.json:
        print_json({
            "estimated_us": tuning.estimated_us, "measured_us": tuning.measured_us,
            "swaps": [s._asdict() for s in tuning.swaps],
        })  # fmt: skip
        return 0
    gain = 1 - tuning.measured_us / tuning.estimated_us if tuning.estimated_us else 0.0
    print_rows([
        ("cost model", f"{tuning.estimated_us / 1e3:.3f} ms, sum of the measured times of what it chooses"),
        ("measured", f"{tuning.measured_us / 1e3:.3f} ms, {gain:.1%} less"),
        ("changed", f"{len(tuning.swaps)} nodes"),
    ])  # fmt: skip
    for s in sorted(tuning.swaps, key=lambda s: s.measured_us - s.estimated_us):
        print(
            f"{s.estimated_us:10.1f} -> {s.measured_us:8.1f} us  {s.op:<20} "
            f"{s.estimated or 'reference'} -> {s.measured or 'reference'}  {s.node}"
        )
    return 0
