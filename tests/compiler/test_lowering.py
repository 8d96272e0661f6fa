# SPDX-License-Identifier: Apache-2.0
"""Lowering: concatenations and splits without a step, shared weights, tight arenas, fp32 that is fp32."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import pyneo
from tests.support.models import from_text
from tests.support.passes import f32, ints

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import models

X: dict[str, tuple[int | str, ...]] = {"x": (1, 16, 6, 6)}
CONSTANTS = {
    "w": f32(16, 16, 3, 3) / 12,
    "w2": f32(16, 16, 3, 3) / 12,
    "narrow": f32(3, 16, 1, 1) / 4,
    "halves": ints(8, 8),
    "thirds": ints(3, 5, 8),
    "flat": ints(1, 16, 36),
    "fours": ints(4, 4, 8),
    "zero": ints(0),
    "one": ints(1),
    "four": ints(4),
    "minus": ints(-3),
    "inner": ints(-1),
    "end": ints(1 << 40),
}
SAME = "pads=[1, 1, 1, 1]"
CONVS = f"a = Conv<{SAME}>(x, w) b = Conv<{SAME}>(x, w2)"


@dataclass(frozen=True)
class Views:
    """`steps`: how many Concat, Slice and Split steps remain of a graph."""

    name: str
    body: str
    steps: int
    inputs: dict[str, tuple[int | str, ...]] = field(default_factory=lambda: X)
    outputs: tuple[str, ...] = ("y",)

    def model(self) -> onnx.ModelProto:
        words = self.body.replace("(", " ").replace(")", " ").replace(",", " ").split()
        used = {n: a for n, a in CONSTANTS.items() if n in words}
        return from_text(self.body, self.inputs, used, self.outputs)


VIEWS = [
    Views("parts_are_written_in_place", f"{CONVS} c = Concat<axis=1>(a, b) y = Exp(c)", 0),
    Views(
        "parts_of_parts",
        f"{CONVS} c = Concat<axis=1>(a, b) e = Exp(x) d = Concat<axis=1>(c, e) y = Exp(d)",
        0,
    ),
    Views("split_parts_are_read_in_place", "e = Exp(x) a, b = Split<axis=1>(e, halves) y = Mul(a, b)", 0),
    Views(
        "uneven_parts",
        "a, b, c = Split<axis=1>(x, thirds) d = Exp(a) e = Sin(b) f = Relu(c) "
        "g = Concat<axis=1>(f, e, d) y = Neg(g)",
        0,
    ),
    Views(
        "split_and_concatenated_again",
        "e = Exp(x) a, b = Split<axis=1>(e, halves) n = Neg(b) s = Mul(n, n) "
        "c = Concat<axis=1>(a, b, s) y = Relu(c)",
        0,
    ),
    Views(
        "a_part_that_others_read_too",
        f"{CONVS} c = Concat<axis=1>(a, b) d = Exp(c) e = Concat<axis=1>(d, a) y = Neg(e)",
        1,
    ),
    Views(
        "a_split_whole_that_others_read_too",
        "e = Exp(x) a, b = Split<axis=1>(e, halves) r = Relu(a) t = Neg(b) "
        "s = Concat<axis=1>(t, r) y = Add(s, e)",
        0,
    ),
    Views("a_slice_is_read_in_place", "e = Exp(x) a = Slice(e, four, end, one) y = Neg(a)", 0),
    Views(
        "a_slice_from_behind_and_the_whole_are_read_in_place",
        "e = Exp(x) a = Slice(e, minus, end, one) r = Relu(a) s = Slice(e, zero, four, one) "
        "t = ReduceSum(s) u = Add(r, t) v = ReduceSum(e) y = Mul(u, v)",
        0,
    ),
    Views(
        "slices_that_take_all_are_a_split",
        "e = Exp(x) a = Slice(e, four, end, one) b = Slice(e, zero, four, one) "
        "n = Neg(a) c = Concat<axis=1>(n, b) y = Sin(c)",
        1,
    ),
    Views(
        "a_slice_along_an_inner_axis_is_copied",
        "e = Exp(x) a = Slice(e, zero, four, inner) y = Neg(a)",
        1,
    ),
    Views("a_slice_that_is_an_output_is_copied", "e = Exp(x) y = Slice(e, four, end, one)", 1),
    Views(
        "reshaped_parts",
        "a = Exp(x) b = Sin(x) p = Reshape(a, flat) q = Reshape(b, flat) c = Concat<axis=1>(p, q) y = Neg(c)",
        0,
    ),
    Views("a_part_used_twice_is_copied", "a = Exp(x) c = Concat<axis=1>(a, a) y = Neg(c)", 1),
    Views(
        "a_part_that_is_an_output_is_copied",
        "a = Exp(x) b = Sin(x) c = Concat<axis=1>(a, b) y = Neg(c)",
        1,
        outputs=("y", "a"),
    ),
    Views(
        "a_part_that_is_an_input_is_copied",
        "a = Exp(x) c = Concat<axis=1>(a, r) y = Neg(c)",
        1,
        inputs=X | {"r": (1, 4, 6, 6)},
    ),
    Views("a_whole_that_is_an_output_is_copied", "a = Exp(x) b = Sin(x) y = Concat<axis=1>(a, b)", 1),
    Views(
        "a_whole_whose_view_is_an_output_is_copied",
        "a = Exp(x) b = Sin(x) c = Concat<axis=1>(a, b) y = Flatten(c)",
        1,
    ),
    Views(
        "parts_that_are_outputs_are_copied",
        "e = Exp(x) y, z = Split<axis=1>(e, halves)",
        1,
        outputs=("y", "z"),
    ),
    Views(
        "parts_of_a_batch_are_copied",
        "a = Exp(x) b = Sin(x) c = Concat<axis=1>(a, b) y = Neg(c)",
        1,
        inputs={"x": (2, 16, 6, 6)},
    ),
    Views(
        "parts_along_an_inner_axis_are_copied", "a = Exp(x) b = Sin(x) c = Concat<axis=3>(a, b) y = Neg(c)", 1
    ),
    Views(
        "batches_are_joined_in_place",
        "a = Exp(x) b = Sin(x) c = Concat<axis=0>(a, b) y = Neg(c)",
        0,
        inputs={"x": (2, 16, 6, 6)},
    ),
    Views(
        "a_part_in_two_concatenations",
        "a = Exp(x) b = Sin(x) c = Concat<axis=1>(a, b) d = Concat<axis=1>(b, a) n = Neg(c) y = Mul(n, d)",
        1,
    ),
    Views(
        "an_in_place_operator_leaves_its_sibling",
        "e = Exp(x) a, b = Split<axis=1>(e, halves) r = Relu(a) "
        "s = Neg(r) t = Mul(s, b) u = Concat<axis=1>(t, a) y = Add(u, e)",
        1,
    ),
]


def run_both(model: onnx.ModelProto, seed: int = 0) -> tuple[pyneo.Package, float]:
    """The package, and the largest error relative to the scale of each output against onnxruntime."""
    rng = np.random.default_rng(seed)
    stored = {t.name for t in model.graph.initializer}
    feeds = {
        i.name: rng.standard_normal([d.dim_value for d in i.type.tensor_type.shape.dim]).astype(np.float32)
        for i in model.graph.input
        if i.name not in stored
    }
    package = pyneo.compile(model)
    got = pyneo.Model.load(package, allow_unsigned=True).predict(feeds)
    peer = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return package, error(
        got, dict(zip([o.name for o in peer.get_outputs()], peer.run(None, feeds), strict=True))
    )


def error(got: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> float:
    assert got.keys() == wanted.keys()
    worst = 0.0
    for name, reference in wanted.items():
        assert got[name].shape == reference.shape
        worst = max(worst, float(np.abs(got[name] - reference).max() / (np.abs(reference).max() + 1e-30)))
    return worst


@pytest.mark.parametrize("case", VIEWS, ids=lambda c: c.name)
def test_concat_and_split_take_a_step_only_where_they_must(case: Views) -> None:
    package, worst = run_both(case.model())
    assert worst < 1e-5
    assert sum(s.op in ("Concat", "Slice", "Split") for s in package.report().steps) == case.steps


def scrambled(seed: int) -> onnx.ModelProto:
    """A random graph of splits, concatenations, convolutions and elementwise operators over [1, C, 2, 2]."""
    rng = np.random.default_rng(seed)
    lines, constants = [], {}
    live: dict[str, int] = {"x": 16, "r": 8}  # name -> channels
    for k in range(int(rng.integers(4, 14))):
        name = str(rng.choice(list(live)))
        channels = live[name]
        kind = rng.choice(["unary", "unary", "concat", "concat", "split", "add", "conv"])
        if kind == "unary":
            lines.append(f"t{k} = {rng.choice(['Neg', 'Relu', 'Sigmoid', 'Identity', 'Tanh'])}({name})")
            live[f"t{k}"] = channels
        elif kind == "concat":
            parts = [str(p) for p in rng.choice(list(live), int(rng.integers(2, 4)))]
            if sum(live[p] for p in parts) <= 96:
                lines.append(f"t{k} = Concat<axis=1>({', '.join(parts)})")
                live[f"t{k}"] = sum(live[p] for p in parts)
        elif kind == "split" and channels >= 2:
            cut = int(rng.integers(1, channels)) if rng.random() < 0.5 else max(1, channels // 2)
            constants[f"s{k}"] = ints(cut, channels - cut)
            lines.append(f"t{k}a, t{k}b = Split<axis=1>({name}, s{k})")
            live |= {f"t{k}a": cut, f"t{k}b": channels - cut}
        elif kind == "add":
            other = str(rng.choice([n for n, c in live.items() if c == channels]))
            lines.append(f"t{k} = Add({name}, {other})")
            live[f"t{k}"] = channels
        elif kind == "conv":
            constants[f"w{k}"] = f32(8, channels, 1, 1) / np.float32(np.sqrt(channels))
            lines.append(f"t{k} = Conv({name}, w{k})")
            live[f"t{k}"] = 8
    made = [n for n in live if n not in ("x", "r")]
    outputs = tuple(dict.fromkeys([made[-1], *map(str, rng.choice(made, int(rng.integers(1, 4))))]))
    return from_text(" ".join(lines), {"x": (1, 16, 2, 2), "r": (1, 8, 2, 2)}, constants, outputs)


@pytest.mark.parametrize("first", range(0, 120, 30))
def test_random_graphs_of_views_compute_what_onnxruntime_does(first: int) -> None:
    wrong = [seed for seed in range(first, first + 30) if run_both(scrambled(seed), seed)[1] > 1e-5]
    assert wrong == []


@pytest.mark.parametrize("second", ["w", "copy"])
def test_weights_that_two_nodes_read_alike_are_stored_once(second: str) -> None:
    constants = {"w": CONSTANTS["w"], "copy": CONSTANTS["w"].copy()}
    used = {n: constants[n] for n in ("w", second)}
    one = from_text(f"y = Conv<{SAME}>(x, w)", X, {"w": constants["w"]})
    two = from_text(
        f"y = Conv<{SAME}>(x, w) z = Conv<{SAME}>(r, {second})", X | {"r": (1, 16, 6, 6)}, used, ("y", "z")
    )
    package, worst = run_both(two)
    assert worst < 1e-5
    assert package.report().weights_bytes == pyneo.compile(one).report().weights_bytes


@pytest.fixture(scope="module", autouse=True)
def _models_of_this_run(tmp_path_factory: pytest.TempPathFactory) -> object:
    kept = models.OUT
    models.OUT = tmp_path_factory.mktemp("models")
    yield
    models.OUT = kept


@pytest.mark.parametrize(
    "name", ["resnet50", "mobilenet_v2", "efficientnet_b0", "vit_small", "gru_kws", "ds_cnn"]
)
def test_a_whole_model_is_fp32_exact_and_its_arena_is_tight(name: str) -> None:
    path, feeds = models.build(name)
    package = pyneo.compile(path)
    peer = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    wanted = dict(zip([o.name for o in peer.get_outputs()], peer.run(None, feeds), strict=True))
    got = pyneo.Model.load(package, allow_unsigned=True).predict(feeds)
    report = package.report()
    path.unlink()
    assert error(got, wanted) <= 1e-4
    assert report.arena_bytes <= 1.1 * report.arena_lower_bound
    assert not [s.name for s in report.reference_steps if s.op in ("Conv", "MatMul", "Gemm", "Attention")]


def test_packages_for_arm_use_kernels_that_x86_without_avx2_leaves_to_the_reference():
    constants = {"w": f32(1, 24, 5), "r": f32(1, 24, 8)}
    package = pyneo.compile(from_text("y = GRU<hidden_size=8>(x, w, r)", {"x": (6, 2, 5)}, constants), "rpi4")
    assert "f32_gru_x8" in {s.kernel for s in package.report().steps}


def test_a_kernel_of_another_layout_beats_the_reference_however_few_the_bytes() -> None:
    weights = np.ones((288, 128, 1, 3, 3), np.float32)
    model = from_text(
        "y = Conv<pads=[0, 1, 1, 0, 1, 1]>(x, w)", {"x": (1, 128, 4, 28, 28)}, {"w": weights}, ("y",)
    )
    report = pyneo.compile(model).report()
    assert report.reference_steps == []
    assert any(s.op == "Conv" for s in report.steps)


def test_neighbours_change_their_layout_together() -> None:
    """Transpose, Mul, Pad, Add and Transpose of 8 channels: in blocks of 16 half of all they move is padding.

    One of them alone in rows would have a change of layout on each side.
    """
    model = from_text(
        "h = Transpose<perm=[0, 2, 1, 3]>(x) t = Transpose<perm=[0, 1, 3, 2]>(z) m = Mul(h, t) "
        "p = Pad(m, front) s = Mul(p, p) a = Add(s, p) y = Transpose<perm=[0, 2, 1, 3]>(a)",
        {"x": (1, 784, 8, 19), "z": (1, 8, 19, 784)},
        {"front": ints(0, 0, 1, 0, 0, 0, 0, 0)},
    )
    package, error = run_both(model)
    assert error < 1e-5
    assert not [s.op for s in package.report().steps if "c16" in s.kernel or "c8" in s.kernel]
