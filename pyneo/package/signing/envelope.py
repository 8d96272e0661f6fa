# SPDX-License-Identifier: Apache-2.0
"""The signature section: a DSSE envelope (github.com/secure-systems-lab/dsse) over the manifest's bytes.

The payload is detached, because the manifest section is the payload. The envelope names keys, never
algorithms: a key of the trust store decides how its signature is checked.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pyneo.errors import PackageError, SignatureError
from pyneo.namedtuple import NamedTuple
from pyneo.package.manifest import canonical, decode_canonical

if TYPE_CHECKING:
    from pyneo.package.signing.keys import PrivateKey

PAYLOAD_TYPE = "application/vnd.pyneo.manifest+json"
MAX_ENVELOPE_BYTES = 1 << 16
MAX_SIGNATURES = 64


class Signature(NamedTuple):
    """One signature: the id of the key that is said to have made it, and 64 bytes."""

    keyid: str
    sig: bytes


def pae(payload: bytes, payload_type: str = PAYLOAD_TYPE) -> bytes:
    """DSSE's pre-authentication encoding: what is signed, so that type and payload cannot be confused."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def sign(manifest: bytes, key: PrivateKey) -> Signature:
    """The key's signature over a manifest."""
    return Signature(key.public.id, key.sign(pae(manifest)))


def encode(signatures: Iterable[Signature]) -> bytes:
    """The envelope's bytes."""
    from binascii import b2a_base64

    listed = [{"keyid": s.keyid, "sig": b2a_base64(s.sig, newline=False).decode()} for s in signatures]
    return canonical({"payloadType": PAYLOAD_TYPE, "signatures": listed})


def decode(data: bytes) -> list[Signature]:
    """The envelope's signatures; SignatureError if it is not exactly what `encode` writes."""
    from binascii import a2b_base64, b2a_base64

    broken = SignatureError(
        "the signature section is not a valid envelope; sign the package again", "bad-signature"
    )
    try:
        value = decode_canonical(data, "signature", MAX_ENVELOPE_BYTES)
    except PackageError:
        raise broken from None
    if not isinstance(value, dict) or value.keys() != {"payloadType", "signatures"}:
        raise broken
    listed = value["signatures"]
    if (
        value["payloadType"] != PAYLOAD_TYPE
        or not isinstance(listed, list)
        or not 0 < len(listed) <= MAX_SIGNATURES
    ):
        raise broken
    out = []
    for item in listed:
        if not isinstance(item, dict) or item.keys() != {"keyid", "sig"}:
            raise broken
        keyid, text = item["keyid"], item["sig"]
        if not isinstance(keyid, str) or not isinstance(text, str) or len(keyid) != 64:
            raise broken
        try:
            sig = a2b_base64(text, strict_mode=True)
        except ValueError:
            raise broken from None
        if len(sig) != 64 or b2a_base64(sig, newline=False).decode() != text:
            raise broken
        out.append(Signature(keyid, sig))
    if len({s.keyid for s in out}) != len(out):
        raise broken
    return out
