# SPDX-License-Identifier: Apache-2.0
"""ExecuTorch with its XNNPACK delegate, lowered from the module that pnnx writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from peers import Run, installed
from peers.convert import example, torch_module, torch_source, why_no_pnnx


def version() -> str:
    return installed("executorch") or ""


def why_not(model: Path) -> str | None:
    return why_no_pnnx("executorch") if version() else "executorch is not installed"


def prepare(model: Path, out: Path) -> Path:
    path = out / (model.stem + ".pte")
    if not path.exists():
        import torch
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
        from executorch.exir import to_edge_transform_and_lower

        exported = torch.export.export(torch_module(torch_source(model, out)), example(model))
        lowered = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()])
        path.write_bytes(lowered.to_executorch().buffer)
    return path


def load(path: Path, threads: int, inputs: dict[str, np.ndarray]) -> Run:
    import torch
    from executorch.extension.pybindings import portable_lib

    # Its pool sizes itself by the CPUs it sees; compare.py pins the process to as many as there are threads.
    reset = getattr(portable_lib, "_unsafe_reset_threadpool", None)
    if reset is not None:
        reset(threads)
    module = portable_lib._load_for_executorch(str(path))
    tensors = [torch.from_numpy(x) for x in inputs.values()]
    return lambda: [y.numpy() for y in module.forward(tensors)]
