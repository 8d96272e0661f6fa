# SPDX-License-Identifier: Apache-2.0
"""Models of ai.onnx.ml, imported and run node by node, against ONNX Runtime and onnx.reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper
from onnx.reference import ReferenceEvaluator

import pyneo.errors
from pyneo.compiler.frontends.onnx import load_onnx
from tests.ops.cases import check_all, evaluate, normal
from tests.support.interpreter import run_graph
from tests.support.onnx_models import model_of

MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]


def single(op: str, x: np.ndarray, outputs: int = 1, version: int = 3, **attrs: Any) -> onnx.ModelProto:
    names = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, ["x"], names, op, domain="ai.onnx.ml", **attrs)
    info = helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
    model = model_of([node], inputs=[info], outputs=names, opset=18, domains=[("ai.onnx.ml", version)])
    model.ir_version = 8
    return model


def imported(model: onnx.ModelProto, x: np.ndarray) -> list[np.ndarray]:
    return run_graph(load_onnx(model), {"x": x})


def runtime(model: onnx.ModelProto, x: np.ndarray) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    data, providers = model.SerializeToString(), ["CPUExecutionProvider"]
    return list(onnxruntime.InferenceSession(data, options, providers=providers).run(None, {"x": x}))


def forest(
    prefix: str, trees: int, features: int, targets: int, modes: list[str] | None = None, low: float = -1,
) -> dict[str, Any]:  # fmt: skip
    """Random trees in the attributes of versions 1 and 3; leaves vote for every target."""
    rng = np.random.default_rng([trees, features, targets])
    a: dict[str, list[Any]] = {
        f"nodes_{n}": [] for n in ("treeids", "nodeids", "featureids", "modes", "values")
    }
    a |= {f"nodes_{n}": [] for n in ("truenodeids", "falsenodeids", "missing_value_tracks_true")}
    a |= {f"{prefix}_{n}": [] for n in ("treeids", "nodeids", "ids", "weights")}
    for tree in range(trees):
        level, depth = [0], 4
        count = 1
        for d in range(depth + 1):
            following = []
            for node in level:
                leaf = d == depth or (d > 0 and rng.random() < 0.2)
                a["nodes_treeids"].append(tree)
                a["nodes_nodeids"].append(node)
                a["nodes_featureids"].append(int(rng.integers(features)))
                a["nodes_modes"].append("LEAF" if leaf else str(rng.choice(modes or MODES[:1])))
                a["nodes_values"].append(float(np.float32(rng.integers(-3, 4) / 2)))
                a["nodes_missing_value_tracks_true"].append(int(rng.integers(2)))
                a["nodes_truenodeids"].append(0 if leaf else count)
                a["nodes_falsenodeids"].append(0 if leaf else count + 1)
                if not leaf:
                    following += [count, count + 1]
                    count += 2
                    continue
                for target in range(targets):
                    a[f"{prefix}_treeids"].append(tree)
                    a[f"{prefix}_nodeids"].append(node)
                    a[f"{prefix}_ids"].append(target)
                    a[f"{prefix}_weights"].append(float(np.float32(rng.uniform(low, 1))))
            level = following
    return a


def data(rows: int, features: int) -> np.ndarray:
    x = normal(rows, features)
    x.reshape(-1)[::7] = np.round(x.reshape(-1)[::7] * 2) / 2  # on the thresholds
    x.reshape(-1)[3::11] = np.nan
    return x


@pytest.mark.parametrize("targets", [1, 3])
@pytest.mark.parametrize("aggregate", ["SUM", "AVERAGE", "MIN", "MAX"])
@pytest.mark.parametrize("modes", [MODES[:1], MODES])
def test_regressors(targets: int, aggregate: str, modes: list[str]) -> None:
    x = data(50, 5)
    attrs = forest("target", 20, 5, targets, modes=modes)
    attrs |= {"n_targets": targets, "aggregate_function": aggregate, "base_values": [0.25] * targets}
    model = single("TreeEnsembleRegressor", x, **attrs)
    check_all(imported(model, x), runtime(model, x))


def test_regressor_of_doubles_and_integers() -> None:
    attrs = forest("target", 10, 5, 1)
    x = np.round(normal(30, 5) * 3).astype(np.int64)
    as_floats = x.astype(np.float32)
    want = runtime(single("TreeEnsembleRegressor", as_floats, **attrs, n_targets=1), as_floats)
    check_all(imported(single("TreeEnsembleRegressor", x, **attrs, n_targets=1), x), want)
    wide = normal(30, 5).astype(np.float64)
    for name in ("nodes_values", "target_weights"):
        values = np.array(attrs.pop(name)) + 1e-9
        attrs[f"{name}_as_tensor"] = helper.make_tensor(name, 11, values.shape, values)
    model = single("TreeEnsembleRegressor", wide, **attrs, n_targets=1)
    check_all(imported(model, wide), runtime(model, wide))


def test_classifier_of_doubles_gives_floats() -> None:
    x = normal(30, 5).astype(np.float64)
    for classes, voted in ((2, 1), (3, 3)):
        attrs = forest("class", 4, 5, voted)
        attrs["classlabels_int64s"] = list(range(classes))
        model = single("TreeEnsembleClassifier", x, outputs=2, **attrs)
        model.graph.output[1].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
        check_all(imported(model, x), runtime(model, x))


@pytest.mark.parametrize("post", ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"])
def test_multiclass_classifiers(post: str) -> None:
    x = data(50, 4)
    attrs = forest("class", 12, 4, 4)
    model = single(
        "TreeEnsembleClassifier", x, 2, **attrs, classlabels_int64s=[7, 3, 9, 1], post_transform=post
    )
    check_all(imported(model, x), runtime(model, x))


@pytest.mark.parametrize("post", ["NONE", "LOGISTIC", "SOFTMAX"])
@pytest.mark.parametrize("low", [-1.0, 0.0])
@pytest.mark.parametrize("base", [None, [0.1]])
def test_one_score_for_two_classes(post: str, low: float, base: Any) -> None:
    x = data(50, 4)
    attrs = forest("class", 3, 4, 1, low=low)
    attrs["class_weights"] = [w / 3 for w in attrs["class_weights"]]
    if base:
        attrs["base_values"] = base
    model = single("TreeEnsembleClassifier", x, 2, **attrs, classlabels_int64s=[7, 3], post_transform=post)
    got, want = imported(model, x), runtime(model, x)
    assert set(want[0]) == {7, 3}
    check_all(got, want)


def test_votes_for_both_of_two_classes() -> None:
    x = data(50, 4)
    attrs = forest("class", 5, 4, 2)
    model = single(
        "TreeEnsembleClassifier", x, 2, **attrs, classlabels_int64s=[7, 3], post_transform="SOFTMAX"
    )
    got = imported(model, x)
    check_all(got[1:], runtime(model, x)[1:])  # ONNX Runtime's label is the class's index here
    np.testing.assert_array_equal(got[0], np.array([7, 3])[got[1].argmax(1)])


def test_version_5_with_sets_and_leaves_by_position() -> None:
    nan = np.float32(np.nan)

    def tensor(name: str, dtype: int, values: Any) -> onnx.TensorProto:
        return helper.make_tensor(name, dtype, [len(values)], values)

    x = np.array([[1.2, 3.4], [-0.12, 1.66], [4.0, 0], [5, 7], [np.nan, 2]], np.float32)
    model = single(
        "TreeEnsemble", x, version=5, n_targets=4, aggregate_function=1, post_transform=0, tree_roots=[0, 2],
        nodes_modes=tensor("m", 2, [0, 6, 6, 3]), nodes_featureids=[0, 0, 0, 1],
        nodes_splits=tensor("s", 1, [3.14, 0, 0, 2.5]),
        nodes_truenodeids=[1, 0, 3, 1], nodes_trueleafs=[0, 1, 0, 1],
        nodes_falsenodeids=[2, 1, 3, 0], nodes_falseleafs=[1, 1, 1, 1],
        leaf_targetids=[0, 1, 2, 3], leaf_weights=tensor("w", 1, [5.23, 12.12, -12.23, 7.21]),
        membership_values=tensor("v", 1, [1.2, 3.7, 8, 9, nan, 12, 7, 4, nan]),
    )  # fmt: skip
    check_all(imported(model, x), ReferenceEvaluator(model).run(None, {"x": x}))
    check_all(imported(model, x), runtime(model, x))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"nodes_values": [0.0]}, "differ in length"),
        ({"nodes_nodeids": [0, 1, 1]}, "same tree and node id"),
        ({"nodes_modes": ["BRANCH_LEQ", "LEAF", "TWIG"]}, "TWIG"),
        ({"nodes_falsenodeids": [9, 0, 0]}, "2 roots"),
        (
            {"nodes_falsenodeids": [9, 0, 0], "nodes_treeids": [0, 0, 1], "target_treeids": [0, 1]},
            "no node 9",
        ),
        ({"nodes_modes": ["BRANCH_LEQ"] * 3, "nodes_truenodeids": [1, 2, 1]}, "no leaf"),
        ({"nodes_falsenodeids": [0, 0, 0]}, "no root"),
        ({"target_nodeids": [1, 0]}, "no leaf"),
        ({"target_ids": [0, 1]}, "target outside"),
        ({"base_values": [1.0, 2.0]}, "base_values"),
        ({"aggregate_function": "MEDIAN"}, "MEDIAN"),
    ],
)
def test_broken_trees_are_refused(change: dict[str, Any], words: str) -> None:
    attrs: dict[str, Any] = {
        "nodes_treeids": [0, 0, 0], "nodes_nodeids": [0, 1, 2], "nodes_featureids": [0, 0, 0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"], "nodes_values": [0.0, 0.0, 0.0],
        "nodes_truenodeids": [1, 0, 0], "nodes_falsenodeids": [2, 0, 0], "target_treeids": [0, 0],
        "target_nodeids": [1, 2], "target_ids": [0, 0], "target_weights": [1.0, 2.0], "n_targets": 1,
    }  # fmt: skip
    x = normal(3, 2)
    check_all(
        imported(single("TreeEnsembleRegressor", x, **attrs), x),
        [np.where(x[:, :1] <= 0, 1, 2).astype(np.float32)],
    )
    with pytest.raises(pyneo.errors.Error, match=words):
        imported(single("TreeEnsembleRegressor", x, **attrs | change), x)


def test_the_core_walks_no_broken_tree() -> None:
    good: dict[int, list[Any]] = {2: [[0, 0, ~0, ~1]], 3: [0], 4: [0, 1, 2], 5: [0, 0]}
    x, splits, weights = normal(3, 2), np.zeros(1, np.float32), np.ones(2, np.float32)

    def run(tables: dict[int, list[Any]]) -> np.ndarray:
        return evaluate(
            "Trees", [x, splits, *(np.array(tables[i], np.int32) for i in (2, 3, 4, 5)), weights]
        )[0]

    np.testing.assert_array_equal(run(good), np.ones((3, 1), np.float32))
    for broken in (
        {2: [[0, 0, 0, 0]]}, {2: [[2, 0, ~0, ~1]]}, {2: [[-1, 0, ~0, ~1]]}, {2: [[0, 0, 1, 1]]},
        {2: [[0, 0, ~2, ~2]]}, {3: [1]}, {3: [~2]}, {4: [0, 1, 3], 2: [[0, 0, ~1, ~1]]}, {5: [1, 1]},
        {4: [-1, 1, 2], 2: [[0, 0, ~0, ~0]]}, {5: [-1, -1]}, {3: [-(2**31)]},
    ):  # fmt: skip
        with pytest.raises(pyneo.errors.Error, match="tree 0"):
            run(good | broken)


@pytest.mark.parametrize("post", ["NONE", "LOGISTIC", "SOFTMAX"])
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_linear_classifiers(post: str, rows: int) -> None:
    x = normal(20, 4)
    labels = [5, 9, 2][: max(rows, 2)]
    coefficients = normal(rows, 4, seed=1).reshape(-1).tolist()
    attrs = {
        "coefficients": coefficients,
        "intercepts": normal(rows, seed=2).tolist(),
        "classlabels_ints": labels,
    }
    model = single("LinearClassifier", x, 2, version=1, post_transform=post, **attrs)
    check_all(imported(model, x), runtime(model, x))


@pytest.mark.parametrize("targets", [1, 3])
def test_linear_regressors(targets: int) -> None:
    x = normal(20, 4)
    coefficients = normal(targets, 4, seed=1).reshape(-1).tolist()
    for extra in ({}, {"intercepts": normal(targets, seed=2).tolist()}):
        model = single("LinearRegressor", x, version=1, coefficients=coefficients, targets=targets, **extra)
        check_all(imported(model, x), runtime(model, x))


@pytest.mark.parametrize(
    ("op", "attrs"),
    [
        ("Scaler", {"scale": [2.0, 3.0, 0.5], "offset": [1.0, 0.5, -1.0]}),
        ("Scaler", {"scale": [2.0], "offset": [1.0]}),
        ("Normalizer", {"norm": "MAX"}),
        ("Normalizer", {"norm": "L1"}),
        ("Normalizer", {"norm": "L2"}),
        ("Binarizer", {"threshold": 0.25}),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_preprocessing(op: str, attrs: dict[str, Any], dtype: Any) -> None:
    dtype = np.float32 if op == "Binarizer" else dtype  # ONNX Runtime has no other
    x = (normal(7, 3) * 3).astype(dtype)
    x[2] = 0
    model = single(op, x, version=1, **attrs)
    check_all(imported(model, x), runtime(model, x))


@pytest.mark.parametrize(
    ("x", "attrs"),
    [
        (np.array([3, 7, 5, 3]), {"keys_int64s": [3, 5], "values_int64s": [30, 50], "default_int64": -7}),
        (np.array([3, 7, 5]), {"keys_int64s": [3, 5], "values_floats": [0.5, 1.5], "default_float": 9.0}),
        (
            np.array([1.5, np.nan, 2], np.float32),
            {"keys_floats": [1.5, float("nan")], "values_int64s": [4, 6], "default_int64": -1},
        ),
        (np.array([[1.5], [4]], np.float32), {"keys_floats": [1.5], "values_floats": [2.5]}),
    ],
)
def test_label_encoders(x: np.ndarray, attrs: dict[str, Any]) -> None:
    model = single("LabelEncoder", x, version=4, **attrs)
    check_all(imported(model, x), runtime(model, x))


def test_array_feature_extractor() -> None:
    for x in (normal(3, 5), normal(2, 3, 5), normal(5)):
        info = helper.make_tensor_value_info("x", 1, x.shape)
        index = helper.make_tensor("i", 7, [2], [4, 1])
        node = helper.make_node("ArrayFeatureExtractor", ["x", "i"], ["y"], domain="ai.onnx.ml")
        model = model_of([node], inputs=[info], initializer=[index], domains=[("ai.onnx.ml", 1)])
        model.ir_version = 8
        check_all(imported(model, x), runtime(model, x))
