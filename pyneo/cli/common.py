# SPDX-License-Identifier: Apache-2.0
"""Arguments that several commands share, and how they load a model and print values."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyneo.model import Model


def json_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON to standard output, for scripts")


def policy_arguments(parser: argparse.ArgumentParser) -> None:
    """What a device asks of a package."""
    group = parser.add_argument_group("trust")
    group.add_argument("--trust", metavar="PUB", help="the publisher's .pub file, or a folder of them")
    group.add_argument("--allow-unsigned", action="store_true", help="accept a package without a signature")
    group.add_argument("--counter-store", metavar="FILE", help="remember releases here and refuse older ones")
    group.add_argument("--allow-rollback", action="store_true", help="accept an older release after all")
    group.add_argument(
        "--device", metavar="ID", help="who this device is, for packages that name their devices"
    )
    group.add_argument(
        "--tenant", metavar="ID", help="whose device this is, for packages that name their tenants"
    )


def model_arguments(parser: argparse.ArgumentParser) -> None:
    """A package to be run, and how."""
    parser.add_argument("package", help="the .neo file")
    policy_arguments(parser)
    parser.add_argument(
        "--threads", type=count, default=0, metavar="N", help="0, the default: all it may use"
    )
    parser.add_argument(
        "--mode", choices=("copy", "map"), default="copy", help="how the file gets into memory"
    )


def load(args: argparse.Namespace) -> Model:
    """The model that model_arguments asked for."""
    import pyneo

    return pyneo.Model.load(
        args.package, trust=args.trust, threads=args.threads, mode=args.mode,
        allow_unsigned=args.allow_unsigned, counter_store=args.counter_store,
        allow_rollback=args.allow_rollback, device=args.device, tenant=args.tenant,
    )  # fmt: skip


def count(text: str) -> int:
    """A number of things, 0 or more."""
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 0, found {text!r}")
    return value


def pairs(texts: list[str], what: str) -> dict[str, str]:
    """NAME=VALUE arguments as a dict; ValueError for one without a "="."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ValueError(f"{what} {text!r} must be NAME=VALUE")
        found[name] = value
    return found


def print_json(value: Any) -> None:
    json.dump(value, sys.stdout, indent=1, ensure_ascii=False)
    print()


def print_rows(rows: list[tuple[str, Any]]) -> None:
    """Names and values in two columns; control characters escaped, whatever the value holds."""
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(value))
        print(f"{name:<{width}}  {text}")


def size(n: int) -> str:
    """Bytes for people."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if n < 1024 or unit == "GiB":
            return f"{n:.0f} {unit}" if unit == "bytes" else f"{n:.1f} {unit}"
        n /= 1024  # type: ignore[assignment]
    raise AssertionError
