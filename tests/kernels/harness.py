# SPDX-License-Identifier: Apache-2.0
"""Runs single kernels of the core on plain arrays, for every tier this machine has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pyneo import _core
from pyneo.compiler.lower.attrs import pack_attrs
from pyneo.compiler.targets.target import TIERS as _NUMBERS
from pyneo.compiler.targets.target import block_of as block_of  # for the tests: channels of a block of a tier

TIERS = list(_NUMBERS)[: _core.host_target()["tier"] + 1]
PLAIN = 0


@dataclass
class Node:
    """An operator with its inputs (None = absent), in plain layout."""

    op: str
    inputs: list[np.ndarray | None]
    attrs: dict[str, Any] = field(default_factory=dict)

    def blob(self) -> bytes:
        return pack_attrs({k: v if isinstance(v, (str, list)) else [v] for k, v in self.attrs.items()})

    def infer(self) -> tuple[int, tuple[int, ...]]:
        return _core.op_infer(self.op, self.blob(), self.inputs)[0]

    def reference(self) -> np.ndarray:
        """Output of the operator's portable reference kernel."""
        return _core.op_eval(self.op, self.blob(), self.inputs)[0]

    def layouts(
        self, act_in: int, act_out: int, like_in: Sequence[int], like_out: Sequence[int]
    ) -> list[int]:
        """Layout of each input: activations as given, everything else plain."""
        return [
            act_in if i in like_in else act_out if i in like_out else PLAIN for i in range(len(self.inputs))
        ]


def of_tier(found: list[dict[str, Any]], tier: str) -> list[str]:
    """Names of those `kernel_list` found that a CPU of this tier would rather run than a lower tier's.

    amx has few tables of its own: AVX-512 serves the rest, in the same layouts.
    """
    least = min(TIERS.index(tier), _NUMBERS["avx512"])
    return [k["name"] for k in found if k["tier"] >= least]


def kernels(
    node: Node,
    tier: str,
    act_in: int,
    act_out: int,
    like_in: Sequence[int] = (0,),
    like_out: Sequence[int] = (),
) -> list[str]:
    """Names of the kernels of this tier (`of_tier`) that accept the node with these layouts."""
    dtype, shape = node.infer()
    layouts = node.layouts(act_in, act_out, like_in, like_out)
    descs = [None if a is None else (1, a.shape, lay) for a, lay in zip(node.inputs, layouts, strict=True)]
    found = _core.kernel_list(
        node.op, node.blob(), descs, [(dtype, shape, act_out)], {"tier": TIERS.index(tier)}
    )
    return of_tier(found, tier)


def run(
    node: Node,
    kernel: str,
    tier: str,
    act_in: int,
    act_out: int,
    like_in: Sequence[int] = (0,),
    like_out: Sequence[int] = (),
    threads: int = 1,
    repeats: int = 1,
    target: dict[str, int] | None = None,
) -> tuple[np.ndarray, int]:
    """(output, best nanoseconds). Padding lanes of blocked inputs hold NaN: a kernel must not read them."""
    dtype, shape = node.infer()
    layouts = node.layouts(act_in, act_out, like_in, like_out)
    inputs = [None if a is None else (a, lay) for a, lay in zip(node.inputs, layouts, strict=True)]
    (y,), ns = _core.kernel_eval(
        node.op,
        node.blob(),
        inputs,
        [(dtype, shape, act_out)],
        kernel,
        threads,
        repeats,
        {"tier": TIERS.index(tier), **(target or {})},
        float("nan"),
    )
    return y, ns


def assert_close(actual: np.ndarray, expected: np.ndarray, depth: int) -> None:
    """Agreement to the rounding of fp32 sums of `depth` products, relative to the output's scale."""
    scale = float(np.max(np.abs(expected), initial=1e-6))
    assert np.isfinite(actual).all()
    error = float(np.max(np.abs(actual - expected), initial=0.0)) / scale
    assert error <= 1e-6 * (4 + depth**0.5), f"error {error:.2e} of the output's scale"
