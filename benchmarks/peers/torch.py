# SPDX-License-Identifier: Apache-2.0
"""PyTorch, eager, on the module that pnnx writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from peers import Run, installed
from peers.convert import torch_module, torch_source, why_no_pnnx


def version() -> str:
    return installed("torch") or ""


def why_not(model: Path) -> str | None:
    return why_no_pnnx("torch") if version() else "torch is not installed"


def prepare(model: Path, out: Path) -> Path:
    return torch_source(model, out)


def load(path: Path, threads: int, inputs: dict[str, np.ndarray]) -> Run:
    import torch

    torch.set_num_threads(threads)
    module = torch_module(path)
    tensors = [torch.from_numpy(x) for x in inputs.values()]

    def run() -> list[np.ndarray]:
        with torch.inference_mode():
            found = module(*tensors)
        return [y.numpy() for y in (found if isinstance(found, (tuple, list)) else [found])]

    return run
