# SPDX-License-Identifier: Apache-2.0
"""Patterns of networks on images: convolutions and what passes fold into them, and what they must not."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from onnx import TensorProto

from tests.fuzz.maker import Maker, Unfit, Val

# A window that covers every pixel once.
PLAIN: dict[str, Any] = {"strides": None, "pads": None, "dilations": None, "auto_pad": None}
CHANNELS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 17, 20, 24, 32, 33)


def image(m: Maker) -> Val:
    axes = m.pick(1, 2, 2, 2, 2, 2, 2, 2, 3)
    low, high = (1, 6) if axes == 3 else (1, 17)
    sizes = [m.whole(low, high) for _ in range(axes)]
    if m.chance(0.4):
        sizes = [sizes[0]] * axes
    batch = 0 if m.chance(0.02) else m.pick(1, 1, 1, 2, 3)
    return m.input((batch, m.pick(*CHANNELS), *sizes))


def by_channel(m: Maker, x: Val, fixed: float = 0.85) -> Val:
    """What broadcasts against x: mostly one number for each channel, sometimes something near it."""
    tail = (1,) * (x.rank - 2)
    n, c = x.dims[:2]
    shape = m.pick((1, c, *tail), (c, *tail), (c, *tail), (1, 1, *tail), (), (1,), (n, c, *tail), (n, 1,
                                                                                                   *tail),
                   x.dims[-1:], (1, *x.dims[1:]), x.dims, (1, 1, c, *tail))  # fmt: skip
    return m.operand(shape, x.dtype, fixed)


def window(m: Maker, x: Val, taps: list[int], reach: int = 3) -> dict[str, Any]:
    """Strides, dilations and padding of a window, each absent, plain or odd."""
    axes = len(taps)

    def each(*options: int) -> list[int]:
        same = m.pick(*options)
        return [same if m.chance(0.8) else m.pick(*options) for _ in range(axes)]

    attrs: dict[str, Any] = {"kernel_shape": taps}
    attrs["strides"] = each(1, 1, 1, 2, 3) if m.chance(0.6) else None
    attrs["dilations"] = each(1, 1, 2, reach) if m.chance(0.3) else None
    if m.chance(0.15):
        attrs["auto_pad"] = m.pick("SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET")
    if attrs.get("auto_pad", "NOTSET") == "NOTSET" and m.chance(0.7):
        wide = attrs["dilations"] or [1] * axes
        same = [(k - 1) * d // 2 for k, d in zip(taps, wide, strict=True)]
        attrs["pads"] = same * 2 if m.chance(0.6) else [m.whole(0, 3) for _ in range(2 * axes)]
    return attrs


def conv(m: Maker, x: Val, filters: int = 0, side: int = 0, **fixed: Any) -> Val:
    axes, c = x.rank - 2, x.dims[1]
    if axes < 1 or c == 0:
        raise Unfit
    divisors = [g for g in range(1, c + 1) if c % g == 0]
    group = 1 if m.chance(0.55) or side else m.pick(c, *divisors)
    filters = filters or group * m.pick(1, 1, 2, 3, math.ceil(m.pick(*CHANNELS) / group))
    if filters % group:
        group = 1
    k = side or m.pick(1, 1, 2, 3, 3, 3, 4, 5, 7)
    taps = [k if side or m.chance(0.85) else m.pick(1, 2, 3) for _ in range(axes)]
    attrs = {**window(m, x, taps), "group": None if group == 1 else group, **fixed}
    shape = (filters, c // group, *taps)
    w = m.weights(*shape) if m.chance(0.92) else m.op("Neg", m.input(shape))
    bias = m.pick(None, 1, 1) and m.operand((filters,), fixed=0.85)
    if m.chance(0.3):
        attrs["kernel_shape"] = None
    fitting(m, x, taps, attrs)
    return m.op("Conv", x, w, *([] if bias is None else [bias]), **attrs)


def fitting(m: Maker, x: Val, taps: list[int], attrs: dict[str, Any]) -> None:
    """Unfit for windows larger than the padded image, and for what onnxruntime has no way to run."""
    steps = attrs.get("dilations") or [1] * len(taps)
    pads = attrs.get("pads") or [0] * (2 * len(taps))
    same = attrs.get("auto_pad", "") in ("SAME_UPPER", "SAME_LOWER")
    if same and max(steps) > 1:
        raise Unfit
    for i, (k, step) in enumerate(zip(taps, steps, strict=True)):
        if not same and (k - 1) * step + 1 > x.dims[2 + i] + pads[i] + pads[len(taps) + i]:
            raise Unfit


def transposed(m: Maker, x: Val) -> Val:
    axes, c = x.rank - 2, x.dims[1]
    if axes < 1 or 0 in x.dims:
        raise Unfit
    group = 1 if m.chance(0.7) else m.pick(*[g for g in range(1, c + 1) if c % g == 0])
    taps = [m.whole(1, 4)] * axes if m.chance(0.7) else [m.whole(1, 5) for _ in range(axes)]
    strides = [m.whole(1, 3)] * axes if m.chance(0.8) else [m.whole(1, 3) for _ in range(axes)]
    attrs: dict[str, Any] = {"strides": strides, "group": group if group > 1 else None, "kernel_shape": taps}
    if m.chance(0.2):
        attrs["dilations"] = [m.whole(1, 2) for _ in range(axes)]
    how = m.pick("none", "pads", "pads", "auto", "shape")
    if how == "pads":
        most = max(0, min(t - 1 for t in taps))
        attrs["pads"] = [m.whole(0, most) for _ in range(2 * axes)]
    elif how == "auto":
        attrs["auto_pad"] = m.pick("SAME_UPPER", "SAME_LOWER", "VALID")
    elif how == "shape":
        attrs["output_shape"] = [d * s for d, s in zip(x.dims[2:], strides, strict=True)]
        attrs["auto_pad"] = m.pick(None, "SAME_UPPER", "SAME_LOWER")
    if m.chance(0.3):
        attrs["output_padding"] = [m.whole(0, max(0, s - 1)) for s in strides]
    if how in ("auto", "shape"):  # what onnxruntime makes of padding less than zero is no one's specification
        more = attrs.get("output_padding") or [0] * axes
        wide = attrs.get("dilations") or [1] * axes
        if any(p + (k - 1) * d + 1 < s for p, k, d, s in zip(more, taps, wide, strides, strict=True)):
            raise Unfit
    outputs = m.pick(1, 2, 3, 4, 8)
    bias = m.pick(None, 1) and m.operand((outputs * group,), fixed=0.85)
    w = m.weights(c, outputs, *taps)
    return m.op("ConvTranspose", x, w, *([] if bias is None else [bias]), **attrs)


def batch_norm(m: Maker, x: Val) -> Val:
    c = x.dims[1]
    rows = [m.operand((c,), fixed=0.97) for _ in range(3)]
    var = m.const(np.abs(m.data((c,))) + np.float32(0.3))
    attrs = {"epsilon": m.pick(None, 1e-3, 0.1)}
    return m.op("BatchNormalization", x, *rows, var, **attrs)


def activation(m: Maker, x: Val) -> Val:
    """Every activation there is, its parameters sometimes odd."""
    odd = m.chance(0.3)

    def number(usual: float) -> float | None:
        return m.pick(-0.7, 0.0, 1.0, 1.7, usual) if odd else m.pick(None, usual)

    kind = m.pick(
        "Relu", "Relu", "Sigmoid", "Tanh", "Softplus", "LeakyRelu", "Elu", "HardSigmoid", "Clip", "Clip",
        "PRelu",
        "Selu", "Celu", "ThresholdedRelu", "Softsign", "HardSwish", "Gelu", "Mish", "Swish", "silu",
        "hard_swish",
        "mish", "relu6", "gate",
    )  # fmt: skip
    if kind == "Clip":
        low, high = m.pick(
            (0, 6), (0, None), (None, 1), (-0.5, 0.5), (0.5, -0.5), (None, None), (0, 0), (-1, 1)
        )
        return m.clip(x, low, high)
    if kind == "relu6":
        return m.op("Min", m.op("Relu", x), m.number(x, 6))
    if kind == "silu":
        gate = m.op("Sigmoid", x)
        return m.op("Mul", *m.some((x, gate), 2))
    if kind == "hard_swish":
        if m.chance(0.5):
            gate = m.op("HardSigmoid", x, alpha=m.pick(1 / 6, 0.2), beta=m.pick(0.5, 0.4))
        else:
            gate = m.op("Div", m.clip(m.op("Add", x, m.number(x, 3)), 0, 6), m.number(x, 6))
        return m.op("Mul", *m.some((x, gate), 2))
    if kind == "mish":
        return m.op("Mul", x, m.op("Tanh", m.op("Softplus", x)))
    if kind == "gate":
        y, z = m.op("Sigmoid", x), m.op("Tanh", x)
        return m.op("Mul", y, z)
    if kind == "PRelu":
        c = x.dims[1] if x.rank > 1 else 1
        return m.op("PRelu", x, m.operand(m.pick((1,), (c, *[1] * max(0, x.rank - 2)), ())))
    since = {"HardSwish": 14, "Gelu": 20, "Mish": 18, "Swish": 24}.get(kind, 0)
    if since > m.opset:
        raise Unfit
    usual = {
        "LeakyRelu": 0.01,
        "Elu": 1.0,
        "HardSigmoid": 0.2,
        "Selu": 1.67,
        "Celu": 1.0,
        "ThresholdedRelu": 1.0,
    }
    attrs: dict[str, Any] = {}
    if kind in usual:
        attrs["alpha"] = number(usual[kind])
    if kind == "Celu" and attrs["alpha"] == 0:
        attrs["alpha"] = 0.5
    if kind == "HardSigmoid":
        attrs["beta"] = number(0.5)
    if kind == "Gelu":
        attrs["approximate"] = m.pick(None, "none", "tanh")
    return m.op(kind, x, **attrs)


def affine(m: Maker, x: Val) -> Val:
    """Mul, Add, Sub or Div by something like one number per channel."""
    other = by_channel(m, x)
    kind = m.pick("Mul", "Add", "Add", "Sub", "Div")
    if kind == "Div":
        other = m.op("Add", m.op("Abs", other), m.like(other, 0.5)) if m.chance(0.9) else other
    return m.op(kind, *(m.some((x, other), 2) if kind != "Div" and m.chance(0.5) else (x, other)))


def residual(m: Maker, x: Val) -> Val:
    """x plus a value of its shape, or of one that broadcasts to it."""
    same = [v for v in m.values.values() if v.shape == x.shape and v.dtype == x.dtype and v.name != x.name]
    if same and m.chance(0.7):
        other = m.pick(*same)
    else:
        other = by_channel(m, x, fixed=0.1) if m.chance(0.4) else m.input(x.dims, x.dtype)
    return m.op(m.pick("Add", "Add", "Add", "Sub", "Mul", "Sum"), *m.some((x, other), 2))


def epilogue(m: Maker, x: Val) -> Val:
    for _ in range(m.pick(0, 1, 1, 2, 2, 3, 4)):
        step = m.pick(batch_norm, activation, activation, affine, affine, residual, residual)
        try:
            x = step(m, x)
        except Unfit:
            continue
    return x


def convolution(m: Maker, x: Val) -> Val:
    return epilogue(m, conv(m, x))


def two_convolutions(m: Maker, x: Val) -> Val:
    return convolution(m, convolution(m, x))


def transposed_convolution(m: Maker, x: Val) -> Val:
    return epilogue(m, transposed(m, x))


def padded(m: Maker, x: Val) -> Val:
    """Pad before a convolution or a pool: zeros around the image, and what is not quite that."""
    axes = x.rank - 2
    pads = [0, 0, *(m.whole(0, 2) for _ in range(axes))] * 2
    if m.chance(0.3):
        pads = [m.whole(0, 1) if i % x.rank < 2 else m.whole(-1, 2) for i in range(2 * x.rank)]
    mode = m.pick(None, None, None, "constant", "edge", "reflect" if min(x.dims) > 1 else "edge")
    value = m.pick(None, None, m.like(x, 0.0), m.like(x, m.pick(0.5, -0.0)))
    if mode in ("reflect", "edge"):
        value = None
    y = m.pad(x, pads, mode, value)
    return conv(m, y) if m.chance(0.7) else pool(m, y)


def far_taps(m: Maker, x: Val) -> Val:
    """Dilated so far that outer taps meet little or nothing but padding."""
    axes = x.rank - 2
    taps, dilations, pads = [], [], []
    for d in x.dims[2:]:
        k, step = m.pick(2, 3, 3, 5), m.whole(1, d + 3)
        taps.append(k)
        dilations.append(step)
        pads.append((k - 1) * step // 2 if m.chance(0.8) else m.whole(0, (k - 1) * step))
    after = [(k - 1) * s - p for k, s, p in zip(taps, dilations, pads, strict=True)]
    if m.chance(0.3):
        after = [max(0, a + m.whole(-2, 2)) for a in after]
    strides = [m.pick(1, 1, 1, 2)] * axes
    y = conv(
        m, x, kernel_shape=None, dilations=dilations, pads=[*pads, *after], strides=strides, auto_pad=None
    )
    return epilogue(m, y)


def branches(m: Maker, x: Val) -> Val:
    """Convolutions of one tensor, its norm and itself, added up in some order."""
    axes, c = x.rank - 2, x.dims[1]
    if axes < 1 or c == 0:
        raise Unfit
    group = m.pick(1, 1, 1, c)
    stride = m.pick(1, 1, 2)
    terms = []
    for _ in range(m.whole(1, 4)):
        k, step = m.pick(1, 1, 3, 3, 5), m.pick(1, 1, 2)
        pads = [(k - 1) * step // 2] * (2 * axes)
        own = group if m.chance(0.8) else m.pick(1, c)
        w = m.weights(c, c // own, *[k] * axes)
        bias = [m.operand((c,), fixed=0.9)] if m.chance(0.5) else []
        y = m.op("Conv", x, w, *bias, pads=pads, group=own, strides=[stride] * axes, dilations=[step] * axes)
        if m.chance(0.5):
            y = batch_norm(m, y)
        elif m.chance(0.1):
            y = m.op("Relu", y)
        terms.append(y)
    if stride == 1:
        terms += [x] * m.chance(0.6) + [batch_norm(m, x)] * m.chance(0.5)
    m.rng.shuffle(terms)
    while len(terms) > 1:
        a, b = terms.pop(), terms.pop(m.whole(0, len(terms) - 1))
        terms.insert(0, m.op(m.pick("Add", "Add", "Add", "Sub"), a, b))
    return epilogue(m, terms[0])


def group_norm(m: Maker, x: Val) -> Val:
    n, c = x.dims[:2]
    groups = m.pick(*[g for g in range(1, c + 1) if c % g == 0])
    if m.opset >= 21 and m.chance(0.2):
        rows = (m.operand((c,)), m.operand((c,)))
        return m.op("GroupNormalization", x, *rows, num_groups=groups, epsilon=m.pick(None, 1e-3))
    split = (n, groups, -1) if m.chance(0.8) else (n, groups, c // groups, *x.dims[2:])
    rest = c // groups * int(np.prod(x.dims[2:]))
    if rest < 2 or 0 in x.dims:
        raise Unfit
    flat = m.op("Reshape", x, m.ints(*split))
    flat = m.sized(flat, (n, groups, rest) if -1 in split else split)
    rows = (m.operand((groups,), fixed=0.95), m.operand((groups,), fixed=0.95))
    y = m.op("InstanceNormalization", flat, *rows, epsilon=m.pick(None, 1e-3))
    y = m.reshape(y, x.dims)
    if m.chance(0.7):
        y = m.op("Mul", y, by_channel(m, x))
    if m.chance(0.7):
        y = m.op("Add", y, by_channel(m, x))
    return y


def shuffle(m: Maker, x: Val) -> Val:
    """DepthToSpace behind a convolution, or by Reshape and Transpose; SpaceToDepth."""
    if x.rank != 4:
        raise Unfit
    block = m.pick(1, 2, 2, 3)
    if m.chance(0.2):
        fits = x.dims[2] % 2 == 0 and x.dims[3] % 2 == 0
        return m.op("SpaceToDepth", x, blocksize=2 if fits else 1)
    y = conv(m, x, filters=block * block * m.pick(1, 2, 3, 5))
    if m.chance(0.3):
        y = activation(m, y)
    n, c, h, w = y.dims
    if c % (block * block):
        raise Unfit
    if m.chance(0.75):
        return m.op("DepthToSpace", y, blocksize=block, mode=m.pick(None, "DCR", "CRD", "CRD"))
    y = m.reshape(y, (n, c // block**2, block, block, h, w))
    y = m.transpose(y, m.pick((0, 1, 4, 2, 5, 3), (0, 1, 4, 3, 5, 2)))
    return m.reshape(y, (n, c // block**2, h * block, w * block))


def pool(m: Maker, x: Val) -> Val:
    axes = x.rank - 2
    if axes < 1:
        raise Unfit
    kind = m.pick(
        "MaxPool", "MaxPool", "AveragePool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool"
    )
    if kind.startswith("Global"):
        return m.op(kind, x)
    taps = [m.pick(1, 2, 2, 3, 3, 5) for _ in range(axes)]
    attrs = window(m, x, taps)
    if kind == "AveragePool":
        attrs["count_include_pad"] = m.pick(None, 0, 1)
    if (kind == "AveragePool" and m.opset < 19) or (kind == "LpPool" and m.opset < 18):
        attrs["dilations"] = None
    if "pads" in attrs:  # onnxruntime wants padding to be less than the window
        attrs["pads"] = [min(p, taps[i % axes] - 1) for i, p in enumerate(attrs["pads"])]
    fitting(m, x, taps, attrs)
    if kind == "LpPool":
        attrs["p"] = m.pick(None, 1, 2, 3)
    elif m.chance(0.3):
        attrs["ceil_mode"] = 1
    if kind == "MaxPool" and m.chance(0.1):
        return m.ops(kind, x, outputs=2, **attrs)[m.pick(0, 0, 1)]
    return m.op(kind, x, **attrs)


def resize(m: Maker, x: Val) -> Val:
    axes = x.rank - 2
    if x.dtype != TensorProto.FLOAT:
        raise Unfit
    mode = m.pick("nearest", "nearest", "linear", "linear", "cubic")
    how = m.pick(
        "half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric", None
    )
    if how == "half_pixel_symmetric" and m.opset < 19:
        how = None
    attrs: dict[str, Any] = {"mode": mode, "coordinate_transformation_mode": how}
    if mode == "nearest":
        attrs["nearest_mode"] = m.pick(None, "floor", "ceil", "round_prefer_ceil", "round_prefer_floor")
    empty = m.const(np.zeros(0, np.float32)) if m.opset < 13 or m.chance(0.2) else None
    if m.chance(0.6):
        same = m.pick(1.0, 2.0, 2.0, 3.0, 0.5, 1.5, 1.07, 4.0)
        scales = [same if m.chance(0.8) else m.pick(1.0, 2.0, 0.73) for _ in range(axes)]
        return m.op("Resize", x, empty, m.const(np.array([1, 1, *scales], np.float32)), **attrs)
    sizes = [*x.dims[:2], *(m.pick(d, 2 * d, d + 1, max(1, d // 2)) for d in x.dims[2:])]
    if m.opset >= 18 and m.chance(0.3):
        attrs["keep_aspect_ratio_policy"] = m.pick("stretch", "not_larger", "not_smaller")
    none = m.const(np.zeros(0, np.float32)) if m.opset < 13 or m.chance(0.2) else None
    return m.op("Resize", x, empty, none, m.ints(*sizes), **attrs)


def pyramid(m: Maker, x: Val) -> Val:
    """Images brought to one size, side by side, and mixed by a convolution of one pixel (mostly)."""
    parts = []
    for _ in range(m.whole(1, 3)):
        try:
            y = conv(m, x) if m.chance(0.5) else x
            parts.append(resize(m, y) if m.chance(0.8) else y)
        except Unfit:
            continue
    same = [p for p in parts if p.dims[0] == parts[0].dims[0] and p.dims[2:] == parts[0].dims[2:]]
    if not same:
        raise Unfit
    whole = same[0] if len(same) == 1 else m.op("Concat", *same, axis=1)
    return epilogue(m, conv(m, whole, m.pick(1, 2, 3, 8), 1, **PLAIN))


def tokens(m: Maker, x: Val) -> Val:
    """An image as tokens, a product of them, and back, each step now and then another."""
    if x.rank != 4 or 0 in x.dims:
        raise Unfit
    n, c, h, w = x.dims
    y = conv(m, x) if m.chance(0.5) else x
    n, c, h, w = y.dims
    if m.chance(0.8):
        y = m.transpose(m.reshape(y, (n, c, h * w)), (0, 2, 1))
    else:
        y = m.transpose(y, m.pick((0, 2, 3, 1), (0, 3, 2, 1)))
    if m.chance(0.4):
        y = activation(m, y)
    for _ in range(m.whole(1, 2)):
        filters = m.pick(1, 2, 3, 8, 24)
        y = m.op("MatMul", y, m.weights(y.dims[-1], filters))
        y = m.op("Add", y, m.operand((filters,))) if m.chance(0.6) else y
        y = activation(m, y) if m.chance(0.4) else y
    if y.rank == 3 and m.chance(0.3):
        y = m.reshape(y, (n, h, w, y.dims[-1]))
    y = m.transpose(y, (0, y.rank - 1, *range(1, y.rank - 1)))
    y = m.reshape(y, (n, y.dims[1], h, w))
    return conv(m, y) if m.chance(0.7) else pool(m, y)


def inverted_bottleneck(m: Maker, x: Val) -> Val:
    """1x1, depthwise, the mean of its planes, squeeze and excitation, 1x1, residual."""
    if x.rank != 4:
        raise Unfit
    wide = m.pick(8, 16, 16, 24, 32, 33, 48)
    y = _light(m, conv(m, x, wide, 1, **PLAIN))
    k = m.pick(3, 3, 5)
    w = m.weights(wide, 1, k, k)
    bias = [m.operand((wide,))] if m.chance(0.6) else []
    stride = m.pick(1, 1, 2)
    y = _light(m, m.op("Conv", y, w, *bias, group=wide, pads=[k // 2] * 4, strides=[stride] * 2))
    if m.chance(0.6):
        mean = m.op("GlobalAveragePool", y) if m.chance(0.5) else m.reduce("ReduceMean", y, (2, 3))
        gate = conv(m, _light(m, conv(m, mean, 4, 1, **PLAIN)), wide, 1, **PLAIN)
        y = m.op("Mul", y, m.op(m.pick("Sigmoid", "HardSigmoid"), gate))
    y = conv(m, y, x.dims[1], 1, **PLAIN)
    return m.op("Add", x, y) if y.shape == x.shape else y


def _light(m: Maker, x: Val) -> Val:
    return activation(m, x) if m.chance(0.8) else x


def grouped(m: Maker, x: Val) -> Val:
    """A bottleneck of grouped convolutions whose groups do not fill blocks of channels."""
    if x.rank < 3:
        raise Unfit
    width, groups = m.pick(1, 2, 3, 4, 4, 6, 8), m.pick(2, 3, 4, 5, 6, 8)
    y = conv(m, x, filters=width * groups, pads=None, auto_pad=None)
    if m.chance(0.6):
        y = activation(m, y)
    for _ in range(m.whole(1, 2)):
        w = m.weights(width * groups, width, *[3] * (x.rank - 2))
        bias = [m.operand((width * groups,))] if m.chance(0.6) else []
        y = m.op("Conv", y, w, *bias, group=groups, pads=[1] * (2 * (x.rank - 2)))
        y = epilogue(m, y) if m.chance(0.7) else y
    if m.chance(0.4):
        y = m.op("Mul", y, m.op("Sigmoid", m.op("GlobalAveragePool", y)))
    if m.chance(0.7):
        y = epilogue(m, conv(m, y))
    return y


PATTERNS = (
    convolution, convolution, two_convolutions, two_convolutions, transposed_convolution, padded, far_taps,
    branches,
    group_norm, shuffle, pool, resize, pyramid, tokens, inverted_bottleneck, grouped, batch_norm, epilogue,
)  # fmt: skip
