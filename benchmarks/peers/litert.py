# SPDX-License-Identifier: Apache-2.0
"""LiteRT (TensorFlow Lite) with XNNPACK, converted by litert-torch from the module that pnnx writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from peers import Run, installed
from peers.convert import example, torch_module, torch_source, why_no_pnnx


def version() -> str:
    return installed("ai-edge-litert") or ""


def why_not(model: Path) -> str | None:
    if not version():
        return "ai-edge-litert is not installed"
    if not installed("litert-torch"):
        return "litert does not read ONNX; its converter is not installed: pip install litert-torch"
    return why_no_pnnx("litert")


def prepare(model: Path, out: Path) -> Path:
    path = out / (model.stem + ".tflite")
    if not path.exists():
        import litert_torch

        litert_torch.convert(torch_module(torch_source(model, out)), example(model)).export(str(path))
    return path


def load(path: Path, threads: int, inputs: dict[str, np.ndarray]) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=threads)
    interpreter.allocate_tensors()
    # The converter names inputs serving_default_args_0:0 and up; they are listed in any order.
    details = sorted(interpreter.get_input_details(), key=lambda d: d["name"])
    feeds = [
        (d["index"], x.astype(d["dtype"], copy=False)) for d, x in zip(details, inputs.values(), strict=True)
    ]
    outputs = [d["index"] for d in interpreter.get_output_details()]

    def run() -> list[np.ndarray]:
        for index, x in feeds:
            interpreter.set_tensor(index, x)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in outputs]

    return run
