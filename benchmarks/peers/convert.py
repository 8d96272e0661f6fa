# SPDX-License-Identifier: Apache-2.0
"""pnnx reads ONNX and writes ncnn's format and a torch module, from which others convert further."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

from peers import call


def _tool() -> str | None:
    beside = Path(sys.executable).with_name("pnnx")
    return str(beside) if beside.exists() else shutil.which("pnnx")


def why_no_pnnx(runtime: str) -> str | None:
    return (
        None if _tool() else f"{runtime} does not read ONNX; its converter here needs pnnx: pip install pnnx"
    )


def run_pnnx(model: Path, out: Path) -> Path:
    """The folder with what pnnx made of the model: STEM.ncnn.param, STEM_pnnx.py and their weights."""
    folder = out / "pnnx" / model.stem
    if not (folder / "done").exists():
        folder.mkdir(parents=True, exist_ok=True)
        (folder / model.name).write_bytes(with_long_tables(model))  # it writes beside its input
        call([str(_tool()), model.name, "fp16=0"], folder)
        for graph in folder.glob("*.onnx"):  # the copy, and two that it made of it
            graph.unlink()
        (folder / "done").touch()
    return folder


def with_long_tables(model: Path) -> bytes:
    """The model with at least 16 rows in tables that integer inputs index.

    pnnx runs the model once with made-up indices, 7 among them, and stops at a table of two token types.
    """
    import onnx
    from onnx import numpy_helper

    graph = onnx.load(str(model))
    inputs = {i.name for i in graph.graph.input}
    tables = {n.input[0] for n in graph.graph.node if n.op_type == "Gather" and n.input[1] in inputs}
    for tensor in graph.graph.initializer:
        if tensor.name in tables and tensor.dims[0] < 16:
            rows = numpy_helper.to_array(tensor)
            more = np.zeros((16 - len(rows), *rows.shape[1:]), rows.dtype)
            tensor.CopyFrom(numpy_helper.from_array(np.concatenate([rows, more]), tensor.name))
    return bytes(graph.SerializeToString())


def torch_module(source: Path) -> Any:
    """The module in a STEM_pnnx.py of ours, ready for inference."""
    before = Path.cwd()
    os.chdir(source.parent)  # it opens its weights by their bare name
    try:
        names: dict[str, Any] = {}
        exec(compile(source.read_text(), source.name, "exec"), names)
        module = names["Model"]().float().eval()
    finally:
        os.chdir(before)
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module


def torch_source(model: Path, out: Path) -> Path:
    return run_pnnx(model, out) / f"{model.stem.replace('-', '_')}_pnnx.py"


def example(model: Path) -> tuple[Any, ...]:
    """The benchmark's inputs as torch tensors."""
    import torch

    with np.load(model.with_suffix(".npz")) as arrays:
        return tuple(torch.from_numpy(arrays[k]) for k in arrays.files)
