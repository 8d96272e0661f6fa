# SPDX-License-Identifier: Apache-2.0
"""What a model's own functions expand to, known before a single node is copied."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx

from .limits import MAX_NESTING, TOO_DEEP, Abandon, Problem

Key = tuple[str, str, str]  # domain, name, overload


def domain_of(domain: str) -> str:
    """The standard domain has two names."""
    return "" if domain == "ai.onnx" else domain


def key_of(node: onnx.NodeProto) -> Key:
    return domain_of(node.domain), node.op_type, node.overload


class Functions:
    """A model's functions by what calls them."""

    def __init__(self, protos: Iterable[onnx.FunctionProto]) -> None:
        self._protos: dict[Key, onnx.FunctionProto] = {}
        self._sizes: dict[Key, int] = {}
        self.twice: list[Key] = []
        for f in protos:
            key = (domain_of(f.domain), f.name, f.overload)
            if key in self._protos:
                self.twice.append(key)
            self._protos[key] = f

    def get(self, key: Key) -> onnx.FunctionProto | None:
        return self._protos.get(key)

    def size(self, key: Key) -> int:
        """Nodes and calls that one call expands to, nested calls included.

        Problem for recursion, Abandon for calls nested too deep. Exponential chains cost nothing here:
        every function is counted once.
        """
        return self._size(key, [])

    def _size(self, key: Key, path: list[Key]) -> int:
        known = self._sizes.get(key)
        if known is not None:
            return known
        if key in path:
            raise Problem(f"function {key[1]!r} calls itself; recursion has no meaning in a graph")
        if len(path) >= MAX_NESTING:
            raise Abandon(TOO_DEEP)
        path.append(key)
        self._sizes[key] = total = self._count(self._protos[key].node, path, 0)
        path.pop()
        return total

    def _count(self, nodes: Iterable[onnx.NodeProto], path: list[Key], depth: int) -> int:
        if depth > MAX_NESTING:
            raise Abandon(TOO_DEEP)
        total = 1
        for n in nodes:
            total += 1
            called = key_of(n)
            if called in self._protos:
                total += self._size(called, path)
            for a in n.attribute:
                if a.HasField("g"):
                    total += self._count(a.g.node, path, depth + 1)
        return total


def without(nodes: Iterable[onnx.NodeProto], absent: Mapping[str, None]) -> Iterable[onnx.NodeProto]:
    """Nodes of a function body in which inputs that the caller left out read as absent."""
    if not absent:
        return nodes
    rewritten = []
    for n in nodes:
        if any(i in absent for i in n.input):
            copy = onnx.NodeProto()
            copy.CopyFrom(n)
            copy.input[:] = ["" if i in absent else i for i in n.input]
            n = copy
        rewritten.append(n)
    return rewritten
