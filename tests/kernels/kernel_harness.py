# SPDX-License-Identifier: Apache-2.0
"""Fast kernels against the operator's reference kernel, on every tier this machine has."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from pyneo import _core
from pyneo.compiler.lower.attrs import pack_attrs

PLAIN, BLOCK = 0, -1  # BLOCK: channel blocks of the tier's width
TIERS = list(range(_core.host_target()["tier"] + 1))
TIER_NAMES = ["portable", "avx2", "avx512"]
# What lies in the padding lanes of a blocked operand: any finite value is legal.
PADDING = 3.25

each_tier = pytest.mark.parametrize("tier", TIERS, ids=[TIER_NAMES[t] for t in TIERS])


def block(tier: int) -> int:
    return 16 if tier == 2 else 8


def _layout(layout: int, tier: int) -> int:
    return block(tier) if layout == BLOCK else layout


def attributes(**attrs: Any) -> bytes:
    """The attribute block; single numbers become lists of one."""
    return pack_attrs({k: v if isinstance(v, (list, str)) else [v] for k, v in attrs.items()})


def reference(
    op: str, attrs: bytes, inputs: Sequence[np.ndarray | None], outputs: int = 1
) -> list[np.ndarray]:
    return list(_core.op_eval(op, attrs, list(inputs), outputs=outputs))


def _operands(
    op: str,
    attrs: bytes,
    inputs: Sequence[np.ndarray | None],
    tier: int,
    layouts: Sequence[int] | int,
    out_layouts: Sequence[int] | int,
    outputs: int,
) -> tuple[list[Any], list[Any]]:
    if isinstance(layouts, int):
        layouts = [layouts] * len(inputs)
    if isinstance(out_layouts, int):
        out_layouts = [out_layouts] * outputs
    ins = [None if x is None else (x, _layout(lay, tier)) for x, lay in zip(inputs, layouts, strict=True)]
    inferred = _core.op_infer(op, attrs, list(inputs), outputs=outputs)
    outs = [(d, s, _layout(lay, tier)) for (d, s), lay in zip(inferred, out_layouts, strict=True)]
    return ins, outs


def accepting(
    op: str,
    attrs: bytes,
    inputs: Sequence[np.ndarray | None],
    tier: int,
    layouts: Sequence[int] | int = PLAIN,
    out_layouts: Sequence[int] | int = PLAIN,
    outputs: int = 1,
) -> list[str]:
    """Names of the kernels of that tier that accept the node with operands in these layouts."""
    ins, outs = _operands(op, attrs, inputs, tier, layouts, out_layouts, outputs)
    described = [None if x is None else (_core_dtype(x[0]), x[0].shape, x[1]) for x in ins]
    found = _core.kernel_list(op, attrs, described, outs, {"tier": tier})
    return [k["name"] for k in found if k["tier"] == tier]


def _core_dtype(x: np.ndarray) -> int:
    return {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "bool": 9, "float64": 11}[
        x.dtype.name
    ]


def run_kernel(
    op: str,
    attrs: bytes,
    inputs: Sequence[np.ndarray | None],
    kernel: str,
    tier: int,
    layouts: Sequence[int] | int = PLAIN,
    out_layouts: Sequence[int] | int = PLAIN,
    outputs: int = 1,
    threads: int = 1,
) -> list[np.ndarray]:
    ins, outs = _operands(op, attrs, inputs, tier, layouts, out_layouts, outputs)
    got, _ = _core.kernel_eval(
        op, attrs, ins, outs, kernel, threads=threads, target={"tier": tier}, padding=PADDING
    )
    return list(got)


def check(
    op: str,
    attrs: bytes,
    inputs: Sequence[np.ndarray | None],
    kernel: str,
    tier: int,
    layouts: Sequence[int] | int = PLAIN,
    out_layouts: Sequence[int] | int = PLAIN,
    outputs: int = 1,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    want: Sequence[np.ndarray] | None = None,
) -> None:
    """`kernel` (a prefix of its name) accepts the node and agrees with the reference at 1 and 2 threads."""
    names = accepting(op, attrs, inputs, tier, layouts, out_layouts, outputs)
    names = [n for n in names if n.startswith(kernel)]
    assert names, f"no kernel {kernel}* accepts {op}"
    expected = reference(op, attrs, inputs, outputs) if want is None else want
    for name in names:
        one = run_kernel(op, attrs, inputs, name, tier, layouts, out_layouts, outputs)
        two = run_kernel(op, attrs, inputs, name, tier, layouts, out_layouts, outputs, threads=2)
        for e, a, b in zip(expected, one, two, strict=True):
            np.testing.assert_allclose(a, e, rtol=rtol, atol=atol, err_msg=name)
            np.testing.assert_array_equal(a, b, err_msg=f"{name}: one and two threads differ")
