# SPDX-License-Identifier: Apache-2.0
"""Decides whether a package may be used, and reads nothing of it that has not been decided upon.

In this order, each step only on what the ones before it have vouched for:

1. header and section table: bounds only;
2. the signature section, then the signature over the manifest's bytes;
3. the manifest is parsed, and the section table must be the one it lists;
4. the policies: expiry, device and tenant, runtime version, machine, release counter;
5. every section is fetched and hashed, and the gaps between sections must be zero.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pyneo.errors import ExpiredError, PackageError, SignatureError, TargetError
from pyneo.namedtuple import NamedTuple
from pyneo.package import container
from pyneo.package.container import HEADER_BYTES, RECORD_BYTES, Kind, Record
from pyneo.package.digest import digest, digest_range
from pyneo.package.manifest import MAX_MANIFEST_BYTES, Manifest, parse_time, parse_version

if TYPE_CHECKING:
    from pyneo.package.signing.counter import CounterStore
    from pyneo.package.signing.envelope import Signature
    from pyneo.package.signing.trust import TrustStore
    from pyneo.package.source import Source

TIERS = ("portable", "avx2", "avx512", "amx")  # each runs the ones before it (csrc/core/target.h)


class Policy(NamedTuple):
    """What a device asks of a package beyond a sound signature.

    clock gives seconds since 1970. device and tenant say who this device is. arch and tier are this
    machine's (tier an index of TIERS), runtime the version of pyneo; None: not asked. only_look, for tools
    that run nothing, leaves step 4 out. threads: how many may share the hashing, 0 all.
    """

    trust: TrustStore | None = None
    allow_unsigned: bool = False
    counter_store: CounterStore | None = None
    device: str | None = None
    tenant: str | None = None
    clock: Callable[[], float] = time.time
    arch: str | None = None
    tier: int | None = None
    runtime: str | None = None
    only_look: bool = False
    threads: int = 0


class Verified(NamedTuple):
    """A package that passed: its manifest, its section table, the ids of the trusted keys that signed it."""

    manifest: Manifest
    records: tuple[Record, ...]
    signers: tuple[str, ...]
    signatures: tuple[Signature, ...]

    def find(self, kind: int) -> Record | None:
        """The first section of a kind."""
        return next((r for r in self.records if r.kind == kind), None)


def verify(source: Source, policy: Policy) -> Verified:
    """Runs every check above. Raises PackageError and its subclasses, OSError."""
    count = container.parse_header(source.fetch(0, min(HEADER_BYTES, source.size)), source.size)
    table = source.fetch(HEADER_BYTES, HEADER_BYTES + RECORD_BYTES * count)
    records = container.parse_table(table, count, source.size)

    first, last = records[0], records[-1]
    if first.size > MAX_MANIFEST_BYTES:
        raise PackageError(f"the manifest has {first.size} bytes, at most {MAX_MANIFEST_BYTES} are allowed")
    data = bytes(source.fetch(first.offset, first.end))
    signatures = _signatures(source, last) if last.kind == Kind.SIGNATURE else ()
    signers = _check_signatures(data, signatures, policy)

    _check_digest(first, digest(data))
    manifest = Manifest.decode(data)
    body = records[1:-1] if signatures else records[1:]
    _check_table(manifest, body)
    container.check_kinds(body)
    if not policy.only_look:
        check_policy(manifest, policy)

    for record in body:
        _check_digest(record, digest_range(source.fetch, record.offset, record.end, policy.threads))
    for begin, end in container.gaps(records):
        if bytes(source.fetch(begin, end)).strip(b"\0"):
            raise _tampered(f"the padding at byte {begin} is not zero")
    return Verified(manifest, tuple(records), signers, signatures)


def _signatures(source: Source, record: Record) -> tuple[Signature, ...]:
    from pyneo.package.signing import envelope

    if record.size > envelope.MAX_ENVELOPE_BYTES:
        raise SignatureError(
            f"the signature section has {record.size} bytes, at most {envelope.MAX_ENVELOPE_BYTES} may be",
            "bad-signature",
        )
    data = bytes(source.fetch(record.offset, record.end))
    _check_digest(record, digest(data))
    return tuple(envelope.decode(data))


def _check_signatures(manifest: bytes, signatures: tuple[Signature, ...], policy: Policy) -> tuple[str, ...]:
    if not signatures:
        if policy.allow_unsigned:
            return ()
        raise SignatureError(
            "the package is not signed; sign it (pyneo sign), or pass allow_unsigned=True if it comes from "
            "where nobody else can write",
            "unsigned",
        )
    if policy.trust is not None:
        return policy.trust.verify(manifest, signatures, policy.clock())
    if policy.allow_unsigned:
        return ()
    raise SignatureError(
        "the package is signed, but nothing says whom to trust; pass trust= with the publisher's .pub file",
        "no-trust",
    )


def _check_table(manifest: Manifest, body: list[Record]) -> None:
    """The signature covers the manifest only: the table must be the very one the manifest lists."""
    listed = [(s.kind, s.flags, s.size, s.sha256) for s in manifest.sections]
    if listed != [(r.kind, r.flags, r.size, r.sha256.hex()) for r in body]:
        raise _tampered("the section table is not the one that was signed")


def _check_digest(record: Record, digest: bytes) -> None:
    if digest != record.sha256:
        raise _tampered(f"the {record.title} is not what was signed")


def _tampered(what: str) -> SignatureError:
    return SignatureError(
        f"{what}: the package was damaged or altered; get it again from its publisher", "altered"
    )


def check_policy(manifest: Manifest, policy: Policy) -> None:
    """What the device asks of a manifest that is known to be genuine."""
    if manifest.expires is not None:
        _check_expiry(manifest, policy.clock())
    for what, allowed, mine in (
        ("device", manifest.devices, policy.device),
        ("tenant", manifest.tenants, policy.tenant),
    ):
        if allowed and mine not in allowed:
            who = (
                f"this one is {mine!r}"
                if mine is not None
                else f"this one has not said who it is (pass {what}=)"
            )
            raise TargetError(f"the package is for {_some(allowed, what)}, and {who}", what)
    if policy.runtime is not None:
        needed = parse_version(manifest.minimum_runtime, "minimum_runtime")
        if parse_version(policy.runtime, "pyneo's version") < needed:
            raise TargetError(
                f"the package needs pyneo {manifest.minimum_runtime} or later, this is {policy.runtime}; "
                "update pyneo",
                "runtime",
            )
    if policy.arch is not None and manifest.target.arch not in (policy.arch, "any"):
        raise TargetError(
            f"the package was compiled for {manifest.target.arch} (target {manifest.target.name!r}), this "
            f"machine is {policy.arch}; compile it for target='host' or for this machine by name",
            "arch",
        )
    if policy.tier is not None and manifest.target.tier not in TIERS[: policy.tier + 1]:
        raise TargetError(
            f"the package needs a CPU with {manifest.target.tier} (target {manifest.target.name!r}), this "
            f"one has {TIERS[policy.tier]}; compile it for target='host' or for this machine by name",
            "tier",
        )
    if policy.counter_store is not None:
        policy.counter_store.check(manifest)


def _check_expiry(manifest: Manifest, now: float) -> None:
    from pyneo.package.signing.trust import CLOCK_FLOOR

    assert manifest.expires is not None
    floor = CLOCK_FLOOR if manifest.created is None else parse_time(manifest.created, "created")
    if now < floor:
        raise ExpiredError(
            f"the package expires ({manifest.expires}), and this device's clock is not set; set it", "clock"
        )
    if now > parse_time(manifest.expires, "expires"):
        raise ExpiredError(f"the package expired on {manifest.expires}; install a newer release", "expired")


def _some(names: tuple[str, ...], what: str) -> str:
    shown = ", ".join(repr(n) for n in names[:3])
    return f"{what} {shown}" + (f" and {len(names) - 3} others" if len(names) > 3 else "")


def normalise_clock(clock: Any) -> Callable[[], float]:
    """A clock of a callable, or a constant, in seconds or as a datetime; None is the system's."""
    if clock is None:
        return time.time

    def now() -> float:
        value = clock() if callable(clock) else clock
        return float(value.timestamp() if hasattr(value, "timestamp") else value)

    return now
