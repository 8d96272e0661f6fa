# SPDX-License-Identifier: Apache-2.0
"""Operators of com.microsoft, one at a time, as onnxruntime's tools write them."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from tests.fuzz.classic import classic
from tests.fuzz.maker import Maker, Unfit, Val

T = TensorProto
MS = "com.microsoft"
OPSETS = (13, 15, 17, 18, 20, 21)


def real(m: Maker, *shape: int, fixed: float = 0.0) -> Val:
    a = m.np.uniform(-1, 1, shape).astype(np.float32)
    return m.const(a) if m.chance(fixed) else m.input(shape, T.FLOAT, a)


def scale(m: Maker, *shape: int, low: float = 0.01) -> Val:
    return m.const((m.np.random(shape) * low + low).astype(np.float32))


def zero(m: Maker, kind: int, *shape: int, odd: bool = True) -> Val:
    a = m.np.integers(100, 140, shape) if kind == T.UINT8 else m.np.integers(-9, 9, shape)
    return m.const((a if odd else a * 0).astype(np.uint8 if kind == T.UINT8 else np.int8))


def whole(m: Maker, kind: int, *shape: int, fixed: float = 0.0) -> Val:
    limits = (0, 256) if kind == T.UINT8 else (-128, 128)
    a = m.np.integers(*limits, shape).astype(np.uint8 if kind == T.UINT8 else np.int8)
    return m.const(a) if m.chance(fixed) else m.input(shape, kind, a)


def ms(
    m: Maker, kind: str, inputs: list[Val | None], dtype: int = T.FLOAT, outputs: int = 1, **attrs: Any
) -> Val:
    return m.raw(kind, inputs, [(None, dtype)] * outputs, MS, **attrs)[0]


def fused(m: Maker, _: Val) -> Val:
    kind = m.pick(
        "FusedMatMul",
        "FusedMatMul",
        "FusedGemm",
        "FusedConv",
        "BiasGelu",
        "FastGelu",
        "Gelu",
        "QuickGelu",
        "SkipLayerNormalization",
        "SkipSimplifiedLayerNormalization",
        "EmbedLayerNormalization",
        "BiasSplitGelu",
        "Trilu",
        "ExpandDims",
        "NhwcMaxPool",
        "TransposeMatMul",
        "Inverse",
    )
    a, k, b = m.whole(1, 6), m.whole(1, 9), m.pick(1, 3, 8, 17)
    if kind in ("FusedMatMul", "TransposeMatMul"):
        lead = [m.whole(1, 3) for _ in range(m.pick(0, 1, 2))]
        ta, tb = m.pick(None, 0, 1), m.pick(None, 0, 1)
        attrs: dict[str, Any] = {"transA": ta, "transB": tb, "alpha": m.pick(None, 0.5, 2.0)}
        x, y = [*lead, *([k, a] if ta else [a, k])], [*lead, *([b, k] if tb else [k, b])]
        if lead and kind == "FusedMatMul" and m.chance(0.3):
            attrs["transBatchA"] = 1
            x = [x[-2], *lead, x[-1]]
        return ms(m, kind, [real(m, *x), real(m, *y, fixed=0.5)], **attrs)
    if kind == "FusedGemm":
        ta, tb = m.pick(None, 0, 1), m.pick(None, 0, 1)
        act = m.pick(
            "Relu",
            "LeakyRelu",
            "Sigmoid",
            "Tanh",
            "Elu",
            "HardSigmoid",
            "Softplus",
            "Softsign",
            "ThresholdedRelu",
        )
        attrs = {
            "transA": ta,
            "transB": tb,
            "alpha": m.pick(None, 0.5),
            "beta": m.pick(None, 2.0),
            "activation": act,
        }
        if act in ("LeakyRelu", "Elu", "HardSigmoid", "ThresholdedRelu"):
            attrs["activation_alpha"] = 0.3
        if act == "HardSigmoid":
            attrs["activation_beta"] = 0.4
        c = real(m, *m.pick([b], [a, b], [1, b], [a, 1]), fixed=0.7) if m.chance(0.7) else None
        return ms(
            m,
            kind,
            [real(m, *([k, a] if ta else [a, k])), real(m, *([b, k] if tb else [k, b]), fixed=0.7), c],
            **attrs,
        )
    if kind == "FusedConv":
        c, group = m.pick(1, 2, 4, 8), 1
        group = m.pick(1, 1, c)
        f = group * m.whole(1, 3)
        x = real(m, m.whole(1, 2), c, 7, m.whole(3, 9))
        act = m.pick("Relu", "LeakyRelu", "Sigmoid", "Tanh", "Clip", "HardSigmoid")
        params = {"LeakyRelu": [0.2], "Clip": [0.0, 0.5], "HardSigmoid": [0.2, 0.5]}.get(act)
        bias = real(m, f, fixed=1.0) if m.chance(0.6) else None
        return ms(
            m,
            kind,
            [x, real(m, f, c // group, 3, 3, fixed=1.0), bias],
            activation=act,
            activation_params=params,
            kernel_shape=[3, 3],
            pads=m.pick(None, [1] * 4),
            strides=m.pick(None, [2, 1]),
            group=group,
        )
    n, s, h = m.whole(1, 3), m.whole(1, 6), m.pick(1, 4, 8, 17, 64)
    if kind in ("Gelu", "QuickGelu"):
        return ms(m, kind, [real(m, n, s, h)], alpha=m.pick(None, 1.3) if kind == "QuickGelu" else None)
    if kind in ("BiasGelu", "FastGelu"):
        bias = real(m, h, fixed=0.7) if kind == "BiasGelu" or m.chance(0.5) else None
        return ms(m, kind, [real(m, n, s, h), bias])
    if kind.startswith("Skip"):
        simple = "Simplified" in kind
        skip = real(m, *m.pick([n, s, h], [n, s, h], [1, s, h], [s, h]))
        rows = [real(m, h, fixed=0.9), *([] if simple else [m.pick(None, real(m, h, fixed=0.9))])]
        rows.append(m.pick(None, real(m, h, fixed=0.9)))
        four = m.chance(0.4)
        found = m.raw(
            kind, [real(m, n, s, h), skip, *rows], [(None, T.FLOAT)], MS, epsilon=m.pick(None, 1e-3)
        )
        if four:  # the sum before the norm
            m.nodes[-1].output.extend(["", "", m.name("v")])
            found.append(m.add(m.nodes[-1].output[3], None, T.FLOAT))
        return m.pick(*found)
    if kind == "EmbedLayerNormalization":
        ids = m.input((n, s), T.INT32, m.np.integers(0, 9, (n, s)).astype(np.int32))
        some = m.chance(0.5)
        kinds = m.input((n, s), T.INT32, m.np.integers(0, 2, (n, s)).astype(np.int32)) if some else None
        tables = [
            real(m, 9, h, fixed=1.0),
            real(m, 8, h, fixed=1.0),
            real(m, 2, h, fixed=1.0) if some else None,
        ]
        mask = m.np.integers(0, 2, (n, s)).astype(np.int32)
        mask[:, 0] = 1
        rest = [m.input((n, s), T.INT32, mask)] if m.chance(0.5) else []
        return m.raw(
            kind,
            [ids, kinds, *tables, real(m, h, fixed=1.0), real(m, h, fixed=1.0), *rest],
            [(None, T.FLOAT), (None, T.INT32)],
            MS,
            epsilon=m.pick(None, 1e-3),
        )[0]
    if kind == "Trilu":
        return ms(
            m, kind, [real(m, n, s, h), m.const(np.array(m.whole(-3, 3), np.int64))], upper=m.pick(None, 0, 1)
        )
    if kind == "ExpandDims":
        return ms(m, kind, [real(m, n, s), m.const(np.array(m.whole(-3, 2), np.int32))])
    if kind == "NhwcMaxPool":
        q = m.pick(T.UINT8, T.INT8)
        return ms(
            m,
            kind,
            [whole(m, q, n, 6, 5, h)],
            q,
            kernel_shape=[2, 3],
            strides=m.pick(None, [2, 1]),
            pads=m.pick(None, [1, 1, 0, 1]),
        )
    raise Unfit


def heads(m: Maker, _: Val) -> Val:
    kind = m.pick(
        "MultiHeadAttention", "MultiHeadAttention", "Attention", "GroupQueryAttention", "RotaryEmbedding"
    )
    b, s, t, h, d = m.whole(1, 2), m.whole(1, 5), m.whole(1, 6), m.pick(1, 2, 3), m.pick(2, 4, 8, 16)

    def flags(*shape: int) -> Val:
        a = m.np.integers(0, 2, shape).astype(np.int32)
        a[..., 0] = 1
        return m.input(shape, T.INT32, a)

    past = m.whole(1, 3) if m.chance(0.25) else 0
    if kind == "MultiHeadAttention":
        t = s if past else t
        e = m.pick(d, d, 5)
        x: list[Val | None] = [real(m, b, s, h * d), real(m, b, t, h * d), real(m, b, t, h * e)]
        if past:
            e = d
            x[2] = real(m, b, t, h * d)
        x.append(real(m, 2 * h * d + h * e, fixed=0.7) if m.chance(0.4) else None)
        full = t + past
        x.append(m.pick(None, None, flags(b, full), flags(b, s, full)))
        x.append(real(m, m.pick(1, b), h, s, full) if m.chance(0.3) else None)
        if past:
            x += [real(m, b, h, past, d), real(m, b, h, past, d)]
        attrs = {
            "num_heads": h,
            "scale": m.pick(None, 0.3),
            "unidirectional": m.pick(None, 1) if s == t else None,
        }
        return ms(m, kind, x, outputs=3 if past else 1, **attrs)
    if kind == "Attention":
        width = m.pick(4, 10)
        x = [real(m, b, s, width), real(m, width, 3 * h * d, fixed=1.0), real(m, 3 * h * d, fixed=1.0)]
        full = s + past
        mask = m.pick(None, flags(b, full), flags(b, s, full))
        if not past and m.chance(0.2):
            mask = m.input((b,), T.INT32, m.np.integers(1, s + 1, b).astype(np.int32))
        x.append(mask)
        x.append(real(m, 2, b, h, past, d) if past else None)
        x.append(real(m, m.pick(1, b), h, s, full) if m.chance(0.3) else None)
        return ms(
            m,
            kind,
            x,
            outputs=2 if past else 1,
            num_heads=h,
            unidirectional=m.pick(None, 1),
            scale=m.pick(None, 0.5),
            mask_filter_value=m.pick(None, -50.0),
        )
    if kind == "GroupQueryAttention":
        d = 16
        groups, per = m.pick(1, 2), m.pick(1, 2, 3)
        past = m.whole(1, 4) if m.chance(0.5) else 0
        s = 1 if past else s
        sizes = (groups * per * d, groups * d, groups * d)
        qkv = [real(m, b, s, w) for w in sizes] if m.chance(0.7) else [real(m, b, s, sum(sizes)), None, None]
        cache = [real(m, b, groups, past, d), real(m, b, groups, past, d)] if past else [None, None]
        ends = np.full(b, s + past - 1, np.int32)
        rotary = m.pick(0, 1)
        tables = [real(m, 16, d // 2, fixed=1.0), real(m, 16, d // 2, fixed=1.0)] if rotary else []
        x = [*qkv, *cache, m.input((b,), T.INT32, ends), m.const(np.array(s + past, np.int32)), *tables]
        return ms(
            m,
            kind,
            x,
            outputs=3,
            num_heads=groups * per,
            kv_num_heads=groups,
            do_rotary=rotary,
            local_window_size=m.pick(None, 3),
            softcap=m.pick(None, 2.0),
            scale=m.pick(None, 0.2),
        )
    part = d // 2 if d >= 8 and m.chance(0.3) else None
    ids = m.np.integers(0, 9, (b, s)) if m.chance(0.6) else np.array([m.whole(0, 3)])
    at = m.input(ids.shape, T.INT64, ids.astype(np.int64))
    table = [real(m, 9, (part or d) // 2, fixed=1.0) for _ in range(2)]
    flat = m.chance(0.5)
    return ms(
        m,
        kind,
        [real(m, *((b, s, h * d) if flat else (b, h, s, d))), at, *table],
        num_heads=h if flat or part else None,
        rotary_embedding_dim=part,
        interleaved=m.pick(None, 0, 1),
    )


def narrow(m: Maker, _: Val) -> Val:
    kind = m.pick(
        "QLinearAdd",
        "QLinearMul",
        "QLinearSigmoid",
        "QLinearLeakyRelu",
        "QLinearSoftmax",
        "QLinearConcat",
        "QLinearWhere",
        "QLinearAveragePool",
        "QLinearGlobalAveragePool",
        "DynamicQuantizeMatMul",
        "MatMulIntegerToFloat",
        "QGemm",
        "MatMulNBits",
        "QLinearReduceMean",
    )
    q = m.pick(T.UINT8, T.INT8)
    shape = [m.whole(1, 3), m.pick(1, 3, 8), m.whole(2, 6), m.whole(2, 6)]
    if kind in ("QLinearAdd", "QLinearMul"):
        other = [d if m.chance(0.7) else 1 for d in shape][m.pick(0, 0, 1, 3) :]
        return ms(
            m,
            kind,
            [
                whole(m, q, *shape),
                scale(m),
                zero(m, q),
                whole(m, q, *other, fixed=0.3),
                scale(m),
                zero(m, q),
                scale(m, low=0.04),
                zero(m, q),
            ],
            q,
        )
    if kind in ("QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax"):
        x = [
            whole(m, q, *shape),
            scale(m, low=0.03),
            zero(m, q) if m.chance(0.8) else None,
            scale(m, low=0.02),
            zero(m, q),
        ]
        attrs: dict[str, Any] = {}
        if kind == "QLinearLeakyRelu":
            attrs = {"alpha": m.pick(None, 0.3)}
        elif kind == "QLinearSoftmax":
            attrs = {"axis": m.pick(-1, 1, 2), "opset": m.pick(11, 13)}
        return ms(m, kind, x, q, **attrs)
    if kind == "QLinearConcat":
        parts = [v for _ in range(m.whole(1, 3)) for v in (whole(m, q, *shape), scale(m), zero(m, q))]
        return ms(m, kind, [scale(m), zero(m, q), *parts], q, axis=m.pick(1, -1))
    if kind == "QLinearWhere":
        mask = m.input(shape[2:], T.BOOL)
        return ms(
            m,
            kind,
            [
                mask,
                whole(m, q, *shape),
                scale(m),
                zero(m, q),
                whole(m, q, *shape),
                scale(m),
                zero(m, q),
                scale(m),
                zero(m, q),
            ],
            q,
        )
    if "AveragePool" in kind:
        last = m.pick(None, None, 1)
        x = [whole(m, q, *shape), scale(m), zero(m, q), scale(m), zero(m, q)]
        if kind == "QLinearGlobalAveragePool":
            return ms(m, kind, x, q, channels_last=last)
        if last and min(shape[1:3]) < 2:
            raise Unfit
        return ms(
            m,
            kind,
            x,
            q,
            kernel_shape=[2, 2],
            strides=m.pick(None, [2, 1]),
            pads=m.pick(None, [1, 0, 0, 1]),
            channels_last=last,
            **m.pick({}, {"count_include_pad": 1}, {"ceil_mode": 1}),
        )
    a, k, n = m.whole(1, 5), m.pick(1, 5, 16, 24), m.pick(1, 3, 8, 17)
    w = m.pick(T.UINT8, T.INT8)
    if kind == "DynamicQuantizeMatMul":
        by = m.pick([], [n])
        rest = [m.pick(None, zero(m, w)), m.pick(None, real(m, n, fixed=1.0))]
        return ms(
            m, kind, [real(m, *m.pick([a, k], [2, a, k])), whole(m, w, k, n, fixed=1.0), scale(m, *by), *rest]
        )
    if kind == "MatMulIntegerToFloat":
        by = m.pick([], [n])
        return ms(
            m,
            kind,
            [
                whole(m, T.UINT8, a, k),
                whole(m, w, k, n, fixed=0.8),
                scale(m),
                scale(m, *by),
                zero(m, T.UINT8),
                m.pick(None, zero(m, w)),
                m.pick(None, real(m, n, fixed=1.0)),
            ],
        )
    if kind == "QGemm":
        ta, tb = m.pick(None, 1), m.pick(None, 1)
        x = whole(m, T.UINT8, *([k, a] if ta else [a, k]))
        y = whole(m, T.INT8, *([n, k] if tb else [k, n]), fixed=0.8)
        c = m.const(m.np.integers(-500, 500, n).astype(np.int32)) if m.chance(0.5) else None
        rest = [scale(m, low=0.1), zero(m, T.UINT8)] if m.chance(0.5) else []
        return ms(
            m,
            kind,
            [x, scale(m), zero(m, T.UINT8), y, scale(m), zero(m, T.INT8), c, *rest],
            T.UINT8 if rest else T.FLOAT,
            transA=ta,
            transB=tb,
            alpha=m.pick(None, 1.5),
        )
    if kind == "MatMulNBits":
        bits, block, k = m.pick(4, 8), m.pick(16, 32), m.pick(16, 40, 64)
        blocks = -(-k // block)
        data = m.np.integers(0, 256, (n, blocks, block * bits // 8)).astype(np.uint8)
        factors = (m.np.random(n * blocks) * 0.1).astype(np.float32)
        points = m.np.integers(0, 256, n * -(-blocks * bits // 8)).astype(np.uint8)
        rest = [m.const(points)] if m.chance(0.5) else []
        return ms(
            m,
            kind,
            [real(m, *m.pick([a, k], [2, a, k])), m.const(data), m.const(factors), *rest],
            K=k,
            N=n,
            bits=bits,
            block_size=block,
        )
    raise Unfit


PATTERNS = (fused, fused, heads, heads, narrow, narrow, classic, classic)
