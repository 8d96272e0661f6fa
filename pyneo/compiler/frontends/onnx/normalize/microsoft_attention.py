# SPDX-License-Identifier: Apache-2.0
"""Attention as onnxruntime's optimiser writes it (domain com.microsoft), by the standard's Attention.

Masked scores get mask_filter_value added, as in onnxruntime, which is not the same as leaving them out: a row
whose keys are all masked still has weights.
"""

from __future__ import annotations

import numpy as np

from ....ir.graph import DType, Value
from ..attributes import Attrs
from ..limits import Problem
from .ranks import rank_of
from .rule import Emitter, Op, ints, rule, scalar

_MS = "com.microsoft."


def _reshape(b: Emitter, x: Value, dims: list[int]) -> Value:
    return b.emit("Reshape", [x, ints(b, dims)])[0]


def _transpose(b: Emitter, x: Value, perm: list[int]) -> Value:
    return b.emit("Transpose", [x], {"perm": perm})[0]


def _unsqueeze(b: Emitter, x: Value, axes: list[int]) -> Value:
    return b.emit("Unsqueeze", [x, ints(b, axes)])[0]


def _dim(b: Emitter, x: Value, axis: int) -> Value:
    """One entry of a shape, as a vector."""
    return b.emit("Shape", [x], {"start": [axis], "end": [axis + 1]})[0]


def _parts(b: Emitter, x: Value, axis: int, sizes: list[int] | int) -> list[Value]:
    """Equal parts, or parts of these sizes, along an axis."""
    if isinstance(sizes, int):
        return b.emit("Split", [x], {"axis": [axis], "num_outputs": [sizes]}, outputs=sizes)
    return b.emit("Split", [x, ints(b, sizes)], {"axis": [axis]}, outputs=len(sizes))


class _Mask:
    """The sum of everything that is added to the scores."""

    def __init__(self, op: Op, b: Emitter, dtype: DType) -> None:
        self.b, self.dtype = b, dtype
        self.filter = op.take_float("mask_filter_value", -10000.0)
        self.total: Value | None = None

    def add(self, bias: Value) -> None:
        self.total = bias if self.total is None else self.b.emit("Add", [self.total, bias])[0]

    def add_padding(self, mask: Value, keys: Value) -> None:
        """A padding mask: lengths (batch), starts and ends (2 batch), or flags (batch, [queries,] keys).

        keys: how many keys there are, as a vector of one.
        """
        b, rank = self.b, rank_of(mask)
        if rank == 1:
            taken = self._by_length(mask, keys)
        elif rank in (None, 2, 3):
            (taken,) = b.emit("Cast", [mask], {"to": [int(DType.BOOL)]})
            taken = _unsqueeze(b, taken, [1] if rank == 3 else [1, 2])
        else:
            raise Problem(f"its mask has rank {rank}; pyneo reads those of rank 1 to 3")
        zero, low = scalar(b, 0.0, self.dtype), scalar(b, self.filter, self.dtype)
        self.add(b.emit("Where", [taken, zero, low])[0])

    def _by_length(self, mask: Value, keys: Value) -> Value:
        """(batch, 1, 1, keys) from the lengths of padded sequences."""
        b = self.b
        positions, ends = _steps(b, keys), _int64(b, mask)
        (inside,) = b.emit("Less", [_unsqueeze(b, positions, [0]), _unsqueeze(b, ends, [1])])
        return _unsqueeze(b, inside, [1, 2])


def _biased(b: Emitter, x: Value, bias: Value | None) -> Value:
    return x if bias is None else b.emit("Add", [x, bias])[0]


def _common(op: Op) -> tuple[int, Attrs]:
    """Number of heads, and what all forms have in common of the core's attributes."""
    heads = op.take_int("num_heads", 0)
    attrs: Attrs = {"q_num_heads": [heads], "kv_num_heads": [heads]}
    scale = op.take_float("scale", 0.0)
    if scale:
        attrs["scale"] = [scale]
    if op.take_int("unidirectional", 0):
        attrs["is_causal"] = [1]
    return heads, attrs


@rule(_MS + "MultiHeadAttention")
def multi_head_attention(op: Op, b: Emitter) -> bool:
    heads, attrs = _common(op)
    q, k, v, bias = op.required(0), op.input(1), op.input(2), op.input(3)
    past_k, past_v = op.input(6), op.input(7)
    if op.input(8) is not None or op.input(9) is not None:
        raise Problem("it shares a buffer between steps (past_sequence_length), which pyneo does not do")
    four = False  # K and V come as (batch, heads, keys, width)
    if k is None:  # Q is (batch, length, heads, 3, width)
        q, k, v = (_reshape(b, p, [0, 0, -1]) for p in _parts(b, q, 3, 3))
    elif v is None:  # K is (batch, keys, heads, 2, width)
        k, v = (_reshape(b, p, [0, 0, -1]) for p in _parts(b, k, 3, 2))
    else:
        four = rank_of(k) == 4
    biases: list[Value | None] = [None, None, None]
    if bias is not None:  # the values' width may be another
        (widths,) = b.emit("Concat", [_dim(b, x, 2) for x in (q, k, q if four else v)], {"axis": [0]})
        biases = [*b.emit("Split", [bias, widths], {"axis": [0]}, outputs=3)]
    q = _biased(b, q, biases[0])
    keys = _dim(b, k, 2 if four else 1)
    if past_k is not None:
        (keys,) = b.emit("Add", [keys, _dim(b, past_k, 2)])
    if four:
        q = _transpose(b, _reshape(b, q, [0, 0, heads, -1]), [0, 2, 1, 3])
    else:
        k, v = _biased(b, k, biases[1]), _biased(b, v, biases[2])
    mask = _Mask(op, b, q.dtype)
    padding, extra = op.input(4), op.input(5)
    if padding is not None:
        mask.add_padding(padding, keys)
    if extra is not None:
        mask.add(extra)
    inputs = [q, k, v, mask.total, past_k, past_v]
    wanted = [op.output(i) for i in range(1, 4)]
    if not four:
        b.emit_into("Attention", inputs, attrs, [op.outputs[0], *wanted])
        return True
    (y,) = b.emit("Attention", inputs, attrs)
    if any(o is not None for o in wanted):
        raise Problem("it returns the keys and values that it was given; read its inputs instead")
    b.emit_into("Reshape", [_transpose(b, y, [0, 2, 1, 3]), ints(b, [0, 0, -1])], None, op.outputs[:1])
    return True


@rule(_MS + "Attention", _MS + "QAttention")
def attention(op: Op, b: Emitter) -> bool:
    """Q, K and V from one product with the input."""
    _, attrs = _common(op)
    quantised = op.type.endswith("QAttention")
    padding, past, extra = (op.input(i) for i in ((5, 8, 20) if quantised else (3, 4, 5)))
    shared = op.take_int("past_present_share_buffer", 0) or op.input(6 + 3 * quantised) is not None
    if shared or op.take_int("do_rotary", 0):
        raise Problem("do_rotary and past_present_share_buffer are not available; export it without them")
    x, weight, bias = op.required(0), op.required(1), op.input(2)
    sizes = op.take_ints("qkv_hidden_sizes")
    if quantised:
        (product,) = b.emit("MatMulInteger", [x, weight, op.input(6), op.input(7)])
        (product,) = b.emit("Cast", [product], {"to": [int(DType.F32)]})
        (scale,) = b.emit("Mul", [op.required(3), op.required(4)])
        (product,) = b.emit("Mul", [product, scale])
    else:
        (product,) = b.emit("MatMul", [x, weight])
    q, k, v = _parts(b, _biased(b, product, bias), 2, sizes or 3)
    keys, past_k, past_v = _dim(b, k, 1), None, None
    if past is not None:  # (2, batch, heads, keys, width)
        past_k, past_v = (b.emit("Squeeze", [p, ints(b, [0])])[0] for p in _parts(b, past, 0, 2))
        (keys,) = b.emit("Add", [keys, _dim(b, past, 3)])
    mask = _Mask(op, b, q.dtype)
    if padding is not None:
        mask.add_padding(padding, keys)
    if extra is not None:
        mask.add(extra)
    inputs, present = [q, k, v, mask.total, past_k, past_v], op.output(1)
    if present is None:
        b.emit_into("Attention", inputs, attrs, op.outputs[:1])
        return True
    made = b.emit("Attention", inputs, attrs, outputs=3)
    b.emit_into("Identity", made[:1], None, op.outputs[:1])
    b.emit_into("Concat", [_unsqueeze(b, p, [0]) for p in made[1:]], {"axis": [0]}, [present])
    return True


@rule(_MS + "RotaryEmbedding")
def rotary_embedding(op: Op, b: Emitter) -> bool:
    """Positions (batch, length), or one that the first element has."""
    x, positions, cos, sin = (op.required(i) for i in range(4))
    if op.take_int("is_packed_batching", 0) or op.take_float("scale", 1.0) != 1.0:
        raise Problem("is_packed_batching and scale are not available; export it without them")
    attrs: Attrs = {}
    for name in ("interleaved", "rotary_embedding_dim"):
        attrs[name] = [op.take_int(name, 0)]
    heads, rank = op.take_int("num_heads", 0), rank_of(x)
    positions = _int64(b, positions)
    if rank_of(op.required(1)) == 1:
        (steps,) = b.emit("Add", [positions, _steps(b, _dim(b, x, 2 if rank == 4 else 1))])
        (shape,) = b.emit("Concat", [_dim(b, x, 0), _dim(b, steps, 0)], {"axis": [0]})
        (positions,) = b.emit("Expand", [steps, shape])
    inputs = [x, cos, sin, positions]
    if rank == 4 or heads:
        if rank != 4:
            attrs["num_heads"] = [heads]
        b.emit_into("RotaryEmbedding", inputs, attrs, op.outputs)
        return True
    if cos.shape is None or not isinstance(cos.shape[-1], int):
        raise Problem("it has neither num_heads nor a cos_cache of known size, which tell how wide a head is")
    inputs[0] = _transpose(b, _reshape(b, x, [0, 0, -1, 2 * cos.shape[-1]]), [0, 2, 1, 3])
    (y,) = b.emit("RotaryEmbedding", inputs, attrs)
    b.emit_into("Reshape", [_transpose(b, y, [0, 2, 1, 3]), ints(b, [0, 0, -1])], None, op.outputs)
    return True


_REFUSED = {11: "head_sink", 12: "k_scale", 13: "v_scale", 14: "q_norm_weight", 15: "k_norm_weight"}


@rule(_MS + "GroupQueryAttention")
def group_query_attention(op: Op, b: Emitter) -> bool:
    """Attention of decoders, whose cache grows: the new keys and values go behind the past ones.

    onnxruntime writes into a cache that is long enough already instead, which only a call could tell;
    here a cache is always given at its length and comes back longer by the new ones.
    """
    heads, groups = op.take_int("num_heads", 0), op.take_int("kv_num_heads", 0)
    for i, what in _REFUSED.items():
        if op.input(i) is not None:
            raise Problem(f"it has {what}, which is not available; export it without")
    if op.take_int("smooth_softmax", 0) > 0 or op.output(3) is not None or op.take_int("causal", 1) != 1:
        raise Problem("smooth_softmax, qk_output and attention that is not causal are not available")
    q, k, v = op.required(0), op.input(1), op.input(2)
    past, cos, sin = [op.input(3), op.input(4)], op.input(7), op.input(8)
    if k is None or v is None:
        parts = _parts(b, _reshape(b, q, [0, 0, heads + 2 * groups, -1]), 2, [heads, groups, groups])
    else:
        parts = [_reshape(b, x, [0, 0, n, -1]) for x, n in ((q, heads), (k, groups), (v, groups))]
    q, k, v = (_transpose(b, x, [0, 2, 1, 3]) for x in parts)
    # Where the new ones go: behind what is no padding, at the start of a prompt.
    length, total = _dim(b, q, 2), _reshape(b, _int64(b, op.required(6)), [1])
    (ends,) = b.emit("Add", [_reshape(b, _int64(b, op.required(5)), [-1]), ints(b, [1])])
    (prompt,) = b.emit("Equal", [length, total])
    (starts,) = b.emit("Where", [prompt, ints(b, [0]), b.emit("Sub", [ends, length])[0]])
    (positions,) = b.emit("Add", [_unsqueeze(b, starts, [1]), _unsqueeze(b, _steps(b, length), [0])])
    if op.take_int("do_rotary", 0):
        if cos is None or sin is None or cos.shape is None or not isinstance(cos.shape[-1], int):
            raise Problem("do_rotary needs cos_cache and sin_cache of known size")
        attrs: Attrs = {"interleaved": [op.take_int("rotary_interleaved", 0)]}
        attrs["rotary_embedding_dim"] = [2 * cos.shape[-1]]
        given = op.input(9)
        at = positions if given is None else _int64(b, given)
        q, k = (b.emit("RotaryEmbedding", [x, cos, sin, at], attrs)[0] for x in (q, k))
    caches = []
    for new, old, present in ((k, past[0], op.output(1)), (v, past[1], op.output(2))):
        cache = new
        if old is not None:
            (cache,) = b.emit("Concat", [old, new], {"axis": [2]})
            (cache,) = b.emit("TensorScatter", [cache, new, starts], {"axis": [2]})
        if present is not None:
            b.emit_into("Identity", [cache], None, [present])
        caches.append(cache)
    (keys,) = b.emit("Sub", [_unsqueeze(b, positions, [2]), _steps(b, _dim(b, caches[0], 2))])
    (seen,) = b.emit("GreaterOrEqual", [keys, ints(b, [0])])  # how far back a key lies; never ahead
    window = op.take_int("local_window_size", -1)
    if window > 0:
        (seen,) = b.emit("And", [seen, b.emit("Less", [keys, ints(b, [window])])[0]])
    mask, bias = _unsqueeze(b, seen, [1]), op.input(10)
    if bias is not None:
        (mask,) = b.emit("Where", [mask, bias, scalar(b, float("-inf"), q.dtype)])
    core: Attrs = {"softcap": [op.take_float("softcap", 0.0)]}
    scale = op.take_float("scale", 0.0)
    if scale:
        core["scale"] = [scale]
    (y,) = b.emit("Attention", [q, *caches, mask], core)
    b.emit_into("Reshape", [_transpose(b, y, [0, 2, 1, 3]), ints(b, [0, 0, -1])], None, op.outputs[:1])
    return True


def _int64(b: Emitter, x: Value) -> Value:
    return b.emit("Cast", [x], {"to": [int(DType.I64)]})[0]


def _steps(b: Emitter, count: Value) -> Value:
    """0, 1, ... up to a count that is a vector of one."""
    (n,) = b.emit("Squeeze", [count, ints(b, [0])])
    none, one = b.const(np.array(0, np.int64)), b.const(np.array(1, np.int64))
    return b.emit("Range", [none, n, one])[0]
