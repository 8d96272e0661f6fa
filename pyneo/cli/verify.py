# SPDX-License-Identifier: Apache-2.0
"""Check a package as a device would: signatures, digests, expiry, device, release. Nothing is run."""

from __future__ import annotations

import argparse

from pyneo.cli.common import json_argument, policy_arguments, print_json, print_rows

HELP = "check a package's signatures and content"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("package", help="the .neo file")
    policy_arguments(parser)
    json_argument(parser)


def run(args: argparse.Namespace) -> int:
    import pyneo
    from pyneo.package.signing.counter import CounterStore
    from pyneo.package.signing.trust import TrustStore
    from pyneo.package.signing.verify import Policy, verify
    from pyneo.package.source import FileSource, anonymous

    store = None
    if args.counter_store:
        store = CounterStore(args.counter_store, allow_rollback=args.allow_rollback)
    policy = Policy(
        trust=None if args.trust is None else TrustStore.load(args.trust), allow_unsigned=args.allow_unsigned,
        counter_store=store, device=args.device, tenant=args.tenant, runtime=pyneo.__version__,
    )  # fmt: skip
    source = FileSource(args.package, anonymous)
    try:
        found = verify(source, policy)
    finally:
        source.close()
    m = found.manifest
    if args.json:
        print_json({"package": args.package, "ok": True, "signers": found.signers, "manifest": m.to_json()})
    else:
        who = ", ".join(found.signers) if found.signers else "nobody (unsigned or not asked: --trust)"
        print_rows([
            ("package", f"{args.package}: intact"), ("name", f"{m.name} {m.version}, release {m.release}"),
            ("target", f"{m.target.name} ({m.target.arch}, {m.target.tier})"), ("signed by", who),
        ])  # fmt: skip
    return 0
