# SPDX-License-Identifier: Apache-2.0
"""Strings as numbers: the core never sees text.

A string tensor is an int64 tensor of codes. A string that the model itself names (a label, a key, a constant)
is the position in one table, which the package's manifest carries. Model.predict gives every other string
of a call a code behind the table's end, the same one for equal strings, and turns codes back. So operators
that move or compare elements mean what they mean for strings.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from ...ir.graph import DType, Graph, Text, Value
from .limits import Problem

# What is right on codes. Unique is, too, if it keeps the order of first occurrence.
_ON_CODES = frozenset((
    "ArrayFeatureExtractor", "Compress", "Concat", "Equal", "Expand", "Flatten", "Gather", "GatherElements",
    "GatherND", "Identity", "If", "Loop", "Reshape", "ScatterElements", "ScatterND", "Shape", "Size",
    "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze", "Where", "ai.onnx.ml.LabelEncoder",
    "ConcatFromSequence", "Optional", "OptionalGetElement", "OptionalHasElement", "SequenceAt",
    "SequenceConstruct", "SequenceErase", "SequenceInsert", "SequenceLength", "SplitToSequence",
))  # fmt: skip


class Strings:
    """The table of one import."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}

    def code(self, text: str) -> int:
        """The code of a string that the model names."""
        return self._codes.setdefault(text, len(self._codes))

    def encode(self, graph: Graph) -> None:
        """Makes every string value of the graph one of codes, and notes which are inputs and outputs."""
        inputs = {i for i, v in enumerate(graph.inputs) if v.dtype is DType.STRING}
        outputs = {i for i, v in enumerate(graph.outputs) if v.dtype is DType.STRING}
        for v in _values(graph):
            if v.dtype is DType.STRING:
                v.dtype = DType.I64
                if v.const is not None:
                    flat = [self.code(str(text)) for text in v.const.reshape(-1)]
                    v.const = np.array(flat, np.int64).reshape(v.const.shape)
        graph.text = Text(list(self._codes), inputs, outputs, graph.text.keys)


def check_text(op: str, inputs: Iterable[Value | None], attrs: object) -> None:
    """Problem if an operator that has to look into strings reads one."""
    if op in _ON_CODES or (op == "Unique" and isinstance(attrs, dict) and attrs.get("sorted") == [0]):
        return
    for v in inputs:
        if v is not None and v.dtype is DType.STRING:
            raise Problem(
                f"it reads the strings {v.name!r}; pyneo compares and moves strings, but {op} looks into "
                "them: do that before predict, and give the model its result"
            )


def _values(graph: Graph) -> Iterator[Value]:
    for part in graph.walk():
        yield from part.values()
