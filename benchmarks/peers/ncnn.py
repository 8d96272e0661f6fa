# SPDX-License-Identifier: Apache-2.0
"""ncnn in fp32, converted by pnnx. It has no batch dimension; integer inputs go in as int32, or as floats."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from peers import Run, installed
from peers.convert import run_pnnx, why_no_pnnx


def version() -> str:
    return installed("ncnn") or ""


def why_not(model: Path) -> str | None:
    return why_no_pnnx("ncnn") if version() else "ncnn is not installed"


def prepare(model: Path, out: Path) -> Path:
    path = run_pnnx(model, out) / f"{model.stem}.ncnn.param"
    text = path.read_text()
    # It has no layer that makes floats of integers; `load` feeds floats where pnnx left one.
    without = text.replace("Tensor.to ", "Noop      ")
    if without != text:
        path.write_text(without)
    return path


def load(path: Path, threads: int, inputs: dict[str, np.ndarray]) -> Run:
    import ncnn

    net = ncnn.Net()
    net.opt.num_threads = threads
    for option in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
        setattr(net.opt, option, False)
    if net.load_param(str(path)) != 0 or net.load_model(str(path.with_suffix(".bin"))) != 0:
        raise RuntimeError(f"ncnn cannot load {path.name}")
    text = path.read_text()
    arrays = []
    for i, x in enumerate(inputs.values()):
        if x.dtype != np.float32:
            x = x.astype(np.int32 if re.search(rf"^Embed .* in{i} ", text, re.MULTILINE) else np.float32)
        arrays.append(np.ascontiguousarray(x[0] if x.ndim > 1 else x))
    names = [f"out{i}" for i in range(text.count(" out"))]

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
