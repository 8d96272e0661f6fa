# SPDX-License-Identifier: Apache-2.0
"""pyneo.compile: a model of another framework becomes a package for one kind of machine."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pyneo
from pyneo.compiler.budget import MAX_SECONDS
from pyneo.compiler.frontends.onnx import load_onnx
from pyneo.compiler.ir.graph import DType, Graph, Value
from pyneo.compiler.lower.lower import lower
from pyneo.compiler.lower.tune import Tuner
from pyneo.compiler.passes import optimise
from pyneo.compiler.progress import Progress
from pyneo.compiler.report import make_report
from pyneo.compiler.state import check_ties, tie
from pyneo.compiler.targets.target import find
from pyneo.errors import CompileError
from pyneo.package.container import Kind, Section
from pyneo.package.manifest import Manifest, TensorSpec
from pyneo.package.manifest import Target as ManifestTarget
from pyneo.package.package import Package

if TYPE_CHECKING:
    import onnx

_AVX512 = ("avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
_ISA = {
    "avx2": ("avx2", "fma", "f16c"),
    "avx512": _AVX512,
    "amx": (*_AVX512, "amx_tile", "amx_int8"),
}


def compile(
    model: str | os.PathLike[str] | bytes | onnx.ModelProto,
    target: str = "host",
    *,
    shapes: Mapping[str, Sequence[int | str]] | None = None,
    state: Mapping[str, str] | None = None,
    precision: str = "fp32",
    name: str | None = None,
    version: str = "1",
    release: int = 1,
    expires: str | None = None,
    metadata: Mapping[str, str] | None = None,
    devices: Sequence[str] = (),
    tenants: Sequence[str] = (),
    tune: bool = False,
    max_seconds: float = MAX_SECONDS,
    progress: bool | None = None,
) -> Package:
    """Compiles an ONNX model into a package.

    model: a path, the file's bytes, or an onnx.ModelProto. target: "host" or a name of
    `pyneo compile --targets`. shapes: input name -> shape in place of the model's own; a dim is a number or a
    symbol that is bound at run time, with bounds where they are known: "N", "N<=8", "2<=N<=8". Dims that
    the model leaves open and `shapes` does not fix stay symbols.
    state: output name -> the input whose value it is in the next run, as in {"hn": "h0"}. Both disappear from
    the model: a session holds the value, which begins at zero, and `Session.reset()` brings it back there. A
    state may change its shape from run to run within the bounds of its input's symbols, as a cache of keys
    and values does; symbols that no other input has begin at their lower bounds.
    precision: "fp32" is what there is: results agree with the source framework's to float32 rounding.
    version, release, expires, metadata: what the manifest says of the model; release
    only grows (a device can refuse older ones). devices, tenants: the ids of the only ones that may load
    it. tune: time the candidate kernels on this machine, which must be of the target's kind, rather than go
    by the cost model; times are kept in $PYNEO_CACHE or the user's cache folder. max_seconds: a model whose
    rewriting takes longer is refused. progress: None shows progress on a terminal.

    Raises CompileError, whose `problems` lists every unsupported operator and contradiction at once, and
    TargetError for an unknown target.
    """
    machine = find(target)
    if precision != "fp32":
        raise CompileError(f"precision '{precision}' is unknown; there is fp32")
    with Progress(progress) as show:
        tuner = Tuner(machine, progress=show) if tune else None

        show("reading the model")
        graph = load_onnx(model, shapes)
        inputs, outputs = [v.name for v in graph.inputs], [v.name for v in graph.outputs]
        _declare_symbols(graph)
        if state:
            tie(graph, state)
            inputs, outputs = [v.name for v in graph.inputs], [v.name for v in graph.outputs]
        graph.symbols.budget.seconds = max_seconds
        optimise(graph, progress=show)
        check_ties(graph)
        show("choosing kernels and packing weights")
        lowered = lower(graph, machine, tuner)
        if tuner is not None:
            tuner.save()
        show("writing the package")
        for value, public in zip([*graph.inputs, *graph.outputs], [*inputs, *outputs], strict=True):
            value.name = public
        manifest = Manifest(
            name=name or _name_of(model, graph),
            version=version,
            release=release,
            target=ManifestTarget(machine.name, machine.arch, machine.tier, _ISA.get(machine.tier, ())),
            inputs=tuple(
                _spec(graph, v, i in graph.text.inputs) for i, v in enumerate(_public(graph, graph.inputs))
            ),
            outputs=tuple(
                _spec(graph, v, i in graph.text.outputs, graph.text.keys.get(i, []))
                for i, v in enumerate(_public(graph, graph.outputs))
            ),
            strings=tuple(graph.text.table) if graph.text.inputs or graph.text.outputs else (),
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


def _public(graph: Graph, values: list[Value]) -> list[Value]:
    """The inputs or outputs that are not state."""
    return values[: len(values) - graph.states]


def _declare_symbols(graph: Graph) -> None:
    """Turns dims written as text into symbols of the graph."""
    for v in graph.inputs:
        if v.shape is None:
            raise CompileError(
                f"input '{v.name}' has no shape; give one, as in shapes={{'{v.name}': (1, ...)}}"
            )
        v.shape = tuple(graph.symbols.declare(d) if isinstance(d, str) else d for d in v.shape)


def _spec(graph: Graph, v: Value, text: bool, keys: Sequence[int | str] = ()) -> TensorSpec:
    dtype = "string" if text else "bfloat16" if v.dtype is DType.BF16 else v.dtype.numpy.name
    if v.shape is None:  # data decides the rank
        return TensorSpec(v.name, dtype, ("...",), tuple(keys))
    known = graph.symbols.bounds
    shape = tuple(d if isinstance(d, int) else graph.symbols.spell(d) if d in known else "?" for d in v.shape)
    return TensorSpec(v.name, dtype, shape, tuple(keys))


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
