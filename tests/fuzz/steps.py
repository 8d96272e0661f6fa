# SPDX-License-Identifier: Apache-2.0
"""Operators over steps of time, one at a time: recurrent ones, attention, transforms of signals."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import helper

from tests.fuzz.draw import T, value
from tests.fuzz.maker import Maker, Unfit, Val

_FREE = (
    "Tanh",
    "Relu",
    "Sigmoid",
    "HardSigmoid",
    "LeakyRelu",
    "ThresholdedRelu",
    "Elu",
    "Softsign",
    "Softplus",
    "Affine",
    "ScaledTanh",
)

_ALPHA = ("HardSigmoid", "LeakyRelu", "ThresholdedRelu", "Elu", "Affine", "ScaledTanh")
_BETA = ("HardSigmoid", "Affine", "ScaledTanh")


def recurrence(m: Maker, _: Val) -> Val:
    kind = m.pick("LSTM", "GRU", "RNN")
    gates, functions = {"LSTM": (4, 3), "GRU": (3, 2), "RNN": (1, 1)}[kind]
    way = m.pick(None, "forward", "reverse", "bidirectional")
    d, h = 2 if way == "bidirectional" else 1, m.pick(1, 3, 8, 17)
    steps, batch, width = m.pick(1, 2, 5, 7), m.pick(1, 1, 2, 3, 5), m.pick(1, 3, 8, 16)
    layout = m.pick(None, None, None, 0, 1) if m.opset >= 14 else None
    dtype = m.pick(T.FLOAT, T.FLOAT, T.FLOAT, T.DOUBLE)
    x = value(m, (batch, steps, width) if layout else (steps, batch, width), dtype, 0.1)
    start = (batch, d, h) if layout else (d, batch, h)
    real = helper.tensor_dtype_to_np_dtype(dtype)

    def scaled(*shape: int) -> Val:
        a = (m.np.standard_normal(shape) * 0.4).astype(real)
        return m.const(a) if m.chance(0.8) else m.input(shape, dtype, a)

    w, r = scaled(d, gates * h, width), scaled(d, gates * h, h)
    bias = m.pick(None, 1) and scaled(d, 2 * gates * h)
    lens = None
    if m.chance(0.4):
        numbers = m.np.integers(1, steps + 1, batch).astype(np.int32)
        lens = m.const(numbers) if m.chance(0.4) else m.input((batch,), T.INT32, numbers)
    h0 = m.pick(None, 1) and scaled(*start)
    extra = (
        [m.pick(None, 1) and scaled(*start), m.pick(None, None, 1) and scaled(d, 3 * h)]
        if kind == "LSTM"
        else []
    )
    attrs: dict[str, Any] = {
        "hidden_size": h,
        "direction": way,
        "clip": m.pick(None, None, 0.5),
        "layout": layout,
    }
    if m.chance(0.4):
        names = [m.pick(*_FREE) for _ in range(functions * d)]
        attrs["activations"] = names
        # All of them: what is left out has no agreed default where a function has none as an operator.
        attrs["activation_alpha"] = [
            round(0.3 + 0.1 * i, 1) for i, n in enumerate(n for n in names if n in _ALPHA)
        ]
        attrs["activation_beta"] = [
            round(0.2 + 0.1 * i, 1) for i, n in enumerate(n for n in names if n in _BETA)
        ]
    if kind == "GRU":
        attrs["linear_before_reset"] = m.pick(None, 1)
    if kind == "LSTM":
        attrs["input_forget"] = m.pick(None, None, 0, 1)
    outputs = m.ops(kind, x, w, r, bias, lens, h0, *extra, outputs=3 if kind == "LSTM" else 2, **attrs)
    return m.pick(*outputs)


def signals(m: Maker, _: Val) -> Val:
    kind = m.pick(
        "DFT", "DFT", "STFT", "HannWindow", "HammingWindow", "BlackmanWindow", "MelWeightMatrix", "BitShift"
    )
    if kind.endswith("Window"):
        return m.op(
            kind,
            m.const(np.array(m.whole(1, 12), np.int64)),
            periodic=m.pick(None, 0, 1),
            output_datatype=m.pick(None, T.FLOAT, T.DOUBLE),
        )
    if kind == "DFT":
        shape = [m.whole(1, 3), *(m.whole(1, 9) for _ in range(m.pick(1, 2))), m.pick(1, 2)]
        x = value(m, shape, m.pick(T.FLOAT, T.DOUBLE), 0.1)
        inverse, one = m.pick(None, 0, 1), m.pick(None, 0, 1 if shape[-1] == 1 else 0)
        if inverse:
            one = None
        axis = m.whole(1, len(shape) - 2)
        size = m.const(np.array(m.whole(1, 12), np.int64)) if m.chance(0.4) else None
        if m.opset < 20:
            return m.op(kind, x, *([size] if size else []), axis=axis, inverse=inverse, onesided=one)
        at = m.const(np.array(m.pick(axis, axis - len(shape)), np.int64))
        return m.op(kind, x, size, at, inverse=inverse, onesided=one)
    if kind == "STFT":
        n, frame = m.whole(8, 40), m.whole(2, 8)
        x = value(m, [m.whole(1, 2), n, 1], T.FLOAT, 0.1)
        window = m.const(m.np.random(frame).astype(np.float32)) if m.chance(0.7) else None
        length = m.const(np.array(frame, np.int64))
        return m.op(
            kind, x, m.const(np.array(m.whole(1, 5), np.int64)), window, length, onesided=m.pick(None, 0, 1)
        )
    if kind == "MelWeightMatrix":
        numbers = [m.const(np.array(v, np.int64)) for v in (m.whole(2, 8), m.pick(16, 32), 8000)]
        return m.op(kind, *numbers, *(m.const(np.array(v, np.float32)) for v in (0.0, 4000.0)))
    raise Unfit


def attention_operator(m: Maker, _: Val) -> Val:
    """Attention of operator set 23: three or four axes, fewer heads of keys, masks, causal, past."""
    if m.opset < 23:
        raise Unfit
    b, g, d, e = m.whole(1, 2), m.pick(1, 1, 2), m.pick(1, 4, 8, 16), m.pick(4, 8, 5)
    hk = m.pick(1, 2, 3)
    hq, t, s = hk * g, m.whole(1, 6), m.whole(1, 6)
    flat = m.chance(0.4)

    def heads(count: int, rows: int, width: int) -> Val:
        return m.input((b, rows, count * width) if flat else (b, count, rows, width))

    inputs: list[Val | None] = [heads(hq, t, d), heads(hk, s, d), heads(hk, s, e)]
    past = m.whole(1, 3) if m.chance(0.3) else 0
    total = s + past
    mask = None
    if m.chance(0.5):
        shape = m.pick((t, total), (1, 1, t, total), (b, hq, t, total), (b, 1, t, total))
        data = m.np.random(shape) < 0.7
        data[..., 0] = True
        mask = m.input(shape, T.BOOL, data) if m.chance(0.5) else m.input(shape)
    inputs.append(mask)
    count = 1
    if past:
        inputs += [m.input((b, hk, past, d)), m.input((b, hk, past, e))]
        count = 3
    while inputs[-1] is None:
        inputs.pop()
    attrs: dict[str, Any] = {
        "is_causal": m.pick(None, None, 1),
        "scale": m.pick(None, 0.5),
        "softcap": m.pick(None, None, 2.0),
    }
    if flat:
        attrs |= {"q_num_heads": hq, "kv_num_heads": hk}
    return m.ops("Attention", *inputs, outputs=count, **attrs)[0]


def rotary_operator(m: Maker, _: Val) -> Val:
    if m.opset < 23:
        raise Unfit
    b, h, t, d = m.whole(1, 2), m.whole(1, 3), m.whole(1, 5), m.pick(2, 4, 8, 16)
    part = m.pick(None, d // 2 if d % 4 == 0 else None)
    half = (part or d) // 2
    flat = m.chance(0.4)
    x = m.input((b, t, h * d) if flat else (b, h, t, d))
    heads = h if flat else None
    inter = m.pick(None, 0, 1)
    if m.chance(0.5):
        ids = m.np.integers(0, 10, (b, t))
        return m.op(
            "RotaryEmbedding",
            x,
            m.operand((10, half)),
            m.operand((10, half)),
            m.input(ids.shape, T.INT64, ids),
            num_heads=heads,
            rotary_embedding_dim=part,
            interleaved=inter,
        )
    return m.op(
        "RotaryEmbedding",
        x,
        m.operand((b, t, half)),
        m.operand((b, t, half)),
        num_heads=heads,
        rotary_embedding_dim=part,
        interleaved=inter,
    )
