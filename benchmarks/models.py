# SPDX-License-Identifier: Apache-2.0
"""The benchmark models: built here from numpy alone, random weights, the same bytes on every machine.

python benchmarks/models.py                    builds all into benchmarks/out/ and lists them
python benchmarks/models.py resnet50 --check   ... and runs them with onnxruntime
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from nets import convnets, detector, keyword, transformers
from nets.builder import Builder

OUT = Path(__file__).resolve().parent / "out"
VERSION = 2  # of the recipes: part of the cached files' names

MODELS: dict[str, Callable[[], Builder]] = {
    "resnet50": convnets.resnet50,
    "mobilenet_v2": convnets.mobilenet_v2,
    "squeezenet": convnets.squeezenet,
    "efficientnet_b0": convnets.efficientnet_b0,
    "yolov8n": detector.yolov8n,
    "bert_base": transformers.bert_base,
    "minilm_l6": transformers.minilm_l6,
    "vit_small": transformers.vit_small,
    "gru_kws": keyword.gru,
    "ds_cnn": keyword.ds_cnn,
}


def build(name: str) -> tuple[Path, dict[str, np.ndarray]]:
    """The model's ONNX file and the inputs to feed it; made on first use, then read from benchmarks/out/."""
    if name not in MODELS:
        raise KeyError(f"no benchmark model named {name!r}; there are: {', '.join(MODELS)}")
    OUT.mkdir(parents=True, exist_ok=True)
    path = OUT / f"{name}.v{VERSION}.onnx"
    example = OUT / f"{name}.v{VERSION}.npz"
    if not (path.exists() and example.exists()):
        builder = MODELS[name]()
        np.savez(example, **builder.examples)
        unfinished = path.with_suffix(".part")
        unfinished.write_bytes(builder.model().SerializeToString())
        unfinished.replace(path)
    with np.load(example) as arrays:
        return path, {k: arrays[k] for k in arrays.files}


def _check(path: Path, inputs: dict[str, np.ndarray]) -> str:
    import onnx
    import onnxruntime

    onnx.checker.check_model(str(path), full_check=True)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    described = []
    for info, y in zip(session.get_outputs(), session.run(None, inputs), strict=True):
        if not np.all(np.isfinite(y)):
            raise ValueError(f"{path.name}: output {info.name} has values that are not finite")
        described.append(f"{info.name} {tuple(y.shape)} std {y.std():.3g} max {np.abs(y).max():.3g}")
    return "; ".join(described)


def main() -> int:
    parser = argparse.ArgumentParser(description="Build the benchmark models.")
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"default: all of {', '.join(MODELS)}")
    parser.add_argument("--check", action="store_true", help="check and run each with onnxruntime")
    arguments = parser.parse_args()
    for name in arguments.models or MODELS:
        path, inputs = build(name)
        line = f"{name:16} {path.stat().st_size / 1e6:8.2f} MB"
        print(f"{line}  {_check(path, inputs)}" if arguments.check else line, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
