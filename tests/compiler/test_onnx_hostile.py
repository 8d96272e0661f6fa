# SPDX-License-Identifier: Apache-2.0
"""Hostile cases 55 to 61 of the ONNX importer: a broken model is a CompileError that says what broke."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import AttributeProto, TensorProto, helper

import pyneo
from pyneo.compiler.frontends.onnx import load_onnx
from pyneo.errors import CompileError
from tests.support.onnx_models import add_weight, model_of

OPERATORS = {
    "Add",
    "Relu",
    "Identity",
    "Shape",
    "Reshape",
    "Concat",
    "If",
    "Flatten",
    "Softmax",
    "ConstantOfShape",
}


def refused(model: onnx.ModelProto | bytes, *words: str) -> CompileError:
    with pytest.raises(CompileError) as e:
        load_onnx(model, operators=OPERATORS)
    for word in words:
        assert word in str(e.value)
    assert e.value.problems
    return e.value


# --- 55: tensors -------------------------------------------------------------------------------------


def tensor(
    data_type: int = TensorProto.FLOAT, dims: tuple[int, ...] = (2, 3), **fields: object
) -> onnx.TensorProto:
    return TensorProto(data_type=data_type, dims=dims, **fields)  # type: ignore[arg-type]


F, D, H = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16
BROKEN_TENSORS: dict[str, tuple[onnx.TensorProto, str]] = {
    "raw too short": (tensor(raw_data=bytes(23)), "needs 24 bytes, but raw_data has 23"),
    "raw too long": (tensor(raw_data=bytes(25)), "needs 24 bytes, but raw_data has 25"),
    "raw empty": (tensor(raw_data=b""), "needs 24 bytes, but raw_data has 0"),
    "nothing": (tensor(), "needs 6 entries in float_data, but there are 0"),
    "typed too short": (tensor(float_data=[1.0] * 5), "needs 6 entries"),
    "typed too long": (tensor(float_data=[1.0] * 7), "needs 6 entries"),
    "raw and typed": (tensor(raw_data=bytes(24), float_data=[1.0] * 6), "more than once"),
    "two typed": (tensor(int32_data=[1] * 6, float_data=[1.0] * 6), "more than once"),
    "wrong typed field": (tensor(int32_data=[1] * 6), "keeps its data in float_data, but int32_data is set"),
    "double in float_data": (tensor(D, float_data=[1.0] * 6), "double_data"),
    "negative dim": (tensor(dims=(-2, 3), raw_data=bytes(24)), "negative dim"),
    "dims overflow": (tensor(dims=(65536,) * 4, raw_data=b""), "more elements than can be addressed"),
    "dims wrap to 24 bytes": (tensor(dims=(1 << 62, 4, 6), raw_data=bytes(24)), "more elements"),
    "overflow hidden by a zero": (tensor(dims=(0, 1 << 62, 4), raw_data=b""), "more elements"),
    "rank 65": (tensor(dims=(1,) * 65, raw_data=bytes(4)), "rank is 65"),
    "rank 10000": (tensor(dims=(1,) * 10000, raw_data=bytes(4)), "rank is 10000"),
    "no type": (tensor(0, raw_data=bytes(24)), "element type"),
    "unknown type": (tensor(99, raw_data=bytes(24)), "element type number 99"),
    "complex": (tensor(TensorProto.COMPLEX64, raw_data=bytes(48)), "complex64"),
    "float8": (tensor(TensorProto.FLOAT8E4M3FN, raw_data=bytes(6)), "float8e4m3fn"),
    "int8 out of range": (tensor(TensorProto.INT8, int32_data=[128] * 6), "outside the range"),
    "bool of 2": (tensor(TensorProto.BOOL, raw_data=b"\2" * 6), "other than 0 and 1"),
    "half out of range": (tensor(H, int32_data=[65536] * 6), "outside the range"),
    "segment": (tensor(raw_data=bytes(24), segment=TensorProto.Segment(begin=0, end=1)), "segments"),
    "string in raw": (tensor(TensorProto.STRING, raw_data=bytes(6)), "string_data"),
    "entries without EXTERNAL": (
        tensor(raw_data=bytes(24), external_data=[onnx.StringStringEntryProto(key="location", value="x")]),
        "data_location",
    ),
}


@pytest.mark.parametrize("name", BROKEN_TENSORS)
def test_case_55_broken_tensor(name: str) -> None:
    broken, words = BROKEN_TENSORS[name]
    refused(add_weight(broken), "node 'add' (Add): tensor 'w' cannot be read", words)


@pytest.mark.parametrize("data_type", [TensorProto.INT4, TensorProto.UINT4])
def test_case_55_four_bit_tensors_unpack_to_bytes(data_type: int) -> None:
    signed = data_type == TensorProto.INT4
    want = np.array([-8, 7, 3] if signed else [15, 0, 9], np.int8 if signed else np.uint8)
    nibbles = want.astype(np.uint8) & 15
    packed = bytes([nibbles[0] | nibbles[1] << 4, nibbles[2]])
    graph = load_onnx(add_weight(tensor(data_type, (3,), raw_data=packed)), operators=OPERATORS)
    weights = graph.nodes[0].inputs[1]
    assert weights is not None and weights.const is not None
    np.testing.assert_array_equal(weights.const, want, strict=True)


SPARSE: dict[str, tuple[list[int], tuple[int, ...], list[int]]] = {
    "index outside": ([6], (1,), [2, 3]),
    "index negative": ([-1], (1,), [2, 3]),
    "index twice": ([1, 1], (2,), [2, 3]),
    "column outside": ([0, 3], (1, 2), [2, 3]),
    "wrong rank": ([0, 0, 0], (1, 3), [2, 3]),
    "too large": ([0], (1,), [1 << 20, 1 << 20]),
}


@pytest.mark.parametrize("name", SPARSE)
def test_case_55_broken_sparse_tensor(name: str) -> None:
    indices, shape, dims = SPARSE[name]
    values = helper.make_tensor("w", TensorProto.FLOAT, [shape[0]], [1.0] * shape[0])
    model = model_of([helper.make_node("Add", ["x", "w"], ["y"], "add")])
    model.graph.sparse_initializer.add(
        values=values, indices=helper.make_tensor("i", TensorProto.INT64, shape, indices), dims=dims
    )
    refused(model, "sparse tensor 'w'")


# --- 56: budgets -------------------------------------------------------------------------------------


def nested_ifs(depth: int) -> onnx.ModelProto:
    """Built from the outside in: protobuf copies no message this deep."""
    flag = helper.make_tensor_value_info("x", TensorProto.BOOL, ())
    model = model_of([], inputs=[flag], outputs=["c"])
    graph = model.graph
    for i in range(depth):
        node = graph.node.add(op_type="If", input=["x"], output=["c"], name=f"if{i}")
        leaf = node.attribute.add(name="else_branch", type=AttributeProto.GRAPH).g
        leaf.node.add(op_type="Identity", input=["x"], output=["c"])
        leaf.output.add(name="c")
        graph = node.attribute.add(name="then_branch", type=AttributeProto.GRAPH).g
        graph.output.add(name="c")
    graph.node.add(op_type="Identity", input=["x"], output=["c"])
    return model


def test_case_56_nested_ifs_within_the_budget_are_read() -> None:
    assert len(load_onnx(nested_ifs(20), operators=OPERATORS).nodes) == 1


@pytest.mark.parametrize("depth", [60, 300])
def test_case_56_nested_ifs_beyond_the_budget(depth: int) -> None:
    refused(nested_ifs(depth), "nested more than")


def test_case_56_nested_ifs_as_bytes() -> None:
    branch = b""
    for _ in range(1000):  # graph { node { attribute { g } } }, from the inside out
        attribute = b"\x32" + _varint(len(branch)) + branch
        node = b"\x2a" + _varint(len(attribute)) + attribute
        branch = b"\x0a" + _varint(len(node)) + node
    refused(b"\x3a" + _varint(len(branch)) + branch, "broken or cut off")


def test_case_56_chain_of_100000_nodes() -> None:
    model = model_of([], outputs=["v100000"])
    for i in range(100_000):
        model.graph.node.add(op_type="Relu", input=["x" if i == 0 else f"v{i}"], output=[f"v{i + 1}"])
    assert len(load_onnx(model, operators=OPERATORS).nodes) == 100_000


def test_case_56_million_unused_initialisers() -> None:
    model = model_of([helper.make_node("Relu", ["x"], ["y"])])
    weights = (onnx.TensorProto(name=f"w{i:07}", data_type=1, dims=[1 << 20]) for i in range(1_000_000))
    model.graph.initializer.extend(weights)
    assert len(load_onnx(model, operators=OPERATORS).nodes) == 1  # none is read: they have no data


def function(name: str, calls: list[str]) -> onnx.FunctionProto:
    names = ["a", *(f"t{i}" for i in range(len(calls)))]
    nodes = [
        helper.make_node(c, [names[i]], [names[i + 1]], domain="my" if c[0] == "f" else "")
        for i, c in enumerate(calls)
    ]
    imports = [helper.make_opsetid("", 21), helper.make_opsetid("my", 1)]
    return helper.make_function("my", name, ["a"], [names[-1]], nodes, imports)


def calling(functions: list[onnx.FunctionProto]) -> onnx.ModelProto:
    call = helper.make_node("f0", ["x"], ["y"], "call", domain="my")
    return model_of([call], domains=[("my", 1)], functions=functions)


def test_functions_are_inlined() -> None:
    graph = load_onnx(calling([function("f0", ["f1", "f1"]), function("f1", ["Relu"])]), operators=OPERATORS)
    assert [n.op for n in graph.nodes] == ["Relu", "Relu"]
    assert graph.nodes[1].inputs == graph.nodes[0].outputs
    assert graph.outputs[0] is graph.nodes[1].output and graph.outputs[0].name == "y"
    assert len({n.name for n in graph.nodes}) == 2


@pytest.mark.parametrize("cycle", [["f0"], ["Relu", "f1"]])
def test_case_56_recursive_function(cycle: list[str]) -> None:
    refused(calling([function("f0", cycle), function("f1", ["f0"])]), "calls itself")


@pytest.mark.parametrize("leaf", [["Relu"], []])
def test_case_56_exponential_inlining(leaf: list[str]) -> None:
    """2^40 calls: of a node each, or of nothing at all."""
    levels = [function(f"f{i}", [f"f{i + 1}"] * 2) for i in range(40)]
    refused(calling([*levels, function("f40", leaf)]), "over the compiler's budget")


# --- 57: folding bombs: the frontend itself folds nothing that grows ------------------------------------


def test_case_57_constant_of_shape_bomb_is_not_expanded() -> None:
    shape = helper.make_tensor("s", TensorProto.INT64, [1], [1 << 40])
    graph = load_onnx(
        model_of([helper.make_node("ConstantOfShape", ["s"], ["y"], "bomb")], inputs=[], initializer=[shape]),
        operators=OPERATORS,
    )
    assert [n.op for n in graph.nodes] == ["ConstantOfShape"]


# --- 58: protobuf --------------------------------------------------------------------------------------


def good() -> bytes:
    return add_weight(tensor(raw_data=bytes(24))).SerializeToString()


def test_case_58_truncated_at_every_byte() -> None:
    data = good()
    for n in range(len(data)):
        try:
            graph = load_onnx(data[:n], operators=OPERATORS)
        except CompileError:
            continue
        assert graph.outputs  # cut between two fields: a smaller model, but a whole one


def test_case_58_every_single_bit_flipped() -> None:
    data = good()
    for i in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[i // 8] ^= 1 << i % 8
        try:
            load_onnx(bytes(flipped), operators=OPERATORS)
        except CompileError:
            continue


@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 64,
        b"\x0b" * 64,  # groups that never end
        b"\x3a" + b"\xff" * 9 + b"\x01",  # a graph of 2^63 bytes
        b"\x3a" * 100000,
        bytes([0x3A, 0x02, 0x08, 0x01]),  # a graph with a wrong wire type
        b"\x00",
    ],
    ids=["ones", "groups", "length", "deep", "wire type", "zero"],
)
def test_case_58_no_protobuf(data: bytes) -> None:
    refused(data)


def test_case_58_deep_nesting_of_messages() -> None:
    data = b""
    for _ in range(2000):  # type { sequence_type { elem_type ... of a graph input
        inner = b"\x0a" + _varint(len(data)) + data
        data = b"\x22" + _varint(len(inner)) + inner
    info = b"\x0a\x01x\x12" + _varint(len(data)) + data
    graph = b"\x5a" + _varint(len(info)) + info
    refused(b"\x3a" + _varint(len(graph)) + graph)


def _varint(n: int) -> bytes:
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def test_case_58_two_gigabyte_file(tmp_path: Path) -> None:
    path = tmp_path / "big.onnx"
    with open(path, "wb") as f:
        f.truncate(1 << 40)
    with pytest.raises(CompileError, match="external data"):
        load_onnx(path)


@pytest.mark.parametrize("kind", ["missing", "folder", "fifo", "device", "nul", "unreadable"])
def test_case_58_what_is_no_file(tmp_path: Path, kind: str) -> None:
    path = str(tmp_path / "m.onnx")
    if kind == "folder":
        os.mkdir(path)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path = "/dev/zero"
    elif kind == "nul":
        path = "a\0b"
    elif kind == "unreadable":
        path = "/proc/self/mem"
    with pytest.raises(CompileError, match=r"cannot be|regular"):
        load_onnx(path)


# --- 59: graphs ------------------------------------------------------------------------------------------


def relu(x: str, y: str, name: str = "n", **attrs: object) -> onnx.NodeProto:
    return helper.make_node("Relu", [x], [y], name, **attrs)


X = helper.make_tensor_value_info("x", TensorProto.FLOAT, (2, 3))
INT_OUT = helper.make_tensor_value_info("y", TensorProto.INT64, (2, 3))

BROKEN_GRAPHS: dict[str, tuple[Callable[[], onnx.ModelProto], str]] = {
    "value defined twice": (
        lambda: model_of([relu("x", "y"), relu("x", "y", "second")]),
        "node 'second' (Relu): it defines",
    ),
    "node redefines an input": (lambda: model_of([relu("x", "x", "again")], outputs=["x"]), "node 'again'"),
    "input given twice": (lambda: model_of([relu("x", "y")], inputs=[X, X]), "'x' is given twice"),
    "missing input": (lambda: model_of([relu("nowhere", "y")]), "node 'n' (Relu): it reads 'nowhere'"),
    "missing output": (lambda: model_of([relu("x", "z")]), "'y': nothing produces it"),
    "self loop": (lambda: model_of([relu("y", "y")]), "cycle"),
    "cycle": (lambda: model_of([relu("b", "a", "p"), relu("a", "b", "q")], outputs=["b"]), "cycle"),
    "unknown op": (
        lambda: model_of([helper.make_node("Frobnicate", ["x"], ["y"], "f")]),
        "node 'f' (Frobnicate)",
    ),
    "op of a later set": (
        lambda: model_of([helper.make_node("Gelu", ["x"], ["y"], "g")], opset=19),
        "node 'g' (Gelu)",
    ),
    "unknown domain": (
        lambda: model_of([helper.make_node("Foo", ["x"], ["y"], "f", domain="acme")]),
        "'acme'",
    ),
    "unknown custom op": (
        lambda: model_of([helper.make_node("Foo", ["x"], ["y"], "f", domain="acme")], domains=[("acme", 1)]),
        "operator acme.Foo is not supported (nodes 'f')",
    ),
    "opset 0": (lambda: model_of([relu("x", "y")], opset=0), "operator set 0"),
    "opset 9999": (lambda: model_of([relu("x", "y")], opset=9999), "operator set 9999"),
    "opset -1": (lambda: model_of([relu("x", "y")], opset=-1), "operator set -1"),
    "unknown attribute": (lambda: model_of([relu("x", "y", alpha=1.0)]), "attribute 'alpha' is unknown"),
    "attribute of the wrong type": (
        lambda: model_of([helper.make_node("Softmax", ["x"], ["y"], "s", axis=1.5)]),
        "node 's' (Softmax): attribute 'axis' is FLOAT, expected INT",
    ),
    "attribute missing": (
        lambda: model_of([helper.make_node("Concat", ["x"], ["y"], "c")]),
        "'axis' is required",
    ),
    "too few inputs": (
        lambda: model_of([helper.make_node("Add", ["x"], ["y"], "a")]),
        "1 inputs, expected 2",
    ),
    "too many inputs": (
        lambda: model_of([helper.make_node("Add", ["x"] * 3, ["y"], "a")]),
        "3 inputs, expected 2",
    ),
    "absent input of many": (
        lambda: model_of([helper.make_node("Concat", ["x", "", "x"], ["y"], "c", axis=0)]),
        "required but absent",
    ),
    "absent required input": (
        lambda: model_of([helper.make_node("Add", ["", "x"], ["y"], "a")]),
        "required but absent",
    ),
    "too many outputs": (
        lambda: model_of([helper.make_node("Relu", ["x"], ["y", "z"], "r")]),
        "2 outputs, expected 1",
    ),
    "type contradicts": (
        lambda: model_of([relu("x", "y")], outputs=[INT_OUT]),
        "declared I64, but its producer gives F32",
    ),
    "attribute twice": (
        lambda: model_of([_with(helper.make_node("Softmax", ["x"], ["y"], "s", axis=1), axis=0)]),
        "'axis' is given twice",
    ),
    "type and field contradict": (lambda: model_of([_lying()]), "says it is INT but carries"),
    "reference outside a function": (lambda: model_of([_reference()]), "outside of a function"),
    "negative input dim": (
        lambda: model_of([relu("x", "y")], inputs=[helper.make_tensor_value_info("x", 1, (-2, 3))]),
        "dim -2",
    ),
    "input of rank 65": (
        lambda: model_of([relu("x", "y")], inputs=[helper.make_tensor_value_info("x", 1, (1,) * 65)]),
        "rank 65",
    ),
    "input of no type": (lambda: model_of([relu("x", "y")], inputs=[onnx.ValueInfoProto(name="x")]), "'x'"),
}


def _with(node: onnx.NodeProto, axis: int) -> onnx.NodeProto:
    node.attribute.append(helper.make_attribute("axis", axis))
    return node


def _lying() -> onnx.NodeProto:
    node = helper.make_node("Softmax", ["x"], ["y"], "s")
    node.attribute.add(name="axis", type=AttributeProto.INT, ints=[1])
    return node


def _reference() -> onnx.NodeProto:
    node = helper.make_node("Softmax", ["x"], ["y"], "s")
    node.attribute.add(name="axis", type=AttributeProto.INT, ref_attr_name="outer")
    return node


@pytest.mark.parametrize("name", BROKEN_GRAPHS)
def test_case_59_broken_graph(name: str) -> None:
    make, words = BROKEN_GRAPHS[name]
    refused(make(), words)


def test_case_59_every_problem_is_listed_at_once() -> None:
    nodes = [
        relu("nowhere", "a", "first"),
        helper.make_node("Det", ["a"], ["b"], "second"),
        helper.make_node("Det", ["b"], ["c"], "third"),
        relu("c", "d", "fourth", alpha=1.0),
        helper.make_node("Add", ["d", "x"], ["y"], "fine"),
    ]
    e = refused(model_of(nodes), "first", "fourth", "operator Det is not supported (nodes 'second', 'third')")
    assert len(e.problems) == 3


def test_nodes_out_of_order_are_sorted() -> None:
    nodes = [relu("b", "y", "last"), relu("a", "b", "middle"), relu("x", "a", "first")]
    graph = load_onnx(model_of(nodes), operators=OPERATORS)
    assert [n.name for n in graph.nodes] == ["first", "middle", "last"]


# --- 61: other files called .onnx --------------------------------------------------------------------------

OTHERS: dict[str, tuple[bytes, str]] = {
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "git lfs pull"),
    "json": (b'{"learner": {}}', "JSON"),
    "json list": (b"[\n  { \"nodeid\": 0 }\n]", "JSON"),
    "zip": (b"PK\x03\x04" + bytes(60), "zip archive"),
    "pickle": (b"\x80\x02}q\x00.", "pickle"),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(60), "HDF5"),
    "html": (b"<!DOCTYPE html><html></html>", "web page"),
    "tflite": (b"\x1c\x00\x00\x00TFL3" + bytes(60), "TensorFlow Lite"),
    "gguf": (b"GGUF\x03\x00\x00\x00", "GGUF"),
    "empty": (b"", "empty"),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_case_61_another_file_called_onnx(tmp_path: Path, name: str) -> None:
    data, words = OTHERS[name]
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    with pytest.raises(CompileError) as e:
        load_onnx(path)
    assert words in str(e.value) and "model.onnx" in str(e.value)


def test_a_tensor_file_is_no_model() -> None:
    refused(helper.make_tensor("t", 1, [2], [1.0, 2.0]).SerializeToString())


def test_something_else_is_no_source() -> None:
    with pytest.raises(CompileError, match="not as int"):
        load_onnx(42)  # type: ignore[arg-type]


def test_case_57_a_result_that_no_memory_holds_is_refused_by_the_name_of_its_node() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> agraph (float[1] x) => (float y)
        <float[1] one = {1}, int64[2] big = {1000000, 1000000}, int64[2] more = {1000, 1000}>
        { a = Expand(one, big) y = Tile(a, more) }"""
    with pytest.raises(CompileError, match=r"node 'Tile_1': Tile: its output of shape \[10+, 10+\]"):
        pyneo.compile(onnx.parser.parse_model(text))


def test_case_57_products_of_large_constants_are_not_folded() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> agraph (float[1] x) => (float[2000, 2000] y)
        <int64[2] big = {2000, 2000}>
        { a = ConstantOfShape(big) b = MatMul(a, a) c = MatMul(b, b) y = Add(c, x) }"""
    steps = pyneo.compile(onnx.parser.parse_model(text)).report().steps
    assert [s.op for s in steps].count("MatMul") == 2


def test_case_56_a_model_that_takes_too_long_is_refused() -> None:
    text = '<ir_version: 8, opset_import: ["" : 17]> agraph (float[1] x) => (float[1] y) { y = Relu(x) }'
    with pytest.raises(CompileError, match=r"took more than 0 seconds.*max_seconds="):
        pyneo.compile(onnx.parser.parse_model(text), max_seconds=0)
