# SPDX-License-Identifier: Apache-2.0
"""MNN on the CPU with precision "high", which is its fp32."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from peers import Run, call, installed


def version() -> str:
    return installed("MNN") or ""


def why_not(model: Path) -> str | None:
    return None if version() else "MNN is not installed"


def prepare(model: Path, out: Path) -> Path:
    path = out / (model.stem + ".mnn")
    if not path.exists():
        tool = str(Path(sys.executable).with_name("mnnconvert"))
        call(
            [tool, "-f", "ONNX", "--modelFile", str(model), "--MNNModel", str(path), "--bizCode", "benchmark"]
        )
    return path


def load(path: Path, threads: int, inputs: dict[str, np.ndarray]) -> Run:
    import MNN

    arrays = {k: x if x.dtype == np.float32 else x.astype(np.int32) for k, x in inputs.items()}
    interpreter = MNN.Interpreter(str(path))
    session = interpreter.createSession({"backend": "CPU", "numThread": threads, "precision": "high"})
    targets = interpreter.getSessionInputAll(session)
    sources = list(interpreter.getSessionOutputAll(session).values())
    if any(0 in y.getShape() for y in sources):  # loops, which recurrent layers become, need its modules
        return _load_module(path, threads, arrays)

    def tensor(x: np.ndarray) -> Any:
        kind = MNN.Halide_Type_Float if x.dtype == np.float32 else MNN.Halide_Type_Int
        return MNN.Tensor(x.shape, kind, x, MNN.Tensor_DimensionType_Caffe)

    results = [tensor(np.zeros(y.getShape(), np.float32)) for y in sources]

    def run() -> list[np.ndarray]:
        for name, x in arrays.items():
            targets[name].copyFrom(tensor(x))
        interpreter.runSession(session)
        for y, result in zip(sources, results, strict=True):
            y.copyToHostTensor(result)
        return [np.array(result.getNumpyData()) for result in results]

    return run


def _load_module(path: Path, threads: int, arrays: dict[str, np.ndarray]) -> Run:
    """As a module: up to 1.8 times the time of a session."""
    import MNN

    model = MNN.nn.load_module_from_file(
        str(path), list(arrays), [], backend=MNN.expr.Backend.CPU, thread_num=threads,
        precision_mode=MNN.expr.PrecisionMode.High, memory_mode=MNN.expr.MemoryMode.Normal, rearrange=True,
    )  # fmt: skip

    def to_var(x: np.ndarray) -> MNN.expr.Var:
        kind = MNN.expr.float if x.dtype == np.float32 else MNN.expr.int
        return MNN.expr.const(x, list(x.shape), MNN.expr.NCHW, kind)

    def run() -> list[np.ndarray]:
        found = model.forward([to_var(x) for x in arrays.values()])
        return [np.array(MNN.expr.convert(y, MNN.expr.NCHW).read()) for y in found]

    return run
