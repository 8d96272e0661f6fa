# SPDX-License-Identifier: Apache-2.0
"""Hostile cases 27 to 31: wrong indices, order and dims inside a correctly signed package.

Every one of them is refused in a sentence, before anything of it runs, or runs to the right answer.
"""

from __future__ import annotations

import numpy as np
import pytest
from onnxruntime import InferenceSession

from tests.support.hostile_plans import EVERY, I32, I64, one, plan, refused, survives, weights
from tests.support.plan_records import Plan


@pytest.mark.parametrize("name", EVERY)
def test_what_is_taken_apart_and_put_together_again_runs(name):
    """The other tests change one thing of a plan that is sound."""
    assert survives(plan(name))


# ---- 27, 28: indices and order ------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
def test_case_27_an_operand_out_of_range_is_refused(name):
    p = plan(name)
    for i, good in enumerate(p.operands):
        for bad in (-2, len(p.tensors), I32, -(2**31)):
            p.operands[i] = bad
            refused(p, "operand is out of range")
        p.operands[i] = good


@pytest.mark.parametrize("name", EVERY)
def test_case_27_an_absent_operand_is_refused_or_optional(name):
    p = plan(name)
    for i, good in enumerate(p.operands):
        p.operands[i] = -1
        survives(p)
        p.operands[i] = good


@pytest.mark.parametrize("name", EVERY)
def test_case_27_an_absent_first_input_or_output_of_every_node_is_refused(name):
    p = plan(name)
    for n in p.nodes:
        outputs = [] if p.text(n["op"]) == "LSTM" else [n["inputs"]]
        for i in [n["operands"], *(n["operands"] + k for k in outputs)]:
            good, p.operands[i] = p.operands[i], -1
            assert not survives(p)
            p.operands[i] = good


@pytest.mark.parametrize("name", EVERY)
def test_case_27_any_other_tensor_as_an_operand_is_refused_or_runs(name):
    p = plan(name)
    for i, good in enumerate(p.operands):
        for other in range(len(p.tensors)):
            p.operands[i] = other
            survives(p)
        p.operands[i] = good


@pytest.mark.parametrize("name", ["convnet", "dynamic", "mlp", "lstm"])
@pytest.mark.parametrize(
    "field, values",
    [
        ("operands", (I32, 2**32 - 1)),
        ("inputs", (0, 65535)),
        ("outputs", (0, 65535)),
        ("scratch", (-2, I32, -(2**31))),
        ("name", (2**32 - 1,)),
        ("op", (2**32 - 1,)),
        ("kernel", (2**32 - 1,)),
        ("subgraphs", (1, 65535)),
    ],
)
def test_case_27_a_nodes_numbers_are_checked(name, field, values):
    p = plan(name)
    for n in p.nodes:
        for bad in values:
            good, n[field] = n[field], bad
            refused(p)
            n[field] = good


@pytest.mark.parametrize("field", range(6))
def test_case_27_a_graphs_ranges_are_checked(field):
    for bad in (10**4, I32, 2**32 - 1):
        p = plan("convnet")
        p.graphs[0][field] = bad
        assert not survives(p) or field < 2  # a plan of one graph runs all of its nodes


@pytest.mark.parametrize("op", ["NoSuchOperator", "relu", "", "Relu\x01", "R" * 5000])
def test_case_27_an_unknown_operator_is_refused(op):
    p = plan("relu")
    p.nodes[0]["op"] = p.string(op)
    refused(p, "operator|name")


@pytest.mark.parametrize("name", ["convnet", "dynamic", "mlp", "relu"])
def test_case_27_a_kernel_of_another_operator_or_layout_is_refused(name):
    everyone = [k for other in ("convnet", "mlp", "relu", "depthwise") for k in plan(other).kernels() if k]
    p = plan(name)
    for n in p.nodes:
        good = n["kernel"]
        for kernel in [*everyone, "no_such_kernel", "f32_eltwise_relu\x7f"]:
            if kernel == p.text(good):
                continue
            n["kernel"] = p.string(kernel)
            survives(p)
        for kernel in ("no_such_kernel", "f32_eltwise_tanh", "f32_gemm"):
            n["kernel"] = p.string(kernel)
            refused(p, "kernel")
        n["kernel"] = good


@pytest.mark.parametrize("name", ["convnet", "dynamic", "mlp"])
def test_case_28_a_node_before_its_producer_is_refused(name):
    for i in range(len(plan(name).nodes)):
        for j in range(i):
            p = plan(name)
            p.nodes[i], p.nodes[j] = p.nodes[j], p.nodes[i]
            assert not survives(p)


@pytest.mark.parametrize("name", ["convnet", "dynamic", "mlp", "relu"])
def test_case_28_a_node_that_reads_what_it_writes_is_refused(name):
    p = plan(name)
    for n in p.nodes:
        i, output = n["operands"], p.operands[n["operands"] + n["inputs"]]
        good, p.operands[i] = p.operands[i], output
        assert not survives(p)
        p.operands[i] = good


def test_case_28_a_dynamic_node_that_reads_what_no_node_wrote_is_refused():
    """Its dims are declared, so that nothing but the order gives it away."""
    p = plan("dynamic")
    relu = p.tensor("r1")
    relu["layout"], relu["dims"] = 0, [2, 24, 4, 4, 0, 0, 0, 0]
    first, pool = p.node("Conv"), p.node("GlobalAveragePool")
    p.operands[pool["operands"]] = p.operands[first["operands"] + 3]
    p.nodes = [n for n in p.nodes if p.text(n["op"]) not in ("Conv", "MaxPool")]
    p.graphs[0][1] = len(p.nodes)
    refused(p, "reads 'r1' before any node has written it")


# ---- 29, 30, 31: dims ---------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["convnet", "dynamic", "mlp", "relu"])
@pytest.mark.parametrize(
    "dims",
    [[65536] * 4, [2**31, 2**31, 4], [I64], [I64] * 8, [2**62, 4], [2**32, 2**32, 0], [2**61], [2**44]],
)
def test_case_29_dims_that_overflow_are_refused(name, dims):
    for i, t in enumerate(plan(name).tensors):
        for size in (t["bytes"], 0, I64, 2**64 - 1, 2**40):
            p = plan(name)
            p.tensors[i].update(rank=len(dims), dims=dims + [0] * (8 - len(dims)), bytes=size)
            assert not survives(p)


@pytest.mark.parametrize("name", ["convnet", "mlp", "relu"])
@pytest.mark.parametrize("dim", [-1, -2, -(2**31), -(2**63), -4])
def test_case_30_negative_dims_are_refused(name, dim):
    for i, t in enumerate(plan(name).tensors):
        for k in range(t["rank"]):
            p = plan(name)
            p.tensors[i]["dims"][k] = dim
            refused(p, "negative|size|symbol|declared|open")


@pytest.mark.parametrize("dim", [-4, -5, -(2**31), -(2**63) + 1])
def test_case_30_a_symbol_that_is_not_there_is_refused(dim):
    p = plan("dynamic")
    p.tensor("x")["dims"][0] = dim
    refused(p, "symbol")


@pytest.mark.parametrize("name", ["convnet", "dynamic", "mlp", "relu"])
@pytest.mark.parametrize("rank", [9, 65, 255])
def test_case_30_ranks_above_8_are_refused(name, rank):
    for i in range(len(plan(name).tensors)):
        p = plan(name)
        p.tensors[i]["rank"] = rank
        refused(p, "rank is above 8")


@pytest.mark.parametrize("name", EVERY)
def test_case_30_another_rank_is_refused_or_runs(name):
    for i, t in enumerate(plan(name).tensors):
        for rank in set(range(9)) - {t["rank"]}:
            p = plan(name)
            p.tensors[i]["rank"] = rank
            survives(p)


def test_case_30_rank_0_runs():
    x = np.float32(-3)
    for op, y in (("Relu", 0), ("Neg", 3), ("Identity", -3), ("Exp", np.exp(x))):
        found = Plan(one(op, ())).load().predict(np.asarray(x))
        assert found.shape == () and np.allclose(found, y, rtol=1e-6)


@pytest.mark.parametrize(
    "op, shape, constants, attrs",
    [
        ("Relu", (0, 4), {}, {}),
        ("MatMul", (0, 8), {"w": weights(8, 4)}, {}),
        ("MatMul", (3, 0), {"w": weights(0, 4)}, {}),
        ("Gemm", (0, 8), {"w": weights(8, 4), "b": weights(4)}, {}),
        ("Conv", (0, 4, 8, 8), {"w": weights(16, 4, 3, 3)}, {"pads": [1] * 4}),
        ("MaxPool", (0, 16, 8, 8), {}, {"kernel_shape": [2, 2]}),
        ("GlobalAveragePool", (0, 16, 8, 8), {}, {}),
        ("Softmax", (0, 4), {}, {"axis": 1}),
        ("Softmax", (4, 0), {}, {"axis": 1}),
        ("Transpose", (2, 0, 3), {}, {"perm": [2, 1, 0]}),
        ("ReduceSum", (2, 0), {"a": np.array([1])}, {"keepdims": 0}),
        ("ReduceMean", (0, 3), {}, {"axes": [1]}),
        ("Add", (0, 4), {"b": weights(4)}, {}),
    ],
)
def test_case_31_zero_size_dims_agree_with_onnxruntime(op, shape, constants, attrs):
    m = one(op, shape, constants, **attrs)
    x = np.zeros(shape, np.float32)
    expected = InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"]).run(
        None, {"x": x}
    )[0]
    found = Plan(m).load().predict(x)
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found, expected)
