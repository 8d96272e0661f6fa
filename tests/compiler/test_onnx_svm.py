# SPDX-License-Identifier: Apache-2.0
"""Support vector machines of ai.onnx.ml against ONNX Runtime: random ones here, those of scikit-learn too."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper
from sklearn import svm
from sklearn.datasets import make_classification

import pyneo
from pyneo.compiler.frontends.onnx import load_onnx
from tests.ops.cases import check_all, evaluate
from tests.support.interpreter import run_graph
from tests.support.onnx_models import model_of

KERNELS = ["LINEAR", "POLY", "RBF", "SIGMOID"]
POSTS = ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO"]
FEATURES, SUPPORTS = 6, 9
X = np.random.default_rng(0).standard_normal((20, FEATURES)).astype(np.float32)


def numbers(*shape: int, seed: int = 0, low: float = -1, high: float = 1) -> list[float]:
    rng = np.random.default_rng([seed, *shape])
    return [float(v) for v in rng.uniform(low, high, shape).astype(np.float32).reshape(-1)]


def single(op: str, x: np.ndarray, outputs: int, **attrs: Any) -> onnx.ModelProto:
    names = [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, ["x"], names, domain="ai.onnx.ml", **attrs)
    info = helper.make_tensor_value_info("x", helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
    model = model_of([node], inputs=[info], outputs=names, opset=18, domains=[("ai.onnx.ml", 1)])
    model.ir_version = 8
    return model


def compare(op: str, x: np.ndarray, outputs: int, rtol: float = 1e-5, **attrs: Any) -> None:
    model = single(op, x, outputs, **attrs)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    check_all(run_graph(load_onnx(model), {"x": x}), session.run(None, {"x": x}), rtol, 1e-5)


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("one_class", [0, 1])
def test_regressors(kernel: str, one_class: int) -> None:
    compare(
        "SVMRegressor", X, 1, coefficients=numbers(SUPPORTS), kernel_params=[0.3, 0.2, 3.0],
        kernel_type=kernel, n_supports=SUPPORTS, one_class=one_class, rho=[0.1],
        support_vectors=numbers(SUPPORTS, FEATURES),
    )  # fmt: skip


def test_regressor_without_support_vectors() -> None:
    compare("SVMRegressor", X, 1, coefficients=numbers(FEATURES), kernel_type="LINEAR", rho=[0.1],
            kernel_params=[0.0, 0.0, 0.0])  # fmt: skip


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("post", POSTS)
@pytest.mark.parametrize("probabilities", [False, True])
def test_classifiers(classes: int, kernel: str, post: str, probabilities: bool) -> None:
    pairs = classes * (classes - 1) // 2
    attrs: dict[str, Any] = {
        "classlabels_ints": list(range(7, 7 + classes)),
        "coefficients": numbers(classes - 1, SUPPORTS),
        "vectors_per_class": [SUPPORTS - 2 * (classes - 1)] + [2] * (classes - 1),
    }
    if probabilities:
        attrs |= {"prob_a": numbers(pairs, low=-2), "prob_b": numbers(pairs, seed=1, low=-0.2, high=0.2)}
    compare(
        "SVMClassifier", X, 2, 1e-4, kernel_params=[0.3, 0.2, 3.0], kernel_type=kernel, post_transform=post,
        rho=numbers(pairs, seed=2), support_vectors=numbers(SUPPORTS, FEATURES, seed=3), **attrs,
    )  # fmt: skip


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("post", POSTS)
@pytest.mark.parametrize("low", [-1.0, 0.0])
def test_classifiers_without_support_vectors(classes: int, post: str, low: float) -> None:
    compare(
        "SVMClassifier", X, 2, classlabels_ints=list(range(classes)), post_transform=post, rho=[0.1],
        coefficients=numbers(classes, FEATURES, low=low), kernel_type="LINEAR",
        kernel_params=[0.0, 0.0, 0.0],
    )  # fmt: skip


FINE: dict[str, Any] = {
    "classlabels_ints": [0, 1], "coefficients": numbers(SUPPORTS), "vectors_per_class": [4, 5],
    "kernel_type": "RBF", "kernel_params": [0.1, 0.0, 0.0], "rho": [0.1],
    "support_vectors": numbers(SUPPORTS, FEATURES),
}  # fmt: skip


@pytest.mark.parametrize("kind", [np.int64, np.float64, np.int32])
def test_other_types_of_input(kind: type) -> None:
    compare("SVMClassifier", (X * 3).astype(kind), 2, **FINE)


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_pairwise_coupling_gives_what_libsvm_computes(classes: int) -> None:
    x, y = make_classification(
        400, 10, n_informative=9, n_redundant=0, n_classes=classes, n_clusters_per_class=1, random_state=0
    )
    model = svm.SVC(probability=True, random_state=0).fit(x, y)
    # libsvm's own duels, class against class, through its sigmoids.
    model.decision_function_shape = "ovo"
    duels = model.decision_function(x[:50]).reshape(50, -1) * (-1 if classes == 2 else 1)
    with np.errstate(over="ignore"):
        shares = 1 / (1 + np.exp(duels * model.probA_ + model.probB_))
    shares = np.clip(shares, 1e-7, 1 - 1e-7).astype(np.float32)
    (found,) = evaluate("PairwiseProbability", [shares], classes=classes)
    np.testing.assert_allclose(found, model.predict_proba(x[:50]), atol=2e-5)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)


@pytest.mark.parametrize(("shape", "classes"), [((2, 3), 4), ((3,), 3), ((2, 0), 1), ((1, 1), -2)])
def test_pairs_that_do_not_fit_are_refused(shape: Any, classes: int) -> None:
    with pytest.raises(pyneo.Error, match="PairwiseProbability"):
        evaluate("PairwiseProbability", [np.zeros(shape, np.float32)], classes=classes)


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"kernel_type": "COSINE"}, "COSINE"),
        ({"vectors_per_class": [4, 5, 6]}, "vectors_per_class"),
        ({"vectors_per_class": [4, -5]}, "vectors_per_class"),
        ({"rho": []}, "rho"),
        ({"coefficients": numbers(5)}, "coefficients"),
        ({"support_vectors": numbers(5)}, "support_vectors"),
        ({"prob_a": [1.0, 2.0]}, "prob_a"),
    ],
)
def test_broken_machines_are_refused(changed: dict[str, Any], word: str) -> None:
    attrs = {k: v for k, v in (FINE | changed).items() if v != []}
    with pytest.raises(pyneo.CompileError, match=word):
        load_onnx(single("SVMClassifier", X, 2, **attrs))
