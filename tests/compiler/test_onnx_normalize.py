# SPDX-License-Identifier: Apache-2.0
"""Operators of older operator sets in the newest form give the numbers of ONNX Runtime (or numpy).

Each case is one node of an old operator set, run through the frontend and the core's portable kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from pyneo.compiler.frontends.onnx import load_onnx
from pyneo.compiler.frontends.onnx.normalize import RULES
from pyneo.compiler.ir.graph import Graph
from pyneo.errors import CompileError
from tests.support.interpreter import run_graph
from tests.support.onnx_models import model_of

RNG = np.random.default_rng(7)


def f32(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


@dataclass
class Old:
    """A node of an old operator set. `expected`: what numpy says, where ONNX Runtime cannot run it."""

    op: str
    opset: int
    inputs: list[np.ndarray | None]
    attrs: dict[str, object] = field(default_factory=dict)
    outputs: int = 1
    constants: tuple[int, ...] = ()  # inputs given as initialisers
    expected: Callable[..., np.ndarray] | None = None
    domain: str = ""

    def __str__(self) -> str:
        return f"{self.op}-{self.opset}" + "".join(f"-{k}" for k in self.attrs)

    def model(self) -> onnx.ModelProto:
        names = ["" if x is None else f"x{i}" for i, x in enumerate(self.inputs)]
        outs = [f"y{i}" for i in range(self.outputs)]
        node = helper.make_node(self.op, names, outs, "node", domain=self.domain, **self.attrs)
        infos, stored = [], []
        for i, x in enumerate(self.inputs):
            if x is None:
                continue
            if i in self.constants:
                stored.append(numpy_helper.from_array(x, names[i]))
            else:
                infos.append(
                    helper.make_tensor_value_info(names[i], helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
                )
        domains = [(self.domain, 1)] if self.domain else []
        model = model_of(
            [node], inputs=infos, outputs=outs, initializer=stored, opset=self.opset, domains=domains
        )
        model.ir_version = 8
        return model

    def feeds(self) -> dict[str, np.ndarray]:
        return {f"x{i}": x for i, x in enumerate(self.inputs) if x is not None and i not in self.constants}


def ms(op: str, *inputs: np.ndarray, **attrs: object) -> Old:
    return Old(op, 18, list(inputs), attrs, domain="com.microsoft")


I64 = np.int64
CONV = (f32(1, 3, 6, 6), f32(4, 3, 3, 3), f32(4))
SKIP = (f32(2, 3, 8), f32(2, 3, 8), f32(8))
X4 = f32(2, 3, 4, 5)
OLD: list[Old] = [
    Old("Squeeze", 11, [f32(1, 3, 1, 5)], {"axes": [0, 2]}),
    Old("Squeeze", 11, [f32(1, 3, 1)]),
    Old("Unsqueeze", 11, [f32(3, 5)], {"axes": [0, 3]}),
    Old("ReduceSum", 11, [X4], {"axes": [1, -1]}),
    Old("ReduceSum", 11, [X4], {"keepdims": 0}),
    Old("ReduceMean", 13, [X4], {"axes": [2, 3], "keepdims": 0}),
    Old("ReduceMax", 13, [X4], {"axes": [0]}),
    Old("ReduceL2", 13, [X4]),
    Old("Slice", 9, [X4], {"starts": [0, 1], "ends": [2, -1], "axes": [1, 3]}),
    Old("Slice", 9, [X4], {"starts": [1, 0, 2], "ends": [2, 3, 1000]}),
    Old("Split", 11, [X4], {"axis": 3, "split": [2, 3]}, outputs=2),
    Old("Split", 11, [X4], {"axis": 2}, outputs=2),
    Old("Split", 13, [X4], {"axis": 2}, outputs=4),
    Old("Pad", 10, [X4], {"pads": [0, 0, 1, 2, 0, 0, 0, 3], "value": 1.5}),
    Old("Pad", 10, [X4], {"pads": [0, 0, 1, 2, 0, 0, 0, 3], "mode": "reflect"}),
    Old("Clip", 10, [X4], {"min": -0.5}),
    Old("Clip", 10, [X4], {"max": 0.25}),
    Old("Clip", 10, [X4], {"min": -0.5, "max": 0.25}),
    Old("Clip", 10, [X4]),
    Old("Dropout", 9, [X4], {"ratio": 0.3}),
    Old("Dropout", 10, [X4], {"ratio": 0.3}, outputs=2),
    Old("Dropout", 12, [X4], outputs=2),
    Old("Dropout", 13, [X4, np.array(0.4, np.float32)], constants=(1,)),
    *(Old(op, 11, [X4], {"axis": a}) for op in ("Softmax", "LogSoftmax", "Hardmax") for a in (0, 1, 2, 3)),
    Old("Softmax", 11, [X4]),
    Old("Softmax", 11, [f32(3, 7)]),
    Old("LogSoftmax", 12, [X4], {"axis": -1}),
    Old("TopK", 9, [X4], {"k": 2}, outputs=2),
    Old("TopK", 10, [X4, np.array([3], I64)], {"axis": 1}, outputs=2, constants=(1,)),
    Old("BatchNormalization", 9, [X4, f32(3), f32(3), f32(3), np.abs(f32(3))]),
    Old("BatchNormalization", 7, [X4, f32(3), f32(3), f32(3), np.abs(f32(3))], {"epsilon": 1e-3}),
    Old("Cast", 9, [X4], {"to": TensorProto.INT32}),
    Old("Upsample", 9, [X4, np.array([1, 1, 2, 3], np.float32)], constants=(1,)),
    Old("Upsample", 9, [X4, np.array([1, 1, 2, 2], np.float32)], {"mode": "linear"}, constants=(1,)),
    Old("Upsample", 7, [X4], {"scales": [1.0, 1.0, 2.0, 2.0], "mode": "nearest"}),
    Old("Resize", 10, [X4, np.array([1, 1, 2, 2], np.float32)], constants=(1,)),
    Old("Resize", 10, [X4, np.array([1, 1, 0.5, 0.6], np.float32)], constants=(1,)),
    Old("Resize", 10, [X4, np.array([1, 1, 0.4, 2.5], np.float32)], constants=(1,)),
    Old("Resize", 10, [X4, np.array([1, 1, 1.5, 2.5], np.float32)], {"mode": "linear"}, constants=(1,)),
    *(
        Old(
            "Resize",
            opset,
            [X4, np.zeros(0, np.float32), np.array([1, 1, *factors], np.float32)],
            {"coordinate_transformation_mode": "tf_half_pixel_for_nn", **attrs},
            constants=(1, 2),
        )
        for opset, attrs in ((11, {"nearest_mode": "floor"}), (12, {}))
        for factors in ((2.0, 3.0), (0.5, 1.6))
    ),
    Old("Resize", 11, [X4, np.zeros(0, np.float32), np.array([1, 1, 2, 2], np.float32)], constants=(1, 2)),
    Old(
        "Resize",
        11,
        [X4, np.zeros(0, np.float32), np.zeros(0, np.float32), np.array([2, 3, 8, 7], I64)],
        {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
        constants=(1, 2, 3),
    ),
    Old("Scatter", 9, [f32(3, 3), np.array([[1, 0, 2], [0, 2, 1]], I64), f32(2, 3)]),
    Old("Gemm", 7, [f32(3, 4), f32(4, 5), f32(5)], {"alpha": 0.5, "beta": 2.0}),
    Old("Gemm", 11, [f32(4, 3), f32(4, 5)], {"transA": 1}),
    Old("GroupNormalization", 18, [f32(2, 6, 4), f32(3), f32(3)], {"num_groups": 3}),
    Old(
        "ConstantOfShape",
        9,
        [np.array([2, 3], I64)],
        {"value": helper.make_tensor("v", 6, [1], [7])},
        constants=(0,),
    ),
    Old("ConstantOfShape", 9, [np.array([2, 3], I64)], constants=(0,)),
    Old("Sum", 8, [X4]),
    Old("Mean", 8, [X4]),
    Old("Max", 8, [X4]),
    Old("Min", 8, [X4]),
    Old("Sum", 8, [X4, f32(4, 5), f32(1)]),
    Old("GridSample", 16, [f32(1, 2, 5, 5), f32(1, 3, 3, 2)], {"mode": "bicubic"}),
    Old("GridSample", 16, [f32(1, 2, 5, 5), f32(1, 3, 3, 2)]),
    Old("CastLike", 15, [X4, np.array([1], np.int32)]),
    # Operator sets below 7 are older than what ONNX Runtime keeps.
    Old("Add", 6, [X4, f32(3)], {"broadcast": 1, "axis": 1}, expected=lambda x, y: x + y[:, None, None]),
    Old("Mul", 6, [X4, f32(3, 4)], {"broadcast": 1, "axis": 1}, expected=lambda x, y: x * y[..., None]),
    Old("Sub", 6, [X4, f32(5)], {"broadcast": 1}, expected=lambda x, y: x - y),
    Old("Div", 6, [X4, f32(4, 5)], {"broadcast": 1, "axis": -2}, expected=lambda x, y: x / y),
    Old("Add", 6, [X4, X4], expected=lambda x, y: x + y),
    Old("PRelu", 6, [X4, f32(3)], expected=lambda x, s: np.where(x < 0, x * s[:, None, None], x)),
    Old("PRelu", 6, [X4, f32(1)], expected=lambda x, s: np.where(x < 0, x * s, x)),
    Old("Cast", 5, [X4], {"to": "INT64"}, expected=lambda x: x.astype(I64)),
    Old("Cast", 5, [X4], {"to": "DOUBLE"}, expected=lambda x: x.astype(np.float64)),
    Old("Reshape", 4, [X4], {"shape": [6, -1]}, expected=lambda x: x.reshape(6, -1)),
    Old(
        "Tile",
        5,
        [X4, np.array([3], np.float32), np.array([1], np.float32)],
        constants=(1, 2),
        expected=lambda x, n, axis: np.concatenate([x] * 3, 1),
    ),
    Old("Concat", 3, [X4, X4], expected=lambda x, y: np.concatenate([x, y], 1)),
    Old("Relu", 1, [X4], {"consumed_inputs": [0]}, expected=lambda x: np.maximum(x, 0)),
    Old("Pad", 1, [f32(2, 2)], {"paddings": [1, 0, 0, 1]}, expected=lambda x: np.pad(x, ((1, 0), (0, 1)))),
    Old("Upsample", 1, [X4], {"height_scale": 2.0, "width_scale": 1.0}, expected=lambda x: x.repeat(2, 2)),
    Old("Gemm", 6, [f32(3, 4), f32(4, 5), f32(5)], {"broadcast": 1}, expected=lambda a, b, c: a @ b + c),
    # What ONNX Runtime's optimiser writes.
    ms("Gelu", X4),
    ms("FastGelu", f32(2, 8), f32(8)),
    ms("BiasGelu", f32(2, 8), f32(8)),
    ms("FusedMatMul", f32(2, 4, 3), f32(2, 5, 4), transA=1, transB=1, alpha=0.25),
    ms("FusedMatMul", f32(3, 4), f32(4, 2)),
    ms("FusedGemm", f32(3, 4), f32(4, 5), f32(5), activation="LeakyRelu", activation_alpha=0.2),
    ms("FusedConv", *CONV, activation="Relu"),
    ms("FusedConv", *CONV, f32(1, 4, 4, 4), activation="Relu"),
    ms("FusedConv", *CONV[:2], activation="Clip", activation_params=[-0.5, 0.5]),
    ms("FusedConv", *CONV),
    ms("SkipLayerNormalization", *SKIP, f32(8), f32(8), epsilon=1e-5),
    ms("SkipSimplifiedLayerNormalization", *SKIP),
]


def reference(case: Old) -> list[np.ndarray]:
    if case.expected is not None:
        return [case.expected(*case.inputs)]
    session = ort.InferenceSession(case.model().SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, case.feeds())


@pytest.mark.parametrize("case", OLD, ids=[f"{i}-{c}" for i, c in enumerate(OLD)])
def test_old_forms_give_the_reference_numbers(case: Old) -> None:
    got = run_graph(load_onnx(case.model()), case.feeds())
    want = reference(case)
    assert len(got) == len(want)
    for y, ref in zip(got, want, strict=True):
        np.testing.assert_allclose(y, ref, rtol=1e-5, atol=1e-6, strict=True)


def graph_of(op: str, opset: int, n_in: int = 1, **attrs: object) -> Graph:
    inputs = [np.zeros((2, 3), np.float32)] * n_in
    return load_onnx(Old(op, opset, inputs, attrs).model())  # type: ignore[arg-type]


def test_every_rule_is_exercised() -> None:
    """By the cases above, by the backend suite, or by a test of the operator's own."""
    elsewhere = {
        op
        for op in RULES
        if op.startswith(("ai.onnx.ml.", "com.microsoft."))
        or op in ("Bernoulli", "Constant", "DFT", "EyeLike", "GlobalLpPool", "If", "LpPool", "QuantizeLinear")
        or op in ("AffineGrid", "DeformConv", "StringNormalizer")
        or op in ("RandomNormalLike", "RandomUniformLike", "RoiAlign", "Scan", "SimplifiedLayerNormalization")
    }
    same_rule = {fn for op in {c.op for c in OLD} for _, fn in RULES.get(op, [])}
    missing = [
        op
        for op, rules in RULES.items()
        if op not in elsewhere and not any(fn in same_rule for _, fn in rules)
    ]
    assert missing == []


def test_softmax_over_the_last_axis_stays_one_node() -> None:
    assert [n.op for n in graph_of("Softmax", 11, axis=1).nodes] == ["Softmax"]
    assert [n.op for n in graph_of("Softmax", 11, axis=0).nodes] == ["Flatten", "Softmax", "Shape", "Reshape"]


@pytest.mark.parametrize(
    ("kind", "value", "want"),
    [
        ("value", numpy_helper.from_array(np.array([[1, 2]], np.int8)), np.array([[1, 2]], np.int8)),
        ("value_float", 1.5, np.array(1.5, np.float32)),
        ("value_floats", [1.5, 2.0], np.array([1.5, 2.0], np.float32)),
        ("value_int", 3, np.array(3, np.int64)),
        ("value_ints", [3, 4], np.array([3, 4], np.int64)),
    ],
)
def test_constants_are_values_not_nodes(kind: str, value: object, want: np.ndarray) -> None:
    node = helper.make_node("Constant", [], ["y"], "c", **{kind: value})
    graph = load_onnx(model_of([node], inputs=[]))
    assert graph.nodes == []
    assert graph.outputs[0].const is not None
    np.testing.assert_array_equal(graph.outputs[0].const, want, strict=True)


def test_sparse_constant_is_made_dense() -> None:
    sparse = onnx.SparseTensorProto(
        values=helper.make_tensor("v", TensorProto.FLOAT, [2], [1.0, 2.0]),
        indices=helper.make_tensor("i", TensorProto.INT64, [2, 2], [0, 1, 1, 2]),
        dims=[2, 3],
    )
    node = helper.make_node("Constant", [], ["y"], "c")
    node.attribute.add(name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR).sparse_tensor.CopyFrom(
        sparse
    )
    const = load_onnx(model_of([node], inputs=[])).outputs[0].const
    np.testing.assert_array_equal(const, np.array([[0, 1, 0], [0, 0, 2]], np.float32), strict=True)


def branch(op: str) -> onnx.GraphProto:
    return helper.make_graph(
        [helper.make_node(op, ["x"], ["z"], op)], op, [], [onnx.ValueInfoProto(name="z")]
    )


@pytest.mark.parametrize("taken", [True, False])
def test_if_on_a_constant_becomes_its_branch(taken: bool) -> None:
    node = helper.make_node("If", ["c"], ["y"], "if", then_branch=branch("Relu"), else_branch=branch("Neg"))
    flag = numpy_helper.from_array(np.array(taken), "c")
    graph = load_onnx(model_of([node], initializer=[flag]))
    assert [n.op for n in graph.nodes] == ["Relu" if taken else "Neg"]
    assert graph.outputs[0] is graph.nodes[0].output and graph.outputs[0].name == "y"


def test_if_keeps_its_branches_as_subgraphs_that_see_outer_values() -> None:
    node = helper.make_node("If", ["c"], ["y"], "if", then_branch=branch("Relu"), else_branch=branch("Neg"))
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, (2, 3)),
        helper.make_tensor_value_info("c", TensorProto.BOOL, ()),
    ]
    graph = load_onnx(model_of([node], inputs=inputs), operators={"If", "Relu", "Neg"})
    (control,) = graph.nodes
    assert [s.nodes[0].op for s in control.subgraphs] == ["Relu", "Neg"]
    assert all(s.nodes[0].inputs == [graph.inputs[0]] for s in control.subgraphs)


def test_initialisers_that_are_also_inputs_are_constants() -> None:
    info = helper.make_tensor_value_info("w", TensorProto.FLOAT, (3,))
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, (2, 3))
    weight = numpy_helper.from_array(f32(3), "w")
    graph = load_onnx(
        model_of([helper.make_node("Add", ["x", "w"], ["y"])], inputs=[x, info], initializer=[weight])
    )
    assert [v.name for v in graph.inputs] == ["x"]


def test_shapes_given_by_the_user_replace_declared_ones() -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ("N", 3))
    model = model_of([helper.make_node("Relu", ["x"], ["y"])], inputs=[x])
    assert load_onnx(model).inputs[0].shape == ("N", 3)
    assert load_onnx(model, {"x": (4, 3)}).inputs[0].shape == (4, 3)
    assert load_onnx(model, {"x": ("N<=8", 3)}).inputs[0].shape == ("N<=8", 3)
    with pytest.raises(CompileError, match="'z', but the model's inputs are 'x'"):
        load_onnx(model, {"z": (4, 3)})
    with pytest.raises(CompileError, match="2 dims"):
        load_onnx(model, {"x": (4, 3, 1)})
    with pytest.raises(CompileError, match="-1"):
        load_onnx(model, {"x": (-1, 3)})


def test_operators_that_the_core_lacks_are_expanded_by_the_standard() -> None:
    x = f32(2, 3, 4)
    model = Old("MeanVarianceNormalization", 13, [x], {"axes": [0, 2]}).model()
    graph = load_onnx(model, operators={"ReduceMean", "Pow", "Sub", "Sqrt", "Add", "Div"})
    assert "MeanVarianceNormalization" not in {n.op for n in graph.nodes}
    (y,) = run_graph(graph, {"x0": x})
    want = (x - x.mean((0, 2), keepdims=True)) / (x.std((0, 2), keepdims=True) + 1e-9)
    np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-5)


def test_functions_see_attributes_and_absent_inputs() -> None:
    clip = helper.make_node("Clip", ["a", "low", "high"], ["b"])
    leaky = helper.make_node("LeakyRelu", ["b"], ["c"])
    leaky.attribute.add(name="alpha", type=onnx.AttributeProto.FLOAT, ref_attr_name="slope")
    body = helper.make_function(
        "my", "F", ["a", "low", "high"], ["c"], [clip, leaky], [helper.make_opsetid("", 21)], ["slope"]
    )
    high = numpy_helper.from_array(np.array(0.5, np.float32), "h")
    call = helper.make_node("F", ["x", "", "h"], ["y"], "call", domain="my", slope=0.25)
    graph = load_onnx(model_of([call], initializer=[high], domains=[("my", 1)], functions=[body]))
    x = f32(2, 3)
    (y,) = run_graph(graph, {"x": x})
    clipped = np.minimum(x, 0.5)
    np.testing.assert_allclose(y, np.where(clipped < 0, clipped * 0.25, clipped), rtol=1e-6)


def test_a_required_output_without_a_name_is_computed_and_read_by_nobody():
    """onnxruntime crashes on this one."""
    import pyneo

    node = helper.make_node("Split", ["x", "sizes"], ["", "y"], axis=1)
    made = helper.make_model(
        helper.make_graph(
            [node],
            "split",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, (2, 8))],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, (2, 5))],
            [numpy_helper.from_array(np.array([3, 5]), "sizes")],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9,
    )
    x = np.arange(16, dtype=np.float32).reshape(2, 8)
    found = pyneo.Model.load(pyneo.compile(made), allow_unsigned=True).predict(x)
    np.testing.assert_array_equal(found, x[:, 3:])
