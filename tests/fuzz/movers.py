# SPDX-License-Identifier: Apache-2.0
"""Operators that move, choose and make elements, one at a time; some by data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import helper

from tests.fuzz.draw import ANY, FLOATS, T, dims, partner, value, wide
from tests.fuzz.maker import Maker, Unfit, Val


def indices(m: Maker, shape: Sequence[int], size: int) -> Val:
    if size == 0 and int(np.prod(shape)):
        raise Unfit
    low = -size if m.opset >= 11 else 0
    data = m.np.integers(low, max(size, low + 1), tuple(shape)).astype(m.pick(np.int64, np.int64, np.int32))
    kind = helper.np_dtype_to_tensor_dtype(data.dtype)
    return m.const(data) if m.chance(0.5) else m.input(data.shape, kind, data)


def gather(m: Maker, _: Val) -> Val:
    kind = m.pick(
        "Gather",
        "Gather",
        "GatherElements",
        "GatherND",
        "ArrayScatter",
        "ScatterElements",
        "ScatterND",
        "Scatter",
        "Compress",
        "OneHot",
        "TensorScatter",
    )
    shape = dims(m, 1, 2, 3, 4)
    x = value(m, shape, m.pick(*ANY))
    axis = m.whole(0, x.rank - 1)
    size = shape[axis]
    at = axis - x.rank if m.chance(0.4) and m.opset >= 11 else axis
    if kind == "Gather":
        return m.op(kind, x, indices(m, dims(m, 0, 1, 2, 3), size), axis=at)
    if kind == "GatherElements":
        take = [
            d if i != axis and m.chance(0.7) else m.whole(0, d) if i != axis else m.whole(0, 5)
            for i, d in enumerate(shape)
        ]
        return m.op(kind, x, indices(m, take, size), axis=at)
    if kind == "GatherND":
        batch = m.whole(0, x.rank - 1) if m.opset >= 12 and m.chance(0.5) else 0
        last = m.whole(1, x.rank - batch)
        sizes = shape[batch : batch + last]
        if 0 in sizes:
            raise Unfit
        lead = [*shape[:batch], *dims(m, 0, 1, 2)]
        data = np.stack([m.np.integers(-s if m.opset >= 11 else 0, s, lead) for s in sizes], -1).astype(
            np.int64
        )
        given = m.const(data) if m.chance(0.5) else m.input(data.shape, T.INT64, data)
        return m.op(kind, x, given, **({"batch_dims": batch} if batch else {}))
    mode = m.pick(None, "none", "add", "mul") if m.opset >= 16 else None
    if mode and m.opset >= 18:
        mode = m.pick(mode, "max", "min")
    if kind in ("ScatterElements", "Scatter"):
        if size == 0:
            raise Unfit
        take = [d if i != axis else m.whole(1, size) for i, d in enumerate(shape)]
        order = m.np.random(take).argsort(axis) if mode in (None, "none") else m.np.integers(0, size, take)
        order = order % size
        if m.opset >= 11:
            order = np.where(m.np.random(take) < 0.3, order - size, order)
        given = m.const(order.astype(np.int64)) if m.chance(0.5) else m.input(order.shape, T.INT64, order)
        return m.op(kind, x, given, value(m, take, x.dtype), axis=at, **({"reduction": mode} if mode else {}))
    if kind == "ScatterND":
        last = m.whole(1, x.rank)
        sizes = shape[:last]
        total = int(np.prod(sizes))
        if total == 0:
            raise Unfit
        count = m.whole(0, total)
        flat = m.np.permutation(total)[:count]
        data = np.stack(np.unravel_index(flat, sizes), -1).astype(np.int64).reshape(count, last)
        if m.opset >= 11:
            data = np.where(m.np.random(data.shape) < 0.3, data - np.array(sizes), data)
        given = m.const(data) if m.chance(0.5) else m.input(data.shape, T.INT64, data)
        attrs = {"reduction": mode} if mode else {}
        return m.op(kind, x, given, value(m, [count, *shape[last:]], x.dtype), **attrs)
    if kind == "Compress":
        flat_too = m.chance(0.3)
        n = int(np.prod(shape)) if flat_too else size
        mask = m.data((m.whole(1, max(1, n)),), T.BOOL)
        given = m.const(mask) if m.chance(0.4) else m.input(mask.shape, T.BOOL, mask)
        return m.op(kind, x, given, axis=None if flat_too else at)
    if kind == "OneHot":
        depth = m.whole(1, 6)
        code = m.np.integers(-depth - 1, depth + 2, shape).astype(m.pick(np.int64, np.int32, np.float32))
        given = m.input(code.shape, helper.np_dtype_to_tensor_dtype(code.dtype), code)
        deep = np.array(depth, m.pick(np.int64, np.int32, np.float32))
        deep = deep.reshape(1) if m.chance(0.4) else deep
        ends = m.const(np.array([0, 7], m.pick(np.float32, np.int64, np.int32)))
        return m.op(kind, given, m.const(deep), ends, axis=m.pick(None, m.whole(-len(shape) - 1, len(shape))))
    raise Unfit


def slices(m: Maker, _: Val) -> Val:
    shape = dims(m, 1, 2, 3, 4)
    x = value(m, shape, m.pick(*ANY))
    axes = m.some(range(x.rank), m.whole(1, x.rank))
    starts = [m.whole(-shape[a] - 2, shape[a] + 2) for a in axes]
    ends = [m.pick(2**31 - 2, -(2**31), m.whole(-shape[a] - 2, shape[a] + 2)) for a in axes]
    if m.opset < 10:
        return m.op("Slice", x, starts=starts, ends=ends, axes=axes)
    kind = m.pick(np.int64, np.int32)
    steps = [m.pick(1, 1, 2, -1, -2, 3) for _ in axes]
    named = [a - x.rank if m.chance(0.4) else a for a in axes]

    def given(numbers: list[int]) -> Val:
        a = np.array(numbers, kind)
        return m.input(a.shape, helper.np_dtype_to_tensor_dtype(a.dtype), a) if m.chance(0.2) else m.const(a)

    if axes == list(range(len(axes))) and m.chance(0.3):
        return m.op("Slice", x, given(starts), given(ends))
    return m.op(
        "Slice", x, given(starts), given(ends), given(named), *([given(steps)] if m.chance(0.7) else [])
    )


def pads(m: Maker, _: Val) -> Val:
    shape = dims(m, 1, 2, 3, 4, 5)
    x = value(m, shape, m.pick(*FLOATS, T.INT32, T.INT64, T.INT8, T.UINT8, T.BOOL))
    mode = m.pick(None, "constant", "constant", "edge", "reflect", "wrap" if m.opset >= 19 else "edge")
    most = [3 if mode in (None, "constant") else min(3, d) for d in shape]
    if mode == "reflect":
        most = [max(0, min(3, d - 1)) for d in shape]
    each = [m.whole(0, most[i % x.rank]) if m.chance(0.6) else 0 for i in range(2 * x.rank)]
    if m.chance(0.15):
        i = m.whole(0, 2 * x.rank - 1)
        each[i] = -m.whole(0, max(0, (shape[i % x.rank] - 1) // 2))
    if m.opset < 11:
        return m.op("Pad", x, pads=each, mode=mode, value=m.pick(None, 0.5))
    listed = np.array(each, np.int64)
    fill = None if m.chance(0.4) else m.const(m.data((), x.dtype))
    rest: list[Val | None] = [fill]
    if m.opset >= 18 and m.chance(0.4):
        axes = m.some(range(x.rank), m.whole(1, x.rank))
        listed = np.array([each[a] for a in axes] + [each[x.rank + a] for a in axes], np.int64)
        named = np.array([a - x.rank if m.chance(0.4) else a for a in axes], m.pick(np.int64, np.int32))
        rest.append(m.const(named))
    given = m.input(listed.shape, T.INT64, listed) if m.chance(0.25) else m.const(listed)
    while rest and rest[-1] is None:
        rest.pop()
    return m.op("Pad", x, given, *rest, mode=mode)


def splits(m: Maker, _: Val) -> Val:
    shape = dims(m, 1, 2, 3)
    x = value(m, shape, m.pick(*ANY))
    axis = m.whole(0, x.rank - 1)
    size = shape[axis]
    at = m.axis(x, axis) if m.opset >= 11 else axis
    if m.opset >= 18 and m.chance(0.5):
        count = m.whole(1, max(1, size))
        parts = m.ops("Split", x, outputs=count, axis=at, num_outputs=count)
    else:
        cuts = sorted(m.whole(0, size) for _ in range(m.whole(0, 3)))
        sizes = [b - a for a, b in zip([0, *cuts], [*cuts, size], strict=True)]
        if m.opset < 13:
            parts = m.ops("Split", x, outputs=len(sizes), axis=at, split=sizes)
        else:
            listed = np.array(sizes, np.int64)
            given = m.input(listed.shape, T.INT64, listed) if m.chance(0.3) else m.const(listed)
            parts = m.ops("Split", x, given, outputs=len(sizes), axis=at)
    return m.pick(*parts)


def made(m: Maker, _: Val) -> Val:
    """Operators whose result's shape or elements follow from numbers or data."""
    kind = m.pick(
        "Range",
        "ConstantOfShape",
        "EyeLike",
        "NonZero",
        "Unique",
        "Trilu",
        "ReverseSequence",
        "Det",
        "Size",
        "Shape",
        "Expand",
        "Tile",
        "Where",
        "DepthToSpace",
        "SpaceToDepth",
        "Reshape",
        "Flatten",
        "NonMaxSuppression",
        "Transpose",
        "Concat",
        "Squeeze",
        "Unsqueeze",
        "Clip",
        "Clip",
    )
    dtype = m.pick(*ANY)
    if kind == "Range":
        kinds = m.pick(T.FLOAT, T.INT64, T.INT32, T.DOUBLE, T.INT16)
        numbers = [m.whole(-5, 5), m.whole(-5, 9), m.pick(1, 2, -1, 3)]
        arrays = [np.array(v, helper.tensor_dtype_to_np_dtype(kinds)) for v in numbers]
        return m.op(kind, *(m.input((), kinds, a) if m.chance(0.3) else m.const(a) for a in arrays))
    if kind == "ConstantOfShape":
        listed = np.array(dims(m, 0, 1, 2, 3), np.int64)
        given = m.input(listed.shape, T.INT64, listed) if m.chance(0.3) else m.const(listed)
        filled = helper.make_tensor("", dtype, [1], m.data((1,), dtype)) if m.chance(0.7) else None
        return m.op(kind, given, value=filled)
    shape = dims(m, 1, 2, 3, 4)
    if kind in ("EyeLike", "Det"):
        shape = [*dims(m, 0, 1), *[m.whole(1, 4)] * 2] if kind == "Det" else dims(m, 2)
        x = value(m, shape, m.pick(T.FLOAT, T.DOUBLE))
        if kind == "Det":
            return m.op(kind, x)
        return m.op(kind, x, k=m.pick(None, 1, -1, 3), dtype=m.pick(None, T.INT64, T.FLOAT))
    if kind == "NonZero":
        return m.op(kind, value(m, m.pick(shape, []), m.pick(T.FLOAT, T.INT64, T.BOOL, T.UINT8, T.INT32)))
    if kind == "Unique":
        shape = [max(1, d) for d in shape]  # without elements it ends the process of onnxruntime
        data = m.np.integers(0, 3, shape).astype(m.pick(np.float32, np.int64, np.int8, np.float64))
        x = m.input(shape, helper.np_dtype_to_tensor_dtype(data.dtype), data)
        axis = m.pick(None, m.axis(x, m.whole(0, x.rank - 1)))
        return m.ops(kind, x, outputs=m.whole(1, 4), axis=axis, sorted=m.pick(None, 0, 1))[0]
    if kind == "Trilu":
        x = value(m, dims(m, 2, 3, 4), dtype)
        k = np.array(m.whole(-4, 4), np.int64)
        rest = [m.const(k) if m.chance(0.6) else m.input((), T.INT64, k)] if m.chance(0.7) else []
        return m.op(kind, x, *rest, upper=m.pick(None, 0, 1))
    if kind == "ReverseSequence":
        shape = [max(1, d) for d in dims(m, 2, 3, 4)]
        batch = m.pick(0, 1)
        lens = m.np.integers(1, shape[1 - batch] + 1, shape[batch])
        return m.op(
            kind,
            value(m, shape, dtype),
            m.input(lens.shape, T.INT64, lens),
            batch_axis=batch,
            time_axis=1 - batch,
        )
    x = value(m, shape, dtype)
    if kind == "Shape":
        low, high = m.pick(None, m.whole(-6, 6)), m.pick(None, m.whole(-6, 6))
        return m.op(kind, x, **({"start": low, "end": high} if m.opset >= 15 else {}))
    if kind == "Expand":
        x = value(m, [d if m.chance(0.5) else 1 for d in shape], dtype)
        listed = np.array(shape if m.chance(0.8) else [2, *shape], np.int64)
        return m.op(kind, x, m.input(listed.shape, T.INT64, listed) if m.chance(0.3) else m.const(listed))
    if kind == "Tile":
        times = np.array([m.whole(0, 3) if m.chance(0.5) else 1 for _ in shape], np.int64)
        return m.op(kind, x, m.input(times.shape, T.INT64, times) if m.chance(0.3) else m.const(times))
    if kind == "Where":
        return m.op(kind, value(m, partner(m, shape), T.BOOL), x, value(m, partner(m, shape), dtype))
    if kind == "Transpose":
        return m.op(kind, x, perm=m.pick(None, m.some(range(x.rank), x.rank)))
    if kind == "Concat":
        axis = m.whole(0, x.rank - 1)
        parts = [
            value(m, [m.whole(0, 3) if i == axis else d for i, d in enumerate(shape)], dtype)
            for _ in range(m.whole(0, 3))
        ]
        return m.op(kind, x, *parts, axis=m.axis(x, axis) if m.opset >= 11 else axis)
    if kind == "Flatten":
        return m.op(kind, x, axis=m.pick(None, m.whole(-x.rank if m.opset >= 11 else 0, x.rank)))
    if kind == "Clip":
        dtype = m.pick(*FLOATS, T.INT32, T.INT8, T.UINT8, T.INT64, T.UINT64)
        x = wide(m, shape, dtype)
        low, high = sorted(m.data((2,), dtype))
        if m.opset < 11:
            return m.op(kind, x, min=m.pick(None, -0.5), max=m.pick(None, 0.5))
        ends = [
            m.pick(None, 1) and (m.const(np.array(e)) if m.chance(0.6) else m.input((), dtype, np.array(e)))
            for e in (low, high)
        ]
        return m.op(kind, x, *ends) if ends[1] else m.op(kind, x, *ends[:1])
    if kind in ("Squeeze", "Unsqueeze"):
        if kind == "Squeeze":
            ones = [i for i, d in enumerate(shape) if d == 1]
            axes = m.some(ones, m.whole(0, len(ones)))
            axes = [a - x.rank if m.chance(0.4) and m.opset >= 11 else a for a in axes]
            if not axes:
                return m.op(kind, x)
        else:
            count = m.whole(1, 2)
            axes = m.some(range(x.rank + count), count)
            axes = [a - x.rank - count if m.chance(0.4) and m.opset >= 11 else a for a in axes]
        if m.opset < 13:
            return m.op(kind, x, axes=axes)
        listed = np.array(axes, np.int64)
        return m.op(kind, x, m.input(listed.shape, T.INT64, listed) if m.chance(0.2) else m.const(listed))
    if kind == "Reshape":
        wanted = np.array(m.pick([-1], [0, -1], [*shape, 1], [1, *shape]), np.int64)
        if 0 in shape:
            wanted = np.array([*shape, 1], np.int64)
        allow = m.pick(None, 0, 1 if -1 not in wanted else 0) if m.opset >= 14 else None
        return m.op(
            kind,
            x,
            m.input(wanted.shape, T.INT64, wanted) if m.chance(0.3) else m.const(wanted),
            allowzero=allow,
        )
    if kind in ("DepthToSpace", "SpaceToDepth"):
        b = m.whole(1, 3)
        n, c, h, w = (m.whole(1, 3) for _ in range(4))
        if kind == "DepthToSpace":
            mode = m.pick(None, "DCR", "CRD") if m.opset >= 11 else None
            return m.op(kind, value(m, [n, c * b * b, h, w], m.pick(*FLOATS)), blocksize=b, mode=mode)
        return m.op(kind, value(m, [n, c, h * b, w * b], m.pick(*FLOATS)), blocksize=b)
    if kind == "NonMaxSuppression":
        n, k, c = m.whole(1, 2), m.whole(1, 8), m.whole(1, 3)
        corner = m.np.random((n, k, 2))
        center = m.pick(None, 0, 1)
        far = m.np.random((n, k, 2)) * 0.7
        boxes = np.concatenate([corner, far if center else corner + far], 2).astype(np.float32)
        if not center and m.chance(0.3):
            boxes = boxes[..., [2, 3, 0, 1]]
        scores = m.np.random((n, c, k)).astype(np.float32)
        most = m.pick([], [m.ints(m.whole(0, 4))], [m.const(np.array(3, np.int64))])
        rest = [m.const(np.array([v], np.float32)) for v in (0.4, m.pick(0.2, -1.0))] if most else []
        return m.op(
            kind,
            m.input(boxes.shape, T.FLOAT, boxes),
            m.input(scores.shape, T.FLOAT, scores),
            *most,
            *rest[: m.whole(0, 2)],
            center_point_box=center,
        )
    return m.op(kind, x)
