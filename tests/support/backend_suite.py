# SPDX-License-Identifier: Apache-2.0
"""The cases of ONNX's own backend suite, with their data, whatever form each kind keeps it in."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator", "real")


@dataclass
class Case:
    """A model and pairs of inputs and expected outputs."""

    name: str
    kind: str
    model: onnx.ModelProto | None
    folder: Path | None
    data: list[tuple[list[object], list[object]]] | None
    rtol: float
    atol: float

    def load(self) -> onnx.ModelProto:
        """The model, read from its file if the suite keeps it there."""
        if self.model is not None:
            return self.model
        assert self.folder is not None
        return onnx.load(self.folder / "model.onnx" if self.folder.is_dir() else self.folder)

    def pairs(self, model: onnx.ModelProto) -> Iterator[tuple[list[object], list[object]]]:
        """Inputs and expected outputs, in the order of the graph's."""
        if self.data is not None:
            for ins, outs in self.data:
                yield [_array(x) for x in ins], [_array(y) for y in outs]
            return
        assert self.folder is not None
        if not self.folder.is_dir():
            yield _light_data(self.folder, model)
            return
        for npz in sorted(self.folder.glob("test_data_*.npz")):
            arrays = np.load(npz, encoding="bytes")
            yield list(arrays["inputs"]), list(arrays["outputs"])
        for folder in sorted(self.folder.glob("test_data_set_*")):
            yield (
                [
                    _read(folder / f"input_{i}.pb", v)
                    for i, v in enumerate(model.graph.input)
                    if _has(folder, "input", i)
                ],
                [_read(folder / f"output_{i}.pb", v) for i, v in enumerate(model.graph.output)],
            )


def _array(x: object) -> object:
    if isinstance(x, onnx.TensorProto):
        return numpy_helper.to_array(x)
    return np.asarray(x) if isinstance(x, np.generic) else x


def _has(folder: Path, what: str, i: int) -> bool:
    return (folder / f"{what}_{i}.pb").exists()


def _read(path: Path, info: onnx.ValueInfoProto) -> object:
    raw = path.read_bytes()
    kind = info.type.WhichOneof("value")
    if kind == "sequence_type":
        return numpy_helper.to_list(onnx.SequenceProto.FromString(raw))
    if kind == "optional_type":
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(raw))
    return numpy_helper.to_array(onnx.TensorProto.FromString(raw))


def _light_data(path: Path, model: onnx.ModelProto) -> tuple[list[object], list[object]]:
    """The zoo models come with random weights; inputs are a ramp from 0 to 1, as ONNX's own runner has it."""
    stored = {t.name for t in model.graph.initializer}
    inputs: list[object] = []
    for i in model.graph.input:
        if i.name not in stored:
            shape = [d.dim_value if d.HasField("dim_value") else 1 for d in i.type.tensor_type.shape.dim]
            n = int(np.prod(shape))
            inputs.append((np.arange(n).reshape(shape) / n).astype(np.float32))
    output = path.with_name(path.stem + "_output_0.pb")
    return inputs, [_read(output, model.graph.output[0])]


@functools.lru_cache(maxsize=1)
def cases() -> tuple[Case, ...]:
    """Every case of every kind."""
    from onnx.backend.test import loader

    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for kind in KINDS:
            for c in loader.load_model_tests(kind=kind):
                folder = Path(c.model_dir) if c.model_dir else None
                if c.url and c.url.startswith("onnx/"):
                    folder = Path(onnx.__file__).parent / Path(os.path.relpath(c.url, "onnx"))
                found.append(Case(c.name, kind, c.model, folder, c.data_sets, c.rtol, c.atol))
    return tuple(found)


def check(case: Case, run: Callable[[onnx.ModelProto, list[np.ndarray]], list[np.ndarray]]) -> None:
    """Runs a case and compares as ONNX's own runner does; AssertionError, or what `run` raises, if it fails.

    bfloat16 is handed over as uint16.
    """
    model = case.load()
    for inputs, expected in case.pairs(model):
        raw = [_plain(x) for x in inputs]
        got = run(model, raw)  # type: ignore[arg-type]
        assert len(got) == len(expected), f"{len(got)} outputs, expected {len(expected)}"
        for i, (y, ref) in enumerate(zip(got, expected, strict=True)):
            _compare(f"output {i}", y, ref, case)


_NARROW = {"int4": np.int8, "uint4": np.uint8, "int2": np.int8, "uint2": np.uint8}


def _plain(x: object) -> object:
    """Types that numpy lacks as pyneo has them: bfloat16 as uint16, narrow integers one to a byte."""
    if _is_bf16(x):
        return x.view(np.uint16)  # type: ignore[attr-defined]
    if isinstance(x, np.ndarray) and x.dtype.name in _NARROW:
        return x.astype(_NARROW[x.dtype.name])
    return x


def _is_bf16(x: object) -> bool:
    return isinstance(x, np.ndarray) and x.dtype.name == "bfloat16"


def _compare(what: str, y: object, ref: object, case: Case) -> None:
    if isinstance(ref, (list, tuple)):
        assert isinstance(y, (list, tuple)), f"{what} is no sequence"
        assert len(y) == len(ref), f"{what} has {len(y)} entries, expected {len(ref)}"
        for a, b in zip(y, ref, strict=True):
            _compare(what, a, b, case)
        return
    assert isinstance(ref, np.ndarray) and isinstance(y, np.ndarray), (
        f"{what} is {type(y)}, expected {type(ref)}"
    )
    rtol = case.rtol
    if ref.dtype.name in _NARROW:
        ref = ref.astype(_NARROW[ref.dtype.name])
    if _is_bf16(ref):
        rtol = max(rtol, 2.0**-6)  # two units in the last place, as ONNX's runner allows
        y, ref = y.view(ref.dtype).astype(np.float32), ref.astype(np.float32)
    assert y.shape == ref.shape, f"{what} has shape {y.shape}, expected {ref.shape}"
    if ref.dtype == object or ref.dtype.kind in "US":
        np.testing.assert_array_equal(y, ref.astype(object))
        return
    assert y.dtype == ref.dtype, f"{what} is {y.dtype}, expected {ref.dtype}"
    np.testing.assert_allclose(y, ref, rtol=rtol, atol=case.atol, err_msg=what)
