# SPDX-License-Identifier: Apache-2.0
"""Grouped convolutions that fill channel blocks: what becomes of them, and onnxruntime's word on it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime
import pytest

import pyneo
from pyneo.compiler.driver import _declare_symbols
from pyneo.compiler.frontends.onnx import load_onnx
from pyneo.compiler.lower.groups import fill_blocks
from pyneo.compiler.passes import optimise
from pyneo.compiler.targets import target as targets
from tests.support.models import from_text
from tests.support.passes import f32, num

CONSTANTS = {
    # widths 8 and 24: 3, 4 and 5 groups
    "g3": f32(24, 8, 3, 3) / 8,
    "g4": f32(32, 8, 3, 3) / 8,
    "w4": f32(96, 24, 3, 3) / 14,
    "w5": f32(120, 24, 1, 1) / 5,
    "uneven": f32(24, 4, 3, 3) / 6,
    "to24": f32(24, 5, 1, 1) / 2,
    "b24": f32(24),
    "to32": f32(32, 5, 1, 1) / 2,
    "to96": f32(96, 5, 1, 1) / 2,
    "to120": f32(120, 5, 1, 1) / 2,
    "from24": f32(7, 24, 1, 1) / 5,
    "from120": f32(7, 120, 1, 1) / 11,
    "down": f32(6, 24, 1, 1) / 5,
    "up": f32(24, 6, 1, 1) / 2,
    "d24": f32(24, 1, 3, 3) / 3,
    "row24": f32(24, 1, 1),
    "two": num(2.0),
}
IN24, OUT24 = "a = Conv(x, to24, b24) r = Relu(a) ", "y = Conv(s, from24)"
GROUPS = "g = Conv<group=3, pads=[1,1,1,1]>(r, g3, b24) "
SQUEEZE = "q = Conv(m, down) u = Relu(q) v = Conv(u, up, b24) t = Sigmoid(v) s = Mul(g, t) "


@dataclass(frozen=True)
class Case:
    """`groups`: (group, channels of a group) of the grouped convolutions where blocks have 16 channels."""

    name: str
    body: str
    groups: list[tuple[int, int]]
    of_8: list[tuple[int, int]]
    outputs: tuple[str, ...] = ("y",)
    inputs: dict[str, tuple[int | str, ...]] = field(default_factory=lambda: {"x": (2, 5, 6, 7)})

    def model(self) -> onnx.ModelProto:
        words = self.body.replace("(", " ").replace(")", " ").replace(",", " ").split()
        used = {n: a for n, a in CONSTANTS.items() if n in words}
        return from_text(self.body, self.inputs, used, self.outputs)


CASES = [
    Case("kernels_merge_an_even_number", "a = Conv(x, to32) y = Conv<group=4>(a, g4)", [(4, 8)], [(4, 8)]),
    Case("an_odd_number", f"{IN24}{GROUPS}s = Relu(g) {OUT24}", [(4, 8)], [(3, 8)]),
    Case(
        "squeeze_and_excitation",
        f"{IN24}{GROUPS}m = GlobalAveragePool(g) {SQUEEZE}{OUT24}",
        [(4, 8)],
        [(3, 8)],
    ),
    Case(
        "a_mean_of_planes",
        f"{IN24}{GROUPS}m = ReduceMean<axes=[2, -1]>(g) {SQUEEZE}{OUT24}",
        [(4, 8)],
        [(3, 8)],
    ),
    Case(
        "a_mean_of_channels_stays",
        f"{IN24}{GROUPS}m = ReduceMean<axes=[1]>(g) s = Add(g, m) {OUT24}",
        [(3, 8)],
        [(3, 8)],
    ),
    Case("a_residual", f"{IN24}{GROUPS}s = Add(g, r) {OUT24}", [(4, 8)], [(3, 8)]),
    Case(
        "depthwise_behind",
        f"{IN24}{GROUPS}h = Mul(g, two) s = Conv<group=24>(h, d24, b24) {OUT24}",
        [(4, 8), (32, 1)],
        [(3, 8), (24, 1)],
    ),
    Case(
        "twice",
        f"{IN24}{GROUPS}h = HardSwish(g) s = Conv<group=3>(h, g3) {OUT24}",
        [(4, 8), (4, 8)],
        [(3, 8), (3, 8)],
    ),
    Case("a_shift_stays", f"{IN24}{GROUPS}h = Exp(g) s = Add(h, row24) {OUT24}", [(3, 8)], [(3, 8)]),
    Case("seen_from_outside", f"{IN24}{GROUPS}s = Relu(g) {OUT24}", [(3, 8)], [(3, 8)], ("y", "g")),
    Case("an_input", "y = Conv<group=3>(x, g3)", [(3, 8)], [(3, 8)], inputs={"x": (1, 24, 5, 5)}),
    Case("wide", "a = Conv(x, to96) y = Conv<group=4>(a, w4)", [(2, 48)], [(4, 24)]),
    Case(
        "wide_and_odd",
        "a = Conv(x, to120) s = Conv<group=5>(a, w5) y = Conv(s, from120)",
        [(3, 48)],
        [(5, 24)],
    ),
    Case("uneven", "a = Conv(x, to24) y = Conv<group=6>(a, uneven)", [(6, 4)], [(6, 4)]),
    Case(
        "open_batch",
        f"{IN24}{GROUPS}s = Relu(g) {OUT24}",
        [(3, 8)],
        [(3, 8)],
        inputs={"x": ("N", 5, 6, 7)},
    ),
]


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_groups(case: Case) -> None:
    model = case.model()
    for target, expected in (("x86-64-v4", case.groups), ("x86-64-v3", case.of_8)):
        graph = load_onnx(model)
        _declare_symbols(graph)
        optimise(graph)
        fill_blocks(graph, targets.find(target))
        convs = [(n.int_attr("group", 1), n.const(1)) for n in graph.nodes if n.op == "Conv"]
        assert [(g, w.shape[1]) for g, w in convs if w is not None and g > 1] == expected
    shape = [d if isinstance(d, int) else 3 for d in case.inputs["x"]]
    feeds = {"x": np.random.default_rng(1).standard_normal(shape).astype(np.float32)}
    peer = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = peer.run(list(case.outputs), feeds)
    got = pyneo.Model.load(pyneo.compile(model), allow_unsigned=True).predict(feeds)
    for name, reference in zip(case.outputs, wanted, strict=True):
        np.testing.assert_allclose(got[name], reference, rtol=1e-4, atol=1e-5, err_msg=name)
