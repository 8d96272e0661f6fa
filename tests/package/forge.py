# SPDX-License-Identifier: Apache-2.0
"""Packages for tests: sound ones, and ones forged byte by byte with the test key's signature."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from hashlib import sha256

import numpy as np

from pyneo.package.container import Kind, Section
from pyneo.package.manifest import Manifest, Target, TensorSpec
from pyneo.package.package import Package
from pyneo.package.signing import envelope
from pyneo.package.signing.keys import PrivateKey
from pyneo.package.signing.trust import TrustStore
from pyneo.package.signing.verify import Policy, Verified, verify
from pyneo.package.source import Source

KEY = PrivateKey.generate()
OTHER = PrivateKey.generate()
TRUST = TrustStore([KEY.public])

PLAN = bytes(range(256)) * 3 + b"tail"
WEIGHTS = bytes(i * 7 & 255 for i in range(5000))


def manifest(**fields) -> Manifest:
    """A manifest of a model x[1,3] -> y[1,2]."""
    base = dict(
        name="toy",
        target=Target("any", "any"),
        inputs=(TensorSpec("x", "float32", (1, 3)),),
        outputs=(TensorSpec("y", "float32", (1, 2)),),
        source=sha256(b"model").hexdigest(),
    )
    return Manifest(**{**base, **fields})


def package(plan: bytes = PLAN, weights: bytes = WEIGHTS, **fields) -> Package:
    """An unsigned package with an opaque plan."""
    return Package(manifest(**fields), [Section(Kind.PLAN, plan), Section(Kind.WEIGHTS, weights)])


def signed(plan: bytes = PLAN, weights: bytes = WEIGHTS, key: PrivateKey = KEY, **fields) -> bytes:
    """The bytes of a signed package."""
    p = package(plan, weights, **fields)
    p.sign(key)
    return p.to_bytes()


def check(data: bytes, trust: TrustStore | None = TRUST, **policy) -> Verified:
    """Verifies bytes as Model.load does."""
    return verify(Source(data), Policy(trust=trust, **policy))


def table(data: bytes) -> list[tuple]:
    """(kind, flags, offset, bytes, reserved, sha256) of every section, read without pyneo."""
    count = struct.unpack_from("<I", data, 24)[0]
    return [struct.unpack_from("<IIQQQ32s", data, 64 + 64 * i) for i in range(count)]


def forge(manifest_json: object, sections: list[tuple[int, int, bytes]], key: PrivateKey = KEY) -> bytes:
    """A container around any manifest value and any (kind, flags, data), signed by the key."""
    from pyneo.package.container import write
    from pyneo.package.manifest import canonical

    data = manifest_json if isinstance(manifest_json, bytes) else canonical(manifest_json)
    parts = [Section(Kind.MANIFEST, data), *(Section(k, d, f) for k, f, d in sections)]
    parts.append(Section(Kind.SIGNATURE, envelope.encode([envelope.sign(data, key)])))
    return b"".join(write(parts))


def listing(sections: list[tuple[int, int, bytes]]) -> list[dict]:
    """The manifest's list of sections."""
    return [{"kind": k, "flags": f, "bytes": len(d), "sha256": sha256(d).hexdigest()} for k, f, d in sections]


ONNX_DTYPE = {
    "float32": 1,
    "uint8": 2,
    "int8": 3,
    "int32": 6,
    "int64": 7,
    "bool": 9,
    "float16": 10,
    "float64": 11,
}


def plan(op: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> bytes:
    """The plan of one node, byte by byte as docs/package-format.md describes it: outputs = op(inputs)."""
    strings, at = b"\0", {}
    for text in (*(t.name for t in (*inputs, *outputs)), "node", op):
        at[text] = len(strings)
        strings += text.encode() + b"\0"

    def tensor(t: TensorSpec, storage: int, index: int) -> bytes:
        size = np.dtype(t.dtype).itemsize * math.prod(t.shape)
        dims = list(t.shape) + [0] * (8 - len(t.shape))
        head = (at[t.name], ONNX_DTYPE[t.dtype], 0, len(t.shape), storage, -1, 0, index, size)
        return struct.pack("<IBBBBiIQQ8qQ", *head, *dims, 0)

    records = [tensor(t, 2, i) for i, t in enumerate(inputs)] + [
        tensor(t, 3, i) for i, t in enumerate(outputs)
    ]
    n, m = len(inputs), len(outputs)
    tables = [
        (b"".join(records), n + m),
        (struct.pack("<IIIIHHiQIHH", at["node"], at[op], 0, 0, n, m, -1, 0, 0, 0, 0), 1),
        (struct.pack(f"<{n + m}i", *range(n + m)), n + m),
        (struct.pack("<8I", 0, 1, 0, n, n, m, 0, 0), 1),
        (b"", 0),
        (b"", 0),
        (strings, len(strings)),
    ]
    refs, blob = b"", b""
    for table_bytes, count in tables:
        blob += bytes(-len(blob) % 8)
        refs += struct.pack("<QQ", 160 + len(blob), count)
        blob += table_bytes
    return struct.pack("<IIQQQQII", 0x4E4C504E, 1, 160 + len(blob), 0, 0, 0, 0, 0) + refs + blob


def runnable(op: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], **fields) -> Package:
    """An unsigned package of one node that runs."""
    m = manifest(inputs=tuple(inputs), outputs=tuple(outputs), **fields)
    return Package(m, [Section(Kind.PLAN, plan(op, inputs, outputs)), Section(Kind.WEIGHTS, b"")])


def relu(shape: tuple[int, ...] = (1, 3), key: PrivateKey | None = KEY, **fields) -> bytes:
    """A package that runs: y = Relu(x) in float32."""
    p = runnable("Relu", [TensorSpec("x", "float32", shape)], [TensorSpec("y", "float32", shape)], **fields)
    if key is not None:
        p.sign(key)
    return p.to_bytes()


def replace_manifest(m: Manifest, **fields) -> Manifest:
    """The manifest with other fields."""
    return m._replace(**fields)
