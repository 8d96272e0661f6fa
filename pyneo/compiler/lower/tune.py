# SPDX-License-Identifier: Apache-2.0
"""Tuning: candidate kernels timed on the machine at hand, in place of the cost model's estimates.

Every candidate of a node runs alone, on one thread, on random operands of the node's shapes and layouts.
Times are kept in a file for each kind of CPU and release of pyneo, so that a shape is measured once.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pyneo import _core
from pyneo.compiler import core
from pyneo.compiler.ir.graph import DType, Layout, Node, Value
from pyneo.compiler.lower.attrs import pack_attrs
from pyneo.compiler.targets.target import Target, host
from pyneo.errors import Error, TargetError
from pyneo.package.files import write_atomically

_ROUNDS = 3
_ROUND_NS = 10_000_000
_MAX_REPEATS = 500


class Tuner:
    """Measured microseconds of kernels. Use `save` at the end: it keeps what was measured."""

    def __init__(
        self,
        target: Target,
        folder: str | os.PathLike[str] | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        """target: the machine the package is for, whose kernels this one must be able to run.

        folder: where times are kept; by default $PYNEO_CACHE, or pyneo in the user's cache folder.
        Raises TargetError if this machine is not of the target's kind.
        """
        if not target.runs_here:
            here = host()
            raise TargetError(
                f"tuning measures on this machine, which is {here.arch} with {here.tier}; target "
                f"'{target.name}' is {target.arch} with {target.tier}. Tune on such a device, or compile "
                "without tuning"
            )
        self._target = target
        self._show = progress or (lambda _: None)
        self._path = Path(folder or _cache_folder()) / f"tune-{_machine_id(target)}.json"
        self._known = _read(self._path)
        self._fresh = 0

    @property
    def measured(self) -> int:
        """How many kernels were timed, and not found among earlier times."""
        return self._fresh

    def times(self, node: Node, kernels: Sequence[core.Kernel]) -> dict[str, float]:
        """Microseconds of each kernel for the node with its operands' present layouts, by kernel name.

        A node whose operands the measurement cannot make up (bfloat16) keeps the estimates.
        """
        if any(v is not None and v.dtype is DType.BF16 for v in [*node.inputs, *node.outputs]):
            return {k.name: k.cost_us for k in kernels}
        keys = {k.name: self._key(node, k.name) for k in kernels}
        missing = [name for name, key in keys.items() if key not in self._known]
        if missing:
            self._show(f"timing {len(missing)} kernels for {node.op} '{node.name}'")
            self._measure(node, missing, keys)
        return {k.name: self._known.get(keys[k.name], k.cost_us) for k in kernels}

    def save(self) -> None:
        """Writes all times to the cache; a folder that cannot be written is a warning."""
        if not self._fresh:
            return
        text = json.dumps(self._known, indent=0, sort_keys=True)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(str(self._path), [text.encode()])
        except OSError as e:
            warnings.warn(f"the measured times are not kept for next time: {e}", stacklevel=2)

    def _key(self, node: Node, kernel: str) -> str:
        operands = [
            None if v is None else [int(v.dtype), list(v.dims), int(v.layout), v.is_const]
            for v in [*node.inputs, *node.outputs]
        ]
        attrs = hashlib.sha256(pack_attrs(node.attrs)).hexdigest()[:16]
        return json.dumps([kernel, node.op, attrs, operands], separators=(",", ":"))

    def _measure(self, node: Node, kernels: Sequence[str], keys: dict[str, str]) -> None:
        rng = np.random.default_rng(0)
        inputs = [None if v is None else (_array(v, rng), int(v.layout)) for v in node.inputs]
        outputs = core.described_outputs(node)
        attrs = pack_attrs(node.attrs)

        def run(kernel: str, repeats: int) -> float:
            native = self._target.native
            return float(_core.kernel_eval(node.op, attrs, inputs, outputs, kernel, 1, repeats, native)[1])

        best: dict[str, float] = {}
        for name in kernels:
            try:
                best[name] = run(name, 2)
            except Error:  # made-up values it cannot compute with: the estimate stays
                continue
        # In turns, so that a neighbour's burst does not decide between them.
        for _ in range(_ROUNDS):
            for name in best:
                repeats = int(min(max(_ROUND_NS / max(best[name], 1.0), 2), _MAX_REPEATS))
                best[name] = min(best[name], run(name, repeats))
        for name, ns in best.items():
            self._known[keys[name]] = ns / 1e3
        self._fresh += len(kernels)


def _array(v: Value, rng: np.random.Generator) -> np.ndarray:
    if v.const is not None:
        return v.const
    if v.dtype in (DType.F32, DType.F64, DType.F16):
        return rng.standard_normal(v.dims, dtype=np.float32).astype(v.dtype.numpy, copy=False)
    return np.zeros(v.dims, v.dtype.numpy)


def _cache_folder() -> Path:
    named = os.environ.get("PYNEO_CACHE")
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "pyneo"


def _machine_id(target: Target) -> str:
    """What times depend on besides the node: the CPU, the tier and caches compiled for, the release."""
    cpu = platform.processor()
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as f:
            cpu = next((line for line in f if line.startswith(("model name", "CPU part"))), cpu)
    except OSError:
        pass
    parts = (cpu, target.arch, str(sorted(target.native.items())), _core.__version__)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _read(path: Path) -> dict[str, float]:
    """Earlier times; none if the file is missing or broken, it is a cache."""
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {k: float(v) for k, v in found.items() if isinstance(v, (int, float)) and v > 0}


def reorder_node(v: Value, frm: Layout, to: Layout) -> Node:
    """A node that stands for the Reorder of `v`, to be timed; in no graph."""
    x, y = (Value(v.name, v.dtype, v.shape, layout=layout, samples=v.samples) for layout in (frm, to))
    return Node("Reorder", f"{v.name}/reorder", [x], [y])
