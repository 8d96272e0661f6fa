# SPDX-License-Identifier: Apache-2.0
"""Operators that onnxruntime's optimiser writes (domain com.microsoft), in terms of standard ones.

Fusions are undone here and made again by the passes, which know what the target's kernels can do.
"""

from __future__ import annotations

from ....ir.graph import DType, Value
from ..limits import Problem
from .ranks import rank_of
from .rule import Emitter, Op, ints, rule, scalar

_MS = "com.microsoft."

# Activation names of the Fused* operators -> standard operator and the names of its parameters.
_ACTIVATIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "Relu": ("Relu", ()),
    "Sigmoid": ("Sigmoid", ()),
    "Tanh": ("Tanh", ()),
    "LeakyRelu": ("LeakyRelu", ("alpha",)),
    "HardSigmoid": ("HardSigmoid", ("alpha", "beta")),
    "Elu": ("Elu", ("alpha",)),
    "ThresholdedRelu": ("ThresholdedRelu", ("alpha",)),
    "Softplus": ("Softplus", ()),
    "Softsign": ("Softsign", ()),
}


def _activate(b: Emitter, op: Op, x: Value, name: str, params: list[float]) -> None:
    """Emits the activation from `x` into the Op's first output."""
    if not name:
        b.emit_into("Identity", [x], None, op.outputs[:1])
        return
    if name == "Clip":
        bounds = [scalar(b, p, x) for p in params]
        b.emit_into("Clip", [x, *bounds], None, op.outputs[:1])
        return
    if name not in _ACTIVATIONS:
        raise Problem(f"its activation {name!r} is unknown; expected Clip or {', '.join(_ACTIVATIONS)}")
    standard, names = _ACTIVATIONS[name]
    b.emit_into(standard, [x], {n: [p] for n, p in zip(names, params, strict=False)}, op.outputs[:1])


@rule(_MS + "FusedConv")
def fused_conv(op: Op, b: Emitter) -> bool:
    name, params = op.take_str("activation", ""), op.take_floats("activation_params") or []
    residual = op.input(3)
    (y,) = b.emit("Conv", op.inputs[:3], op.attrs)
    if residual is not None:
        (y,) = b.emit("Add", [y, residual])
    _activate(b, op, y, name, params)
    return True


@rule(_MS + "FusedGemm")
def fused_gemm(op: Op, b: Emitter) -> bool:
    name = op.take_str("activation", "Relu")
    params = [op.take_float(f"activation_{p}", 0.0) for p in _ACTIVATIONS.get(name, ("", ()))[1]]
    for unused in ("activation_alpha", "activation_beta", "activation_gamma"):
        op.attrs.pop(unused, None)
    (y,) = b.emit("Gemm", op.inputs, op.attrs)
    _activate(b, op, y, name, params)
    return True


@rule(_MS + "FusedMatMul", _MS + "TransposeMatMul")
def fused_matmul(op: Op, b: Emitter) -> bool:
    alpha = op.take_float("alpha", 1.0)
    operands = []
    for i, side in ((0, "A"), (1, "B")):
        x = op.required(i)
        turned, first = op.take_int(f"trans{side}", 0), op.take_int(f"transBatch{side}", 0)
        if (turned or first) and rank_of(x) != 1:
            # By Einsum, because the rank may not be known yet; a pass makes transpositions of them. With
            # transBatch the matrix's rows are the first axis.
            equation = ("i...j" if first else "...ij") + ("->...ji" if turned else "->...ij")
            (x,) = b.emit("Einsum", [x], {"equation": equation})
        operands.append(x)
    if alpha == 1.0:
        b.emit_into("MatMul", operands, None, op.outputs)
    else:
        (y,) = b.emit("MatMul", operands)
        b.emit_into("Mul", [y, scalar(b, alpha, y)], None, op.outputs)
    return True


# Operators that are in the standard, too, by now.
_STANDARD = {
    "ExpandDims": "Unsqueeze", "Gelu": "Gelu", "GatherND": "GatherND",
    "Pad": "Pad", "Range": "Range", "Trilu": "Trilu",
}  # fmt: skip


@rule(*(_MS + name for name in _STANDARD))
def standard_by_now(op: Op, b: Emitter) -> None:
    op.type = _STANDARD[op.type.removeprefix(_MS)]


@rule(_MS + "BiasGelu", _MS + "FastGelu")
def biased_gelu(op: Op, b: Emitter) -> bool:
    x, bias = op.required(0), op.input(1)
    if bias is not None:
        (x,) = b.emit("Add", [x, bias])
    b.emit_into("Gelu", [x], {"approximate": "tanh" if op.type == _MS + "FastGelu" else "none"}, op.outputs)
    return True


@rule(_MS + "SkipLayerNormalization", _MS + "SkipSimplifiedLayerNormalization")
def skip_layer_norm(op: Op, b: Emitter) -> bool:
    """input + skip (+ bias), normalised over the last axis; output 3 is the sum."""
    rms = "Simplified" in op.type
    x, skip, gamma = op.required(0), op.required(1), op.required(2)
    beta, bias = (None, op.input(3)) if rms else (op.input(3), op.input(4))
    total = op.output(3)
    epsilon = [op.take_float("epsilon", 1e-12)]
    if bias is not None:
        (x,) = b.emit("Add", [x, bias])
    if total is None:
        (total,) = b.emit("Add", [x, skip])
    else:
        b.emit_into("Add", [x, skip], None, [total])
    if rms:
        b.emit_into("RMSNormalization", [total, gamma], {"axis": [-1], "epsilon": epsilon}, op.outputs[:1])
    else:
        b.emit_into(
            "LayerNormalization", [total, gamma, beta], {"axis": [-1], "epsilon": epsilon}, op.outputs[:1]
        )
    return True


@rule(_MS + "EmbedLayerNormalization")
def embed_layer_norm(op: Op, b: Emitter) -> bool:
    """Word, position and segment embeddings added up (output 2) and normalised; output 1 counts the mask."""
    ids, segments, words, positions, table = (
        op.required(0),
        op.input(1),
        op.required(2),
        op.required(3),
        op.input(4),
    )
    gamma, beta, mask, position_ids = op.required(5), op.required(6), op.input(7), op.input(8)
    epsilon = [op.take_float("epsilon", 1e-12)]
    op.attrs.pop("mask_index_type", None)
    (total,) = b.emit("Gather", [words, ids])
    if position_ids is not None:
        (rows,) = b.emit("Gather", [positions, position_ids])
    else:
        (length,) = b.emit("Shape", [ids], {"start": [1], "end": [2]})
        (rows,) = b.emit("Slice", [positions, ints(b, [0]), length, ints(b, [0])])
    terms = [rows]
    if segments is not None and table is not None:
        terms += b.emit("Gather", [table, segments])
    for i, term in enumerate(terms):
        last, wanted = i == len(terms) - 1, op.output(2)
        if last and wanted is not None:
            b.emit_into("Add", [total, term], None, [wanted])
            total = wanted
        else:
            (total,) = b.emit("Add", [total, term])
    b.emit_into(
        "LayerNormalization", [total, gamma, beta], {"axis": [-1], "epsilon": epsilon}, op.outputs[:1]
    )
    counts = op.output(1)
    if counts is not None:
        (ones,) = b.emit("Cast", [ids if mask is None else mask], {"to": [int(DType.I32)]})
        (counted,) = b.emit("Equal", [ones, scalar(b, 1, DType.I32)])
        if mask is None:  # no word is masked and none counts
            (counted,) = b.emit("Xor", [counted, counted])
        (numbers,) = b.emit("Cast", [counted], {"to": [int(DType.I32)]})
        b.emit_into("ReduceSum", [numbers, ints(b, [1])], {"keepdims": [0]}, [counts])
    return True


@rule("SimplifiedLayerNormalization", _MS + "SimplifiedLayerNormalization")
def simplified_layer_norm(op: Op, b: Emitter) -> None:
    op.type = "RMSNormalization"
    op.outputs = op.outputs[:1]


@rule(*(f"com.microsoft.nchwc.{name}" for name in (
    "Conv", "MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool", "ReorderInput", "ReorderOutput",
    "Upsample")))  # fmt: skip
def one_machine(op: Op, b: Emitter) -> bool:
    raise Problem(
        "onnxruntime wrote it for the layout of one machine; compile the model that it optimised, or let it "
        "optimise up to ORT_ENABLE_EXTENDED only"
    )
