# SPDX-License-Identifier: Apache-2.0
"""What onnxmltools writes: ensembles of XGBoost and LightGBM."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.exports.agree import agree, data

onnxmltools = pytest.importorskip("onnxmltools", reason="needs onnxmltools")

OPSET = 15


def holes(x: np.ndarray) -> np.ndarray:
    """A copy in which every seventh number is missing."""
    x = x.copy()
    x.reshape(-1)[::7] = np.nan
    return x


def types(x: np.ndarray) -> Any:
    from onnxmltools.convert.common.data_types import FloatTensorType

    return [("x", FloatTensorType([None, x.shape[1]]))]


# ---- LightGBM ------------------------------------------------------------------------------------


def lightgbm_fit(kind: str, x: np.ndarray, y: np.ndarray, **options: Any) -> Any:
    lightgbm = pytest.importorskip("lightgbm", reason="needs lightgbm")
    settings = {"n_estimators": 20, "num_leaves": 31, "min_child_samples": 3, "n_jobs": 1, "verbose": -1}
    fit = {k: options.pop(k) for k in ("categorical_feature",) if k in options}
    return getattr(lightgbm, kind)(**settings | options).fit(x, y, **fit)


def lightgbm_export(model: Any, x: np.ndarray, **options: Any) -> Any:
    return onnxmltools.convert_lightgbm(model, initial_types=types(x), target_opset=OPSET, **options)


@pytest.mark.parametrize("zipmap", [True, False])
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("missing", [False, True])
def test_lightgbm_classifiers(classes: int, zipmap: bool, missing: bool) -> None:
    x, y = data(classes=classes)
    x = holes(x) if missing else x
    model = lightgbm_fit("LGBMClassifier", x, y)
    source = {0: model.predict(x)}
    if not zipmap:
        source[1] = model.predict_proba(x).astype(np.float32)
    agree(lightgbm_export(model, x, zipmap=zipmap), x, source)


@pytest.mark.parametrize("classes", [2, 3])
def test_lightgbm_class_names(classes: int) -> None:
    x, y = data(classes=classes)
    model = lightgbm_fit("LGBMClassifier", x, np.array(["no", "maybe", "yes"])[y])
    agree(lightgbm_export(model, x, zipmap=True), x, {0: model.predict(x)})


@pytest.mark.parametrize("options", [{}, {"num_leaves": 200, "n_estimators": 5}, {"boosting_type": "dart"}])
def test_lightgbm_regressors(options: dict[str, Any]) -> None:
    x, y = data(rows=1500)
    model = lightgbm_fit("LGBMRegressor", x, y, **options)
    agree(lightgbm_export(model, x), x, {0: model.predict(x).reshape(-1, 1).astype(np.float32)})


def test_lightgbm_categories() -> None:
    x, y = data(rows=600)
    rng = np.random.default_rng(1)
    x[:, 4] = rng.integers(0, 12, len(x))
    y = y + np.isin(x[:, 4], [1, 5, 7, 8]) * 3
    model = lightgbm_fit("LGBMRegressor", x, y, categorical_feature=[4], cat_smooth=1, min_data_per_group=5)
    assert "==" in str(model.booster_.dump_model()["tree_info"])  # a split by membership in a set
    agree(lightgbm_export(model, x), x, {0: model.predict(x).reshape(-1, 1).astype(np.float32)})


# ---- XGBoost: some 100 MB, so that only those who have it test it -----------------------------------


def xgboost_fit(kind: str, x: np.ndarray, y: np.ndarray, **options: Any) -> Any:
    xgboost = pytest.importorskip("xgboost", reason="needs xgboost")
    return getattr(xgboost, kind)(**{"n_estimators": 20, "max_depth": 6, "n_jobs": 1} | options).fit(x, y)


def xgboost_export(model: Any, x: np.ndarray) -> Any:
    return onnxmltools.convert_xgboost(model, initial_types=types(x), target_opset=OPSET)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("missing", [False, True])
def test_xgboost_classifiers(classes: int, missing: bool) -> None:
    x, y = data(classes=classes)
    x = holes(x) if missing else x
    model = xgboost_fit("XGBClassifier", x, y)
    agree(xgboost_export(model, x), x, {0: model.predict(x), 1: model.predict_proba(x)})


@pytest.mark.parametrize(
    "options",
    [{}, {"max_depth": 3}, {"max_depth": 9}, {"base_score": 2.5}, {"objective": "reg:absoluteerror"},
     {"booster": "gbtree", "num_parallel_tree": 3}],
)
@pytest.mark.parametrize("missing", [False, True])
def test_xgboost_regressors(options: dict[str, Any], missing: bool) -> None:
    x, y = data(rows=1000)
    x = holes(x) if missing else x
    model = xgboost_fit("XGBRegressor", x, y, **options)
    agree(xgboost_export(model, x), x, {0: model.predict(x).reshape(-1, 1)})
