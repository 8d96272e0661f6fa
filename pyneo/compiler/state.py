# SPDX-License-Identifier: Apache-2.0
"""State: outputs whose values are inputs of the next run, and live in the session."""

from __future__ import annotations

from collections.abc import Mapping

from pyneo.compiler.ir.graph import Graph, Value
from pyneo.errors import CompileError


def tie(graph: Graph, state: Mapping[str, str]) -> None:
    """Moves each output and the input that it becomes to the ends of the graph's lists, pair by pair.

    CompileError with every name that is not there, named twice, or does not fit its partner.
    """
    inputs = {v.name: v for v in graph.inputs}
    outputs = {v.name: v for v in graph.outputs}
    problems = []
    pairs: list[tuple[Value, Value]] = []
    for given, taken in state.items():
        if given not in outputs:
            problems.append(f"the model has no output {given!r}; its outputs are {', '.join(outputs)}")
        elif taken not in inputs:
            problems.append(f"the model has no input {taken!r}; its inputs are {', '.join(inputs)}")
        elif taken in (x.name for x, _ in pairs):
            problems.append(f"two outputs are to become input {taken!r}")
        else:
            pairs.append((inputs[taken], outputs[given]))
    if pairs and (graph.text.inputs or graph.text.outputs or graph.text.keys):
        problems.append("a model with strings cannot have state")
    if problems:
        raise CompileError("state: " + "; ".join(problems))
    kept = {id(v) for pair in pairs for v in pair}
    graph.inputs = [v for v in graph.inputs if id(v) not in kept] + [x for x, _ in pairs]
    graph.outputs = [v for v in graph.outputs if id(v) not in kept] + [y for _, y in pairs]
    graph.states = len(pairs)


def check_ties(graph: Graph) -> None:
    """CompileError unless every tied output can be its input's next value; when shapes have been inferred."""
    count = graph.states
    inputs, outputs = graph.inputs, graph.outputs
    pairs = zip(inputs[len(inputs) - count :], outputs[len(outputs) - count :], strict=True)
    problems = [problem for x, y in pairs for problem in _misfit(x, y)]
    if problems:
        raise CompileError("state: " + "; ".join(problems))


def _misfit(x: Value, y: Value) -> list[str]:
    """Why output y can't be the next value of input x."""
    if x.dtype is not y.dtype and y.dtype.value:
        return [f"output {y.name!r} is {y.dtype.name}, input {x.name!r} is {x.dtype.name}"]
    if x.shape is None or y.shape is None:
        return []
    fits = len(x.shape) == len(y.shape)
    for a, b in zip(x.shape, y.shape, strict=False):
        fits = fits and (a == b or isinstance(a, str) or isinstance(b, str))
    return [] if fits else [f"output {y.name!r} has shape {y.shape}, input {x.name!r} has shape {x.shape}"]
