# SPDX-License-Identifier: Apache-2.0
"""One file for each runtime that compare.py can measure.

Each has
    why_not(model) -> str | None      a sentence if it cannot run this ONNX file here
    prepare(model, out) -> Path         compiles or converts, once, on a workstation; the file to load
    load(path, threads, inputs) -> Run  opens that file; Run() computes once and returns the outputs
    version() -> str
`inputs` are arrays by name. Nothing of the runtime is imported before `load`: memory is counted from there.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

Run = Callable[[], list[np.ndarray]]

# pyneo first; the others in the order of the tables.
NAMES = ["pyneo", "onnxruntime", "openvino", "litert", "ncnn", "mnn", "executorch", "iree", "torch"]


def peer(name: str) -> Any:
    """The adapter of that runtime."""
    if name not in NAMES:
        raise KeyError(f"no runtime named {name!r}; there are: {', '.join(NAMES)}")
    return import_module(f"peers.{name}")


def installed(distribution: str) -> str | None:
    """Version of an installed distribution, None if it is not there."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
