# SPDX-License-Identifier: Apache-2.0
"""Kernels against the operator's reference, with a layout for each operand."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from pyneo import _core
from tests.kernels.harness import PLAIN, TIERS, Node, block_of, of_tier

BLOCK = -1  # channel blocks of the tier's width
# What lies in the padding lanes of a blocked operand: any finite value is legal.
PADDING = 3.25
DTYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "bool": 9, "float64": 11}

each_tier = pytest.mark.parametrize("tier", TIERS)
# Families with PN_WIDE_RUN in their tables: on x86 the portable tier leaves them to the reference.
_WIDE = [t for t in TIERS if t != "portable" or platform.machine() not in ("x86_64", "AMD64")]
each_wide_tier = pytest.mark.parametrize("tier", _WIDE)


def _layouts(layouts: Sequence[int] | int, count: int, tier: str) -> list[int]:
    given = [layouts] * count if isinstance(layouts, int) else list(layouts)
    return [block_of(tier) if lay == BLOCK else lay for lay in given]


def _outputs(node: Node, tier: str, out_layouts: Sequence[int] | int, outputs: int) -> list[tuple[Any, ...]]:
    inferred = _core.op_infer(node.op, node.blob(), node.inputs, outputs=outputs)
    return [(*i, lay) for i, lay in zip(inferred, _layouts(out_layouts, outputs, tier), strict=True)]


def accepting(
    node: Node,
    tier: str,
    layouts: Sequence[int] | int = PLAIN,
    out_layouts: Sequence[int] | int = PLAIN,
    outputs: int = 1,
) -> list[str]:
    """Names of the kernels of that tier (`of_tier`) that accept the node with operands in these layouts."""
    ins = zip(node.inputs, _layouts(layouts, len(node.inputs), tier), strict=True)
    # Values of plain operands are known, as constants' are when kernels are chosen.
    described = [x if x is None or lay == PLAIN else (DTYPES[x.dtype.name], x.shape, lay) for x, lay in ins]
    target = {"tier": TIERS.index(tier)}
    found = _core.kernel_list(
        node.op, node.blob(), described, _outputs(node, tier, out_layouts, outputs), target
    )
    return of_tier(found, tier)


def run_kernel(
    node: Node,
    kernel: str,
    tier: str,
    layouts: Sequence[int] | int = PLAIN,
    out_layouts: Sequence[int] | int = PLAIN,
    outputs: int = 1,
    threads: int = 1,
    repeats: int = 1,
) -> tuple[list[np.ndarray], int]:
    """(outputs, best nanoseconds)."""
    pairs = zip(node.inputs, _layouts(layouts, len(node.inputs), tier), strict=True)
    ins = [None if x is None else (x, lay) for x, lay in pairs]
    outs = _outputs(node, tier, out_layouts, outputs)
    target = {"tier": TIERS.index(tier)}
    got, ns = _core.kernel_eval(node.op, node.blob(), ins, outs, kernel, threads, repeats, target, PADDING)
    return list(got), ns


def check(
    node: Node,
    kernel: str,
    tier: str,
    layouts: Sequence[int] | int = PLAIN,
    out_layouts: Sequence[int] | int = PLAIN,
    outputs: int = 1,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    want: Sequence[np.ndarray] | None = None,
) -> None:
    """`kernel` (a prefix of its name) accepts the node and agrees with the reference at 1 and 2 threads."""
    names = [n for n in accepting(node, tier, layouts, out_layouts, outputs) if n.startswith(kernel)]
    assert names, f"no kernel {kernel}* accepts {node.op}"
    expected = want
    if expected is None:
        expected = _core.op_eval(node.op, node.blob(), node.inputs, outputs=outputs)
    for name in names:
        one, _ = run_kernel(node, name, tier, layouts, out_layouts, outputs)
        two, _ = run_kernel(node, name, tier, layouts, out_layouts, outputs, threads=2)
        for e, a, b in zip(expected, one, two, strict=True):
            np.testing.assert_allclose(a, e, rtol=rtol, atol=atol, err_msg=name)
            np.testing.assert_array_equal(a, b, err_msg=f"{name}: one and two threads differ")
