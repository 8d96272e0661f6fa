# SPDX-License-Identifier: Apache-2.0
"""Operators of networks, one at a time: every mode and option, types beside float32, old operator sets."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import helper

from tests.fuzz.draw import ANY, FLOATS, T, dims, value, wide
from tests.fuzz.maker import Maker, Unfit, Val


def resized(m: Maker, _: Val) -> Val:
    axes = m.pick(1, 2, 2, 2, 3)
    lead = [m.whole(1, 3), m.whole(1, 4)]
    shape = [*lead, *(m.whole(1, 7) for _ in range(axes))]
    dtype = m.pick(T.FLOAT, T.FLOAT, T.FLOAT, T.UINT8, T.INT8, T.INT32, T.DOUBLE, T.FLOAT16)
    x = value(m, shape, dtype, 0.1)
    if m.opset < 7 or m.opset < 10:
        scales = [*(1.0 for _ in lead), *(float(m.pick(1, 2, 3, 1.5)) for _ in range(axes))]
        mode = m.pick(None, "nearest", "linear")
        if m.opset < 9:
            return m.op("Upsample", x, scales=scales, mode=mode)
        return m.op("Upsample", x, m.const(np.array(scales, np.float32)), mode=mode)
    mode = m.pick("nearest", "linear", "cubic")
    attrs: dict[str, Any] = {"mode": mode}
    scales = [*(1.0 for _ in lead), *(m.pick(1.0, 2.0, 3.0, 0.5, 0.3, 1.4, 2.5, 0.7) for _ in range(axes))]
    if m.opset == 10:
        return m.op("Resize", x, m.const(np.array(scales, np.float32)), mode=m.pick("nearest", "linear"))
    how = m.pick(
        None,
        "half_pixel",
        "asymmetric",
        "align_corners",
        "pytorch_half_pixel",
        "tf_crop_and_resize",
        "half_pixel_symmetric" if m.opset >= 19 else "half_pixel",
        "tf_half_pixel_for_nn" if m.opset < 13 else None,
    )
    attrs["coordinate_transformation_mode"] = how
    if mode == "nearest":
        attrs["nearest_mode"] = m.pick(None, "floor", "ceil", "round_prefer_ceil", "round_prefer_floor")
    if mode == "cubic":
        attrs["cubic_coeff_a"] = m.pick(None, -0.5)
        attrs["exclude_outside"] = m.pick(None, 0, 1)
    if m.opset >= 18 and mode != "nearest" and how != "tf_crop_and_resize":
        attrs["antialias"] = m.pick(None, 0, 1) if how in (None, "half_pixel") else None
    roi: Val | None = None
    if how == "tf_crop_and_resize":
        n = len(shape)
        low = [0.0 if i < len(lead) else m.pick(0.0, 0.1, 0.4) for i in range(n)]
        high = [1.0 if i < len(lead) else m.pick(1.0, 0.9, 0.6, 1.3) for i in range(n)]
        roi = m.const(np.array(low + high, np.float32))
        attrs["extrapolation_value"] = m.pick(None, 0.5)
    elif m.opset < 13:
        roi = m.const(np.zeros(0, np.float32))
    chosen = list(range(len(shape)))
    if m.opset >= 18 and m.chance(0.4) and roi is None:
        chosen = list(range(len(lead), len(shape)))
        if m.chance(0.2):
            chosen = chosen[::-1]
        attrs["axes"] = [a - len(shape) if m.chance(0.3) else a for a in chosen]
    if m.chance(0.5):
        factors = np.array([scales[a] for a in chosen], np.float32)
        given = m.input(factors.shape, T.FLOAT, factors) if m.chance(0.15) else m.const(factors)
        return m.op("Resize", x, roi, given, **attrs)
    if m.opset >= 18 and m.chance(0.4) and "axes" not in attrs:
        attrs["keep_aspect_ratio_policy"] = m.pick("stretch", "not_larger", "not_smaller")
    sizes = [shape[a] if a < len(lead) else m.whole(1, 12) for a in chosen]
    none = m.const(np.zeros(0, np.float32)) if m.opset < 13 else None
    listed = np.array(sizes, np.int64)
    given = m.input(listed.shape, T.INT64, listed) if m.chance(0.15) else m.const(listed)
    return m.op("Resize", x, roi, none, given, **attrs)


def grid(m: Maker, _: Val) -> Val:
    kind = m.pick(
        "GridSample",
        "GridSample",
        "GridSample",
        "AffineGrid",
        "RoiAlign",
        "MaxRoiPool",
        "Col2Im",
        "CenterCropPad",
        "DeformConv",
    )
    axes = 3 if m.opset >= 20 and m.chance(0.3) else 2
    n, c = m.whole(1, 3), m.whole(1, 4)
    side = [m.whole(1, 6) for _ in range(axes)]
    if kind == "GridSample":
        modes = ("linear", "nearest", "cubic") if m.opset >= 20 else ("bilinear", "nearest", "bicubic")
        mode = m.pick(None, *(modes if axes == 2 else modes[:2]))
        x = value(m, [n, c, *side], m.pick(T.FLOAT, T.FLOAT, T.DOUBLE), 0.1)
        out = [m.whole(1, 5) for _ in range(axes)]
        where = (m.np.random((n, *out, axes)) * 2.6 - 1.3).astype(np.float32)
        at = m.input(where.shape, x.dtype, where.astype(helper.tensor_dtype_to_np_dtype(x.dtype)))
        return m.op(
            kind,
            x,
            at,
            mode=mode,
            padding_mode=m.pick(None, "zeros", "border", "reflection"),
            align_corners=m.pick(None, 0, 1),
        )
    if kind == "AffineGrid":
        theta = value(m, [n, axes, axes + 1], T.FLOAT, 0.3)
        corners = m.pick(None, 0, 1) if min(side) > 1 else None
        return m.op(kind, theta, m.ints(n, c, *side), align_corners=corners)
    if kind in ("RoiAlign", "MaxRoiPool"):
        h, w = m.whole(2, 9), m.whole(2, 9)
        x = value(m, [n, c, h, w], m.pick(T.FLOAT, T.FLOAT, T.DOUBLE), 0.1)
        k = m.whole(0, 4)
        corner = m.np.random((k, 2)) * [w, h]
        boxes = np.concatenate([corner, corner + m.np.random((k, 2)) * 6], 1)
        which = m.np.integers(0, n, k)
        real = helper.tensor_dtype_to_np_dtype(x.dtype)
        if kind == "MaxRoiPool":
            rois = np.concatenate([which[:, None], np.round(boxes)], 1).astype(real)
            return m.op(
                kind,
                x,
                m.input(rois.shape, x.dtype, rois),
                pooled_shape=[m.whole(1, 3), m.whole(1, 3)],
                spatial_scale=m.pick(None, 0.5),
            )
        mode = m.pick(None, "half_pixel", "output_half_pixel") if m.opset >= 16 else None
        return m.op(
            kind,
            x,
            m.input(boxes.shape, x.dtype, boxes.astype(real)),
            m.input((k,), T.INT64, which),
            output_height=m.pick(None, 2, 3),
            output_width=m.pick(None, 1, 4),
            mode=m.pick(None, "avg", "max"),
            sampling_ratio=m.pick(None, 0, 1, 2),
            spatial_scale=m.pick(None, 0.5),
            coordinate_transformation_mode=mode,
        )
    if kind == "Col2Im":
        image, block = [m.whole(2, 6), m.whole(2, 6)], [m.whole(1, 2), m.whole(1, 2)]
        step, grow, pad = m.pick([1, 1], [2, 1]), m.pick([1, 1], [1, 2]), m.pick([0] * 4, [1, 0, 1, 1])
        count = 1
        for i in range(2):
            room = image[i] + pad[i] + pad[2 + i] - (grow[i] * (block[i] - 1) + 1)
            if room < 0:
                raise Unfit
            count *= room // step[i] + 1
        x = value(m, [n, c * block[0] * block[1], count], T.FLOAT, 0.1)
        return m.op(kind, x, m.ints(*image), m.ints(*block), strides=step, dilations=grow, pads=pad)
    if kind == "CenterCropPad":
        shape = dims(m, 1, 2, 3)
        x = value(m, shape, m.pick(*ANY))
        at = m.some(range(x.rank), m.whole(1, x.rank))
        given = [m.axis(x, a) for a in at]
        return m.op(kind, x, m.ints(*(m.whole(1, 7) for _ in at)), axes=given)
    k, h, w = m.whole(1, 3), m.whole(3, 6), m.whole(3, 6)
    groups = m.pick(1, 1, 2)
    oh, ow = h - k + 1, w - k + 1
    x = value(m, [n, 2 * c, h, w], T.FLOAT, 0.1)
    weights, offsets = m.weights(2 * c, 2 * c // groups, k, k), value(m, [n, 2 * k * k, oh, ow], T.FLOAT, 0.1)
    mask = value(m, [n, k * k, oh, ow], T.FLOAT, 0.1)
    bias = m.operand((2 * c,)) if m.chance(0.5) else None
    rest = m.pick([], [bias] if bias else [], [bias, mask])
    return m.op(kind, x, weights, offsets, *rest, group=groups, kernel_shape=[k, k])


def norms(m: Maker, _: Val) -> Val:
    kind = m.pick(
        "LRN",
        "InstanceNormalization",
        "BatchNormalization",
        "LayerNormalization",
        "GroupNormalization",
        "RMSNormalization",
        "MeanVarianceNormalization",
        "LpNormalization",
        "Softmax",
        "LogSoftmax",
        "Hardmax",
    )
    dtype = m.pick(*FLOATS)
    if kind in ("Softmax", "LogSoftmax", "Hardmax"):
        x = value(m, dims(m, 1, 2, 3, 4), dtype, 0.1)
        axis = m.whole(0, x.rank - 1)
        return m.op(kind, x, axis=m.pick(None, m.axis(x, axis) if m.opset >= 11 else axis))
    shape = [max(d, 1) for d in dims(m, 2, 3, 4, 4, 5)]
    if kind == "LpNormalization":
        x = value(m, shape, dtype, 0.1)
        return m.op(kind, x, axis=m.pick(None, m.axis(x, m.whole(0, x.rank - 1))), p=m.pick(None, 1, 2))
    if kind == "LRN":
        return m.op(
            kind,
            value(m, shape, dtype, 0.1),
            size=m.whole(1, 7),
            alpha=m.pick(None, 0.1),
            beta=m.pick(None, 0.5),
            bias=m.pick(None, 2.0),
        )
    if kind == "MeanVarianceNormalization":
        x = value(m, [m.whole(1, 3) for _ in range(4)] if m.chance(0.6) else shape, dtype, 0.1)
        return m.op(kind, x, axes=m.pick(None, m.some(range(x.rank), m.whole(1, x.rank))))
    x = value(m, shape, dtype, 0.1)
    c = shape[1]
    if kind == "InstanceNormalization":
        return m.op(kind, x, m.operand((c,), dtype), m.operand((c,), dtype), epsilon=m.pick(None, 0.1))
    if kind == "BatchNormalization":
        rows = [m.operand((c,), dtype) for _ in range(3)]
        var = m.const(np.abs(m.data((c,), dtype)) + m.data((), dtype).dtype.type(0.3))
        attrs = {"momentum": m.pick(None, 0.5), "epsilon": m.pick(None, 0.01)}
        if m.opset >= 14:
            attrs["training_mode"] = m.pick(None, 0)
        elif m.opset in (7, 8):
            attrs["spatial"] = m.pick(None, 1)
        return m.op(kind, x, *rows, var, **attrs)
    if kind == "GroupNormalization":
        groups = m.pick(*[g for g in range(1, c + 1) if c % g == 0])
        many = c if m.opset >= 21 else groups
        return m.op(
            kind,
            x,
            m.operand((many,), dtype),
            m.operand((many,), dtype),
            num_groups=groups,
            epsilon=m.pick(None, 0.1),
        )
    axis = m.whole(0, x.rank - 1)
    width = shape[axis:]
    if kind == "RMSNormalization":
        return m.op(kind, x, m.operand(width, dtype), axis=m.axis(x, axis), epsilon=m.pick(None, 0.1))
    bias = [m.operand(width, dtype)] if m.chance(0.5) else []
    count = m.pick(1, 1, 2, 3)
    outs = m.ops(
        kind,
        x,
        m.operand(width, dtype),
        *bias,
        outputs=count,
        axis=m.axis(x, axis),
        epsilon=m.pick(None, 0.1),
    )
    return outs[0]


def windows(m: Maker, _: Val) -> Val:
    """Convolutions and pools of other types, ranks, old forms."""
    kind = m.pick(
        "Conv",
        "ConvTranspose",
        "MaxPool",
        "MaxPool",
        "AveragePool",
        "AveragePool",
        "LpPool",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "GlobalLpPool",
        "MaxUnpool",
    )
    axes = m.pick(1, 2, 2, 2, 3)
    n, c = m.pick(0, 1, 1, 2, 3) if m.chance(0.1) else m.whole(1, 3), m.pick(1, 2, 3, 4, 8, 9)
    side = [m.whole(1, 9 if axes < 3 else 5) for _ in range(axes)]
    dtype = m.pick(*FLOATS, T.INT8, T.UINT8) if kind == "MaxPool" and m.opset >= 12 else m.pick(*FLOATS)
    x = value(m, [n, c, *side], dtype, 0.05)
    if kind.startswith("Global"):
        return m.op(kind, x, p=m.pick(None, 1, 3) if "Lp" in kind else None)
    taps = [m.whole(1, 4) for _ in range(axes)]
    attrs: dict[str, Any] = {
        "kernel_shape": taps,
        "strides": m.pick(None, [m.whole(1, 3) for _ in range(axes)]),
    }
    how = m.pick("none", "pads", "pads", "auto")
    if how == "pads":
        attrs["pads"] = [m.whole(0, taps[i % axes] - 1) for i in range(2 * axes)]
    elif how == "auto":
        attrs["auto_pad"] = m.pick("SAME_UPPER", "SAME_LOWER", "VALID")
        if kind == "ConvTranspose" and any(
            t < s for t, s in zip(taps, attrs["strides"] or [1] * axes, strict=True)
        ):
            raise Unfit
    since = {"Conv": 1, "ConvTranspose": 1, "MaxPool": 10, "AveragePool": 19, "LpPool": 18}
    wide = [1] * axes
    if m.opset >= since.get(kind, 99) and m.chance(0.3):
        wide = [m.whole(1, 3) for _ in range(axes)]
        attrs["dilations"] = wide
        if how == "auto" and max(wide) > 1:
            raise Unfit
    pad = attrs.get("pads", [0] * (2 * axes))
    if "SAME" not in attrs.get("auto_pad", "") and kind != "ConvTranspose":
        for i in range(axes):
            if (taps[i] - 1) * wide[i] + 1 > side[i] + pad[i] + pad[axes + i]:
                raise Unfit
    if kind in ("Conv", "ConvTranspose"):
        group = m.pick(1, 1, *[g for g in range(1, c + 1) if c % g == 0])
        per = m.whole(1, 3)
        shape = [per * group, c // group, *taps] if kind == "Conv" else [c, per, *taps]
        bias = [m.operand((per * group,), dtype)] if m.chance(0.5) else []
        return m.op(kind, x, m.operand(shape, dtype, fixed=0.6), *bias, group=group, **attrs)
    if kind == "MaxUnpool":
        attrs = {"kernel_shape": [2] * axes, "strides": [2] * axes}
        x = value(m, [n, c, *(2 * d for d in side)], T.FLOAT, 0.0)
        pooled, at = m.ops("MaxPool", x, outputs=2, **attrs)
        return m.op(kind, pooled, at, *([m.ints(*x.dims)] if m.chance(0.3) else []), **attrs)
    since_ceil = {"MaxPool": 10, "AveragePool": 10, "LpPool": 18}[kind]
    if m.opset >= since_ceil:
        attrs["ceil_mode"] = m.pick(None, 0, 1)
    if kind == "AveragePool":
        attrs["count_include_pad"] = m.pick(None, 0, 1)
    if kind == "LpPool":
        attrs["p"] = m.pick(None, 1, 2, 3)
    if kind == "MaxPool" and m.opset >= 8 and m.chance(0.4):
        return m.pick(*m.ops(kind, x, outputs=2, storage_order=m.pick(None, 0, 1), **attrs))
    return m.op(kind, x, **attrs)


def quantised(m: Maker, _: Val) -> Val:
    kind = m.pick(
        "QuantizeLinear",
        "QuantizeLinear",
        "DequantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "MatMulInteger",
        "ConvInteger",
        "QLinearMatMul",
    )
    shape = [max(1, d) for d in dims(m, 1, 2, 3, 4)]
    if kind == "DynamicQuantizeLinear":
        return m.pick(*m.ops(kind, value(m, dims(m, 0, 1, 2, 3), T.FLOAT, 0.1), outputs=3))
    narrow = [T.UINT8, T.INT8]
    if kind in ("QuantizeLinear", "DequantizeLinear"):
        if m.opset >= 21:
            narrow += [T.INT16, T.UINT16]
        store = m.pick(*narrow, *([T.INT32] if kind == "DequantizeLinear" else []))
        axis = m.whole(0, len(shape) - 1)
        per, attrs = [], dict[str, Any]()
        if m.opset >= 13 and m.chance(0.5):
            per = [shape[axis]]
            attrs["axis"] = m.pick(axis, axis - len(shape))
        if m.opset >= 21 and m.chance(0.3):
            block = m.pick(*[b for b in range(1, shape[axis] + 1) if shape[axis] % b == 0])
            per = [d // block if i == axis else d for i, d in enumerate(shape)]
            attrs = {"axis": m.pick(axis, axis - len(shape)), "block_size": block}
        real = m.pick(T.FLOAT, T.FLOAT, T.FLOAT16) if m.opset >= 19 else T.FLOAT
        scale = m.const((m.np.random(per) * 0.1 + 0.02).astype(helper.tensor_dtype_to_np_dtype(real)))
        zero = (
            m.np.integers(0 if store in (T.UINT8, T.UINT16) else -20, 30, per)
            if store != T.INT32
            else np.zeros(per)
        )
        rest = [m.const(zero.astype(helper.tensor_dtype_to_np_dtype(store)))]
        if kind == "QuantizeLinear":
            if store == T.UINT8 and m.chance(0.3):
                rest = []
            return m.op(
                kind,
                wide(m, shape, T.FLOAT) if m.chance(0.1) else value(m, shape, real, 0.1),
                scale,
                *rest,
                **attrs,
            )
        if m.chance(0.3):
            rest = []
        return m.op(kind, value(m, shape, store, 0.2), scale, *rest, **attrs)
    a, b = m.pick(*narrow), m.pick(*narrow)

    def zero_of(kind_of: int, *count: int) -> Val:
        return m.const(m.data(count, kind_of)) if m.chance(0.7) else m.input(count, kind_of)

    if kind == "ConvInteger":
        axes = m.pick(1, 2, 2, 3)
        c, taps = m.whole(1, 5), [m.whole(1, 3) for _ in range(axes)]
        group = m.pick(1, 1, c)
        x = value(m, [m.whole(1, 2), c, *(m.whole(3, 7) for _ in range(axes))], a, 0.1)
        w = value(m, [group * m.whole(1, 4), c // group, *taps], b, 0.8)
        zeros = m.pick([], [zero_of(a)], [zero_of(a), zero_of(b)])
        return m.op(kind, x, w, *zeros, group=group, pads=m.pick(None, [1] * (2 * axes)))
    lead, i, k, j = dims(m, 0, 0, 1, 2), m.whole(1, 5), m.whole(1, 9), m.whole(1, 9)
    x, w = value(m, [*lead, i, k], a, 0.1), value(m, [*m.pick([], lead), k, j], b, 0.7)
    if kind == "MatMulInteger":
        zeros = m.pick([], [zero_of(a)], [zero_of(a), zero_of(b)], [zero_of(a), zero_of(b, j)])
        return m.op(kind, x, w, *zeros)
    scales = [m.const(np.array(s, np.float32)) for s in (0.02, 0.03, 0.5)]
    return m.op(kind, x, scales[0], zero_of(a), w, scales[1], zero_of(b), scales[2], m.const(m.data((), a)))
