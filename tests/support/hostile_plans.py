# SPDX-License-Identifier: Apache-2.0
"""Sound plans for the hostile tests to break, and what they then expect."""

from __future__ import annotations

import copy
from functools import cache

import numpy as np
import onnx
import pytest
from onnx import helper

import pyneo
from tests.support.corpus import MODELS
from tests.support.models import model
from tests.support.plan_records import Plan

I32, I64 = 2**31 - 1, 2**63 - 1


@cache
def compiled(name: str) -> Plan:
    if name == "dynamic":
        return Plan(MODELS["convnet"](), shapes={"x": ("N<=4", 3, "H", "W")})
    return Plan((MODELS | ONE_NODE)[name]())


def plan(name: str) -> Plan:
    """A plan of this test's own to change."""
    p = copy.copy(compiled(name))
    for field in ("tensors", "nodes", "operands", "graphs", "symbols", "attrs", "strings", "weights"):
        setattr(p, field, copy.deepcopy(getattr(p, field)))
    return p


def feeds(m: pyneo.Model) -> list[np.ndarray]:
    """Zeros for every input; open dims are a batch of 2 and images 8 pixels wide."""

    def size(i: int, dim: int | str) -> int:
        return dim if isinstance(dim, int) and dim >= 0 else (2, 3, 8, 8)[i % 4]

    return [np.zeros([size(i, d) for i, d in enumerate(shape)], dtype) for _, dtype, shape in m.inputs]


def sentence(e: BaseException) -> None:
    assert len(str(e)) > 20 and "\n" not in str(e)


def refused(p: Plan, words: str = "plan|node") -> None:
    with pytest.raises(pyneo.Error, match=words) as e:
        p.load()
    sentence(e.value)


def survives(p: Plan, data: bytes | None = None) -> bool:
    """Loads and runs, or raises a clean error; whether it ran. A crash would end the test process."""
    try:
        with p.load(data) as m:
            m.predict(*feeds(m))
    except (pyneo.Error, MemoryError) as e:
        sentence(e)
        return False
    return True


def one(
    op: str, x: tuple[int, ...], constants: dict[str, np.ndarray] | None = None, y: int = 1, **attrs
) -> onnx.ModelProto:
    """x -> y of one operator, its other inputs constant."""
    constants = constants or {}
    names = [f"y{i}" for i in range(y)]
    node = helper.make_node(op, ["x", *constants], names, **attrs)
    made = model([node], {"x": x}, dict.fromkeys(names), constants, opset=17)
    for output in made.graph.output:
        output.ClearField("type")
    return onnx.shape_inference.infer_shapes(made)


def weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


ONE_NODE = {
    "conv": lambda: one(
        "Conv",
        (1, 4, 8, 8),
        {"w": weights(4, 4, 3, 3)},
        pads=[1] * 4,
        strides=[1, 1],
        dilations=[1, 1],
        group=1,
    ),
    "depthwise": lambda: one("Conv", (1, 4, 8, 8), {"w": weights(4, 1, 3, 3)}, pads=[1] * 4, group=4),
    "conv1d": lambda: one("Conv", (1, 4, 8), {"w": weights(4, 4, 3)}, pads=[1] * 2),
    "deconv": lambda: one(
        "ConvTranspose",
        (1, 4, 4, 4),
        {"w": weights(4, 8, 3, 3)},  # of fewer outputs it would become a Conv
        strides=[2, 2],
        pads=[1] * 4,
        output_padding=[1, 1],
    ),
    "max_pool": lambda: one("MaxPool", (1, 4, 8, 8), kernel_shape=[2, 2], strides=[2, 2], pads=[0] * 4),
    "max_pool_at": lambda: one("MaxPool", (1, 4, 8, 8), y=2, kernel_shape=[2, 2], strides=[2, 2]),
    "average_pool": lambda: one(
        "AveragePool", (1, 4, 8, 8), kernel_shape=[2, 2], strides=[2, 2], pads=[0] * 4
    ),
    "lp_pool": lambda: one("LpPool", (1, 4, 8, 8), kernel_shape=[2, 2], p=2),
    "softmax": lambda: one("Softmax", (2, 3, 4), axis=1),
    "transpose": lambda: one("Transpose", (2, 3, 4), perm=[2, 0, 1]),
    "reduce": lambda: one("ReduceMax", (2, 3, 4), axes=[0, 2], keepdims=1),
    "reduce_sum": lambda: one("ReduceSum", (2, 3, 4), {"axes": np.array([0, 2])}, keepdims=1),
    "arg_max": lambda: one("ArgMax", (2, 3, 4), axis=1),
    "to_depth": lambda: one("SpaceToDepth", (1, 4, 8, 8), blocksize=2),
    "to_space": lambda: one("DepthToSpace", (1, 4, 8, 8), blocksize=2),
    "gather": lambda: one("Gather", (2, 3, 4), {"i": np.array([0, 1])}, axis=1),
    "gather_elements": lambda: one("GatherElements", (2, 3), {"i": np.array([[0, 1]])}, axis=0),
    "gather_nd": lambda: one("GatherND", (2, 3), {"i": np.array([[0, 1]])}, batch_dims=0),
    "top_k": lambda: one("TopK", (2, 8), {"k": np.array([3])}, y=2, axis=1),
    "split": lambda: one("Split", (2, 8), {"s": np.array([3, 5])}, y=2, axis=1),
    "slice": lambda: one(
        "Slice", (2, 8), {"s": np.array([1]), "e": np.array([7]), "a": np.array([1]), "t": np.array([2])}
    ),
    "pad": lambda: one("Pad", (2, 8), {"p": np.array([0, 1, 0, 1])}),
    "tile": lambda: one("Tile", (2, 8), {"n": np.array([2, 1])}),
    "expand": lambda: one("Expand", (1, 8), {"s": np.array([3, 8])}),
    "reshape": lambda: one("Reshape", (2, 8), {"s": np.array([4, 4])}),
    "resize": lambda: one(
        "Resize",
        (1, 2, 4, 4),
        {"r": np.zeros(0, np.float32), "s": np.array([1, 1, 2, 2], np.float32)},
        mode="linear",
    ),
    "lrn": lambda: one("LRN", (1, 4, 3, 3), size=3),
    "layer_norm": lambda: one("LayerNormalization", (2, 8), {"g": weights(8), "b": weights(8)}, axis=-1),
    "cum_sum": lambda: one("CumSum", (2, 8), {"a": np.array(1)}),
    "gemm": lambda: one("Gemm", (2, 8), {"w": weights(8, 4), "b": weights(4)}, transA=0, transB=0),
    "lstm": lambda: one(
        "LSTM", (3, 2, 4), {"w": weights(1, 20, 4), "r": weights(1, 20, 5)}, y=3, hidden_size=5
    ),
    "einsum": lambda: one("Einsum", (2, 8), {"w": weights(8, 4)}, equation="ab,bc->ac"),
    "quantize": lambda: one(
        "QuantizeLinear", (2, 3), {"s": weights(3) ** 2, "z": np.zeros(3, np.uint8)}, axis=1
    ),
}
EVERY = [*MODELS, "dynamic", *ONE_NODE]
