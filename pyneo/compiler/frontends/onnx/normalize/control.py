# SPDX-License-Identifier: Apache-2.0
"""Control flow: a conditional on a constant becomes the branch taken, Scan over a batch a Scan of Scans."""

from __future__ import annotations

from ..attributes import Attrs
from ..limits import Problem
from .rule import Emitter, Op, rule


@rule("If")
def constant_condition(op: Op, b: Emitter) -> bool:
    condition = op.const(0)
    if condition is None or condition.size != 1:
        return False
    b.splice(op, "then_branch" if condition.reshape(-1)[0] else "else_branch")
    return True


@rule("Scan", below=9)
def scan_over_batch(op: Op, b: Emitter) -> bool:
    """Until operator set 8 every input had a batch axis before the others, and each entry a length."""
    if op.input(0) is not None:
        raise Problem(
            "input 0, the length of each sequence of the batch, is not supported; convert the model to "
            "operator set 9 or newer, or leave the lengths out"
        )
    scanned = op.take_int("num_scan_inputs", 1)
    attrs: Attrs = {"num_scan_inputs": [scanned]}
    directions = op.take_ints("directions")
    if directions:
        attrs["scan_input_directions"] = directions
    op.inputs = op.inputs[1:]
    b.scan_rows(op, op.attrs.pop("body"), attrs)
    return True
