# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime, CPU provider, all graph optimisations; reads the ONNX file itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from peers import Run, installed


def version() -> str:
    return installed("onnxruntime") or ""


def why_not(model: Path) -> str | None:
    return None if version() else "onnxruntime is not installed"


def prepare(model: Path, out: Path) -> Path:
    return model


def load(path: Path, threads: int, inputs: dict[str, np.ndarray]) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, inputs)
