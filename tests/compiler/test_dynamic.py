# SPDX-License-Identifier: Apache-2.0
"""Models with dims bound at run time agree with onnxruntime at every shape, and keep to their bounds."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

import pyneo
from tests.support.models import from_text
from tests.support.passes import f32, ints, num

Shapes = list[dict[str, tuple[int, ...]]]


def load(model: onnx.ModelProto, **shapes: tuple[int | str, ...]) -> pyneo.Model:
    return pyneo.Model.load(pyneo.compile(model, shapes=shapes or None), allow_unsigned=True)


def cnn() -> onnx.ModelProto:
    """x [N, 3, H, W] -> y [N, 5]: convolutions with and without stride, depthwise, residual, pooling."""
    body = """
        c1 = Conv<pads=[1, 1, 1, 1], strides=[2, 2]>(x, w1) r1 = Relu(c1)
        c2 = Conv<pads=[1, 1, 1, 1]>(r1, w2, b2) s2 = Add(c2, r1) r2 = Relu(s2)
        d = Conv<pads=[1, 1, 1, 1], group=16>(r2, wd) k = Conv(d, wp) t = Concat<axis=1>(k, r2)
        g = GlobalAveragePool(t) f = Flatten(g) y = Gemm<transB=1>(f, wf, bf)
    """
    constants = {
        "w1": f32(16, 3, 3, 3) / 5,
        "w2": f32(16, 16, 3, 3) / 12,
        "b2": f32(16),
        "wd": f32(16, 1, 3, 3) / 3,
        "wp": f32(8, 16, 1, 1) / 4,
        "wf": f32(5, 24) / 5,
        "bf": f32(5),
    }
    return from_text(body, {"x": ("N", 3, "H", "W")}, constants)


def mlp() -> onnx.ModelProto:
    """x [N, 12] -> y [N, 7]."""
    body = "a = Gemm(x, w1, b1) b = Relu(a) c = MatMul(b, w2) d = Sigmoid(c) e = Mul(c, d) y = Softmax(e)"
    constants = {"w1": f32(12, 20) / 4, "b1": f32(20), "w2": f32(20, 7) / 4}
    return from_text(body, {"x": ("N", 12)}, constants)


def transformer() -> onnx.ModelProto:
    """x [N, T, 16] -> y [N, T, 16]: a block that computes its reshapes from Shape, as torch exports it."""
    body = """
        shape = Shape(x) n = Gather<axis=0>(shape, zero) t = Gather<axis=0>(shape, one)
        n1 = Unsqueeze(n, first) t1 = Unsqueeze(t, first)
        split = Concat<axis=0>(n1, t1, heads, depth) merged = Concat<axis=0>(n1, t1, width)
        q0 = MatMul(x, wq) q1 = Add(q0, bq) k0 = MatMul(x, wk) v0 = MatMul(x, wv)
        q2 = Reshape(q1, split) k2 = Reshape(k0, split) v2 = Reshape(v0, split)
        q = Transpose<perm=[0, 2, 1, 3]>(q2) k = Transpose<perm=[0, 2, 3, 1]>(k2)
        v = Transpose<perm=[0, 2, 1, 3]>(v2)
        p = MatMul(q, k) s = Mul(p, scale) w = Softmax<axis=-1>(s) c0 = MatMul(w, v)
        c1 = Transpose<perm=[0, 2, 1, 3]>(c0) c = Reshape(c1, merged) o = MatMul(c, wo) r = Add(o, x)
        l = LayerNormalization<axis=-1>(r, gamma, beta)
        u = MatMul(l, w1) h = Div(u, root2) e = Erf(h) e1 = Add(e, unit) g = Mul(u, e1) g2 = Mul(g, half)
        z = MatMul(g2, w2) y = Add(z, l)
    """
    constants = {
        "zero": np.array(0),
        "one": np.array(1),
        "first": ints(0),
        "heads": ints(4),
        "depth": ints(4),
        "width": ints(16),
        "scale": num(0.5),
        "root2": num(2**0.5),
        "unit": num(1.0),
        "half": num(0.5),
        "bq": f32(16),
        "gamma": f32(16),
        "beta": f32(16),
        "w1": f32(16, 32) / 4,
        "w2": f32(32, 16) / 5,
    } | {n: f32(16, 16) / 4 for n in ("wq", "wk", "wv", "wo")}
    return from_text(body, {"x": ("N", "T", 16)}, constants)


def loose() -> onnx.ModelProto:
    """x [N, T, 6], r [N, 1, 6] -> y [T, 6, N]: broadcasting, a slice, a split, a reduction, a transpose."""
    body = """
        a = Add(x, r) b, c = Split<axis=2>(a, three) d = Concat<axis=2>(c, b) e = Transpose<perm=[1, 2, 0]>(d)
        m = ReduceMax<keepdims=1, axes=[1]>(e) y = Sub(e, m)
    """
    return from_text(body, {"x": ("N", "T", 6), "r": ("N", 1, 6)}, {"three": ints(3, 3)})


CASES = {
    "cnn": (cnn, [(1, 3, 32, 32), (2, 3, 17, 23), (1, 3, 1, 1), (0, 3, 8, 8), (1, 3, 32, 32), (5, 3, 9, 64)]),
    "mlp": (mlp, [(1, 12), (64, 12), (0, 12), (3, 12), (1, 12), (1000, 12)]),
    "transformer": (transformer, [(1, 7, 16), (3, 1, 16), (2, 128, 16), (0, 5, 16), (1, 7, 16), (4, 33, 16)]),
}


def agree(model: pyneo.Model, peer: onnxruntime.InferenceSession, feeds: dict[str, np.ndarray]) -> None:
    wanted = peer.run(None, feeds)[0]
    got = model.predict(feeds)["y"]
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


def peer_of(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", CASES)
def test_one_package_agrees_at_every_shape_and_at_an_earlier_one_again(name: str) -> None:
    make, shapes = CASES[name]
    source = make()
    model, peer = load(source), peer_of(source)
    for shape in shapes:
        agree(model, peer, {"x": f32(*shape)})


# The view comes before what it is a view of, behind it, and twice; or what it is a view of is read on.
VIEWS = {
    "the_view_first": ("a = Exp(x) y = Reshape(a, flat)", ("y", "a")),
    "the_view_last": ("a = Exp(x) y = Reshape(a, flat)", ("a", "y")),
    "two_views_around": ("a = Exp(x) y = Reshape(a, flat) z = Unsqueeze(a, first)", ("y", "a", "z")),
    "a_view_of_a_view": ("a = Exp(x) b = Unsqueeze(a, first) y = Reshape(b, flat)", ("y", "a", "b")),
    "read_behind_the_data": (
        "a = Exp(x) y = Reshape(a, flat) n = NonZero(a) t = Transpose(n) z = GatherND(a, t)",
        ("y", "z"),
    ),
    "views_of_an_input": ("y = Reshape(x, flat) z = Unsqueeze(y, first)", ("z", "y")),
}


@pytest.mark.parametrize("name", VIEWS)
def test_outputs_that_are_views_of_each_other_are_all_written(name: str) -> None:
    body, outputs = VIEWS[name]
    source = from_text(body, {"x": ("N", 6)}, {"flat": ints(-1), "first": ints(0)}, outputs)
    model, peer = load(source), peer_of(source)
    for n in (3, 1, 3):
        x = f32(n, 6)
        for got, wanted in zip(model.predict(x), peer.run(None, {"x": x}), strict=True):
            np.testing.assert_allclose(got, wanted, rtol=1e-5)


@pytest.mark.parametrize("n", [3, 1])
def test_a_squeeze_of_all_ones_drops_a_batch_of_one(n: int) -> None:
    source = from_text("s = Squeeze(x) y = Exp(s)", {"x": ("N", 1, 6)}, {})
    agree(load(source), peer_of(source), {"x": f32(n, 1, 6)})


def test_a_norm_of_groups_of_what_has_no_certain_rank() -> None:
    body = "s = Squeeze(x) g = Reshape(s, split) n = InstanceNormalization(g, a, b) y = Reshape(n, back)"
    constants = {"split": ints(3, 2, 8), "back": ints(3, 4, 2, 2), "a": f32(2), "b": f32(2)}
    source = from_text(body, {"x": ("N", 4, 2, 2)}, constants)
    agree(load(source), peer_of(source), {"x": f32(3, 4, 2, 2)})


def test_a_norm_of_groups_of_an_open_number_of_channels() -> None:
    body = "g = Reshape(x, split) n = InstanceNormalization(g, a, b) s = Shape(x) y = Reshape(n, s)"
    constants = {"split": ints(0, 2, -1), "a": f32(2), "b": f32(2)}
    source = from_text(body, {"x": ("N", "C", 3, 3)}, constants)
    agree(load(source), peer_of(source), {"x": f32(2, 6, 3, 3)})


def test_attention_with_an_open_number_of_heads() -> None:
    body = """
        h = Reshape(x, split) q = Transpose<perm=[0, 2, 1, 3]>(h) k = Transpose<perm=[0, 2, 3, 1]>(h)
        p = MatMul(q, k) w = Softmax<axis=-1>(p) c = MatMul(w, q) t = Transpose<perm=[0, 2, 1, 3]>(c)
        y = Reshape(t, merged)
    """
    source = from_text(body, {"x": ("N", 9, "C")}, {"split": ints(0, 9, -1, 4), "merged": ints(0, 9, -1)})
    agree(load(source), peer_of(source), {"x": f32(2, 9, 8)})


def test_branches_over_an_open_number_of_channels() -> None:
    body = "c = Conv(x, w) n = BatchNormalization(x, g, b, m, v) y = Add(c, n)"
    constants = {"w": f32(4, 4, 1, 1), "g": f32(4), "b": f32(4), "m": f32(4), "v": np.abs(f32(4)) + 1}
    source = from_text(body, {"x": (2, "C", 3, 3)}, constants)
    agree(load(source), peer_of(source), {"x": f32(2, 4, 3, 3)})


def test_a_batch_norm_of_a_wrong_shape_is_refused_where_sizes_are_open() -> None:
    body = "n = BatchNormalization(x, g, b, m, v) y = Relu(n)"
    constants = {"g": f32(4), "b": f32(1, 4), "m": f32(4), "v": np.abs(f32(4)) + 1}
    with pytest.raises(pyneo.Error, match="one number a channel"):
        load(from_text(body, {"x": ("N", 4, 3, 3)}, constants)).predict(f32(2, 4, 3, 3))


def test_columns_are_split_where_data_says() -> None:
    body = "p = MatMul(x, w) s = Cast<to=7>(sizes) a, b = Split<axis=1>(p, s) y = Softmax(b) z = Neg(a)"
    source = from_text(body, {"x": (4, 8), "sizes": (2,)}, {"w": f32(8, 96)}, ("y", "z"))
    feeds = {"x": f32(4, 8), "sizes": np.array([40, 56], np.float32)}
    agree(load(source), peer_of(source), feeds)


@pytest.mark.parametrize("stride", [1, 3])
def test_transposed_convolutions_of_images_smaller_than_their_stride(stride: int) -> None:
    """Some of the outputs' phases are empty then, which must not show in the packed weights."""
    source = from_text(
        f"y = ConvTranspose<strides=[{stride}, {stride}]>(x, w)",
        {"x": ("N", 15, "H", "W")},
        {"w": f32(15, 4, 2, 2)},
        ("y",),
    )
    model, peer = load(source), peer_of(source)
    for h, w in ((1, 1), (5, 4), (1, 7), (2, 1)):
        agree(model, peer, {"x": f32(2, 15, h, w)})


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 6, 40])
def test_slices_that_small_inputs_clamp(n: int) -> None:
    """Of many rows x[-4:3] has none and x[:4] four."""
    source = from_text(
        "a = Slice(x, back, three, axis) b = Slice(a, last, far, axis) c = Slice(x, axis, four, axis) "
        "d = Concat<axis=0>(b, a, c) y = Reshape(d, flat)",
        {"x": ("N", 3)},
        {"back": ints(-4), "three": ints(3), "four": ints(4), "last": ints(-1), "far": ints(99),
         "axis": ints(0), "flat": ints(-1)},
        ("y",),
    )  # fmt: skip
    agree(load(source), peer_of(source), {"x": f32(n, 3)})


def test_no_kernel_is_chosen_for_sizes_that_do_not_fit_the_weights() -> None:
    """The samples of the channels are not the 20 of the weights."""
    source = from_text(
        "a = ConvTranspose(x, w) b = Conv(a, v) c = Reshape(b, shape) "
        "d = Conv(u, k) s = ReduceSum(d) y = Add(c, s)",
        {"x": ("N", "C", "H", "H"), "u": (5, "C", 5, 5)},
        {"w": f32(20, 8, 5, 5), "v": f32(4, 8, 1, 1), "k": f32(1, 20, 5, 5), "shape": ints(-1, 4, 25)},
        ("y",),
    )
    sizes = {"x": ("N", "0<=C<=64", "0<=H<=64", "0<=H<=64"), "u": (5, "0<=C<=64", 5, 5)}
    model, peer = load(source, **sizes), peer_of(source)
    agree(model, peer, {"x": f32(3, 20, 1, 1), "u": f32(5, 20, 5, 5)})


def test_an_expand_beside_what_was_folded_a_moment_ago() -> None:
    source = onnx.parser.parse_model("""<ir_version: 9, opset_import: ["" : 18]>
        g (float[1, 1, 1] x) => (float[1, 3, 1] y)
          <float[1, 3, 2] w = {1, 2, 3, 4, 5, 6}, int64[3] shape = {1, 3, 1}, int64 n = {40}> {
        p = GlobalLpPool<p = 1>(w)
        e = Expand(x, shape)
        s = Add(e, p)
        y = Loop(n, , s) <body = b (int64 i, bool c, float[1, 3, 1] v) => (bool d, float[1, 3, 1] o) {
            d = Identity(c) o = Add(v, s) }>
    }""")
    with pyneo.Model.load(pyneo.compile(source), allow_unsigned=True) as m:
        found = m.predict(np.ones((1, 1, 1), np.float32))
    np.testing.assert_allclose(found.reshape(-1), np.array([4, 8, 12]) * 41)


@pytest.mark.parametrize("width", [6, 9])
def test_a_layer_norm_over_an_open_axis(width: int) -> None:
    body = """
        m = ReduceMean<axes=[-1]>(x) d = Sub(x, m) q = Mul(d, d) v = ReduceMean<axes=[-1]>(q)
        e = Add(v, epsilon) s = Sqrt(e) y = Div(d, s)
    """
    source = from_text(body, {"x": (3, "W")}, {"epsilon": num(1e-5)})
    agree(load(source), peer_of(source), {"x": f32(3, width)})


@pytest.mark.parametrize(("n", "t"), [(1, 1), (3, 5), (1, 8), (3, 5), (4, 0)])
def test_inputs_share_a_symbol(n: int, t: int) -> None:
    source = loose()
    agree(load(source), peer_of(source), {"x": f32(n, t, 6), "r": f32(n, 1, 6)})


def test_a_model_compiled_for_one_shape_and_for_any_gives_the_same() -> None:
    source = cnn()
    x = f32(2, 3, 20, 24)
    fixed = load(source, x=(2, 3, 20, 24)).predict(x)
    np.testing.assert_allclose(load(source).predict(x), fixed, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "symbol"),
    [((9, 3, 16, 16), "N"), ((1, 3, 7, 16), "H"), ((1, 3, 65, 16), "H")],
)
def test_a_size_out_of_bounds_is_refused_by_its_symbols_name(shape: tuple[int, ...], symbol: str) -> None:
    model = load(cnn(), x=("N<=8", 3, "8<=H<=64", "W"))
    model.predict(f32(8, 3, 8, 10))
    with pytest.raises(pyneo.InputError, match=symbol) as refused:
        model.predict(f32(*shape))
    assert "x" in str(refused.value)
    model.predict(f32(1, 3, 64, 10))


def test_a_symbol_of_two_sizes_is_refused() -> None:
    with pytest.raises(pyneo.ModelError, match=r"\[2, 5, 6\] and \[3, 1, 6\]"):
        load(loose()).predict(f32(2, 5, 6), f32(3, 1, 6))


@pytest.mark.parametrize("shape", [(1, 3, 16), (12,), (1, 3, 16, 17)])
def test_fixed_dims_stay_fixed_beside_symbols(shape: tuple[int, ...]) -> None:
    with pytest.raises(pyneo.InputError, match="x"):
        load(transformer()).predict(f32(*shape)[..., :15])


def test_out_takes_the_result_of_the_bound_shape_and_no_other() -> None:
    source = transformer()
    model, peer = load(source), peer_of(source)
    for n, t in ((2, 6), (1, 3), (2, 6)):
        x, out = f32(n, t, 16), np.full((n, t, 16), np.nan, np.float32)
        assert model.predict(x, out=out) is out
        np.testing.assert_allclose(out, peer.run(None, {"x": x})[0], rtol=1e-4, atol=1e-5)
    with pytest.raises(pyneo.InputError):
        model.predict(f32(2, 6, 16), out=np.empty((2, 5, 16), np.float32))


def test_the_model_states_its_symbols_with_their_bounds() -> None:
    model = load(cnn(), x=("N<=8", 3, "8<=H<=64", "W"))
    assert model.inputs[0].shape == ("N<=8", 3, "8<=H<=64", "W")
    assert model.outputs[0].shape == ("N<=8", 5)


def test_sessions_of_one_model_are_bound_to_shapes_of_their_own() -> None:
    source = mlp()
    model, peer = load(source), peer_of(source)
    first, second = model.session(), model.session()
    a, b = f32(2, 12), f32(5, 12)
    for _ in range(2):
        np.testing.assert_allclose(first.predict(a), peer.run(None, {"x": a})[0], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(second.predict(b), peer.run(None, {"x": b})[0], rtol=1e-4, atol=1e-6)
