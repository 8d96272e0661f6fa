# SPDX-License-Identifier: Apache-2.0
"""pyneo.compile: a model of another framework becomes a package for one kind of machine."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyneo
from pyneo.compiler.frontends.onnx import load_onnx
from pyneo.compiler.ir.graph import DType, Graph, Value
from pyneo.compiler.lower.lower import lower
from pyneo.compiler.passes import optimise
from pyneo.compiler.progress import Progress
from pyneo.compiler.report import make_report
from pyneo.compiler.targets.target import find
from pyneo.errors import CompileError
from pyneo.package.container import Kind, Section
from pyneo.package.manifest import Manifest, TensorSpec
from pyneo.package.manifest import Target as ManifestTarget
from pyneo.package.package import Package

if TYPE_CHECKING:
    import onnx

_ISA = {"avx2": ("avx2", "fma", "f16c"), "avx512": ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")}


def compile(  # noqa: A001  (the name of the public API)
    model: str | os.PathLike[str] | bytes | onnx.ModelProto,
    target: str = "host",
    *,
    shapes: Mapping[str, Sequence[int | str]] | None = None,
    precision: str = "fp32",
    name: str | None = None,
    version: str = "1",
    release: int = 1,
    expires: str | None = None,
    metadata: Mapping[str, str] | None = None,
    devices: Sequence[str] = (),
    tenants: Sequence[str] = (),
    progress: bool | None = None,
) -> Package:
    """Compiles an ONNX model into a package.

    model: a path, the file's bytes, or an onnx.ModelProto. target: "host" or a name of
    `pyneo compile --targets`. shapes: input name -> shape, for inputs whose shape the model leaves open.
    precision: "fp32". version, release, expires, metadata: what the manifest says of the model; release
    only grows (a device can refuse older ones). devices, tenants: the ids of the only ones that may load
    it. progress: None shows progress on a terminal.

    Raises CompileError, whose `problems` lists every unsupported operator and contradiction at once, and
    TargetError for an unknown target.
    """
    if precision != "fp32":
        raise CompileError(f"precision '{precision}' is not available; this release compiles to 'fp32'")
    machine = find(target)
    with Progress(progress) as show:
        show("reading the model")
        graph = load_onnx(model, shapes)
        inputs, outputs = [v.name for v in graph.inputs], [v.name for v in graph.outputs]
        _check_static(graph)
        optimise(graph, progress=show)
        show("choosing kernels and packing weights")
        lowered = lower(graph, machine)
        show("writing the package")
        for value, public in zip([*graph.inputs, *graph.outputs], [*inputs, *outputs], strict=True):
            value.name = public
        manifest = Manifest(
            name=name or _name_of(model, graph),
            version=version,
            release=release,
            target=ManifestTarget(machine.name, machine.arch, machine.tier, _ISA.get(machine.tier, ())),
            inputs=tuple(_spec(v) for v in graph.inputs),
            outputs=tuple(_spec(v) for v in graph.outputs),
            source=_digest(model),
            compiler=pyneo.__version__,
            minimum_runtime=pyneo.__version__,
            expires=expires,
            devices=tuple(devices),
            tenants=tuple(tenants),
            metadata=dict(metadata or {}),
        )
        sections = [Section(Kind.PLAN, lowered.plan), Section(Kind.WEIGHTS, lowered.weights.data)]
        return Package(manifest, sections, make_report(manifest.name, machine, lowered))


def _check_static(graph: Graph) -> None:
    problems = []
    for v in graph.inputs:
        if v.shape is None or not v.is_static:
            shape = "unknown" if v.shape is None else f"({', '.join(map(str, v.shape))})"
            problems.append(
                f"input '{v.name}' has shape {shape}; give every dim a number, as in shapes={{'{v.name}': (1, ...)}}"
            )
    if problems:
        raise CompileError("the model's input shapes are open:\n  " + "\n  ".join(problems), problems)


def _spec(v: Value) -> TensorSpec:
    dtype = "bfloat16" if v.dtype is DType.BF16 else v.dtype.numpy.name
    return TensorSpec(v.name, dtype, v.dims)


def _name_of(model: Any, graph: Graph) -> str:
    if isinstance(model, (str, os.PathLike)):
        return os.path.splitext(os.path.basename(os.fspath(model)))[0] or "model"
    return graph.name or "model"


def _digest(model: Any) -> str:
    """SHA-256 of the source model's bytes."""
    if isinstance(model, (str, os.PathLike)):
        h = hashlib.sha256()
        with open(model, "rb") as f:
            for block in iter(lambda: f.read(1 << 20), b""):
                h.update(block)
        return h.hexdigest()
    return hashlib.sha256(model if isinstance(model, bytes) else model.SerializeToString()).hexdigest()
