# SPDX-License-Identifier: Apache-2.0
"""The manifest: what a package says about itself, as canonical JSON. It is what gets signed.

Canonical means: keys sorted, no white space, UTF-8, no escapes that UTF-8 does not need, no floats. A reader
refuses bytes that it would not have written itself, so no two byte strings mean the same manifest.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pyneo.errors import PackageError
from pyneo.namedtuple import NamedTuple

MAX_MANIFEST_BYTES = 1 << 20
FORMAT = 1
_MAX_TEXT = 1024
_DTYPES = frozenset((
    "float32", "float64", "float16", "bfloat16", "uint8", "int8", "uint16", "int16", "uint32", "int32",
    "uint64", "int64", "bool", "string",
))  # fmt: skip
_REQUIRED = frozenset((
    "format", "name", "version", "release", "target", "minimum_runtime", "inputs", "outputs", "source",
    "compiler", "sections",
))  # fmt: skip
_OPTIONAL = frozenset(["created", "expires", "devices", "tenants", "metadata", "strings"])


class TensorSpec(NamedTuple):
    """An input or output: a dim is a number, or a text such as "N<=8" if it is bound at run time.

    dtype "string": the plan has int64 codes, a string's position in the manifest's `strings`.
    keys: the user gets each row as a dict with these keys for its columns.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    keys: tuple[int | str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        out: dict[str, Any] = {"name": self.name, "dtype": self.dtype, "shape": list(self.shape)}
        if self.keys:
            out["keys"] = list(self.keys)
        return out


class Target(NamedTuple):
    """The machine a package was compiled for: `isa` lists the features its kernels need."""

    name: str
    arch: str
    tier: str = "portable"
    isa: tuple[str, ...] = ()


class SectionEntry(NamedTuple):
    """A section other than manifest and signature, in the file's order."""

    kind: int
    flags: int
    size: int
    sha256: str


class Manifest(NamedTuple):
    """Everything a device needs to know before it looks at the rest of a package.

    release is a counter that only grows: a device that keeps a counter store refuses to go back.
    source is the SHA-256 of the model that was compiled; compiler and minimum_runtime are pyneo versions.
    created and expires are RFC 3339 in UTC ("2027-01-31T00:00:00Z"); devices and tenants, where not empty,
    name the only ones that may load the package.
    """

    name: str
    target: Target
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    version: str = "1"
    release: int = 1
    minimum_runtime: str = "0.1.0"
    source: str = "0" * 64
    compiler: str = "0.1.0"
    created: str | None = None
    expires: str | None = None
    devices: tuple[str, ...] = ()
    tenants: tuple[str, ...] = ()
    metadata: Mapping[str, str] = MappingProxyType({})
    strings: tuple[str, ...] = ()
    sections: tuple[SectionEntry, ...] = ()

    def with_sections(self, sections: tuple[SectionEntry, ...]) -> Manifest:
        return self._replace(sections=sections)

    def to_json(self) -> dict[str, Any]:
        """The manifest as plain JSON values; optional fields only where they say something."""
        out: dict[str, Any] = {
            "format": FORMAT,
            "name": self.name,
            "version": self.version,
            "release": self.release,
            "target": {
                "name": self.target.name, "arch": self.target.arch, "tier": self.target.tier,
                "isa": list(self.target.isa),
            },
            "minimum_runtime": self.minimum_runtime,
            "inputs": [t.to_json() for t in self.inputs],
            "outputs": [t.to_json() for t in self.outputs],
            "source": self.source,
            "compiler": self.compiler,
            "sections": [
                {"kind": s.kind, "flags": s.flags, "bytes": s.size, "sha256": s.sha256} for s in self.sections
            ],
        }  # fmt: skip
        for key, value in (("created", self.created), ("expires", self.expires)):
            if value is not None:
                out[key] = value
        for key, values in (("devices", self.devices), ("tenants", self.tenants), ("strings", self.strings)):
            if values:
                out[key] = list(values)
        if self.metadata:
            out["metadata"] = dict(self.metadata)
        return out

    def encode(self) -> bytes:
        """The canonical bytes; PackageError if the manifest would not be accepted by a reader."""
        value = self.to_json()
        _Reader(value).manifest()
        data = canonical(value)
        if len(data) > MAX_MANIFEST_BYTES:
            raise PackageError(
                f"the manifest has {len(data)} bytes, at most {MAX_MANIFEST_BYTES} are allowed"
            )
        return data

    @classmethod
    def decode(cls, data: bytes) -> Manifest:
        """Reads canonical bytes; PackageError names the field at fault."""
        return _Reader(decode_canonical(data, "manifest", MAX_MANIFEST_BYTES)).manifest()


def canonical(value: object) -> bytes:
    """The one way a JSON value is written in a package."""
    import json

    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode()
    except ValueError as e:  # a lone surrogate has no UTF-8
        raise PackageError(f"text of the package is not valid Unicode: {e}") from None


def decode_canonical(data: bytes, what: str, limit: int) -> Any:
    """The value of canonical JSON bytes; anything that `canonical` would not write is refused."""
    import json

    if len(data) > limit:
        raise PackageError(f"the {what} has {len(data)} bytes, at most {limit} are allowed")
    try:
        value = json.loads(data.decode())
        again = canonical(value)
    except (ValueError, RecursionError, PackageError):
        raise PackageError(f"the {what} is not valid JSON in UTF-8; compile the model again") from None
    if again != data:
        raise PackageError(f"the {what} is not in canonical form; compile the model again")
    return value


def parse_time(text: str, what: str) -> float:
    """Seconds since 1970 of an RFC 3339 time in UTC ("2027-01-31T00:00:00Z")."""
    from datetime import datetime, timezone

    try:
        if not text.endswith("Z") or len(text) != 20:
            raise ValueError
        return datetime.fromisoformat(text[:-1]).replace(tzinfo=timezone.utc).timestamp()
    except (ValueError, OverflowError):
        raise PackageError(f"{what} must be a UTC time such as 2027-01-31T00:00:00Z, not {text!r}") from None


def parse_version(text: str, what: str) -> tuple[int, int, int]:
    """(major, minor, patch) of "1.2.3"; a suffix such as "rc1" is not allowed."""
    parts = text.split(".")
    if len(parts) == 3 and all(p.isascii() and p.isdigit() and len(p) <= 6 for p in parts):
        return int(parts[0]), int(parts[1]), int(parts[2])
    raise PackageError(f"{what} must be a version such as 0.1.0, not {text!r}")


class _Reader:
    """Turns JSON values into a Manifest and refuses every field that is not exactly as documented."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def manifest(self) -> Manifest:
        m = self._object(self.value, _REQUIRED, _OPTIONAL, "manifest")
        if m["format"] != FORMAT or isinstance(m["format"], bool):
            raise PackageError(
                f"manifest of format {m['format']!r:.40}; this pyneo reads format {FORMAT}: update pyneo"
            )
        t = self._object(m["target"], frozenset(("name", "arch", "tier", "isa")), frozenset(), "target")
        parse_version(self._text(m["minimum_runtime"], "minimum_runtime"), "minimum_runtime")
        for key in ("created", "expires"):
            if key in m:
                parse_time(self._text(m[key], key), key)
        metadata = m.get("metadata", {})
        if not isinstance(metadata, dict):
            raise PackageError("manifest: metadata must be an object of texts")
        return Manifest(
            name=self._text(m["name"], "name"),
            version=self._text(m["version"], "version"),
            release=self._number(m["release"], "release"),
            target=Target(
                self._text(t["name"], "target.name"), self._text(t["arch"], "target.arch"),
                self._text(t["tier"], "target.tier"), self._texts(t["isa"], "target.isa", empty=True),
            ),
            minimum_runtime=m["minimum_runtime"],
            inputs=self._tensors(m["inputs"], "inputs"),
            outputs=self._tensors(m["outputs"], "outputs"),
            source=self._digest(m["source"], "source"),
            compiler=self._text(m["compiler"], "compiler"),
            created=m.get("created"),
            expires=m.get("expires"),
            devices=self._texts(m["devices"], "devices") if "devices" in m else (),
            tenants=self._texts(m["tenants"], "tenants") if "tenants" in m else (),
            metadata={
                self._text(k, "a key of metadata"): self._text(v, "metadata", empty=True, limit=65536)
                for k, v in metadata.items()
            },
            strings=self._table(m["strings"]) if "strings" in m else (),
            sections=self._sections(m["sections"]),
        )  # fmt: skip

    @staticmethod
    def _object(value: Any, required: frozenset[str], optional: frozenset[str], what: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise PackageError(f"manifest: {what} must be an object, not {type(value).__name__}")
        missing = sorted(required - value.keys())
        unknown = sorted(value.keys() - required - optional)
        if missing:
            raise PackageError(f"manifest: {what} lacks {', '.join(missing)}")
        if unknown:
            raise PackageError(
                f"manifest: {what} has unknown fields {', '.join(ascii(u)[:80] for u in unknown[:5])}"
            )
        return value

    @staticmethod
    def _text(value: Any, what: str, empty: bool = False, limit: int = _MAX_TEXT) -> str:
        if not isinstance(value, str):
            raise PackageError(f"manifest: {what} must be a text, not {type(value).__name__}")
        if not value and not empty:
            raise PackageError(f"manifest: {what} is empty")
        if len(value) > limit:
            raise PackageError(f"manifest: {what} has {len(value)} characters, at most {limit} are allowed")
        # Control characters forge log lines and end C strings early.
        if not value.isprintable() and any(ord(c) < 32 or 127 <= ord(c) < 160 for c in value):
            raise PackageError(f"manifest: {what} holds control characters: {ascii(value)[:80]}")
        return value

    @staticmethod
    def _number(value: Any, what: str, limit: int = 1 << 63) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < limit:
            raise PackageError(f"manifest: {what} must be a whole number from 0 to 2^63-1, not {value!r:.40}")
        return value

    def _texts(self, value: Any, what: str, empty: bool = False) -> tuple[str, ...]:
        if not isinstance(value, list) or not (value or empty):
            raise PackageError(f"manifest: {what} must be a list of texts")
        return tuple(self._text(v, f"{what}[{i}]") for i, v in enumerate(value))

    @staticmethod
    def _table(value: Any) -> tuple[str, ...]:
        """What string tensors hold is data, so any characters, but each text once."""
        if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
            raise PackageError("manifest: strings must be a list of texts, not empty")
        if any(len(v) > _MAX_TEXT for v in value):
            raise PackageError(f"manifest: strings has a text of more than {_MAX_TEXT} characters")
        if len(set(value)) != len(value):
            raise PackageError("manifest: strings names a text twice")
        return tuple(value)

    def _keys(self, value: Any, what: str) -> tuple[int | str, ...]:
        """Numbers, or texts; no floats and no mixture."""
        kinds = {type(v) for v in value} if isinstance(value, list) else set()
        if kinds not in ({int}, {str}) or len(set(value)) != len(value):
            raise PackageError(f"manifest: {what} must be a list of different whole numbers or texts")
        return tuple(value)

    def _digest(self, value: Any, what: str) -> str:
        text = self._text(value, what)
        if len(text) != 64 or not set(text) <= set("0123456789abcdef"):
            raise PackageError(
                f"manifest: {what} must be a SHA-256 in 64 lower-case hex digits, not {text!r:.80}"
            )
        return text

    def _tensors(self, value: Any, what: str) -> tuple[TensorSpec, ...]:
        if not isinstance(value, list):
            raise PackageError(f"manifest: {what} must be a list")
        out: list[TensorSpec] = []
        for i, v in enumerate(value):
            where = f"{what}[{i}]"
            t = self._object(v, frozenset(("name", "dtype", "shape")), frozenset(["keys"]), where)
            dtype = self._text(t["dtype"], f"{where}.dtype")
            if dtype not in _DTYPES:
                raise PackageError(
                    f"manifest: {where}.dtype is {dtype!r:.40}, which is no element type of pyneo"
                )
            if not isinstance(t["shape"], list):
                raise PackageError(f"manifest: {where}.shape must be a list")
            shape = tuple(
                self._text(d, f"{where}.shape") if isinstance(d, str) else self._number(d, f"{where}.shape")
                for d in t["shape"]
            )
            keys = self._keys(t["keys"], f"{where}.keys") if "keys" in t else ()
            out.append(TensorSpec(self._text(t["name"], f"{where}.name"), dtype, shape, keys))
        if len({t.name for t in out}) != len(out):
            raise PackageError(f"manifest: {what} has two tensors of the same name")
        return tuple(out)

    def _sections(self, value: Any) -> tuple[SectionEntry, ...]:
        if not isinstance(value, list):
            raise PackageError("manifest: sections must be a list")
        out = []
        for i, v in enumerate(value):
            where = f"sections[{i}]"
            s = self._object(v, frozenset(("kind", "flags", "bytes", "sha256")), frozenset(), where)
            out.append(
                SectionEntry(
                    self._number(s["kind"], f"{where}.kind", 1 << 32),
                    self._number(s["flags"], f"{where}.flags", 1 << 32),
                    self._number(s["bytes"], f"{where}.bytes"),
                    self._digest(s["sha256"], f"{where}.sha256"),
                )
            )
        return tuple(out)
