# SPDX-License-Identifier: Apache-2.0
"""A package in memory: what `compile` returns, what `save` writes, what `open` reads back."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from pyneo.errors import PackageError
from pyneo.package import container
from pyneo.package.container import Buffer, Kind, Section
from pyneo.package.digest import digest
from pyneo.package.files import write_atomically
from pyneo.package.manifest import Manifest, SectionEntry
from pyneo.package.signing.verify import Policy, verify
from pyneo.package.source import MAX_PACKAGE_BYTES, FileSource, Source, anonymous

if TYPE_CHECKING:
    from pyneo.package.signing.envelope import Signature
    from pyneo.package.signing.keys import PathLike, PrivateKey

    Key = PathLike | bytes | PrivateKey


class Package:
    """A compiled model with its manifest, signed or not yet.

    Made by `pyneo.compile`, or read by `Package.open`. `save` writes the `.neo` file; `Model.load` takes the
    object as it is. A context manager; picklable.
    """

    def __init__(
        self,
        manifest: Manifest,
        sections: Sequence[Section],
        report: Any = None,
        signatures: Iterable[Signature] = (),
    ) -> None:
        """manifest: its `sections` are filled in here. sections: plan, weights and so on, in file order."""
        self._sections = tuple(sections)
        self._digests = [digest(s.data) for s in self._sections]
        self._report = report
        self._signatures: dict[str, Signature] = {s.keyid: s for s in signatures}
        self.manifest = manifest.with_sections(
            tuple(
                SectionEntry(int(s.kind), s.flags, memoryview(s.data).nbytes, d.hex())
                for s, d in zip(self._sections, self._digests, strict=True)
            )
        )
        self._encoded = self.manifest.encode()

    # ---- what it is -----------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def sections(self) -> tuple[Section, ...]:
        """Plan, weights and others; manifest and signature are not among them."""
        return self._sections

    @property
    def signers(self) -> tuple[str, ...]:
        """Ids of the keys that the signatures name; whether they are sound is for a trust store to say."""
        return tuple(self._signatures)

    @property
    def nbytes(self) -> int:
        """Size of the file that `save` writes."""
        sections, digests = self._all()
        return container.layout(sections, digests)[1]

    def report(self) -> Any:
        """What the compiler has to say: operators, kernels, arena, sizes. None if read from a file."""
        return self._report

    def inspect(self) -> dict[str, Any]:
        """The manifest, the section table and the signatures as plain values, for tools."""
        sections, digests = self._all()
        records, size = container.layout(sections, digests)
        return {
            "manifest": self.manifest.to_json(),
            "file_bytes": size,
            "sections": [
                {
                    "kind": r.kind,
                    "name": container.KIND_NAMES.get(r.kind, "unknown"),
                    "flags": r.flags,
                    "offset": r.offset,
                    "bytes": r.size,
                    "sha256": r.sha256.hex(),
                }
                for r in records
            ],
            "signatures": [s.keyid for s in self._signatures.values()],
        }

    def __repr__(self) -> str:
        signed = f"signed by {len(self._signatures)}" if self._signatures else "unsigned"
        m = self.manifest
        return f"Package({m.name!r}, version {m.version!r}, target {m.target.name!r}, {signed})"

    # ---- signing and writing --------------------------------------------------------------------

    def sign(self, key: Key, password: bytes | None = None) -> str:
        """Adds (or renews) a key's signature; the key's id. Several keys may sign one after the other.

        key: path of a .key file, PEM bytes, or a key object. Raises SignatureError, OSError.
        """
        from pyneo.package.signing import envelope
        from pyneo.package.signing.keys import load_private_key

        signature = envelope.sign(self._encoded, load_private_key(key, password))
        self._signatures[signature.keyid] = signature
        return signature.keyid

    def save(self, path: str | os.PathLike[str], key: Key | None = None, *, keys: Iterable[Key] = ()) -> None:
        """Writes the package so that `path` holds the old file or the new one, never a part.

        key, keys: who signs it. Without any the file is unsigned, which is worth a warning: devices refuse
        it unless they are told otherwise. Raises SignatureError for a bad key, OSError.
        """
        for k in ([] if key is None else [key]) + list(keys):
            self.sign(k)
        if not self._signatures:
            warnings.warn(
                f"{os.fspath(path)} is not signed, so Model.load refuses it unless allow_unsigned=True; "
                "pass key= (pyneo keygen makes one)",
                stacklevel=2,
            )
        sections, digests = self._all()
        write_atomically(os.fspath(path), container.write(sections, digests))

    def to_bytes(self) -> bytes:
        """The file as bytes."""
        sections, digests = self._all()
        return b"".join(container.write(sections, digests))

    def write_into(self, buffer: Buffer) -> None:
        """The file into a writable buffer of `nbytes` bytes."""
        sections, digests = self._all()
        view, at = memoryview(buffer).cast("B"), 0
        for piece in container.write(sections, digests):
            n = memoryview(piece).nbytes
            view[at : at + n] = memoryview(piece).cast("B") if n else b""
            at += n

    def _all(self) -> tuple[list[Section], list[bytes]]:
        """Every section of the file with its digest; those of the body were hashed once and for all."""
        from pyneo.package.signing import envelope

        sections = [Section(Kind.MANIFEST, self._encoded), *self._sections]
        digests = [digest(self._encoded), *self._digests]
        if self._signatures:
            data = envelope.encode(self._signatures.values())
            sections.append(Section(Kind.SIGNATURE, data))
            digests.append(digest(data))
        return sections, digests

    # ---- reading --------------------------------------------------------------------------------

    @classmethod
    def open(
        cls, source: str | os.PathLike[str] | Buffer, trust: Any = None, *, max_bytes: int = MAX_PACKAGE_BYTES
    ) -> Package:
        """Reads a package to look at it or to sign it: digests are checked, signatures if `trust` is given.

        source: a path or the file's bytes. Raises PackageError, SignatureError, OSError.
        """
        where: Source
        if isinstance(source, (bytes, bytearray, memoryview)):
            where = Source(bytes(source))
        else:
            where = FileSource(source, anonymous, max_bytes)
        try:
            from pyneo.package.signing.trust import TrustStore

            store = None if trust is None else TrustStore.load(trust)
            found = verify(where, Policy(trust=store, allow_unsigned=store is None, only_look=True))
        finally:
            where.close()
        body = [r for r in found.records if r.kind not in (Kind.MANIFEST, Kind.SIGNATURE)]
        sections = [Section(r.kind, where.view[r.offset : r.end].toreadonly(), r.flags) for r in body]
        package = cls(found.manifest, sections, signatures=found.signatures)
        if package._encoded != bytes(where.view[found.records[0].offset : found.records[0].end]):
            raise PackageError(
                "the manifest cannot be written as it was read; open the package with the pyneo that made it"
            )
        return package

    def __enter__(self) -> Package:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.to_bytes(), self._report)


def _restore(data: bytes, report: Any) -> Package:
    package = Package.open(data)
    package._report = report
    return package
