# SPDX-License-Identifier: Apache-2.0
"""The ONNX frontend: a model of any operator set to the IR, every operator in its newest form."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

from ...core import op_info
from ...ir.graph import CONTROL_FLOW, STRUCTURAL, Graph
from .build import Importer
from .external import ExternalFiles
from .read import Source, open_model

__all__ = ["Source", "load_onnx"]


class CoreOperators:
    """The operators of the native core, and those that the compiler resolves before it sees them."""

    def __contains__(self, op: object) -> bool:
        return op in CONTROL_FLOW or op in STRUCTURAL or op_info(str(op)) is not None


def load_onnx(
    source: Source,
    shapes: Mapping[str, Sequence[int | str]] | None = None,
    *,
    operators: Container[str] | None = None,
) -> Graph:
    """Reads an ONNX model into the IR.

    `source` is a path, the file's bytes, or an onnx.ModelProto; external data is read for a path only,
    from files inside the model's folder. `shapes` replaces declared input shapes by name; a dim may be
    a number or the name of a symbol. `operators` are those that can be run (default: the core's);
    others are replaced by the standard's definition in simpler ones where there is one.

    Nodes come in execution order, functions inlined, in the form of the newest operator set. A graph
    output may be a constant or a graph input. Raises CompileError, whose `problems` lists everything
    that is wrong with the model, with node names.
    """
    model, folder = open_model(source)
    with ExternalFiles(folder) as files:
        return Importer(model, files, CoreOperators() if operators is None else operators).run(shapes)
