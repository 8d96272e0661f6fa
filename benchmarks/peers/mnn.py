# SPDX-License-Identifier: Apache-2.0
"""MNN on the CPU with precision "high", which is its fp32."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from peers import Run, installed


def version() -> str:
    return installed("MNN") or ""


def why_not(model: Path) -> str | None:
    return None if version() else "MNN is not installed"


def prepare(model: Path, out: Path) -> Path:
    path = out / (model.stem + ".mnn")
    if not path.exists():
        tool = str(Path(sys.executable).with_name("mnnconvert"))
        command = [
            tool,
            "-f",
            "ONNX",
            "--modelFile",
            str(model),
            "--MNNModel",
            str(path),
            "--bizCode",
            "benchmark",
        ]
        subprocess.run(command, check=True, capture_output=True)
    return path


def load(path: Path, threads: int, inputs: dict[str, np.ndarray]) -> Run:
    import MNN

    model = MNN.nn.load_module_from_file(
        str(path), list(inputs), [], backend=MNN.expr.Backend.CPU, thread_num=threads,
        precision_mode=MNN.expr.PrecisionMode.High, memory_mode=MNN.expr.MemoryMode.Normal, rearrange=True,
    )  # fmt: skip

    def to_var(x: np.ndarray) -> MNN.expr.Var:
        plain = x if x.dtype == np.float32 else x.astype(np.int32)
        kind = MNN.expr.float if plain.dtype == np.float32 else MNN.expr.int
        return MNN.expr.const(plain, list(x.shape), MNN.expr.NCHW, kind)

    def run() -> list[np.ndarray]:
        found = model.forward([to_var(x) for x in inputs.values()])
        return [np.array(MNN.expr.convert(y, MNN.expr.NCHW).read()) for y in found]

    return run
