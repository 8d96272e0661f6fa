# SPDX-License-Identifier: Apache-2.0
"""Add signatures to a package. Several publishers can sign the same package, one after the other."""

from __future__ import annotations

import argparse

from pyneo.cli.common import json_argument, print_json

HELP = "add a signature to a package"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("package", help="the .neo file")
    parser.add_argument(
        "--key", action="append", required=True, metavar="KEY", help="the .key file; repeatable"
    )
    parser.add_argument("-o", "--output", metavar="NEO", help="write here instead of in place")
    json_argument(parser)


def run(args: argparse.Namespace) -> int:
    from pyneo.package.package import Package

    package = Package.open(args.package)
    output = args.output or args.package
    package.save(output, keys=args.key)
    if args.json:
        print_json({"output": output, "signers": package.signers})
    else:
        print(f"{output}: signed by {', '.join(s[:16] for s in package.signers)}")
    return 0
