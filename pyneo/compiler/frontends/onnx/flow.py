# SPDX-License-Identifier: Apache-2.0
"""Control flow: do the node and its subgraphs fit each other?"""

from __future__ import annotations

from collections.abc import Sequence

from ...ir.graph import Graph, Value
from .attributes import Attrs
from .limits import Problem


def check_flow(
    op: str,
    ins: Sequence[Value | None],
    attrs: Attrs,
    outs: Sequence[Value | None],
    subgraphs: Sequence[Graph],
) -> None:
    """Problem unless numbers of inputs and outputs, and the types that loops carry, agree."""
    if op == "If":
        _check_if(outs, subgraphs)
    elif op == "Loop":
        _check_body(subgraphs[0], [None, None, *ins[2:]], 1, 1 + len(ins[2:]), len(outs) + 1)
    elif op == "Scan":
        _check_scan(ins, attrs, outs, subgraphs[0])


def _check_if(outs: Sequence[Value | None], branches: Sequence[Graph]) -> None:
    first, second = (branch.outputs for branch in branches)
    if not len(first) == len(second) == len(outs):
        raise Problem(
            f"its branches give {len(first)} and {len(second)} results, but the node has {len(outs)} outputs"
        )
    for i, (a, b) in enumerate(zip(first, second, strict=True)):
        if a.dtype and b.dtype and a.dtype is not b.dtype:
            raise Problem(f"result {i} is {a.dtype.name} in one branch and {b.dtype.name} in the other")


def _check_body(body: Graph, given: Sequence[Value | None], first: int, states: int, outputs: int) -> None:
    """`given`: what the body's inputs are; its outputs `first` to `states` are what inputs carry on."""
    if len(body.inputs) != len(given) or len(body.outputs) != outputs or outputs < states:
        raise Problem(
            f"its body has {len(body.inputs)} inputs and {len(body.outputs)} outputs, expected {len(given)} "
            f"and {outputs}, at least {states} of them"
        )
    for v, outside in zip(body.inputs, given, strict=True):
        if outside is not None and outside.dtype and v.dtype and outside.dtype is not v.dtype:
            raise Problem(
                f"{v.name!r} is declared {v.dtype.name} in its body, but is given {outside.dtype.name}"
            )
        if outside is not None:
            v.dtype = v.dtype or outside.dtype


def _check_scan(ins: Sequence[Value | None], attrs: Attrs, outs: Sequence[Value | None], body: Graph) -> None:
    number = attrs.get("num_scan_inputs")
    scanned = int(number[0]) if isinstance(number, list) and number else 0  # type: ignore[arg-type]
    states = len(ins) - scanned
    if not 0 < scanned <= len(ins) or any(v is None for v in ins):
        raise Problem(f"num_scan_inputs is {scanned}; expected 1 to {len(ins)}, the number of its inputs")
    _check_body(body, ins, 0, states, len(outs))
    for name, count in (
        ("scan_input_axes", scanned), ("scan_input_directions", scanned),
        ("scan_output_axes", len(outs) - states), ("scan_output_directions", len(outs) - states),
    ):  # fmt: skip
        value = attrs.get(name)
        if isinstance(value, list) and len(value) not in (0, count):
            raise Problem(f"attribute {name!r} has {len(value)} entries, expected {count}")
