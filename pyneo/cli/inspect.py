# SPDX-License-Identifier: Apache-2.0
"""Show what a package says about itself. Digests are checked, signatures only if --trust is given."""

from __future__ import annotations

import argparse
from typing import Any

from pyneo.cli.common import json_argument, print_json, print_rows, size

HELP = "show a package's manifest and sections"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("package", help="the .neo file")
    parser.add_argument("--trust", metavar="PUB", help="check the signature as well")
    json_argument(parser)


def run(args: argparse.Namespace) -> int:
    from pyneo.package.package import Package

    found = Package.open(args.package, trust=args.trust).inspect()
    if args.json:
        print_json(found)
        return 0
    m = found["manifest"]
    t = m["target"]
    rows: list[tuple[str, Any]] = [
        ("name", m["name"]),
        ("version", f"{m['version']}, release {m['release']}"),
        (
            "target",
            f"{t['name']}: {t['arch']}, {t['tier']}" + (f" ({' '.join(t['isa'])})" if t["isa"] else ""),
        ),
        ("needs", f"pyneo {m['minimum_runtime']} or later; compiled by {m['compiler']}"),
        ("source", f"sha256 {m['source']}"),
    ]
    rows += [("input", _tensor(x)) for x in m["inputs"]] + [("output", _tensor(y)) for y in m["outputs"]]
    rows += [(key, m[key]) for key in ("created", "expires") if key in m]
    rows += [(key, ", ".join(m[key])) for key in ("devices", "tenants") if key in m]
    rows += [("metadata", f"{k} = {v}") for k, v in m.get("metadata", {}).items()]
    rows += [
        ("section", f"{s['name']:<9} {size(s['bytes']):>10} at {s['offset']:<8} sha256 {s['sha256'][:16]}...")
        for s in found["sections"]
    ]
    said = "signed by" if args.trust else "says signed by"
    rows += [(said, keyid) for keyid in found["signatures"]] or [("signed by", "nobody")]
    print_rows([*rows, ("file", size(found["file_bytes"]))])
    return 0


def _tensor(t: dict[str, Any]) -> str:
    return f"{t['name']}: {t['dtype']} [{', '.join(map(str, t['shape']))}]"
