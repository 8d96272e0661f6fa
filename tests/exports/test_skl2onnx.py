# SPDX-License-Identifier: Apache-2.0
"""What skl2onnx writes: pipelines, preprocessing, classifiers, regressors and clusterings of scikit-learn."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="needs scikit-learn")
pytest.importorskip("skl2onnx", reason="needs skl2onnx")

from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn import (
    cluster,
    decomposition,
    discriminant_analysis,
    ensemble,
    linear_model,
    mixture,
    naive_bayes,
    neighbors,
    neural_network,
    preprocessing,
    svm,
    tree,
)
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.feature_selection import SelectKBest, VarianceThreshold
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline

from tests.exports.agree import agree, data

OPSET = {"": 18, "ai.onnx.ml": 3}
NAMES = np.array(["ash", "birch", "cedar", "douglas fir"])

CLASSIFIERS: dict[str, Any] = {
    "logistic": linear_model.LogisticRegression(),
    "sgd": linear_model.SGDClassifier(loss="log_loss", random_state=0),
    "decision_tree": tree.DecisionTreeClassifier(max_depth=7, random_state=0),
    "deep_forest": ensemble.RandomForestClassifier(21, random_state=0),
    "extra_trees": ensemble.ExtraTreesClassifier(15, max_depth=6, random_state=0),
    "gradient_boosting": ensemble.GradientBoostingClassifier(n_estimators=10, random_state=0),
    "ada_boost": ensemble.AdaBoostClassifier(n_estimators=8, random_state=0),
    "bagging": ensemble.BaggingClassifier(n_estimators=5, random_state=0),
    "voting": ensemble.VotingClassifier(
        [("a", linear_model.LogisticRegression()), ("b", naive_bayes.GaussianNB())],
        voting="soft",
        flatten_transform=False,
    ),
    "gaussian_nb": naive_bayes.GaussianNB(),
    "svc": svm.SVC(probability=True, random_state=0),
    "linear_svc": svm.LinearSVC(random_state=0),
    "mlp": neural_network.MLPClassifier(hidden_layer_sizes=(16, 8), max_iter=80, random_state=0),
    "knn": neighbors.KNeighborsClassifier(5),
    "qda": discriminant_analysis.QuadraticDiscriminantAnalysis(),
    "calibrated": CalibratedClassifierCV(linear_model.LogisticRegression(), cv=3),
    "scaled_logistic": make_pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression()),
    "pca_forest": make_pipeline(
        decomposition.PCA(4, random_state=0), ensemble.RandomForestClassifier(10, max_depth=5, random_state=0)
    ),
}
REGRESSORS: dict[str, Any] = {
    "linear": linear_model.LinearRegression(),
    "ridge": linear_model.Ridge(),
    "decision_tree": tree.DecisionTreeRegressor(random_state=0),
    "forest": ensemble.RandomForestRegressor(20, random_state=0),
    "extra_trees": ensemble.ExtraTreesRegressor(20, random_state=0),
    "gradient_boosting": ensemble.GradientBoostingRegressor(n_estimators=30, random_state=0),
    "svr": svm.SVR(),
    "knn": neighbors.KNeighborsRegressor(4),
    "mlp": neural_network.MLPRegressor(hidden_layer_sizes=(16, 8), max_iter=80, random_state=0),
}
TRANSFORMERS: dict[str, Any] = {
    "standard": preprocessing.StandardScaler(),
    "min_max": preprocessing.MinMaxScaler(),
    "max_abs": preprocessing.MaxAbsScaler(),
    "robust": preprocessing.RobustScaler(),
    "normalizer": preprocessing.Normalizer(),
    "binarizer": preprocessing.Binarizer(threshold=0.1),
    "polynomial": preprocessing.PolynomialFeatures(2),
    "power": preprocessing.PowerTransformer(),
    "bins": preprocessing.KBinsDiscretizer(4, encode="ordinal", quantile_method="averaged_inverted_cdf"),
    "pca": decomposition.PCA(3, random_state=0),
    "svd": decomposition.TruncatedSVD(3, random_state=0),
    "k_best": SelectKBest(k=3),
    "variance": VarianceThreshold(0.5),
}


def fitted(estimator: Any, x: Any, y: Any = None) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return estimator.fit(x, y)


def export(estimator: Any, x: np.ndarray, **options: Any) -> Any:
    chosen = {id(estimator): options} if options else None
    return to_onnx(estimator, x[:1], target_opset=OPSET, options=chosen)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_classifiers(name: str, classes: int) -> None:
    x, y = data(classes=classes)
    model = fitted(CLASSIFIERS[name], x, y)
    options: dict[str, Any] = {} if name == "linear_svc" else {"zipmap": False}
    source = {0: model.predict(x)}
    if hasattr(model, "predict_proba"):
        source[1] = model.predict_proba(x).astype(np.float32)
    agree(export(model, x, **options), x, source, rtol=1e-4)


@pytest.mark.parametrize("zipmap", [True, False])
@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("name", ["logistic", "deep_forest", "gradient_boosting", "mlp", "gaussian_nb"])
def test_class_names(name: str, classes: int, zipmap: bool) -> None:
    x, y = data(classes=classes)
    model = fitted(CLASSIFIERS[name], x, NAMES[y])
    agree(export(model, x, zipmap=zipmap), x, {0: model.predict(x)}, rtol=1e-4)


@pytest.mark.parametrize("classes", [2, 4])
def test_dicts_of_numbered_classes(classes: int) -> None:
    x, y = data(classes=classes)
    model = fitted(CLASSIFIERS["deep_forest"], x, y * 3 - 1)
    agree(export(model, x), x, {0: model.predict(x)})


@pytest.mark.parametrize("name", REGRESSORS)
def test_regressors(name: str) -> None:
    x, y = data()
    model = fitted(REGRESSORS[name], x, y)
    agree(export(model, x), x, {0: model.predict(x).reshape(-1, 1).astype(np.float32)}, 1e-4, 1e-4)


@pytest.mark.parametrize("name", ["linear", "forest", "decision_tree", "extra_trees", "mlp"])
def test_several_targets(name: str) -> None:
    x, y = data()
    both = np.stack([y, -y * 2], 1)
    model = fitted(REGRESSORS[name], x, both)
    agree(export(model, x), x, {0: model.predict(x).astype(np.float32)}, 1e-4, 1e-4)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_transformers(name: str) -> None:
    x, y = data(classes=3)
    model = fitted(TRANSFORMERS[name], x, y)
    agree(export(model, x), x, {0: np.asarray(model.transform(x), np.float32)}, 1e-4, 1e-4)


def test_missing_values() -> None:
    x, y = data(classes=3)
    x.reshape(-1)[::5] = np.nan
    steps = SimpleImputer(), preprocessing.StandardScaler(), linear_model.LogisticRegression()
    model = fitted(make_pipeline(*steps), x, y)
    agree(export(model, x, zipmap=False), x, {0: model.predict(x)})


def test_clusters_and_outliers() -> None:
    x, _ = data()
    found = fitted(cluster.KMeans(5, n_init=2, random_state=0), x)
    agree(export(found, x), x, {0: found.predict(x)}, rtol=1e-4, atol=1e-3)
    forest = fitted(ensemble.IsolationForest(n_estimators=20, random_state=0), x)
    agree(export(forest, x), x, {0: forest.predict(x).reshape(-1, 1)}, rtol=1e-4)
    mixed = fitted(mixture.GaussianMixture(3, random_state=0), x)
    agree(export(mixed, x), x, {0: mixed.predict(x)}, rtol=1e-3, atol=1e-4)


def test_columns_of_words_and_numbers() -> None:
    rng = np.random.default_rng(0)
    x, y = data(classes=2, features=4)
    colours = rng.choice(["red", "green", "blue"], (len(x), 2)).astype(object)
    import pandas

    frame = pandas.DataFrame({"a": x[:, 0], "b": x[:, 1], "c": colours[:, 0], "d": colours[:, 1]})
    model = make_pipeline(
        ColumnTransformer(
            [
                ("numbers", preprocessing.StandardScaler(), ["a", "b"]),
                ("words", preprocessing.OneHotEncoder(handle_unknown="ignore"), ["c", "d"]),
            ]
        ),
        linear_model.LogisticRegression(),
    )
    model = fitted(model, frame, y)
    types = [(n, FloatTensorType([None, 1]) if n in "ab" else StringTensorType([None, 1])) for n in "abcd"]
    exported = to_onnx(
        model, initial_types=types, target_opset=OPSET, options={id(model): {"zipmap": False}}
    )
    colours[::9, 0] = "violet"  # not seen when it learned
    frame["c"] = colours[:, 0]
    feeds = {
        n: np.asarray(frame[n]).reshape(-1, 1).astype(np.float32 if n in "ab" else object) for n in "abcd"
    }
    source = {0: model.predict(frame), 1: model.predict_proba(frame).astype(np.float32)}
    agree(exported, feeds, source, shapes=dict.fromkeys(feeds, ("N", 1)))


def test_ordinal_codes_of_words() -> None:
    rng = np.random.default_rng(0)
    words = rng.choice(["low", "mid", "high"], (60, 2)).astype(object)
    model = fitted(preprocessing.OrdinalEncoder(), words)
    exported = to_onnx(model, initial_types=[("x", StringTensorType([None, 2]))], target_opset=OPSET)
    agree(exported, words, {0: model.transform(words).astype(np.float32)})


def test_doubles_stay_doubles() -> None:
    x, y = data()
    wide = x.astype(np.float64)
    for name in ("linear", "ridge", "mlp"):
        model = fitted(REGRESSORS[name], wide, y)
        agree(export(model, wide), wide, {0: model.predict(wide)}, 1e-7, 1e-7)
