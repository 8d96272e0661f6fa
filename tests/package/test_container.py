# SPDX-License-Identifier: Apache-2.0
"""Write then read is the identity, and the bytes are where docs/package-format.md says."""

from __future__ import annotations

import struct
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyneo.errors import PackageError
from pyneo.package.container import Kind, Section
from pyneo.package.digest import digest, digest_range
from pyneo.package.manifest import Manifest, Target, TensorSpec
from pyneo.package.package import Package
from tests.package import forge

text = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=20)
data_text = st.text(st.characters(blacklist_categories=("Cs",)), max_size=20)
blob = st.binary(max_size=300)
tensors = st.lists(
    st.builds(
        TensorSpec,
        text,
        st.sampled_from(["float32", "int64", "bool"]),
        st.lists(st.one_of(st.integers(0, 2**62), text), max_size=4).map(tuple),
        st.one_of(*(st.lists(k, max_size=4, unique=True).map(tuple) for k in (st.integers(), data_text))),
    ),
    max_size=3,
    unique_by=lambda t: t.name,
).map(tuple)
manifests = st.builds(
    Manifest,
    name=text,
    target=st.builds(Target, text, text, text, st.lists(text, max_size=3).map(tuple)),
    inputs=tensors,
    outputs=tensors,
    version=text,
    release=st.integers(0, 2**63 - 1),
    minimum_runtime=st.sampled_from(["0.1.0", "10.20.30"]),
    source=st.binary(min_size=32, max_size=32).map(bytes.hex),
    compiler=text,
    expires=st.sampled_from([None, "2027-01-31T00:00:00Z"]),
    tenants=st.lists(text, max_size=2).map(tuple),
    sections=st.just(()),
    created=st.sampled_from([None, "2026-01-01T00:00:00Z"]),
    devices=st.lists(text, max_size=2).map(tuple),
    metadata=st.dictionaries(text, text, max_size=3),
    strings=st.lists(data_text, max_size=4, unique=True).map(tuple),
)


@settings(max_examples=100, deadline=None)
@given(
    manifest=manifests, plan=blob, weights=st.one_of(st.none(), blob), delegates=st.lists(blob, max_size=3)
)
def test_write_then_read_is_the_identity(manifest, plan, weights, delegates):
    sections = [Section(Kind.PLAN, plan)]
    sections += [Section(Kind.WEIGHTS, weights)] if weights is not None else []
    sections += [Section(Kind.DELEGATE, d, 1) for d in delegates]
    written = Package(manifest, sections)
    written.sign(forge.KEY)
    data = written.to_bytes()
    read = Package.open(data, trust=forge.KEY.public)
    assert read.manifest == written.manifest
    assert [(s.kind, s.flags, bytes(s.data)) for s in read.sections] == [
        (s.kind, s.flags, s.data) for s in sections
    ]
    assert read.signers == (forge.KEY.public.id,)
    assert read.to_bytes() == data
    assert len(data) == written.nbytes


def test_the_bytes_are_where_the_format_says():
    data = forge.signed()
    magic, version, header_bytes, file_bytes, count, zero = struct.unpack_from("<8sIIQII", data)
    assert (magic, version, header_bytes, file_bytes, count, zero) == (
        b"\x89NEO\r\n\x1a\n",
        1,
        64,
        len(data),
        4,
        0,
    )
    assert data[32:64] == bytes(32)
    rows = forge.table(data)
    assert [r[0] for r in rows] == [1, 2, 3, 4]
    assert all(r[2] % 64 == 0 for r in rows) and rows[2][2] % 65536 == 0
    for _kind, _flags, offset, size, _reserved, stated in rows:  # all of them smaller than 1 MiB
        assert sha256(data[offset : offset + size]).digest() == stated
    assert data[rows[1][2] : rows[1][2] + rows[1][3]] == forge.PLAN
    assert data[rows[2][2] : rows[2][2] + rows[2][3]] == forge.WEIGHTS
    used = bytearray(len(data))
    for row in rows:
        used[row[2] : row[2] + row[3]] = b"\1" * row[3]
    assert not any(b for b, u in zip(data[64 * 5 :], used[64 * 5 :], strict=True) if not u), "gaps are zero"


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 9 << 20, (12 << 20) + 5])
@pytest.mark.parametrize("threads", [0, 1, 2, 3])
def test_large_sections_are_hashed_in_pieces(size, threads):
    """Against the rule as docs/package-format.md words it; every byte is fetched exactly once."""
    data = np.random.default_rng(size).bytes(size)
    fetched = []

    def fetch(begin: int, end: int) -> bytes:
        fetched.append((begin, end))
        return data[begin - 7 : end - 7]

    pieces = [data[i : i + (1 << 20)] for i in range(0, size, 1 << 20)]
    expected = sha256(data if size <= 1 << 20 else b"".join(sha256(p).digest() for p in pieces)).digest()
    assert digest_range(fetch, 7, 7 + size, threads) == expected == digest(data)
    assert sorted(fetched)[0][0] == 7 and sum(e - b for b, e in fetched) == size


def test_a_failure_while_hashing_comes_through():
    def fetch(begin: int, end: int) -> bytes:
        if begin >= 5 << 20:
            raise PackageError("truncated package: on purpose")
        return bytes(end - begin)

    with pytest.raises(PackageError, match="on purpose"):
        digest_range(fetch, 0, 64 << 20, 4)


def test_write_into_a_buffer_gives_the_same_bytes():
    p = forge.package()
    p.sign(forge.KEY)
    buffer = bytearray(p.nbytes)
    p.write_into(buffer)
    assert buffer == p.to_bytes()


def test_a_package_without_weights_is_sound():
    p = Package(forge.manifest(), [Section(Kind.PLAN, b"plan")])
    assert bytes(Package.open(p.to_bytes()).sections[0].data) == b"plan"


@pytest.mark.parametrize(
    "change, words",
    [
        ({"name": ""}, "name is empty"),
        ({"name": "a\nb"}, "control characters"),
        ({"name": "x" * 1025}, "at most 1024"),
        ({"release": -1}, "release"),
        ({"release": 1 << 63}, "release"),
        ({"source": "00"}, "SHA-256"),
        ({"minimum_runtime": "new"}, "version such as"),
        ({"expires": "tomorrow"}, "UTC time such as"),
        ({"expires": "2027-01-31T00:00:00+01:00"}, "UTC time such as"),
        ({"inputs": (TensorSpec("x", "complex64", (1,)),)}, "no element type"),
        ({"inputs": (TensorSpec("x", "float32", (-1,)),)}, "shape"),
        ({"inputs": (TensorSpec("x", "float32", (1,)),) * 2}, "same name"),
    ],
)
def test_a_manifest_that_readers_would_refuse_is_not_written(change, words):
    with pytest.raises(PackageError, match=words):
        forge.package(**change)
