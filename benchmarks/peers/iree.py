# SPDX-License-Identifier: Apache-2.0
"""IREE, compiled ahead for this CPU (llvm-cpu), run on its task system."""

from __future__ import annotations

import sys
from pathlib import Path

import isa
import numpy as np

from peers import Run, call, installed


def version() -> str:
    return installed("iree-base-runtime") or ""


def why_not(model: Path) -> str | None:
    if not version():
        return "iree-base-runtime is not installed"
    return (
        None if installed("iree-base-compiler") else "iree needs its compiler: pip install iree-base-compiler"
    )


def prepare(model: Path, out: Path) -> Path:
    processor = isa.LEVELS.get(isa.level() or "", "host")
    path = out / (model.stem + ("" if processor == "host" else "." + processor) + ".vmfb")
    if not path.exists():
        tools, graph = Path(sys.executable).parent, out / (model.stem + ".mlir")
        steps = [
            ["iree-import-onnx", str(model), "--opset-version", "17", "-o", str(graph)],
            ["iree-compile", str(graph), "-o", str(path), "--iree-hal-target-backends=llvm-cpu",
             f"--iree-llvmcpu-target-cpu={processor}", "--iree-opt-level=O3",
             "--iree-llvmcpu-stack-allocation-limit=262144"],  # BERT's means want over 32 KB
        ]  # fmt: skip
        for tool, *arguments in steps:
            call([str(tools / tool), *arguments])
        graph.unlink()
    return path


def load(path: Path, threads: int, inputs: dict[str, np.ndarray]) -> Run:
    from iree import runtime

    runtime.flags.parse_flags(f"--task_topology_group_count={threads}")
    config = runtime.Config("local-task" if threads > 1 else "local-sync")
    module = runtime.VmModule.mmap(config.vm_instance, str(path))
    bound = runtime.load_vm_module(module, config)
    name = next(n for n in module.function_names if not n.startswith("__") and not n.endswith("$async"))
    function = getattr(bound, name)

    def run() -> list[np.ndarray]:
        found = function(*inputs.values())
        return [y.to_host() for y in (found if isinstance(found, tuple) else (found,))]

    return run
