# SPDX-License-Identifier: Apache-2.0
"""The plan and weights sections: records as csrc/format/layout.h lays them out."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

import numpy as np

from pyneo.compiler.ir.graph import Graph, Node, Value
from pyneo.compiler.lower.attrs import pack_attrs
from pyneo.compiler.lower.memory import MemoryPlan
from pyneo.compiler.lower.views import Views, stored_bytes

_MAGIC, _VERSION = 0x4E4C504E, 1
_HEADER = struct.Struct("<IIQQQQII14Q")
_TENSOR = struct.Struct("<IBBBBiIQQ8qQ")
_NODE = struct.Struct("<IIIIHHiQIHH")
_GRAPH = struct.Struct("<IIIIIIII")
_SYMBOL = struct.Struct("<IIqq")
_DYNAMIC = 1
_OPEN = -(2**63)
_OPEN_RANK = 0xFF
_ARENA, _CONST, _INPUT, _OUTPUT, _ALIAS = range(5)
_CONST_ALIGNMENT = 64


class Strings:
    """The string table: zero-terminated UTF-8, each string once, offset 0 is the empty one."""

    def __init__(self) -> None:
        self.data = bytearray(b"\0")
        self._at = {"": 0}

    def add(self, text: str) -> int:
        if text not in self._at:
            # Names come from models of others: what a log line must not hold is replaced.
            clean = "".join(c if c.isprintable() else "?" for c in text)[:512]
            self._at[text] = len(self.data)
            self.data += clean.encode("utf-8", "replace") + b"\0"
        return self._at[text]


@dataclass
class Weights:
    """The weights section under construction: constants at 64-byte boundaries."""

    chunks: list[np.ndarray] = field(default_factory=list)
    size: int = 0

    def add(self, array: np.ndarray) -> int:
        raw = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        offset = self.size
        self.chunks.append(raw)
        pad = -raw.nbytes % _CONST_ALIGNMENT
        if pad:
            self.chunks.append(np.zeros(pad, np.uint8))
        self.size += raw.nbytes + pad
        return offset

    def tobytes(self) -> np.ndarray:
        """The whole section as uint8."""
        return np.concatenate(self.chunks) if self.chunks else np.zeros(0, np.uint8)


def write_plan(graph: Graph, views: Views, memory: MemoryPlan, tier: int) -> tuple[bytes, np.ndarray]:
    """(plan section, weights section) of a lowered graph."""
    strings, weights = Strings(), Weights()
    graphs = list(graph.walk())
    nodes = [n for n in graph.all_nodes() if id(n) not in views.gone]
    index = {id(v): i for i, v in enumerate(memory.values)}

    tensors = _tensor_records(graph, graphs, views, memory, index, strings, weights)
    operands: list[int] = []
    node_records, attrs = _node_records(nodes, graphs, memory, index, operands, strings)
    symbols = [_SYMBOL.pack(strings.add(n), 0, low, high) for n, (low, high) in graph.symbols.bounds.items()]
    graph_records = _graph_records(graphs, views, index, operands)

    tables = [
        (tensors, len(memory.values)),
        (node_records, len(nodes)),
        (struct.pack(f"<{len(operands)}i", *operands), len(operands)),
        (graph_records, len(graphs)),
        (b"".join(symbols), len(symbols)),
        (attrs, len(attrs)),
        (bytes(strings.data), len(strings.data)),
    ]
    at = _HEADER.size
    refs: list[int] = []
    body = []
    for data, count in tables:
        refs += [at, count]
        padded = data + bytes(-len(data) % 8)
        body.append(padded)
        at += len(padded)
    header = _HEADER.pack(_MAGIC, _VERSION, at, memory.arena_bytes, weights.size, 0, tier,
                          _DYNAMIC if graph.is_dynamic else 0, *refs)  # fmt: skip
    return header + b"".join(body), weights.tobytes()


def _tensor_records(
    graph: Graph,
    graphs: list[Graph],
    views: Views,
    memory: MemoryPlan,
    index: dict[int, int],
    strings: Strings,
    weights: Weights,
) -> bytes:
    """A record of every value: its type, and where its bytes are. Adds constants to `weights`."""
    inputs = {id(v): i for i, v in enumerate(graph.inputs)}
    outputs = {id(v): i for i, v in enumerate(graph.outputs)}
    results = {id(v) for g in graphs[1:] for v in g.outputs}
    records = []
    for i, v in enumerate(memory.values):
        alias_of, offset = -1, 0
        if id(v) in inputs:
            storage, offset = _INPUT, inputs[id(v)]
        elif id(v) in outputs:
            storage, offset = _OUTPUT, outputs[id(v)]
        elif v in views.alias:
            parent, offset = views.alias[v]
            storage, alias_of = _ALIAS, index[id(parent)]
        elif v.const is not None:
            storage, offset = _CONST, weights.add(v.const)
        else:
            storage, offset = _ARENA, memory.offsets[i]
        if graph.is_dynamic and storage != _CONST:
            dims, size = _open_dims(graph, v, storage == _INPUT, id(v) in results), 0
        else:
            dims, size = list(v.dims), stored_bytes(v)
        rank = len(dims) if v.shape is not None else _OPEN_RANK
        dims += [0] * (8 - len(dims))
        state = offset - len(graph.inputs) + graph.states if storage == _INPUT else -1
        flags = 1 + len(graph.outputs) - graph.states + state if state >= 0 else 0
        records.append(_TENSOR.pack(strings.add(v.name), v.dtype, v.layout, rank, storage, alias_of,
                                    flags, offset, size, *dims, 0))  # fmt: skip
    return b"".join(records)


def _node_records(
    nodes: list[Node],
    graphs: list[Graph],
    memory: MemoryPlan,
    index: dict[int, int],
    operands: list[int],
    strings: Strings,
) -> tuple[bytes, bytes]:
    """(records of the nodes, their attributes). Adds what they read and write to `operands`."""
    number = {id(g): i for i, g in enumerate(graphs)}
    records = []
    attrs = bytearray()
    for n in nodes:
        begin = len(operands)
        operands += [-1 if v is None else index[id(v)] for v in [*n.inputs, *n.outputs]]
        own = pack_attrs(n.attrs)
        records.append(_NODE.pack(strings.add(n.name), strings.add(n.op), strings.add(n.kernel), begin,
                                  len(n.inputs), len(n.outputs), memory.scratch.get(n, -1), len(attrs),
                                  len(own), number[id(n.subgraphs[0])] if n.subgraphs else 0,
                                  len(n.subgraphs)))  # fmt: skip
        attrs += own
    return b"".join(records), bytes(attrs)


def _graph_records(graphs: list[Graph], views: Views, index: dict[int, int], operands: list[int]) -> bytes:
    """A record of the main graph and of every subgraph. Adds their inputs and outputs to `operands`."""
    records = []
    node_begin = 0
    for g in graphs:
        node_count = sum(id(n) not in views.gone for n in g.nodes)
        begin = len(operands)
        operands += [index[id(v)] for v in [*g.inputs, *g.outputs]]
        records.append(_GRAPH.pack(node_begin, node_count, begin, len(g.inputs), begin + len(g.inputs),
                                   len(g.outputs), 0, 0))  # fmt: skip
        node_begin += node_count
    return b"".join(records)


def _open_dims(graph: Graph, v: Value, is_input: bool, is_result: bool) -> list[int]:
    """Dims of a tensor that is shaped at run time: an input's symbols by number, other tensors' all open.

    A subgraph's result keeps its fixed dims: they are those of what is stacked of it when it never runs.
    """
    if v.shape is None:
        return []
    if is_result:
        return [d if isinstance(d, int) else _OPEN for d in v.shape]
    if not is_input:
        return [_OPEN] * len(v.shape)
    numbers = {name: -1 - i for i, name in enumerate(graph.symbols.bounds)}
    return [numbers[d] if isinstance(d, str) else d for d in v.shape]
