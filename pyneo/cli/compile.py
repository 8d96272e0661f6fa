# SPDX-License-Identifier: Apache-2.0
"""Compile an ONNX model into a package for one kind of machine, and sign it."""

from __future__ import annotations

import argparse
import os
import sys

from pyneo.cli.common import count, json_argument, pairs, print_json, size

HELP = "compile a model into a signed package"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", help="the .onnx file")
    parser.add_argument(
        "-o", "--output", metavar="NEO", help="the package (default: the model's name with .neo)"
    )
    parser.add_argument(
        "--target", default="host", help='the machine to compile for (default: "host", this one)'
    )
    parser.add_argument("--targets", action="store_true", help="list the targets and stop")
    parser.add_argument(
        "--shape",
        action="append",
        default=[],
        metavar="NAME=1,3,224,224",
        help="shape of an input the model leaves open",
    )
    parser.add_argument(
        "--state",
        action="append",
        default=[],
        metavar="OUTPUT=INPUT",
        help="an output that is an input's value in the next run, kept by the session; repeatable",
    )
    parser.add_argument(
        "--tune", action="store_true", help="choose kernels by timing them on this machine (see pyneo tune)"
    )
    parser.add_argument(
        "--key", action="append", default=[], metavar="KEY", help="sign with this .key file; repeatable"
    )
    parser.add_argument(
        "--max-seconds", type=float, default=1800, metavar="N", help="refuse a model that takes longer (1800)"
    )
    parser.add_argument("--name", help="name in the manifest (default: the model's)")
    parser.add_argument("--version", default="1", metavar="TEXT", help="version in the manifest, for people")
    parser.add_argument(
        "--release", type=count, default=1, metavar="N", help="counter that grows with every release"
    )
    parser.add_argument("--expires", metavar="TIME", help="UTC time such as 2027-01-31T00:00:00Z")
    parser.add_argument(
        "--metadata", action="append", default=[], metavar="NAME=TEXT", help="anything else; repeatable"
    )
    parser.add_argument(
        "--for-device", action="append", default=[], metavar="ID", help="the only devices; repeatable"
    )
    parser.add_argument(
        "--for-tenant", action="append", default=[], metavar="ID", help="the only tenants; repeatable"
    )
    parser.add_argument("--report", metavar="FILE", help="write the report here: .html, .json, or text")
    parser.add_argument("--quiet", action="store_true", help="print neither progress nor report")
    json_argument(parser)


def run(args: argparse.Namespace) -> int:
    if args.targets:
        from pyneo.compiler.targets.target import names

        print("\n".join(names()))
        return 0
    if args.model is None:
        print("pyneo compile: error: the model is missing, as in pyneo compile model.onnx", file=sys.stderr)
        return 2
    import pyneo

    shapes = {name: dims(text) for name, text in pairs(args.shape, "--shape").items()}
    package = pyneo.compile(
        args.model, args.target, shapes=shapes or None, state=pairs(args.state, "--state"),
        name=args.name, version=args.version, release=args.release, expires=args.expires,
        metadata=pairs(args.metadata, "--metadata"), devices=args.for_device, tenants=args.for_tenant,
        tune=args.tune, max_seconds=args.max_seconds, progress=False if args.quiet else None,
    )  # fmt: skip
    output = args.output or os.path.splitext(args.model)[0] + ".neo"
    package.save(output, keys=args.key)
    report = package.report()
    if args.report:
        _write_report(report, args.report)
    if args.json:
        import json

        print_json(
            {
                "output": output,
                "bytes": package.nbytes,
                "signers": package.signers,
                "report": json.loads(report.to_json()),
            }
        )
    elif not args.quiet:
        print(report)
        print(f"wrote {output}: {size(package.nbytes)}, {_signed(package.signers)}")
    return 0


def dims(text: str) -> list[int | str]:
    return [
        int(d) if d.strip().isdigit() else d.strip() for d in text.replace("x", ",").split(",") if d.strip()
    ]


def _signed(signers: tuple[str, ...]) -> str:
    return "signed by " + ", ".join(s[:16] for s in signers) if signers else "not signed"


def _write_report(report: object, path: str) -> None:
    if path.endswith(".html"):
        text = report.to_html()  # type: ignore[attr-defined]
    elif path.endswith(".json"):
        text = report.to_json()  # type: ignore[attr-defined]
    else:
        text = str(report) + "\n"
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
