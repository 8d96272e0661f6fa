# SPDX-License-Identifier: Apache-2.0
"""Control flow, sequences and shapes that data decides, against onnxruntime; what is resolved
beforehand."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest

import pyneo
from pyneo.compiler.frontends.onnx import load_onnx
from pyneo.compiler.ir.graph import Graph
from pyneo.compiler.passes import optimise
from tests.support.plan_records import Plan

Feeds = list[dict[str, np.ndarray]]


def model(body: str, opset: int = 17) -> onnx.ModelProto:
    """A model in ONNX's text form: "agraph (inputs) => (outputs) <constants> { nodes }"."""
    made = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {body}')
    for i, node in enumerate(made.graph.node):
        node.name = f"{node.op_type}_{i}"
    return made


def graph_of(source: onnx.ModelProto) -> Graph:
    graph = load_onnx(source)
    for v in graph.inputs:
        assert v.shape is not None
        v.shape = tuple(graph.symbols.declare(d) if isinstance(d, str) else d for d in v.shape)
    optimise(graph)
    return graph


def ops(graph: Graph) -> list[str]:
    return [n.op for n in graph.nodes]


def check(source: onnx.ModelProto, feeds: Feeds, same: onnx.ModelProto | None = None) -> pyneo.Model:
    """Every result agrees with onnxruntime's, one model for all feeds, at one and at two threads.

    same: the model in a form that onnxruntime takes."""
    text = (same or source).SerializeToString()
    peer = onnxruntime.InferenceSession(text, providers=["CPUExecutionProvider"])
    package = pyneo.compile(source)
    names = [o.name for o in source.graph.output]
    for threads in (1, 2):
        mine = pyneo.Model.load(package, allow_unsigned=True, threads=threads)
        for feed in feeds:
            got = mine.predict(feed)
            for name, want in zip(names, peer.run(None, feed), strict=True):
                assert got[name].shape == want.shape and got[name].dtype == want.dtype, name
                np.testing.assert_allclose(got[name], want, rtol=1e-4, atol=1e-5, err_msg=name)
    return mine


def f32(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def i64(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def scalar(value: object, dtype: type = np.int64) -> np.ndarray:
    return np.array(value, dtype)


# --- data-dependent shapes -----------------------------------------------------------------------------

BY_DATA: dict[str, tuple[str, Feeds]] = {
    "non_zero_gather_topk": (
        """agraph (float[6, 4] x, int64[1] k) => (float[A] top, int64[A] at, int64[2, N] where) {
            where = NonZero(x) t = Transpose<perm=[1, 0]>(where) v = GatherND(x, t) top, at = TopK(v, k)
        }""",
        [
            {"x": np.maximum(f32(6, 4), 0), "k": i64(3)},
            {"x": np.ones((6, 4), np.float32), "k": i64(20)},
            {"x": np.eye(6, 4, dtype=np.float32), "k": i64(0)},
            {"x": np.zeros((6, 4), np.float32), "k": i64(0)},
        ],
    ),
    "reshape_by_computed_shape": (
        """agraph (float[N, 6] x, int64[2] split) => (float[A, B] y, float[A, B] z) <int64[1] minus =
        {-1}> {
            a = Neg(x) y = Reshape(a, split) p = ReduceProd<keepdims=1>(split) q = Concat<axis=0>(p, minus)
            b = Reshape(y, q) z = Relu(b)
        }""",
        [
            {"x": f32(4, 6), "split": i64(8, 3)}, {"x": f32(4, 6), "split": i64(2, 12)},
            {"x": f32(1, 6), "split": i64(6, 1)},
        ],
    ),
    "range_of_inputs": (
        """agraph (float start, float limit, float delta) => (float[N] y, float s) {
            r = Range(start, limit, delta) y = Mul(r, r) s = ReduceSum<keepdims=0>(y)
        }""",
        [
            {"start": scalar(a, np.float32), "limit": scalar(b, np.float32), "delta": scalar(c, np.float32)}
            for a, b, c in ((0, 5, 1), (3, -4, -0.5), (0, 0, 1), (0, 1, 5))
        ],
    ),
    "compress_unique_where": (
        """agraph (float[8, 3] x, bool[8] keep) => (float[N, 3] y, float[U] u, int64[V] c, float[N, 3] w)
            <float zero = {0}> {
            y = Compress<axis=0>(x, keep) r = Round(y) u, first, inverse, c = Unique(r)
            p = Greater(y, zero) n = Neg(y) w = Where(p, y, n)
        }""",
        [
            {"x": f32(8, 3), "keep": np.arange(8) % 3 == 0}, {"x": f32(8, 3), "keep": np.arange(8) == 9},
            {"x": f32(8, 3), "keep": np.ones(8, bool)},
        ],
    ),
    "slice_pad_tile_expand": (
        """agraph (float[5, 4] x, int64[1] a, int64[1] b, int64[4] pads, int64[2] times, int64[2] wide)
            => (float[A, B] y, float[C, D] z) {
            s = Slice(x, a, b) p = Pad(s, pads) y = Tile(p, times) e = Slice(y, a, b) r =
              ReduceMax<keepdims=1>(e)
            z = Expand(r, wide)
        }""",
        [
            {"x": f32(5, 4), "a": i64(1), "b": i64(4), "pads": i64(0, 1, 2, 0), "times": i64(2, 1),
            "wide": i64(3, 2)},
            {"x": f32(5, 4), "a": i64(0), "b": i64(9), "pads": i64(0, 0, 0, 0), "times": i64(1, 3),
            "wide": i64(1, 1)},
        ],
    ),
    "split_by_sizes": (
        """agraph (float[6, 2] x, int64[2] sizes) => (float[A, 2] y, float[B, 2] z) {
            a, b = Split<axis=0>(x, sizes) y = Relu(a) z = Neg(b)
        }""",
        [{"x": f32(6, 2), "sizes": i64(2, 4)}, {"x": f32(6, 2), "sizes": i64(6, 0)}],
    ),
    "shape_of_what_was_found": (
        """agraph (float[4, 5] x) => (float[N, 1, 2] y) <int64[1] zero = {0}, int64[2] tail = {1, 2}> {
            w = NonZero(x) t = Transpose<perm=[1, 0]>(w) n = Shape(t) n0 = Gather<axis=0>(n, zero)
            s = Concat<axis=0>(n0, tail) f = Cast<to=1>(t) r = Reshape(f, s) y = Sqrt(r)
        }""",
        [{"x": np.maximum(f32(4, 5), 0)}, {"x": np.zeros((4, 5), np.float32)}, {"x": f32(4, 5)}],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BY_DATA)
def test_shapes_that_data_decides_are_onnxruntimes(name: str) -> None:
    text, feeds = BY_DATA[name]
    check(model(text), feeds)


DETECTOR = """agraph (float[1, 3, 32, 32] x) => (int64[N, 3] found, float[N, 4] box, float[N] best)
    <int64 most = {5}, float overlap = {0.5}, float least = {0.3}, int64[2] flat = {1, -1}, int64[3] rows
      = {1, -1, 4},
     int64[3] one = {1, 1, -1}, int64[1] third = {2}> {
    c1 = Conv<pads=[1, 1, 1, 1], strides=[2, 2]>(x, w1) r1 = Relu(c1)
    c2 = Conv<pads=[1, 1, 1, 1]>(r1, w2) r2 = Relu(c2) c3 = Conv<pads=[1, 1, 1, 1]>(r2, w3) s = Add(c3, r1)
    b0 = Conv(s, wb) bs = Sigmoid(b0) boxes = Reshape(bs, rows)
    k0 = Conv(s, wk) ks = Sigmoid(k0) scores = Reshape(ks, one)
    found = NonMaxSuppression<center_point_box=1>(boxes, scores, most, overlap, least)
    at2 = Gather<axis=1>(found, third) bb = Squeeze(boxes) at = Squeeze(at2, axis1) box =
      Gather<axis=0>(bb, at)
    sc = Squeeze(scores) best = Gather<axis=0>(sc, at)
}"""


def detector() -> onnx.ModelProto:
    made = model(DETECTOR)
    rng = np.random.default_rng(3)
    weights = {
        "w1": (16, 3, 3, 3), "w2": (32, 16, 3, 3), "w3": (16, 32, 3, 3), "wb": (4, 16, 1, 1), "wk": (1,
        16, 1, 1),
    }  # fmt: skip
    for name, shape in weights.items():
        array = (rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)
        made.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    made.graph.initializer.append(onnx.numpy_helper.from_array(i64(1), "axis1"))
    return made


def test_a_detector_with_non_maximum_suppression_agrees_with_onnxruntime() -> None:
    check(
        detector(),
        [{"x": f32(1, 3, 32, 32, seed=k)} for k in range(4)] + [{"x": np.zeros((1, 3, 32, 32), np.float32)}],
    )


def test_the_net_before_a_data_dependent_node_compiles_as_it_does_alone() -> None:
    whole = detector()
    alone = onnx.ModelProto()
    alone.CopyFrom(whole)
    del alone.graph.node[-6:]  # from NonMaxSuppression on
    del alone.graph.output[:]
    alone.graph.output.extend(onnx.helper.make_tensor_value_info(n, 1, None) for n in ("boxes", "scores"))

    def steps(source: onnx.ModelProto) -> list[tuple[str, str]]:
        report = pyneo.compile(source).report()
        return [(s.op, s.kernel) for s in report.steps if s.op in ("Conv", "Reorder", "Sigmoid")]

    net = steps(alone)
    assert net == steps(whole)[: len(net)]
    assert all(kernel for _, kernel in net)


# --- control flow ---------------------------------------------------------------------------------------

FLOW: dict[str, tuple[str, Feeds]] = {
    "if_with_captures": (
        """agraph (float[2, 4] x, bool c) => (float[2, 4] y) <float[4, 4] w = {
            1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6, 7}> {
            a = Relu(x)
            b = If (c) <then_branch = t () => (float[2, 4] o) { m = MatMul(a, w) o = Relu(m) },
                        else_branch = e () => (float[2, 4] o) { o = Identity(a) }>
            y = Neg(b)
        }""",
        [{"x": f32(2, 4), "c": scalar(c, bool)} for c in (True, False, True)],
    ),
    "if_of_two_ranks": (
        """agraph (float[2, 4] x, bool c) => (float y) {
            b = If (c) <then_branch = t () => (float[8] o) <int64[1] f = {-1}> { o = Reshape(x, f) },
                        else_branch = e () => (float[4, 2] o) { o = Transpose<perm=[1, 0]>(x) }>
            e = Exp(b) y = ReduceSum<keepdims=0>(e)
        }""",
        [{"x": f32(2, 4), "c": scalar(c, bool)} for c in (True, False)],
    ),
    "if_in_loop_with_captures_of_both": (
        """agraph (float[3] x, int64 n, float limit) => (float[3] y, float[N, 3] steps) <int64 two = {2}> {
            start = Neg(x) go = Constant<value = bool {1}>()
            y, steps = Loop (n, go, start) <body = b (int64 i, bool c, float[3] v) => (bool more,
              float[3] w, float[3] s) {
                odd = Mod(i, two) is_odd = Cast<to=9>(odd)
                w = If (is_odd) <then_branch = t () => (float[3] o) { f = Cast<to=1>(i) p = Mul(v, f) o =
                  Add(p, x) },
                                 else_branch = e () => (float[3] o) { o = Sub(v, start) }>
                s = Mul(w, x) total = ReduceSum<keepdims=0>(w) more = Less(total, limit)
            }>
        }""",
        [
            {"x": f32(3), "n": scalar(n), "limit": scalar(limit, np.float32)}
            for n, limit in ((4, 1e9), (0, 1e9), (9, 2.0), (1, -1e9))
        ],
    ),
    "loop_that_grows_what_it_carries": (
        """agraph (float[1, 3] x, int64 n) => (float[A, 3] y) {
            go = Constant<value = bool {1}>()
            y = Loop (n, go, x) <body = b (int64 i, bool c, float[A, 3] v) => (bool more, float[B, 3] w) {
                more = Identity(c) f = Cast<to=1>(i) r = Add(x, f) w = Concat<axis=0>(v, r)
            }>
        }""",
        [{"x": f32(1, 3), "n": scalar(n)} for n in (0, 1, 5, 2)],
    ),
    "scan_backwards_and_across": (
        """agraph (float[2, 5] x, float[2] h) => (float[2] last, float[2, 5] ys) {
            last, ys = Scan <num_scan_inputs=1, scan_input_axes=[1], scan_input_directions=[1],
                             scan_output_axes=[1], scan_output_directions=[1],
                body = b (float[2] s, float[2] e) => (float[2] t, float[2] o) { a = Add(s, e) t = Tanh(a)
                  o = Mul(t, e) }>
                (h, x)
        }""",
        [{"x": f32(2, 5, seed=k), "h": f32(2, seed=k)} for k in range(3)],
    ),
    "scan_of_open_length": (
        """agraph (float[T, 3] x, float[3] h) => (float[3] last, float[T, 3] ys) {
            last, ys = Scan <num_scan_inputs=1,
                body = b (float[3] s, float[3] e) => (float[3] t, float[3] o) { a = Add(s, e) t = Tanh(a)
                  o = Neg(t) }>
                (h, x)
        }""",
        [{"x": f32(t, 3), "h": f32(3)} for t in (1, 7, 3)],
    ),
}


@pytest.mark.parametrize("name", FLOW)
def test_control_flow_is_onnxruntimes(name: str) -> None:
    text, feeds = FLOW[name]
    check(model(text), feeds)


ABSENT = {
    "condition of a Loop without states": """agraph (int64 n, float[2] x) => (float[k, 2] y) {
      y = Loop (n, LAST) <body = b (int64 i, bool c) => (bool d, float[2] o) {
            d = Identity(c) f = Cast<to = 1>(i) o = Add(x, f) }> }""",
    "result of a Loop": """agraph (int64 n, float[2] x) => (float[2] y) { y, LAST = Loop (n, , x)
        <body = b (int64 i, bool c, float[2] s) => (bool d, float[2] t, float[2] o) {
            d = Identity(c) t = Add(s, x) o = Neg(s) }> }""",
    "result of an If": """agraph (bool n, float[2] x) => (float[2] y) { y, LAST = If (n)
        <then_branch = a () => (float[2] p, float[2] q) { p = Neg(x) q = Exp(x) },
         else_branch = b () => (float[2] r, float[2] s) { r = Exp(x) s = Neg(x) }> }""",
}


@pytest.mark.parametrize("what", ABSENT)
def test_what_is_absent_at_the_end_of_operands_and_results_keeps_its_place(what: str) -> None:
    first = np.array(True) if "If" in what else np.array(3)
    absent, named = model(ABSENT[what]), model(ABSENT[what])
    for names in (absent.graph.node[0].input, absent.graph.node[0].output):
        if names[-1] == "LAST":
            names[-1] = ""
    check(absent, [{"n": first, "x": f32(2)}], absent if "condition" in what else named)


def test_a_branch_that_hands_an_output_of_the_model_through_leaves_it_its_name() -> None:
    text = """agraph (bool c, float[2] x) => (float[2] a, float[2] y) {
        a = Neg(x)
        y = If(c) <then_branch = p () => (float[2] t) { t = Identity(a) },
                   else_branch = q () => (float[2] e) { e = Exp(a) }>
    }"""
    check(model(text), [{"c": np.array(c), "x": f32(2)} for c in (True, False)])


def test_a_branch_gets_packed_weights_and_fast_kernels() -> None:
    text, _ = FLOW["if_with_captures"]
    steps = pyneo.compile(model(text)).report().steps
    assert next(s.kernel for s in steps if s.op == "MatMul").startswith("f32_matmul_packed")


LOOP = """agraph (float[4, 3] x) => (float[3] y, float[N, 3] s) <int64 n = {TRIPS}, bool go = {GO},
  float[3] z = {0, 0, 0}> {
    y, s = Loop (n, go, z) <body = b (int64 i, bool c, float[3] v) => (bool more, float[3] w, float[3] o) {
        CONDITION r = Gather<axis=0>(x, i) w = Add(v, r) o = Mul(w, r)
    }>
}"""
UNROLLED = {
    "trip_count": ("4", "1", "more = Identity(c)", 4),
    "never": ("4", "0", "more = Identity(c)", 0),
    "condition": ("9", "1", "two = Constant<value = int64 {2}>() more = Less(i, two)", 3),
}


@pytest.mark.parametrize("name", UNROLLED)
def test_a_loop_of_constant_length_is_unrolled(name: str) -> None:
    trips, go, condition, times = UNROLLED[name]
    source = model(LOOP.replace("TRIPS", trips).replace("GO", go).replace("CONDITION", condition))
    found = ops(graph_of(source))
    if times:  # what a loop that never runs stacks is empty, and stays the loop's
        assert "Loop" not in found and found.count("Mul") == times
    check(source, [{"x": f32(4, 3)}])


def test_a_long_loop_is_not_unrolled() -> None:
    source = model(
        LOOP.replace("TRIPS", "100000").replace("GO", "1").replace("CONDITION", "more = Identity(c)")
    )
    assert ops(graph_of(source)) == ["Loop"]


@pytest.mark.parametrize("c", ["1", "0"])
def test_a_conditional_that_folding_decides_is_inlined(c: str) -> None:
    source = model(
        f"""agraph (float[2, 4] x) => (float[2, 4] y) <int64 four = {{4}}, bool t = {{{c}}}> {{
            d = Shape<start=1>(x) e = Equal(d, four) q = Squeeze(e) k = And(q, t)
            y = If (k) <then_branch = t () => (float[2, 4] o) {{ o = Relu(x) }},
                        else_branch = e () => (float[2, 4] o) {{ o = Neg(x) }}>
        }}"""
    )
    assert ops(graph_of(source)) == ["Relu" if c == "1" else "Neg"]
    check(source, [{"x": f32(2, 4)}])


def test_a_size_that_may_be_one_does_not_decide_a_conditional() -> None:
    """No sample of an open dim is 1, and yet it may be."""
    source = model(
        """agraph (float[N, 4] x) => (float[A, B] y) <int64 one = {1}> {
            d = Shape<start=0, end=1>(x) e = Equal(d, one) i = Cast<to=7>(e) b = Cast<to=9>(i) q =
              Squeeze(b)
            y = If (q) <then_branch = t () => (float[A, B] o) { o = Relu(x) },
                        else_branch = e () => (float[A, B] o) { o = Transpose<perm=[1, 0]>(x) }>
        }"""
    )
    assert "If" in ops(graph_of(source))
    check(source, [{"x": f32(n, 4)} for n in (1, 3, 1)])


# --- sequences and optionals ------------------------------------------------------------------------------

SEQUENCES: dict[str, tuple[str, Feeds]] = {
    "split_and_join": (
        """agraph (float[2, 6] x) => (float[2, 6] y, int64 n) <int64 two = {2}> {
            s = SplitToSequence<axis=1>(x, two) n = SequenceLength(s) t = SequenceAt(s, two) u =
              SequenceInsert(s, t, two)
            v = SequenceErase(u, two) y = ConcatFromSequence<axis=1>(v)
        }""",
        [{"x": f32(2, 6)}],
    ),
    "positions_known_at_run_time": (
        """agraph (float[2, 3] x, float[2, 3] z, int64 p, int64 q, int64 r) => (float[2, 3] y, float[9,
        3] all) {
            a = Neg(x) b = Exp(x) s = SequenceConstruct(x, a, b) i = SequenceInsert(s, z, p) e =
              SequenceErase(i, q)
            y = SequenceAt(e, r) f = SequenceErase(i, r) t = SequenceErase(f, q) k = SequenceInsert(t, y, q)
            c = ConcatFromSequence<axis=0>(k) nine = Constant<value = int64[1] {9}>() zero =
              Constant<value = int64[1] {0}>()
            m = Concat<axis=0>(c, c) all = Slice(m, zero, nine)
        }""",
        [
            {"x": f32(2, 3), "z": f32(2, 3, seed=1), "p": scalar(p), "q": scalar(q), "r": scalar(r)}
            for p, q, r in ((0, 0, 0), (3, 1, 2), (-1, -1, -1), (1, 2, 0), (-3, 0, 1))
        ],
    ),
    "built_by_a_loop": (
        """agraph (float[3, 2] x) => (float[3, 2] y) <int64 n = {3}, bool go = {1}> {
            none = SequenceEmpty()
            s = Loop (n, go, none) <body = b (int64 i, bool c, seq(float) v) => (bool more, seq(float) w) {
                more = Identity(c) r = Gather<axis=0>(x, i) t = Tanh(r) w = SequenceInsert(v, t)
            }>
            y = ConcatFromSequence<axis=0, new_axis=1>(s)
        }""",
        [{"x": f32(3, 2)}],
    ),
    "mapped": (
        """agraph (float[3, 2] x, float[1, 2] z) => (float[3, 2] y) {
            s = SplitToSequence<axis=0>(x)
            t = SequenceMap(s, z) <body = b (float[1, 2] e, float[1, 2] f) => (float[1, 2] o) { o =
              Add(e, f) }>
            y = ConcatFromSequence<axis=0>(t)
        }""",
        [{"x": f32(3, 2), "z": f32(1, 2)}],
    ),
    "sequence_from_a_branch": (
        """agraph (float[2, 2] x, bool c) => (float[4, 2] y) {
            a = Neg(x)
            s = If (c) <then_branch = t () => (seq(float) o) { o = SequenceConstruct(x, a) },
                        else_branch = e () => (seq(float) o) { o = SequenceConstruct(a, a) }>
            y = ConcatFromSequence<axis=0>(s)
        }""",
        [{"x": f32(2, 2), "c": scalar(c, bool)} for c in (True, False)],
    ),
}


@pytest.mark.parametrize("name", SEQUENCES)
def test_sequences_of_known_structure_are_resolved(name: str) -> None:
    text, feeds = SEQUENCES[name]
    check(model(text, 18), feeds)


def test_optionals_are_resolved() -> None:
    source = model(
        """agraph (float[2] x) => (float[2] y, bool there) {
            a = Optional(x) there = OptionalHasElement(a) b = OptionalGetElement(a) y = Neg(b)
        }""",
        18,
    )
    assert set(ops(graph_of(source))) == {"Neg"}
    check(source, [{"x": f32(2)}])


def test_a_sequence_whose_length_data_decides_is_refused_by_the_names_of_its_nodes() -> None:
    source = model(
        """agraph (float[3, 2] x, int64 n) => (float[A, 2] y) <bool go = {1}> {
            none = SequenceEmpty()
            s = Loop (n, go, none) <body = b (int64 i, bool c, seq(float) v) => (bool more, seq(float) w) {
                more = Identity(c) r = Gather<axis=0>(x, i) w = SequenceInsert(v, r)
            }>
            y = ConcatFromSequence<axis=0, new_axis=1>(s)
        }"""
    )
    with pytest.raises(pyneo.CompileError, match="decided at run time") as refused:
        pyneo.compile(source)
    assert any("ConcatFromSequence_2" in p for p in refused.value.problems)
    assert any("SequenceInsert" in p and "constant trip count" in p for p in refused.value.problems)


# --- the plan ---------------------------------------------------------------------------------------------


def test_a_sequence_of_too_many_tensors_is_refused_before_it_is_made() -> None:
    source = model("""agraph (float[100000000] x) => (float[1] y) {
        one = Constant<value = int64 {1}>() s = SplitToSequence(x, one) y = SequenceAt(s, one)
    }""")
    with pytest.raises(pyneo.CompileError, match="the sequence has 100000000 tensors; at most 4096"):
        pyneo.compile(source)


def test_subgraphs_stand_in_the_plan_behind_their_nodes() -> None:
    text, _ = FLOW["if_in_loop_with_captures_of_both"]
    plan = Plan(pyneo.compile(model(text)))
    owners = {}
    for at, node in enumerate(plan.nodes):
        for k in range(node["subgraphs"]):
            owners[node["subgraph"] + k] = at
    assert sorted(owners) == list(range(1, len(plan.graphs)))
    begin = 0
    for i, g in enumerate(plan.graphs):
        assert g[0] == begin
        begin += g[1]
        if i:
            assert owners[i] < g[0]
    assert begin == len(plan.nodes)
