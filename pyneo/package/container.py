# SPDX-License-Identifier: Apache-2.0
"""The `.neo` container: a header, a table of sections, and the sections (csrc/format/layout.h).

Where each section lies follows from the sections before it: at the first offset that its alignment allows.
A reader therefore refuses any other placement, and nothing can hide between or behind the sections.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence

from pyneo.errors import PackageError, SignatureError
from pyneo.namedtuple import NamedTuple

MAGIC = b"\x89NEO\r\n\x1a\n"
FORMAT_VERSION = 1
HEADER_BYTES = 64
RECORD_BYTES = 64
MAX_SECTIONS = 64
SECTION_ALIGNMENT = 64
WEIGHTS_ALIGNMENT = 65536

_HEADER = struct.Struct("<8sIIQII32s")  # magic, version, header_bytes, file_bytes, section_count, 0, zeros
_RECORD = struct.Struct("<IIQQQ32s")  # kind, flags, offset, bytes, 0, sha256

Buffer = bytes | bytearray | memoryview


class Kind:
    """What a section holds."""

    MANIFEST = 1
    PLAN = 2
    WEIGHTS = 3
    SIGNATURE = 4
    DELEGATE = 5
    BASELINE = 6


OPTIONAL = 1  # flag: a reader that does not know the section's kind may ignore it
KIND_NAMES = {value: name.lower() for name, value in vars(Kind).items() if name.isupper()}
_ONCE = (Kind.PLAN, Kind.WEIGHTS, Kind.BASELINE)


class Section(NamedTuple):
    """A section to be written."""

    kind: int
    data: Buffer
    flags: int = 0


class Record(NamedTuple):
    """A line of the section table."""

    kind: int
    flags: int
    offset: int
    size: int
    sha256: bytes

    @property
    def end(self) -> int:
        return self.offset + self.size

    @property
    def title(self) -> str:
        """What messages call the section."""
        name = KIND_NAMES.get(self.kind)
        return f"section of kind {self.kind}" if name is None else f"{name} section"


def _place(end: int, kind: int) -> int:
    """The first offset at or after `end` where a section of this kind may begin."""
    alignment = WEIGHTS_ALIGNMENT if kind == Kind.WEIGHTS else SECTION_ALIGNMENT
    return -(-end // alignment) * alignment


def layout(sections: Sequence[Section], digests: Sequence[bytes] | None = None) -> tuple[list[Record], int]:
    """Where each section goes, and the size of the file. `digests` saves hashing again what was hashed."""
    if not 0 < len(sections) <= MAX_SECTIONS:
        raise PackageError(f"a package has 1 to {MAX_SECTIONS} sections, not {len(sections)}")
    if digests is None:
        from pyneo.package.digest import digest

        digests = [digest(s.data) for s in sections]
    end = HEADER_BYTES + RECORD_BYTES * len(sections)
    records = []
    for i, s in enumerate(sections):
        record = Record(s.kind, s.flags, _place(end, s.kind), memoryview(s.data).nbytes, digests[i])
        records.append(record)
        end = record.end
    return records, end


def write(sections: Sequence[Section], digests: Sequence[bytes] | None = None) -> Iterator[Buffer]:
    """The package's bytes, in order, in pieces; sections are passed on without a copy."""
    records, size = layout(sections, digests)
    yield _HEADER.pack(MAGIC, FORMAT_VERSION, HEADER_BYTES, size, len(records), 0, bytes(32))
    yield b"".join(_RECORD.pack(r.kind, r.flags, r.offset, r.size, 0, r.sha256) for r in records)
    end = HEADER_BYTES + RECORD_BYTES * len(records)
    for section, record in zip(sections, records, strict=True):
        if record.offset > end:
            yield bytes(record.offset - end)
        yield section.data
        end = record.end


def _altered(message: str) -> SignatureError:
    return SignatureError(f"{message}; the file was damaged or altered after it was written: get it again")


def parse_header(header: Buffer, size: int) -> int:
    """Checks the first 64 bytes of a file of `size` bytes; how many sections follow.

    PackageError: no package, truncated, or of another format version. SignatureError: altered.
    """
    if size == 0:
        raise PackageError("not a pyneo package: the file is empty")
    head = bytes(header[:HEADER_BYTES])
    if head[: len(MAGIC)] != MAGIC[: len(head)]:
        if head.startswith(b"version https://git-lfs"):
            raise PackageError("not a pyneo package but a git-LFS pointer to one; run `git lfs pull`")
        raise PackageError(
            f"not a pyneo package: it begins with {head[:8]!r}, expected {MAGIC!r}; pyneo compile makes one"
        )
    if len(head) < HEADER_BYTES or size < HEADER_BYTES:
        raise PackageError(
            f"truncated package: {size} bytes, the header alone has {HEADER_BYTES}; get it again"
        )
    _, version, header_bytes, file_bytes, count, zero, zeros = _HEADER.unpack(head)
    if version != FORMAT_VERSION:
        raise PackageError(
            f"package of format version {version}; this pyneo reads version {FORMAT_VERSION}: "
            + ("update pyneo" if version > FORMAT_VERSION else "compile the model again")
        )
    if header_bytes != HEADER_BYTES or zero != 0 or any(zeros):
        raise _altered("the package's header holds values that format version 1 does not allow")
    if file_bytes > size:
        raise PackageError(f"truncated package: {size} bytes of {file_bytes}; get it again")
    if file_bytes < size:
        raise _altered(f"{size - file_bytes} bytes follow the end of the package")
    if not 0 < count <= MAX_SECTIONS:
        raise _altered(f"the package claims {count} sections, a package has 1 to {MAX_SECTIONS}")
    if HEADER_BYTES + count * RECORD_BYTES > size:
        raise PackageError(
            f"truncated package: {size} bytes do not hold a table of {count} sections; get it again"
        )
    return int(count)


def parse_table(table: Buffer, count: int, size: int) -> list[Record]:
    """Checks the section table of a file of `size` bytes: bounds, order, placement, and no byte to spare."""
    records = []
    end = HEADER_BYTES + count * RECORD_BYTES
    for i, fields in enumerate(_RECORD.iter_unpack(bytes(table))):
        kind, flags, offset, length, zero, digest = fields
        record = Record(kind, flags, offset, length, digest)
        if zero != 0:
            raise _altered(f"record {i} of the section table has reserved bytes that are not zero")
        if length > size or offset > size - length:
            raise _altered(
                f"{record.title} ({length} bytes at {offset}) reaches beyond the file's {size} bytes"
            )
        expected = _place(end, kind)
        if offset != expected:
            what = "overlaps what is before it" if offset < end else "is not where the format puts it"
            raise _altered(f"{record.title} at offset {offset} {what} (expected {expected})")
        records.append(record)
        end = record.end
    if end != size:
        raise _altered(f"{size - end} bytes follow the last section")
    if records[0].kind != Kind.MANIFEST:
        raise _altered(f"the first section must be the manifest, not a {records[0].title}")
    for i, record in enumerate(records):
        # Manifest and signature are not in the manifest's own list, so their flags are fixed here.
        if record.kind in (Kind.MANIFEST, Kind.SIGNATURE) and record.flags != 0:
            raise _altered(f"the {record.title} has flags {record.flags:#x}, expected none")
        if i > 0 and record.kind == Kind.MANIFEST:
            raise _altered("the package has more than one manifest section")
        if record.kind == Kind.SIGNATURE and i != len(records) - 1:
            raise _altered("the signature section must be the last one")
    return records


def check_kinds(records: Iterable[Record]) -> None:
    """Whether this runtime can use the sections: asked once they are known to be what was signed."""
    kinds = []
    for record in records:
        if record.flags & ~OPTIONAL:
            raise PackageError(f"{record.title} has unknown flags {record.flags:#x}; update pyneo")
        if record.kind not in KIND_NAMES and not record.flags & OPTIONAL:
            raise PackageError(
                f"the package needs a {record.title}, which this pyneo does not know; update pyneo, "
                "or compile for a runtime of this version"
            )
        kinds.append(record.kind)
    for kind in _ONCE:
        if kinds.count(kind) > 1:
            raise PackageError(
                f"the package has {kinds.count(kind)} {KIND_NAMES[kind]} sections, at most one is allowed"
            )
    if Kind.PLAN not in kinds:
        raise PackageError(
            "the package has no plan section, so there is nothing to run; compile the model again"
        )


def gaps(records: Sequence[Record]) -> Iterator[tuple[int, int]]:
    """The ranges [begin, end) between sections, which must hold zero bytes."""
    end = HEADER_BYTES + RECORD_BYTES * len(records)
    for record in records:
        if record.offset > end:
            yield end, record.offset
        end = record.end
