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

import re
import subprocess
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
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


def call(command: list[str], folder: Path | None = None) -> None:
    """Runs a converter; RuntimeError with what it printed about its error if it fails."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        errors = [line for line in lines if re.search("error|fail", line, re.IGNORECASE)] or lines[-1:]
        said = errors[0][:300] if errors else "printed nothing"
        raise RuntimeError(f"{Path(command[0]).name} ended with status {done.returncode}: {said}")


def installed(distribution: str) -> str | None:
    """Version of an installed distribution, None if it is not there."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
