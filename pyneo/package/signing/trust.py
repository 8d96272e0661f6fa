# SPDX-License-Identifier: Apache-2.0
"""Whom a device trusts: public keys, how many must have signed, from when to when, and which are revoked."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from pyneo.errors import ExpiredError, SignatureError
from pyneo.namedtuple import NamedTuple
from pyneo.package.manifest import parse_time
from pyneo.package.signing.envelope import Signature, pae
from pyneo.package.signing.keys import PublicKey, load_public_keys

POLICY_FILE = "trust.json"
# A device without a battery-backed clock starts in 1970, where nothing has expired yet. Where a date decides,
# a clock that reads earlier than pyneo itself existed is therefore no clock.
CLOCK_FLOOR = 1735689600.0  # 2025-01-01T00:00:00Z


class Validity(NamedTuple):
    """When signatures of a key are accepted, in seconds since 1970; None is unbounded."""

    not_before: float | None = None
    not_after: float | None = None


class TrustStore:
    """The keys a device trusts.

    keys: .pub files, PEM, raw 32 bytes or key objects. threshold: how many different keys must have signed.
    revoked: ids of keys that are refused though they are listed. validity: windows by key id.

    A store is also what `Model.load(trust=...)` makes of a .pub file or of a folder. A file trust.json
    beside the keys refines it, every field optional:

        {"threshold": 2, "revoked": ["<key id>"],
         "keys": {"<key id>": {"not_before": "2026-01-01T00:00:00Z", "not_after": "2027-01-01T00:00:00Z"}}}

    Raises SignatureError if a key or the policy cannot be read, OSError if a file cannot be.
    """

    def __init__(
        self,
        keys: Iterable[Any] = (),
        *,
        threshold: int = 1,
        revoked: Iterable[str] = (),
        validity: Mapping[str, Validity] | None = None,
    ) -> None:
        if threshold < 1:
            raise SignatureError(f"the threshold must be at least 1 signature, not {threshold}", "bad-trust")
        self.threshold = threshold
        self.revoked = set(revoked)
        self.validity = dict(validity or {})
        self._keys: dict[str, PublicKey] = {}
        for key in keys:
            self.add(key)

    @classmethod
    def load(cls, source: Any) -> TrustStore:
        """A store of a .pub file, a folder of them, PEM, bytes, a key object, a list of these, or a store."""
        if isinstance(source, TrustStore):
            return source
        if isinstance(source, (list, tuple, set, frozenset)):
            return cls(source)
        if isinstance(source, (str, os.PathLike)) and not os.fspath(source).lstrip().startswith("-----BEGIN"):
            path = os.fspath(source)
            folder = path if os.path.isdir(path) else os.path.dirname(path)
            files = [path]
            if os.path.isdir(path):
                files = sorted(os.path.join(path, f) for f in os.listdir(path) if f.endswith(".pub"))
                if not files:
                    raise SignatureError(
                        f"{path} holds no .pub file, so nothing could be trusted", "bad-trust"
                    )
            return cls(files, **_read_policy(os.path.join(folder, POLICY_FILE)))
        return cls([source])

    def add(self, key: Any, *, not_before: str | None = None, not_after: str | None = None) -> None:
        """Trusts a key (or every key of a file), within an optional window of RFC 3339 times."""
        for k in load_public_keys(key):
            self._keys[k.id] = k
            if not_before is not None or not_after is not None:
                self.validity[k.id] = _window(not_before, not_after)

    def revoke(self, keyid: str) -> None:
        """Refuses a key from now on, whatever else is listed."""
        self.revoked.add(keyid)

    @property
    def key_ids(self) -> tuple[str, ...]:
        """Ids of the keys in the store, revoked ones included."""
        return tuple(self._keys)

    def verify(self, manifest: bytes, signatures: Iterable[Signature], now: float) -> tuple[str, ...]:
        """Ids of the trusted keys that signed the manifest; raises unless they reach the threshold.

        SignatureError with reason "bad-signature", "untrusted-key", "revoked-key" or "threshold";
        ExpiredError with "key-expired", "key-not-yet-valid" or "clock".
        """
        message = pae(manifest)
        good: list[str] = []
        refusals: list[SignatureError] = []
        for s in signatures:
            key = self._keys.get(s.keyid)
            if s.keyid in self.revoked:
                refusals.append(
                    SignatureError(f"key {s.keyid[:16]}... is revoked; sign with another key", "revoked-key")
                )
            elif key is None:
                continue
            elif not key.verify(s.sig, message):
                # A trusted key's signature that does not fit is tampering, however many others do fit.
                raise SignatureError(
                    f"the signature does not fit the package (key {s.keyid[:16]}...): the package was "
                    "altered, or the signature belongs to another one",
                    "bad-signature",
                )
            elif (refusal := self._outside_window(s.keyid, now)) is not None:
                refusals.append(refusal)
            else:
                good.append(s.keyid)
        if len(good) >= self.threshold:
            return tuple(good)
        if refusals:
            raise refusals[0]
        if not good:
            raise SignatureError(
                "the package is not signed by a trusted key; get it from its publisher, or add the "
                "publisher's .pub file to the trust store",
                "untrusted-key",
            )
        raise SignatureError(
            f"the package is signed by {len(good)} of the {self.threshold} trusted keys that are needed",
            "threshold",
        )

    def _outside_window(self, keyid: str, now: float) -> SignatureError | None:
        window = self.validity.get(keyid)
        if window is None:
            return None
        name = f"key {keyid[:16]}..."
        if now < CLOCK_FLOOR:
            return ExpiredError(
                f"{name} is valid for a time only, and this device's clock is not set; set it", "clock"
            )
        if window.not_before is not None and now < window.not_before:
            return ExpiredError(f"{name} is not valid yet; check the clock, or wait", "key-not-yet-valid")
        if window.not_after is not None and now > window.not_after:
            return ExpiredError(
                f"{name} is no longer valid; get a package signed by a newer key", "key-expired"
            )
        return None


def _window(not_before: object, not_after: object) -> Validity:
    ends = []
    for what, text in (("not_before", not_before), ("not_after", not_after)):
        if text is not None and not isinstance(text, str):
            raise SignatureError(f"{what} must be a text such as 2027-01-31T00:00:00Z", "bad-trust")
        ends.append(None if text is None else parse_time(text, what))
    return Validity(*ends)


def _read_policy(path: str) -> dict[str, Any]:
    """Arguments for TrustStore from a policy file; none if there is no such file."""
    import json

    try:
        with open(path, "rb") as f:
            value = json.loads(f.read(1 << 20))
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError):
        raise SignatureError(f"{path} is not valid JSON", "bad-trust") from None
    if not isinstance(value, dict) or not value.keys() <= {"threshold", "revoked", "keys"}:
        raise SignatureError(
            f"{path} must be an object with threshold, revoked, keys and nothing else", "bad-trust"
        )
    threshold, revoked, keys = value.get("threshold", 1), value.get("revoked", []), value.get("keys", {})
    if not isinstance(threshold, int) or isinstance(threshold, bool):
        raise SignatureError(f"{path}: threshold must be a whole number", "bad-trust")
    if not isinstance(revoked, list) or not all(isinstance(r, str) and len(r) == 64 for r in revoked):
        raise SignatureError(f"{path}: revoked must be a list of key ids (64 hex digits each)", "bad-trust")
    if not isinstance(keys, dict):
        raise SignatureError(f"{path}: keys must be an object of key ids", "bad-trust")
    validity = {}
    for keyid, window in keys.items():
        if not isinstance(window, dict) or not window.keys() <= {"not_before", "not_after"}:
            raise SignatureError(
                f"{path}: keys.{keyid[:16]} must hold not_before, not_after and nothing else", "bad-trust"
            )
        validity[keyid] = _window(window.get("not_before"), window.get("not_after"))
    return {"threshold": threshold, "revoked": revoked, "validity": validity}
