# SPDX-License-Identifier: Apache-2.0
"""A package's plan taken apart into its records, to be changed and signed again: the signer can be wrong."""

from __future__ import annotations

import struct

import numpy as np
import onnx

import pyneo
from pyneo.package.container import Kind, Section
from pyneo.package.package import Package
from tests.package.forge import KEY, TRUST

# As docs/package-format.md lays them out.
HEADER = struct.Struct("<IIQQQQII14Q")
TENSOR = struct.Struct("<IBBBBiIQQ8qQ")
NODE = struct.Struct("<IIIIHHiQIHH")
GRAPH = struct.Struct("<8I")
SYMBOL = struct.Struct("<IIqq")
TENSOR_FIELDS = ("name", "dtype", "layout", "rank", "storage", "alias_of", "flags", "offset", "bytes")
NODE_FIELDS = ("name", "op", "kernel", "operands", "inputs", "outputs", "scratch", "attrs_offset",
               "attrs_bytes", "subgraph", "subgraphs")  # fmt: skip
ARENA, CONST, INPUT, OUTPUT, ALIAS = range(5)


class Plan:
    """The records of a package's plan as dicts and lists; `package` puts them together again."""

    def __init__(self, source: Package | onnx.ModelProto, **options: object) -> None:
        """source: a package, or a model that `pyneo.compile` makes one of with these options."""
        self.source = source if isinstance(source, Package) else pyneo.compile(source, **options)
        data = {s.kind: bytes(s.data) for s in self.source.sections}
        raw = data[Kind.PLAN]
        self.weights = bytearray(data[Kind.WEIGHTS])
        head = HEADER.unpack_from(raw)
        self.arena_bytes, self.weights_bytes, self.tier, self.flags = head[3], head[4], head[6], head[7]
        refs = [(head[8 + 2 * i], head[9 + 2 * i]) for i in range(7)]

        def rows(i: int, record: struct.Struct) -> list[tuple[int, ...]]:
            at, count = refs[i]
            return [record.unpack_from(raw, at + record.size * k) for k in range(count)]

        self.tensors = [
            dict(zip(TENSOR_FIELDS, r, strict=False)) | {"dims": list(r[9:17])} for r in rows(0, TENSOR)
        ]
        self.nodes = [dict(zip(NODE_FIELDS, r, strict=True)) for r in rows(1, NODE)]
        self.operands = [r[0] for r in rows(2, struct.Struct("<i"))]
        self.graphs = [list(r) for r in rows(3, GRAPH)]
        self.symbols = [list(r) for r in rows(4, SYMBOL)]
        self.attrs, self.strings = (bytearray(raw[at : at + n]) for at, n in refs[5:])

    def text(self, offset: int) -> str:
        return bytes(self.strings[offset:]).split(b"\0")[0].decode()

    def string(self, text: str) -> int:
        """The offset of a new string."""
        at = len(self.strings)
        self.strings += text.encode() + b"\0"
        return at

    def node(self, op: str) -> dict:
        return next(n for n in self.nodes if self.text(n["op"]) == op)

    def kernels(self) -> list[str]:
        return [self.text(n["kernel"]) for n in self.nodes]

    def tensor(self, name: str) -> dict:
        return next(t for t in self.tensors if self.text(t["name"]) == name)

    def of(self, storage: int) -> list[int]:
        return [i for i, t in enumerate(self.tensors) if t["storage"] == storage]

    def set_attrs(self, node: dict, block: bytes) -> None:
        """Gives a node another attribute block."""
        self.attrs += bytes(-len(self.attrs) % 8)
        node["attrs_offset"], node["attrs_bytes"] = len(self.attrs), len(block)
        self.attrs += block

    def set_const(self, name: str, array: np.ndarray) -> None:
        """Gives a constant other values."""
        t = self.tensor(name)
        assert t["storage"] == CONST and t["bytes"] == array.nbytes
        self.weights[t["offset"] : t["offset"] + array.nbytes] = array.tobytes()

    def encode(self) -> bytes:
        tensors = [TENSOR.pack(*(t[f] for f in TENSOR_FIELDS), *t["dims"], 0) for t in self.tensors]
        tables = [
            (b"".join(tensors), len(tensors)),
            (b"".join(NODE.pack(*n.values()) for n in self.nodes), len(self.nodes)),
            (struct.pack(f"<{len(self.operands)}i", *self.operands), len(self.operands)),
            (b"".join(GRAPH.pack(*g) for g in self.graphs), len(self.graphs)),
            (b"".join(SYMBOL.pack(*s) for s in self.symbols), len(self.symbols)),
            (bytes(self.attrs), len(self.attrs)),
            (bytes(self.strings), len(self.strings)),
        ]
        refs: list[int] = []
        body = b""
        for data, count in tables:
            refs += [HEADER.size + len(body), count]
            body += data + bytes(-len(data) % 8)
        return HEADER.pack(0x4E4C504E, 1, HEADER.size + len(body), self.arena_bytes, self.weights_bytes, 0,
                           self.tier, self.flags, *refs) + body  # fmt: skip

    def load(self, plan: bytes | None = None) -> pyneo.Model:
        """The model of these records (or of other bytes in their place), signed by the test key."""
        sections = [
            Section(Kind.PLAN, self.encode() if plan is None else plan),
            Section(Kind.WEIGHTS, bytes(self.weights)),
        ]
        package = Package(self.source.manifest, sections)
        package.sign(KEY)
        return pyneo.Model.load(package, trust=TRUST, threads=1)
