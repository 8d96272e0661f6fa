# SPDX-License-Identifier: Apache-2.0
"""Make an Ed25519 key pair: NAME.key signs packages and stays here, NAME.pub goes to devices."""

from __future__ import annotations

import argparse

from pyneo.cli.common import json_argument, print_json, print_rows

HELP = "make a key pair for signing"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", nargs="?", default="publisher", help="path without ending (default: publisher)"
    )
    parser.add_argument(
        "--force", action="store_true", help="overwrite an existing pair; its signatures cannot be renewed"
    )
    json_argument(parser)


def run(args: argparse.Namespace) -> int:
    import pyneo

    pair = pyneo.keygen(args.name, force=args.force)
    if args.json:
        print_json({"key": pair.key, "pub": pair.pub, "id": pair.id})
    else:
        print_rows(
            [("private key", f"{pair.key} (keep it secret)"), ("public key", pair.pub), ("key id", pair.id)]
        )
    return 0
