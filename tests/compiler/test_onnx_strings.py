# SPDX-License-Identifier: Apache-2.0
"""Strings into models and out of them, and rows as dicts, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

import pyneo
from pyneo.package.manifest import Manifest, Target, TensorSpec

WORDS = np.array([["cat", "Hund"], ["", "zèbre"], ["cat", "unheard of"]], object)
NUMBERS = np.array([[3, 1], [7, 3], [0, 2]], np.int64)
LABELS = ["setosa", "virginica", "ø"]
SCORES = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)

Arrays = dict[str, np.ndarray]


def graph(nodes: list[onnx.NodeProto], inputs: Arrays, outputs: list[str], *stored: onnx.TensorProto) -> Any:
    kinds = {name: TensorProto.STRING if x.dtype == object else helper.np_dtype_to_tensor_dtype(x.dtype)
             for name, x in inputs.items()}  # fmt: skip
    infos = [helper.make_tensor_value_info(name, kinds[name], x.shape) for name, x in inputs.items()]
    results = [onnx.ValueInfoProto(name=name) for name in outputs]
    made = helper.make_graph(nodes, "strings", infos, results, stored)
    imports = [helper.make_opsetid("", 19), helper.make_opsetid("ai.onnx.ml", 4)]
    return helper.make_model(made, opset_imports=imports, ir_version=9)


def ml(op: str, inputs: list[str], outputs: list[str], **attrs: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, outputs, domain="ai.onnx.ml", **attrs)


def texts(name: str, *values: str) -> onnx.TensorProto:
    return helper.make_tensor(name, TensorProto.STRING, [len(values)], [v.encode() for v in values])


def run(model: onnx.ModelProto, inputs: Arrays) -> list[Any]:
    with pyneo.Model.load(pyneo.compile(model).to_bytes(), allow_unsigned=True) as m:
        found = m.predict(inputs)
    return list(found.values())


def runtime(model: onnx.ModelProto, inputs: Arrays) -> list[Any]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, inputs))


KEYS = {"keys_strings": ["cat", "zèbre", ""], "keys_int64s": [1, 3, 7]}
ENCODERS: list[tuple[Any, dict[str, Any]]] = [
    (WORDS, {"keys_strings": KEYS["keys_strings"], "values_int64s": [5, -6, 7], "default_int64": 9}),
    (WORDS, {"keys_strings": KEYS["keys_strings"], "values_floats": [0.5, 1.5, -2], "default_float": 3.25}),
    (WORDS, {"keys_strings": KEYS["keys_strings"], "values_strings": ["a", "b", "a"]}),
    (WORDS, {"keys_strings": ["x"], "values_strings": ["y"], "default_string": "nothing"}),
    (NUMBERS, {"keys_int64s": KEYS["keys_int64s"], "values_strings": ["one", "three", "seven"]}),
    (NUMBERS.astype(np.float32), {"keys_floats": [1, 3, np.nan], "values_strings": ["a", "b", "c"]}),
]


@pytest.mark.parametrize(("x", "attrs"), ENCODERS)
def test_label_encoders_of_strings_match_onnx_runtime(x: np.ndarray, attrs: dict[str, Any]) -> None:
    model = graph([ml("LabelEncoder", ["x"], ["y"], **attrs)], {"x": x}, ["y"])
    ((found,), (expected,)) = run(model, {"x": x}), runtime(model, {"x": x})
    assert found.dtype.kind == np.asarray(expected).dtype.kind or found.dtype.kind == "U"
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", [np.int16, np.float64, np.float32, np.int64])
def test_label_encoder_of_tensors_keeps_the_type_of_its_values(dtype: type) -> None:
    keys, values = texts("k", "cat", "Hund"), np.array([11, 22], dtype)
    node = ml(
        "LabelEncoder", ["x"], ["y"], keys_tensor=keys,
        values_tensor=onnx.numpy_helper.from_array(values),
        default_tensor=onnx.numpy_helper.from_array(np.array([-5], dtype)),
    )  # fmt: skip
    model = graph([node], {"x": WORDS}, ["y"])
    (found,) = run(model, {"x": WORDS})
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, [[11, 22], [-5, -5], [11, -5]])


@pytest.mark.parametrize("x", [WORDS, NUMBERS, NUMBERS.astype(np.float32)])
def test_one_hot_encoder_matches_onnx_runtime(x: np.ndarray) -> None:
    cats = {"cats_strings": ["Hund", "cat", "q"]} if x.dtype == object else {"cats_int64s": [7, 2, 3, 0]}
    model = graph([ml("OneHotEncoder", ["x"], ["y"], **cats)], {"x": x}, ["y"])
    np.testing.assert_array_equal(run(model, {"x": x})[0], runtime(model, {"x": x})[0])


def test_one_hot_encoder_that_allows_no_unknown_category_fails_on_one() -> None:
    model = graph([ml("OneHotEncoder", ["x"], ["y"], cats_int64s=[3, 1], zeros=0)], {"x": NUMBERS}, ["y"])
    with pytest.raises(pyneo.Error, match="index 2"):
        run(model, {"x": NUMBERS})
    fine = np.array([[3, 1], [1, 1], [3, 3]], np.int64)
    np.testing.assert_array_equal(run(model, {"x": fine})[0][..., 0], fine == 3)


@pytest.mark.parametrize("x", [WORDS, NUMBERS])
def test_category_mapper_matches_onnx_runtime(x: np.ndarray) -> None:
    node = ml("CategoryMapper", ["x"], ["y"], cats_strings=["cat", "Hund", "z"], cats_int64s=[3, 7, 1])
    model = graph([node], {"x": x}, ["y"])
    np.testing.assert_array_equal(run(model, {"x": x})[0], runtime(model, {"x": x})[0])


def test_strings_that_the_model_does_not_name_pass_through_it() -> None:
    nodes = [
        helper.make_node("Concat", ["x", "k"], ["all"], axis=0),
        helper.make_node("Transpose", ["all"], ["turned"], perm=[1, 0]),
        helper.make_node("Gather", ["turned", "i"], ["y"], axis=1),
        helper.make_node("Equal", ["x", "k"], ["same"]),
        helper.make_node("Where", ["same", "x", "k"], ["chosen"]),
    ]
    inputs = {"x": WORDS, "k": WORDS[::-1].copy(), "i": np.array([5, 0, 2], np.int64)}
    model = graph(nodes, inputs, ["y", "same", "chosen"])
    for found, expected in zip(run(model, inputs), runtime(model, inputs), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("labels", [{"classlabels_strings": LABELS}, {"classlabels_ints": [7, 3, -1]}])
def test_class_labels_and_their_scores_as_dicts(labels: dict[str, Any]) -> None:
    zipped = {k.replace("labels_ints", "labels_int64s"): v for k, v in labels.items()}
    nodes = [
        ml("LinearClassifier", ["x"], ["label", "p"], coefficients=np.eye(3).ravel().tolist(),
           intercepts=[0.0, 0.1, 0.2], post_transform="SOFTMAX", **labels),
        ml("ZipMap", ["p"], ["z"], **zipped),
    ]  # fmt: skip
    model = graph(nodes, {"x": SCORES}, ["label", "z"])
    (label, rows), (want_label, want_rows) = run(model, {"x": SCORES}), runtime(model, {"x": SCORES})
    np.testing.assert_array_equal(label, want_label)
    assert all(list(row) == next(iter(zipped.values())) for row in rows)
    for row, want in zip(rows, want_rows, strict=True):
        assert row == pytest.approx(want, rel=1e-6)


def test_what_a_model_says_of_its_strings() -> None:
    model = graph([ml("LabelEncoder", ["x"], ["y"], **ENCODERS[2][1])], {"x": WORDS}, ["y"])
    package = pyneo.compile(model)
    assert package.manifest.strings[:3] == ("cat", "zèbre", "")
    again = Manifest.decode(package.manifest.encode())
    assert again.strings == package.manifest.strings
    with pyneo.Model.load(package, allow_unsigned=True) as m:
        assert str(m.inputs[0]) == "str [3, 2]"
        y = m.predict(WORDS.astype(str))
        assert y.dtype.kind == "U"
        np.testing.assert_array_equal(y, m.predict(WORDS))
        with pytest.raises(pyneo.InputTypeError, match="expects strings"):
            m.predict(NUMBERS)
        with pytest.raises(pyneo.InputTypeError, match="found int at element 1"):
            m.predict(np.array([["a", 5], ["b", "c"], ["d", "e"]], object))
        with pytest.raises(pyneo.InputError, match="out="):
            m.predict(WORDS, out=np.empty((3, 2), np.int64))
        with pytest.raises(pyneo.InputError, match="shape"):
            m.predict(WORDS[:2])
        assert m.profile(WORDS) is not None


@pytest.mark.parametrize(
    ("op", "inputs", "attrs"),
    [
        ("Cast", ["x"], {"to": TensorProto.FLOAT}),
        ("Unique", ["x"], {}),
        ("StringConcat", ["x", "x"], {}),
    ],
)
def test_operators_that_look_into_strings_are_refused(op: str, inputs: list[str], attrs: Any) -> None:
    model = graph([helper.make_node(op, inputs, ["y"], **attrs)], {"x": WORDS}, ["y"])
    model.opset_import[0].version = 20
    with pytest.raises(pyneo.CompileError, match=f"{op}.*strings"):
        pyneo.compile(model)


def test_readers_of_dicts_are_refused() -> None:
    nodes = [
        ml("ZipMap", ["x"], ["z"], classlabels_int64s=[0, 1, 2]),
        helper.make_node("Identity", ["z"], ["y"]),
    ]
    with pytest.raises(pyneo.CompileError, match="read the ZipMap's input"):
        pyneo.compile(graph(nodes, {"x": SCORES}, ["y"]))


FINE = Manifest("m", Target("host", "any"), (), (TensorSpec("y", "string", (2,)),), strings=("a", "b"))


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"strings": ("a", "a")}, "twice"),
        ({"strings": ("a" * 2000,)}, "1024 characters"),
        ({"strings": (1,)}, "list of texts"),
        ({"outputs": (TensorSpec("y", "float32", (2,), (1, "a")),)}, "keys"),
        ({"outputs": (TensorSpec("y", "float32", (2,), (1, 1)),)}, "keys"),
        ({"outputs": (TensorSpec("y", "float32", (2,), (True, False)),)}, "keys"),
    ],
)
def test_broken_tables_of_a_manifest_are_refused(changed: dict[str, Any], word: str) -> None:
    assert Manifest.decode(FINE.encode()) == FINE
    with pytest.raises(pyneo.PackageError, match=word):
        FINE._replace(**changed).encode()
