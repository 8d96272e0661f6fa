# SPDX-License-Identifier: Apache-2.0
"""Hostile cases 53 and 54: external data that points where it should not."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from pyneo.compiler.frontends.onnx import load_onnx
from pyneo.errors import CompileError
from tests.support.onnx_models import add_weight, model_of

WEIGHTS = np.arange(6, dtype=np.float32).reshape(2, 3)


def external(entries: dict[str, str], dims: tuple[int, ...] = (2, 3)) -> onnx.TensorProto:
    t = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, data_location=TensorProto.EXTERNAL)
    for k, v in entries.items():
        t.external_data.add(key=k, value=v)
    return t


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inside = tmp_path / "model"
    inside.mkdir()
    (inside / "w.bin").write_bytes(WEIGHTS.tobytes())
    (tmp_path / "secret.bin").write_bytes(WEIGHTS.tobytes())
    return inside


def load(folder: Path, model: onnx.ModelProto) -> onnx.ModelProto:
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    return load_onnx(path, operators={"Add"})


def refused(folder: Path, model: onnx.ModelProto, *words: str) -> None:
    with pytest.raises(CompileError) as e:
        load(folder, model)
    for word in words:
        assert word in str(e.value)
    assert "node" in str(e.value)


@pytest.mark.parametrize(
    "entries",
    [
        {"location": "w.bin"},
        {"location": "w.bin", "offset": "0", "length": "24"},
        {"location": "./w.bin", "length": "24", "checksum": "0"},
        {"location": "sub/w.bin"},
    ],
)
def test_external_data_inside_the_folder_is_read(folder: Path, entries: dict[str, str]) -> None:
    (folder / "sub").mkdir()
    (folder / "sub" / "w.bin").write_bytes(WEIGHTS.tobytes())
    graph = load(folder, add_weight(external(entries)))
    weights = graph.nodes[0].inputs[1]
    assert weights is not None and weights.const is not None
    np.testing.assert_array_equal(weights.const, WEIGHTS)


LOCATIONS = [
    "../secret.bin", "sub/../../secret.bin", "/etc/passwd", "~/secret.bin", "C:\\secret.bin", "C:secret.bin",
    "\\\\host\\share\\secret.bin", "//host/share", "", "w.bin/", "a//w.bin", "./../secret.bin", ".", "..",
    "sub/./w.bin", "w\0.bin",
]  # fmt: skip


@pytest.mark.parametrize("location", LOCATIONS)
def test_case_53_location_outside_the_folder(folder: Path, location: str) -> None:
    (folder / "sub").mkdir()
    refused(folder, add_weight(external({"location": location})), "'w'")


def _final_link(folder: Path) -> str:
    (folder / "link.bin").symlink_to(folder.parent / "secret.bin")
    return "link.bin"


def _inner_link(folder: Path) -> str:
    (folder / "link.bin").symlink_to("w.bin")
    return "link.bin"


def _parent_link(folder: Path) -> str:
    (folder / "sub").symlink_to(folder.parent)
    return "sub/secret.bin"


def _hard_link(folder: Path) -> str:
    os.link(folder.parent / "secret.bin", folder / "hard.bin")
    return "hard.bin"


def _fifo(folder: Path) -> str:
    os.mkfifo(folder / "pipe")
    return "pipe"


def _folder(folder: Path) -> str:
    (folder / "sub").mkdir()
    return "sub"


def _missing(folder: Path) -> str:
    return "nowhere.bin"


def _long(folder: Path) -> str:
    return "x" * 5000


@pytest.mark.parametrize(
    "make", [_final_link, _inner_link, _parent_link, _hard_link, _fifo, _folder, _missing, _long]
)
def test_case_53_file_of_the_wrong_kind(folder: Path, make: Callable[[Path], str]) -> None:
    refused(folder, add_weight(external({"location": make(folder)})), "'w'")


def test_case_53_external_data_of_bytes_has_no_folder(folder: Path) -> None:
    data = add_weight(external({"location": "w.bin"})).SerializeToString()
    with pytest.raises(CompileError, match="without a folder"):
        load_onnx(data, operators={"Add"})


def _sparse(location: str) -> onnx.SparseTensorProto:
    values = external({"location": location}, (2,))
    indices = helper.make_tensor("i", TensorProto.INT64, [2], [0, 1])
    return onnx.SparseTensorProto(values=values, indices=indices, dims=[2, 3])


def _sparse_initializer() -> onnx.ModelProto:
    model = model_of([helper.make_node("Add", ["x", "w"], ["y"], "add")])
    model.graph.sparse_initializer.append(_sparse("../secret.bin"))
    return model


def _constant_sparse() -> onnx.ModelProto:
    node = helper.make_node("Constant", [], ["y"], "constant")
    node.attribute.add(name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR).sparse_tensor.CopyFrom(
        _sparse("../secret.bin")
    )
    return model_of([node])


def _constant() -> onnx.NodeProto:
    node = helper.make_node("Constant", [], ["c"], "inner")
    node.attribute.add(name="value", type=onnx.AttributeProto.TENSOR).t.CopyFrom(
        external({"location": "../secret.bin"})
    )
    return node


def _in_subgraph() -> onnx.ModelProto:
    branch = helper.make_graph([_constant()], "branch", [], [onnx.ValueInfoProto(name="c")])
    flag = helper.make_tensor_value_info("x", TensorProto.BOOL, ())
    return model_of(
        [helper.make_node("If", ["x"], ["y"], "if", then_branch=branch, else_branch=branch)], inputs=[flag]
    )


def _subgraph_initializer() -> onnx.ModelProto:
    add = helper.make_node("Add", ["w", "w"], ["c"], "inner")
    branch = helper.make_graph(
        [add], "branch", [], [onnx.ValueInfoProto(name="c")], [external({"location": "../secret.bin"})]
    )
    flag = helper.make_tensor_value_info("x", TensorProto.BOOL, ())
    return model_of(
        [helper.make_node("If", ["x"], ["y"], "if", then_branch=branch, else_branch=branch)], inputs=[flag]
    )


def _in_function() -> onnx.ModelProto:
    body = helper.make_function("my", "F", ["a"], ["c"], [_constant()], [helper.make_opsetid("", 21)])
    call = helper.make_node("F", ["x"], ["y"], "call", domain="my")
    return model_of([call], domains=[("my", 1)], functions=[body])


@pytest.mark.parametrize(
    "make", [_sparse_initializer, _constant_sparse, _in_subgraph, _subgraph_initializer, _in_function]
)
def test_case_53_everywhere_a_tensor_can_hide(folder: Path, make: Callable[[], onnx.ModelProto]) -> None:
    refused(folder, make(), "'../secret.bin' is refused")


BAD_ENTRIES: list[dict[str, str]] = [
    {"offset": "-1"},
    {"offset": "25"},
    {"offset": "1"},
    {"length": "-24"},
    {"length": "25"},
    {"length": "23"},
    {"length": "0"},
    {"offset": "18446744073709551608", "length": "24"},
    {"offset": "9223372036854775807"},
    {"offset": "0x0"},
    {"offset": " 0"},
    {"offset": "0\n"},
    {"offset": ""},
    {"offset": "zero"},
    {"offset": "1e1"},
    {"offset": "\u0660"},
    {"length": "24.0"},
    {"__class__": "x"},
    {"basepath": ".."},
]


@pytest.mark.parametrize("entries", BAD_ENTRIES, ids=[str(e) for e in BAD_ENTRIES])
def test_case_54_offset_length_and_keys(folder: Path, entries: dict[str, str]) -> None:
    refused(folder, add_weight(external({"location": "w.bin", **entries})), "'w'")


def test_case_54_a_key_given_twice(folder: Path) -> None:
    t = external({"location": "w.bin"})
    t.external_data.add(key="location", value="w.bin")
    refused(folder, add_weight(t), "twice")


def test_case_54_overlapping_tensors_are_refused_and_shared_ones_are_not(folder: Path) -> None:
    (folder / "w.bin").write_bytes(bytes(64))
    first = external({"location": "w.bin", "offset": "0", "length": "24"})
    second = external({"location": "w.bin", "offset": "8", "length": "24"})
    first.name, second.name = "a", "b"
    nodes = [
        helper.make_node("Add", ["x", "a"], ["t"], "one"),
        helper.make_node("Add", ["t", "b"], ["y"], "two"),
    ]
    refused(folder, model_of(nodes, initializer=[first, second]), "overlap")
    second.external_data[1].value = "0"
    assert len(load(folder, model_of(nodes, initializer=[first, second])).nodes) == 2
    second.external_data[1].value = "24"
    assert len(load(folder, model_of(nodes, initializer=[first, second])).nodes) == 2


def test_case_54_a_sparse_giant_is_not_read(folder: Path) -> None:
    with open(folder / "w.bin", "wb") as f:
        f.truncate(1 << 40)
    refused(folder, add_weight(external({"location": "w.bin"}, (1 << 38,))), "exceeds")


def test_unused_external_data_is_never_opened(folder: Path) -> None:
    model = model_of(
        [helper.make_node("Add", ["x", "x"], ["y"], "add")],
        initializer=[external({"location": "/etc/passwd"})],
    )
    assert len(load(folder, model).nodes) == 1
