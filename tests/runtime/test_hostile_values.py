# SPDX-License-Identifier: Apache-2.0
"""Hostile cases 33, 37 and 43: indices, weights and batch sizes that only a run can know."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnxruntime import InferenceSession

import pyneo
from tests.support.corpus import MODELS
from tests.support.models import model


def load(m: onnx.ModelProto, **options) -> pyneo.Model:
    return pyneo.Model.load(pyneo.compile(m, **options), allow_unsigned=True, threads=1)


def ort(m: onnx.ModelProto, **feeds: np.ndarray) -> np.ndarray:
    return InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds)[0]


# ---- 33: indices --------------------------------------------------------------------------------


def indexed(
    op: str, data: tuple[int, ...], index: tuple[int, ...], updates: tuple[int, ...] | None, **attrs
) -> onnx.ModelProto:
    """y = op(data, index[, updates]), all of them inputs."""
    info = helper.make_tensor_value_info
    inputs = [info("data", TensorProto.FLOAT, data), info("index", TensorProto.INT64, index)]
    if updates is not None:
        inputs.append(info("updates", TensorProto.FLOAT, updates))
    names = [i.name for i in inputs]
    y = onnx.ValueInfoProto(name="y")
    graph = helper.make_graph([helper.make_node(op, names, ["y"], **attrs)], "test", inputs, [y])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return onnx.shape_inference.infer_shapes(made)


@pytest.mark.parametrize("bad", [4, -5, 2**31, -(2**31) - 1, 2**62, 2**63 - 1, -(2**63)])
@pytest.mark.parametrize(
    "op, index, updates, attrs",
    [
        ("Gather", (2,), None, {"axis": 0}),
        ("GatherElements", (2, 3), None, {"axis": 0}),
        ("GatherND", (2, 1), None, {}),
        ("ScatterElements", (2, 3), (2, 3), {"axis": 0}),
        ("ScatterND", (2, 1), (2, 3), {}),
    ],
)
def test_case_33_an_index_out_of_range_is_an_error_and_the_next_call_is_served(
    op, index, updates, attrs, bad
):
    onnx_model = indexed(op, (4, 3), index, updates, **attrs)
    m = load(onnx_model)
    feeds = {"data": np.arange(12, dtype=np.float32).reshape(4, 3), "index": np.zeros(index, np.int64)}
    feeds["index"][1] = -1
    if updates is not None:
        feeds["updates"] = np.full(updates, 100, np.float32)
    right = ort(onnx_model, **feeds)
    for position in range(feeds["index"].size):
        broken = feeds["index"].copy()
        broken.flat[position] = bad
        with pytest.raises(pyneo.ModelError, match=rf"{op}.*{bad}") as e:
            m.predict(feeds | {"index": broken})
        assert "\n" not in str(e.value)
        np.testing.assert_array_equal(np.asarray(m.predict(feeds)["y"]), right)


# ---- 37: values no number should have -----------------------------------------------------------

ODD = np.array([np.nan, np.inf, -np.inf, 1e-40, -1e-40, 3e38, -3e38, 0.0, -0.0, 1.0], np.float32)


def odd(*shape: int, seed: int, part: float = 0.2) -> np.ndarray:
    """Normal numbers, some of them replaced by NaN, infinities, denormals and the largest."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal(shape).astype(np.float32)
    return np.where(rng.random(shape) < part, rng.choice(ODD, shape), a).astype(np.float32)


def agree(found: np.ndarray, expected: np.ndarray, scale: float = 1.0) -> None:
    """NaN where NaN, the same infinities, numbers within a float32 sum's rounding."""
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * scale, equal_nan=True)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rows, n", [(1, 4), (3, 17), (8, 64)])
def test_case_37_a_weight_that_is_no_number_spoils_what_onnxruntimes_spoils(rows, n, value):
    w = np.random.default_rng(0).standard_normal((24, n)).astype(np.float32)
    w[3, n // 2] = value
    m = model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": (rows, 24)}, {"y": (rows, n)}, {"w": w})
    x = np.random.default_rng(1).standard_normal((rows, 24)).astype(np.float32)
    found = load(m).predict(x)
    agree(found, ort(m, x=x), 10)
    assert not np.isfinite(found[:, n // 2]).any()


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("channels, group", [(3, 1), (16, 1), (16, 16)])
def test_case_37_a_filter_that_is_no_number_spoils_its_channel_only(channels, group, value):
    """Winograd's and blocked kernels must not let it leak into other channels of the block."""
    w = np.random.default_rng(0).standard_normal((16, channels // group, 3, 3)).astype(np.float32)
    w[5, 0, 1, 1] = value
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1] * 4, group=group)
    m = model([node], {"x": (1, channels, 12, 12)}, {"y": (1, 16, 12, 12)}, {"w": w})
    x = np.random.default_rng(1).standard_normal((1, channels, 12, 12)).astype(np.float32)
    found, expected = load(m).predict(x), ort(m, x=x)
    assert not np.isfinite(found[0, 5]).any()
    others = [c for c in range(16) if c != 5]
    assert np.isfinite(found[0, others]).all()
    np.testing.assert_allclose(found[0, others], expected[0, others], rtol=1e-4, atol=1e-4)


def test_case_37_denormal_weights_count():
    """Nothing is flushed to zero: x of 2^100 makes a weight of 2^-140 count as 2^-40."""
    w = np.full((8, 16), 2.0**-140, np.float32)
    m = model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": (2, 8)}, {"y": (2, 16)}, {"w": w})
    x = np.full((2, 8), 2.0**100, np.float32)
    np.testing.assert_array_equal(load(m).predict(x), np.full((2, 16), 2.0**-37, np.float32))


@pytest.mark.parametrize(
    "op, attrs, constants",
    [
        ("Relu", {}, {}),
        ("LeakyRelu", {"alpha": 0.1}, {}),
        ("Clip", {}, {"low": np.float32(-0.5), "high": np.float32(0.5)}),
        ("Abs", {}, {}),
        ("Neg", {}, {}),
        ("Add", {}, {"b": odd(18, seed=8)}),
        ("Mul", {}, {"b": odd(18, seed=9)}),
        ("Sigmoid", {}, {}),
        ("Tanh", {}, {}),
        ("Max", {}, {"b": odd(18, seed=10)}),
        ("Min", {}, {"b": odd(18, seed=11)}),
        ("Sqrt", {}, {}),
        ("Exp", {}, {}),
    ],
)
def test_case_37_elementwise_operators_agree_on_odd_values(op, attrs, constants):
    shape = (5, 18)
    x = odd(*shape, seed=3)
    m = model([helper.make_node(op, ["x", *constants], ["y"], **attrs)], {"x": shape}, {"y": shape},
              {k: np.asarray(v) for k, v in constants.items()})  # fmt: skip
    agree(load(m).predict(x), ort(m, x=x))


def test_case_37_relu_and_clip_keep_nan_and_the_ends():
    x = np.array([np.nan, np.inf, -np.inf, 1e-40, -1e-40, -0.0, 2, -2], np.float32)
    relu = model([helper.make_node("Relu", ["x"], ["y"])], {"x": (8,)}, {"y": (8,)}, {})
    np.testing.assert_array_equal(load(relu).predict(x), np.maximum(x, 0))
    limits = {"low": np.array(-1, np.float32), "high": np.array(1, np.float32)}
    clip = model([helper.make_node("Clip", ["x", *limits], ["y"])], {"x": (8,)}, {"y": (8,)}, limits)
    np.testing.assert_array_equal(load(clip).predict(x), np.clip(x, -1, 1))


@pytest.mark.parametrize("channels", [3, 16])
def test_case_37_max_pool_of_infinities_and_denormals(channels):
    x = odd(1, channels, 9, 9, seed=4)
    x[np.isnan(x)] = -np.inf
    node = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[3, 3], strides=[2, 2])
    m = model([node], {"x": x.shape}, {"y": (1, channels, 4, 4)}, {})
    np.testing.assert_array_equal(load(m).predict(x), ort(m, x=x))


@pytest.mark.parametrize("channels", [3, 8, 16])
def test_case_37_max_pool_is_the_same_for_a_nan_in_any_layout(channels):
    """A NaN touches only the windows that hold it, and the same rule holds in every layout."""
    x = np.random.default_rng(5).standard_normal((1, channels, 8, 8)).astype(np.float32)
    node = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2])
    m = load(model([node], {"x": x.shape}, {"y": (1, channels, 4, 4)}, {}))
    clean = m.predict(x)
    x[0, 1, 2, 3] = np.nan
    found = m.predict(x)
    clean[0, 1, 1, 1] = np.nan
    np.testing.assert_array_equal(found, clean)


@pytest.mark.parametrize("op, reference", [("ArgMax", np.argmax), ("ArgMin", np.argmin)])
def test_case_37_arg_max_with_infinities_names_the_first(op, reference):
    x = np.array([[1, np.inf, np.inf, -np.inf], [-np.inf] * 4, [0.0, -0.0, 1e-40, -1e-40]], np.float32)
    made = model([helper.make_node(op, ["x"], ["y"], axis=1, keepdims=0)], {"x": x.shape}, {"y": (3,)}, {})
    made.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    np.testing.assert_array_equal(load(made).predict(x), reference(x, 1))


def test_case_37_arg_max_of_nan_stays_inside():
    x = np.full((3, 7), np.nan, np.float32)
    x[1, 3] = 2
    made = model(
        [helper.make_node("ArgMax", ["x"], ["y"], axis=1, keepdims=0)], {"x": x.shape}, {"y": (3,)}, {}
    )
    made.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    found = load(made).predict(x)
    assert ((found >= 0) & (found < 7)).all()


# ---- 43: dynamic batch --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dynamic() -> tuple[pyneo.Model, onnx.ModelProto]:
    m = MODELS["convnet"]()
    open_model = onnx.ModelProto()
    open_model.CopyFrom(m)
    for value in (open_model.graph.input[0], open_model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    return load(m, shapes={"x": ("N<=8", 3, 32, 32)}), open_model


def test_case_43_batches_0_1_7_and_the_bound_agree_with_onnxruntime(dynamic):
    m, onnx_model = dynamic
    for n in (1, 7, 0, 8, 1, 7):
        x = np.random.default_rng(n).standard_normal((n, 3, 32, 32)).astype(np.float32)
        found = m.predict(x)
        assert found.shape == (n, 10)
        if n > 0:
            np.testing.assert_allclose(found, ort(onnx_model, x=x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "shape", [(9, 3, 32, 32), (1000, 3, 32, 32), (1, 4, 32, 32), (1, 3, 32, 31), (3, 32, 32)]
)
def test_case_43_over_the_bound_is_an_input_error_and_the_next_call_is_served(dynamic, shape):
    m, onnx_model = dynamic
    x = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    with pytest.raises(pyneo.InputError, match="x") as e:
        m.predict(np.broadcast_to(np.float32(0), shape))
    assert "\n" not in str(e.value)
    np.testing.assert_allclose(m.predict(x), ort(onnx_model, x=x), rtol=1e-4, atol=1e-5)


def test_case_43_a_batch_of_a_million_without_a_bound_is_right():
    m = load(MODELS["relu"](), shapes={"x": ("N",)})
    for n in (10**6, 0, 1, 7):
        x = np.random.default_rng(n).standard_normal(n).astype(np.float32)
        np.testing.assert_array_equal(m.predict(x), np.maximum(x, 0))
