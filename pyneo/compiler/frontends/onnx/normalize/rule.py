# SPDX-License-Identifier: Apache-2.0
"""What a normalisation rule is: it lifts one operator from an older form to the newest.

A rule is registered for operators and the operator sets below which it applies. It changes the `Op` in
place and returns nothing, or emits other nodes that produce the Op's outputs and returns True.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ....ir.graph import DType, Value
from ..attributes import Attrs, Raw

ALWAYS = 1 << 30


class Emitter(Protocol):
    """What a rule may ask of the importer."""

    def const(self, array: np.ndarray, dtype: DType | None = None) -> Value:
        """A constant value."""

    def emit(
        self, op: str, inputs: Sequence[Value | None], attrs: Attrs | None = None, *, outputs: int = 1
    ) -> list[Value]:
        """Adds a node in its newest form and returns its new outputs."""

    def emit_into(
        self, op: str, inputs: Sequence[Value | None], attrs: Attrs | None, outputs: Sequence[Value | None]
    ) -> None:
        """Adds a node in its newest form that produces `outputs`."""

    def become(self, output: Value, constant: Value) -> None:
        """Makes an output a constant."""

    def code(self, text: str) -> int:
        """The number that stands for a string."""

    def rows_as_dicts(self, output: Value, keys: list[int] | list[str]) -> None:
        """Makes an output one whose rows the user gets as dicts."""

    def scan_rows(self, op: Op, body: object, attrs: Attrs) -> None:
        """Adds a Scan over the leading axis of the Op's inputs, each step the Scan of `body` and `attrs`."""

    def splice(self, op: Op, branch: str) -> None:
        """Puts the nodes of a graph attribute in the node's place; its results become the outputs."""


@dataclass(eq=False)
class Op:
    """An ONNX node on its way to the newest form."""

    type: str  # IR name: domain-prefixed unless it is the standard domain
    version: int  # the model's operator set in the node's domain
    name: str
    inputs: list[Value | None]
    outputs: list[Value | None]
    attrs: Attrs

    def input(self, i: int) -> Value | None:
        return self.inputs[i] if i < len(self.inputs) else None

    def required(self, i: int) -> Value:
        v = self.input(i)
        assert v is not None, "the schema check has refused a missing input"
        return v

    def const(self, i: int) -> np.ndarray | None:
        v = self.input(i)
        return None if v is None else v.const

    def set_input(self, i: int, value: Value | None) -> None:
        self.inputs += [None] * (i + 1 - len(self.inputs))
        self.inputs[i] = value

    def output(self, i: int) -> Value | None:
        return self.outputs[i] if i < len(self.outputs) else None

    def take_ints(self, name: str) -> list[int] | None:
        """Removes an attribute and returns it; None if absent."""
        v = self.attrs.pop(name, None)
        return [int(x) for x in v] if isinstance(v, list) else None  # type: ignore[arg-type]

    def take_int(self, name: str, default: int) -> int:
        v = self.take_ints(name)
        return v[0] if v else default

    def take_floats(self, name: str) -> list[float] | None:
        v = self.attrs.pop(name, None)
        return [float(x) for x in v] if isinstance(v, list) else None  # type: ignore[arg-type]

    def take_float(self, name: str, default: float) -> float:
        v = self.take_floats(name)
        return v[0] if v else default

    def take_str(self, name: str, default: str) -> str:
        v = self.attrs.pop(name, None)
        return v if isinstance(v, str) else default

    def take_tensor(self, name: str) -> Value | None:
        v: Raw | None = self.attrs.pop(name, None)
        return v if isinstance(v, Value) else None


Apply = Callable[[Op, Emitter], bool | None]
RULES: dict[str, list[tuple[int, Apply]]] = {}


def rule(*ops: str, below: int = ALWAYS) -> Callable[[Apply], Apply]:
    """Registers a rule for operators of operator sets less than `below`."""

    def register(fn: Apply) -> Apply:
        for op in ops:
            RULES.setdefault(op, []).append((below, fn))
            RULES[op].sort(key=lambda r: r[0])
        return fn

    return register


def scalar(b: Emitter, value: float, like: Value | DType) -> Value:
    """A rank-0 constant of the type of `like` (float32 while that is unknown)."""
    dtype = like if isinstance(like, DType) else like.dtype
    if dtype is DType.NONE:
        dtype = DType.F32
    if dtype is DType.BF16:
        bits = int(np.float32(value).view(np.uint32))
        return b.const(np.array((bits + 0x7FFF + (bits >> 16 & 1)) >> 16, np.uint16), DType.BF16)
    return b.const(np.array(value, dtype.numpy), dtype)


def ints(b: Emitter, values: Sequence[int]) -> Value:
    """An int64 vector."""
    return b.const(np.array(values, np.int64).reshape(-1))
