# SPDX-License-Identifier: Apache-2.0
"""The compiler's intermediate representation: values, nodes, graphs.

Operators are the core's (csrc/ops): the ONNX name, prefixed by the domain for other domains
("ai.onnx.ml.Scaler", "com.microsoft.Gelu"), with the attributes and inputs of the newest operator set.
A graph is in execution order. Every value has at most one producer.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from pyneo.compiler.ir.symbols import Symbols

# An attribute as the core reads it: a list of int64, a list of float32, a string, or a list of strings.
Attr = list[int] | list[float] | str | list[str]

# Control flow: the attributes that are graphs, in the order of Node.subgraphs.
CONTROL_FLOW = {
    "If": ("then_branch", "else_branch"),
    "Loop": ("body",),
    "Scan": ("body",),
    "SequenceMap": ("body",),
}

# Operators on sequences and optionals: passes/sequences.py resolves them, the core never sees one.
STRUCTURAL = {
    "SequenceConstruct", "SequenceEmpty", "SequenceInsert", "SequenceErase", "SequenceAt", "SequenceLength",
    "SplitToSequence", "ConcatFromSequence", "SequenceMap", "Optional", "OptionalHasElement",
    "OptionalGetElement",
}  # fmt: skip


class DType(enum.IntEnum):
    """Element types, numbered as onnx.TensorProto.DataType (and as the core)."""

    NONE = 0
    F32 = 1
    U8 = 2
    I8 = 3
    U16 = 4
    I16 = 5
    I32 = 6
    I64 = 7
    STRING = 8  # in a frontend only, which turns strings into codes; never reaches the core
    BOOL = 9
    F16 = 10
    F64 = 11
    U32 = 12
    U64 = 13
    BF16 = 16

    @property
    def size(self) -> int:
        """Bytes of an element."""
        return _SIZES[self]

    @property
    def numpy(self) -> np.dtype:
        """numpy's dtype; bfloat16 is carried as uint16."""
        return np.dtype(_NUMPY[self])

    @classmethod
    def of(cls, dtype: np.dtype) -> DType:
        """The element type of a numpy dtype; TypeError if the core has none."""
        try:
            return _FROM_NUMPY[np.dtype(dtype).newbyteorder("=")]
        except KeyError:
            raise TypeError(f"dtype {dtype} has no counterpart in pyneo") from None


_NUMPY: dict[DType, str] = {
    DType.F32: "float32", DType.U8: "uint8", DType.I8: "int8", DType.U16: "uint16", DType.I16: "int16",
    DType.I32: "int32", DType.I64: "int64", DType.BOOL: "bool", DType.F16: "float16", DType.F64: "float64",
    DType.U32: "uint32", DType.U64: "uint64", DType.BF16: "uint16",
}  # fmt: skip
_SIZES = {t: np.dtype(n).itemsize for t, n in _NUMPY.items()}
_FROM_NUMPY = {np.dtype(n): t for t, n in _NUMPY.items() if t is not DType.BF16}

# A dim is a number, or the name of a symbol whose value a session binds (dynamic shapes).
Dim = int | str


class Layout(enum.IntEnum):
    """How a value's elements are arranged (csrc/core/tensor.h)."""

    PLAIN = 0
    C8 = 8
    C16 = 16
    PACKED = 64
    ANY = 255


@dataclass(frozen=True)
class Sample:
    """A value under one assignment of sizes to the graph's symbols (ir/symbols.py)."""

    shape: tuple[int, ...]
    value: np.ndarray | None = None  # known from shapes and constants alone
    # Whether the value is made of sizes by arithmetic that keeps numbers apart: what is equal in samples of
    # different sizes is equal always. A comparison with 1 is not: no sample has the size 1.
    apart: bool = False


@dataclass(eq=False)
class Value:
    """A tensor of the graph: constant if `const` is set; shape None until inferred."""

    name: str
    dtype: DType = DType.NONE
    shape: tuple[Dim, ...] | None = None
    const: np.ndarray | None = None
    producer: Node | None = None
    layout: Layout = Layout.PLAIN
    # In a graph with symbols: the concrete shape in every sample, and the value where shapes decide it.
    samples: list[Sample] = field(default_factory=list)
    # Of a sequence whose structure is known: its tensors. An optional that holds nothing is `absent`.
    parts: list[Value] | None = None
    absent: bool = False

    @property
    def is_const(self) -> bool:
        return self.const is not None

    @property
    def is_known(self) -> bool:
        """Whether the rank is known; the dims may be symbols. Data decides it otherwise, at run time."""
        return self.shape is not None

    @property
    def is_static(self) -> bool:
        """Whether every dim is a number."""
        return self.shape is not None and all(isinstance(d, int) for d in self.shape)

    @property
    def dims(self) -> tuple[int, ...]:
        """The shape in numbers: a symbol's is its size in the first sample, a prime."""
        assert self.shape is not None
        if self.samples:
            return self.samples[0].shape
        return tuple(int(d) for d in self.shape)

    @classmethod
    def constant(cls, name: str, array: np.ndarray, dtype: DType | None = None) -> Value:
        return cls(name, dtype or DType.of(array.dtype), tuple(array.shape), np.asarray(array, order="C"))


@dataclass(eq=False)
class Node:
    """One operator application. An absent optional input or output is None."""

    op: str
    name: str
    inputs: list[Value | None]
    outputs: list[Value | None]
    attrs: dict[str, Attr] = field(default_factory=dict)
    subgraphs: list[Graph] = field(default_factory=list)
    kernel: str = ""  # chosen by lowering; "" = the reference kernel

    def __post_init__(self) -> None:
        for o in self.outputs:
            if o is not None:
                o.producer = self

    @property
    def is_known(self) -> bool:
        """Whether the ranks of all that it reads and writes are known: a rule may look at its dims."""
        return all(v is None or v.shape is not None for v in [*self.inputs, *self.outputs])

    @property
    def is_static(self) -> bool:
        """Whether every dim of all that it reads and writes is a number."""
        return all(v is None or v.is_static for v in [*self.inputs, *self.outputs])

    @property
    def output(self) -> Value:
        """The first output; of an operator whose first output is optional, the first that is there."""
        return next(v for v in self.outputs if v is not None)

    def input(self, i: int) -> Value | None:
        """Input i, or None if it is absent."""
        return self.inputs[i] if i < len(self.inputs) else None

    def const(self, i: int) -> np.ndarray | None:
        """Value of input i if it is a constant."""
        v = self.input(i)
        return None if v is None else v.const

    def int_attr(self, name: str, default: int) -> int:
        v = self.attrs.get(name)
        return int(v[0]) if v else default

    def float_attr(self, name: str, default: float) -> float:
        v = self.attrs.get(name)
        return float(v[0]) if v else default

    def ints_attr(self, name: str) -> list[int] | None:
        v = self.attrs.get(name)
        return None if v is None else [int(x) for x in v]

    def str_attr(self, name: str, default: str) -> str:
        v = self.attrs.get(name)
        return v if isinstance(v, str) else default


@dataclass
class Text:
    """Which inputs and outputs (by position) are codes of strings, and what the codes stand for."""

    table: list[str] = field(default_factory=list)
    inputs: set[int] = field(default_factory=set)
    outputs: set[int] = field(default_factory=set)
    # Outputs whose rows are given to the user as dicts, and the keys of their columns.
    keys: dict[int, list[int] | list[str]] = field(default_factory=dict)


@dataclass(eq=False)
class Graph:
    """Nodes in execution order with the graph's inputs and outputs."""

    name: str
    inputs: list[Value]
    outputs: list[Value]
    nodes: list[Node] = field(default_factory=list)
    symbols: Symbols = field(default_factory=Symbols)  # a model's graphs share one
    states: int = 0  # how many of the last inputs take the values of the last outputs in the next run
    text: Text = field(default_factory=Text)

    @property
    def is_dynamic(self) -> bool:
        """Whether shapes are bound at run time: by the inputs' shapes, by data, or by control flow."""
        return bool(self.symbols.bounds) or self.symbols.data_dependent

    def fresh_name(self, stem: str) -> str:
        """A value or node name that nothing else in the model has."""
        self.symbols.made += 1
        return f"{stem}~{self.symbols.made}"

    def walk(self) -> Iterator[Graph]:
        """This graph and all below it, each before those of its nodes."""
        pending = [self]
        while pending:
            graph = pending.pop(0)
            yield graph
            pending.extend(sub for node in graph.nodes for sub in node.subgraphs)

    def all_nodes(self) -> Iterator[Node]:
        """The nodes of this graph and of all below it, graph by graph."""
        for graph in self.walk():
            yield from graph.nodes

    def users(self) -> dict[Value, list[Node]]:
        """Consumers of every value, in order; a node that reads a value twice is listed once."""
        users: dict[Value, list[Node]] = {}
        for node in self.nodes:
            for v in dict.fromkeys(with_parts(node.inputs)):
                users.setdefault(v, []).append(node)
            for v in captured(node):
                users.setdefault(v, []).append(node)
        return users

    def values(self) -> Iterator[Value]:
        """Every value once: inputs, then what nodes read and write."""
        seen: set[int] = set()

        def new(vs: Iterable[Value | None]) -> Iterator[Value]:
            for v in vs:
                if v is not None and id(v) not in seen:
                    seen.add(id(v))
                    yield v

        yield from new(self.inputs)
        for node in self.nodes:
            yield from new(node.inputs)
            yield from new(node.outputs)
        yield from new(self.outputs)

    def replace(self, old: Value, new: Value) -> None:
        """Makes every reader of `old`, and the graph's outputs, read `new`."""
        for node in self.nodes:
            node.inputs = [new if v is old else v for v in node.inputs]
            for sub in node.subgraphs:
                sub.replace(old, new)
        self.outputs = [new if v is old else v for v in self.outputs]

    def remove(self, dead: Iterable[Node]) -> None:
        gone = {id(n) for n in dead}
        self.nodes = [n for n in self.nodes if id(n) not in gone]


def with_parts(values: Iterable[Value | None]) -> Iterator[Value]:
    """The values that are there, and the tensors of those that are resolved sequences."""
    for v in values:
        if v is not None:
            yield v
            yield from v.parts or ()


def captured(node: Node) -> list[Value]:
    """Values of outer graphs that a control-flow node's subgraphs read."""
    if not node.subgraphs:
        return []
    own: set[int] = set()
    read: dict[int, Value] = {}
    for graph in (inner for sub in node.subgraphs for inner in sub.walk()):
        own.update(id(v) for v in graph.inputs)
        for n in graph.nodes:
            own.update(id(v) for v in n.outputs if v is not None)
            read.update((id(v), v) for v in with_parts(n.inputs) if not v.is_const)
        read.update((id(v), v) for v in with_parts(graph.outputs) if not v.is_const)
    return [v for key, v in read.items() if key not in own]
