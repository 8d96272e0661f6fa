# SPDX-License-Identifier: Apache-2.0
"""The native core as the compiler uses it: nodes of the IR in, shapes, values and kernels out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pyneo import _core
from pyneo.compiler.ir.graph import DType, Layout, Node, Value
from pyneo.compiler.lower.attrs import pack_attrs
from pyneo.errors import InputError

IN_PLACE = (1, 2)  # flags of op_info: output 0 may share memory with input 0, 1
VIEW = 4
RANDOM = 8

_INFO: dict[str, tuple[int, int, int, int, int]] = {}


def op_info(op: str) -> tuple[int, int, int, int, int] | None:
    """(flags, min inputs, max inputs, min outputs, max outputs), or None if the core lacks the operator."""
    if not _INFO:
        _INFO.update({name: _core.op_info(name) for name in _core.op_names()})
    return _INFO.get(op)


def _operand(v: Value | None, values: bool = True) -> Any:
    """A value as the binding takes it: None, an array, or (dtype, shape, layout)."""
    if v is None:
        return None
    if v.const is not None and values and v.layout is Layout.PLAIN:
        return v.const
    return (int(v.dtype), v.dims, int(v.layout))


def infer(node: Node) -> list[tuple[DType, tuple[int, ...]]]:
    """Dtypes and shapes of the node's outputs; ModelError or CompileError as the core words it."""
    found = _core.op_infer(
        node.op, pack_attrs(node.attrs), [_operand(v) for v in node.inputs], _dtypes(node), len(node.outputs)
    )
    return [(DType(t), tuple(shape)) for t, shape in found]


def infer_sample(node: Node, k: int) -> list[tuple[DType, tuple[int, ...]]]:
    """Like `infer`, for the operands' shapes and known values in sample k."""
    found = _core.op_infer(
        node.op,
        pack_attrs(node.attrs),
        [_sample(v, k) for v in node.inputs],
        _dtypes(node),
        len(node.outputs),
    )
    return [(DType(t), tuple(shape)) for t, shape in found]


def evaluate_sample(node: Node, k: int) -> list[np.ndarray]:
    """Outputs of a node whose inputs' values are all known in sample k."""
    outputs: list[np.ndarray] = _core.op_eval(
        node.op,
        pack_attrs(node.attrs),
        [_sample(v, k) for v in node.inputs],
        _dtypes(node),
        len(node.outputs),
    )
    return outputs


def _sample(v: Value | None, k: int) -> Any:
    if v is None or v.const is not None:
        return _operand(v)
    sample = v.samples[k]
    return (int(v.dtype), sample.shape, 0) if sample.value is None else sample.value


def evaluate(node: Node) -> list[np.ndarray]:
    """Outputs of a node whose inputs are all constants, by the reference kernel."""
    outputs: list[np.ndarray] = _core.op_eval(
        node.op, pack_attrs(node.attrs), [_operand(v) for v in node.inputs], _dtypes(node), len(node.outputs)
    )
    return outputs


def _dtypes(node: Node) -> list[int]:
    return [0 if v is None else int(v.dtype) for v in node.inputs]


@dataclass(frozen=True)
class Kernel:
    """One kernel that accepts a node."""

    name: str
    cost_us: float
    packed_input: int
    packed_bytes: int
    scratch_bytes: int
    thread_scratch_bytes: int
    absorbed_inputs: int = 0  # bit i: operand i's content is in the packed one


def described_outputs(node: Node) -> list[tuple[int, tuple[int, ...], int]]:
    """(dtype, shape, layout) of every output; an absent one is an empty float32 tensor."""
    outputs: list[tuple[int, tuple[int, ...], int]] = []
    for v in node.outputs:
        if v is None:
            outputs.append((int(DType.F32), (0,), 0))
        else:
            outputs.append((int(v.dtype), v.dims, int(v.layout)))
    return outputs


def kernels(node: Node, target: dict[str, int]) -> list[Kernel]:
    """Kernels that accept the node with its operands' present layouts, cheapest first.

    In a graph with symbols: those that accept it in every sample, priced for the first.
    """
    operands = [v for v in [*node.inputs, *node.outputs] if v is not None]
    count = max((len(v.samples) for v in operands), default=0)
    try:
        found = _kernels(node, target, 0 if count else None)
    except InputError:  # many dims that data decides: the samples make more elements than there can be
        return []
    if all(x.shape == v.samples[0].shape for v in operands for x in v.samples):
        return found
    for k in range(1, count):
        accepted = {kernel.name for kernel in _kernels(node, target, k)}
        found = [kernel for kernel in found if kernel.name in accepted]
    return found


def _kernels(node: Node, target: dict[str, int], sample: int | None) -> list[Kernel]:
    def dims(v: Value) -> tuple[int, ...]:
        return v.dims if sample is None or not v.samples else v.samples[sample].shape

    inputs: list[Any] = []
    for v in node.inputs:
        const = v is None or (v.const is not None and v.layout is Layout.PLAIN)
        inputs.append(_operand(v) if v is None or const else (int(v.dtype), dims(v), int(v.layout)))
    outputs = [
        (int(DType.F32), (0,), 0) if v is None else (int(v.dtype), dims(v), int(v.layout))
        for v in node.outputs
    ]
    found = [
        Kernel(k["name"], k["cost_us"], k["packed_input"], k["packed_bytes"], k["scratch_bytes"],
               k["thread_scratch_bytes"], k["absorbed_inputs"])
        for k in _core.kernel_list(node.op, pack_attrs(node.attrs), inputs, outputs, target)
    ]  # fmt: skip
    return [k for k in found if k.packed_input < 0 or node.const(k.packed_input) is not None]


def pack(node: Node, kernel: Kernel, target: dict[str, int]) -> np.ndarray:
    """The node's packed constant as the kernel reads it."""
    packed: np.ndarray = _core.kernel_pack(
        node.op, pack_attrs(node.attrs), [_operand(v) for v in node.inputs], described_outputs(node),
        kernel.name, kernel.packed_bytes, target,
    )  # fmt: skip
    return packed


def reference_scratch(node: Node) -> int:
    """Scratch bytes of the reference kernel, which counts outputs that nobody wants, as the runtime does."""
    outputs = [(int(dtype), shape, 0) for dtype, shape in infer(node)]
    return int(_core.op_scratch(node.op, pack_attrs(node.attrs), [_operand(v) for v in node.inputs], outputs))
