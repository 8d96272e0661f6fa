# SPDX-License-Identifier: Apache-2.0
"""ncnn in fp32, converted by pnnx. It has no batch dimension; integer inputs go in as int32."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from peers import Run, installed


def version() -> str:
    return installed("ncnn") or ""


def _converter() -> str | None:
    beside = Path(sys.executable).with_name("pnnx")
    return str(beside) if beside.exists() else shutil.which("pnnx")


def why_not(model: Path) -> str | None:
    if not version():
        return "ncnn is not installed"
    return None if _converter() else "ncnn needs pnnx to read ONNX: pip install pnnx"


def prepare(model: Path, out: Path) -> Path:
    folder = out / "ncnn" / model.stem
    path = folder / f"{model.stem}.ncnn.param"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(model, folder)  # it writes beside its input
        subprocess.run([str(_converter()), model.name, "fp16=0"], cwd=folder, check=True, capture_output=True)
    return path


def load(path: Path, threads: int, inputs: dict[str, np.ndarray]) -> Run:
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads
    for option in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
        setattr(net.opt, option, False)
    if net.load_param(str(path)) != 0 or net.load_model(str(path.with_suffix(".bin"))) != 0:
        raise RuntimeError(f"ncnn cannot load {path.name}")
    arrays = []
    for x in inputs.values():
        x = x if x.dtype == np.float32 else x.astype(np.int32)
        arrays.append(np.ascontiguousarray(x[0] if x.ndim > 1 else x))
    names = [f"out{i}" for i in range(path.read_text().count(" out"))]

    def run() -> list[np.ndarray]:
        extractor = net.create_extractor()
        for i, x in enumerate(arrays):
            extractor.input(f"in{i}", ncnn.Mat(x))
        found = []
        for name in names:
            failed, y = extractor.extract(name)
            if failed:
                raise RuntimeError(f"ncnn cannot compute {name} of {path.name}")
            found.append(np.array(y))
        return found

    return run
