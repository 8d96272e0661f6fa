# SPDX-License-Identifier: Apache-2.0
"""Operators of ai.onnx.ml, one at a time, as the converters of scikit-learn and of its kind write them."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from tests.fuzz.maker import Maker, Unfit, Val

T = TensorProto
ML = "ai.onnx.ml"


def classic(m: Maker, _: Val) -> Val:
    kind = m.pick(
        "Scaler",
        "Normalizer",
        "Binarizer",
        "Imputer",
        "LinearRegressor",
        "LinearClassifier",
        "ArrayFeatureExtractor",
        "FeatureVectorizer",
        "OneHotEncoder",
        "LabelEncoder",
        "TreeEnsembleRegressor",
        "TreeEnsembleRegressor",
        "TreeEnsembleClassifier",
        "TreeEnsembleClassifier",
        "SVMRegressor",
    )
    rows, features = m.whole(1, 5), m.pick(1, 2, 4, 7)
    dtype = m.pick(T.FLOAT, T.FLOAT, T.DOUBLE, T.INT64, T.INT32)

    def ml(inputs: list[Val | None], results: int = 1, out: int = T.FLOAT, **attrs: Any) -> Val:
        kinds = [(None, T.INT64), (None, T.FLOAT)] if results == 2 else [(None, out)]
        return m.raw(kind, inputs, kinds, ML, **attrs)[-1]

    x = m.input((rows, features), dtype)
    floats = [float(v) for v in m.np.standard_normal(features).astype(np.float32)]
    if kind == "Scaler":
        n = m.pick(1, features)
        return ml([x], offset=floats[:n], scale=[abs(v) + 0.1 for v in floats[:n]])
    if kind == "Normalizer":
        return ml([x], norm=m.pick("MAX", "L1", "L2"))
    if kind == "Binarizer":
        return ml([x], out=x.dtype, threshold=m.pick(None, 0.4))
    if kind == "Imputer":
        if dtype not in (T.FLOAT, T.INT64):
            raise Unfit
        if dtype == T.INT64:
            return ml([x], out=dtype, imputed_value_int64s=[7] * m.pick(1, features), replaced_value_int64=3)
        data = m.data((rows, features))
        data[m.np.random(data.shape) < 0.3] = np.nan
        return ml(
            [m.input(data.shape, T.FLOAT, data)],
            imputed_value_floats=floats[: m.pick(1, features)],
            replaced_value_float=float("nan"),
        )
    if kind == "LinearRegressor":
        targets = m.whole(1, 3)
        return ml(
            [x], coefficients=floats * targets, intercepts=m.pick(None, [0.5] * targets), targets=targets
        )
    if kind == "LinearClassifier":
        classes = m.whole(2, 4)
        return ml(
            [x],
            2,
            coefficients=[v + i for i in range(classes) for v in floats],
            intercepts=[0.1] * classes,
            classlabels_ints=list(range(classes)),
            multi_class=m.pick(None, 0, 1),
            post_transform=m.pick(None, "NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"),
        )
    if kind == "ArrayFeatureExtractor":
        return ml([x, m.const(m.np.integers(0, features, m.whole(1, 4)))], out=x.dtype)
    if kind == "FeatureVectorizer":
        return ml([x, m.input((rows, 2), dtype)], inputdimensions=[features, 2])
    if kind == "OneHotEncoder":
        y = m.input((rows, 1), T.INT64, m.np.integers(0, 5, (rows, 1)))
        return ml([y], cats_int64s=[0, 1, 3, 4], zeros=m.pick(None, 1))
    if kind == "LabelEncoder":
        y = m.input((rows, features), T.INT64, m.np.integers(0, 6, (rows, features)))
        if m.chance(0.5):
            return ml(
                [y], keys_int64s=[0, 2, 5], values_floats=[0.5, 1.5, -1.0], default_float=m.pick(None, 9.0)
            )
        return ml(
            [y], out=T.INT64, keys_int64s=[0, 2, 5], values_int64s=[7, 8, 9], default_int64=m.pick(None, -3)
        )
    if kind == "SVMRegressor":
        count = m.whole(1, 5)
        vectors = [float(v) for v in m.np.standard_normal(count * features).astype(np.float32)]
        return ml(
            [x if dtype == T.FLOAT else m.input((rows, features))],
            n_supports=count,
            support_vectors=vectors,
            coefficients=[0.5 - i for i in range(count)],
            rho=[0.3],
            kernel_params=[0.4, 0.1, 2.0],
            kernel_type=m.pick("RBF", "POLY", "LINEAR", "SIGMOID"),
        )
    prefix = "target" if kind.endswith("Regressor") else "class"
    votes = m.whole(1, 3)
    nodes, leaves = _trees(m, features, votes)
    attrs: dict[str, Any] = {f"nodes_{k}": v for k, v in nodes.items()}
    attrs |= {f"{prefix}_{k}": v for k, v in leaves.items()}
    if prefix == "target":
        how = m.pick(None, "SUM", "AVERAGE", "MIN", "MAX")
        base = m.pick(None, [0.5] * votes) if how in (None, "SUM") else None
        return ml(
            [x],
            n_targets=votes,
            aggregate_function=how,
            base_values=base,
            post_transform=m.pick(None, "NONE", "LOGISTIC" if votes > 1 else "NONE"),
            **attrs,
        )
    labels = max(2, votes)
    return ml(
        [x],
        2,
        classlabels_int64s=list(range(labels)),
        post_transform=m.pick(None, "SOFTMAX", "LOGISTIC"),
        base_values=m.pick(None, [0.2] * labels) if votes > 2 else None,
        **attrs,
    )


def _trees(m: Maker, features: int, votes: int) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
    nodes: dict[str, list[Any]] = {
        k: []
        for k in (
            "treeids",
            "nodeids",
            "featureids",
            "modes",
            "values",
            "truenodeids",
            "falsenodeids",
            "missing_value_tracks_true",
        )
    }
    leaves: dict[str, list[Any]] = {k: [] for k in ("treeids", "nodeids", "ids", "weights")}
    ways = (
        ("BRANCH_LEQ",)
        if m.chance(0.6)
        else ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ")
    )
    for tree in range(m.pick(1, 2, 3, 9)):
        grown: list[tuple[str, int, float, int, int]] = []

        def grow(depth: int, grown: list[Any] = grown) -> int:
            at = len(grown)
            grown.append(("LEAF", 0, 0.0, 0, 0))
            if depth and m.chance(0.8):
                cut = float(np.float32(m.pick(m.rng.gauss(0, 1), 0.0, 1.0, float(m.whole(-90, 90)))))
                yes = grow(depth - 1)
                grown[at] = (m.pick(*ways), m.whole(0, features - 1), cut, yes, grow(depth - 1))
            return at

        grow(m.pick(0, 1, 2, 4, 6))
        for i, (mode, feature, cut, yes, no) in enumerate(grown):
            row = (tree, i, feature, mode, cut, yes, no, m.pick(0, 0, 1))
            for k, v in zip(nodes, row, strict=True):
                nodes[k].append(v)
            if mode == "LEAF":
                for vote in m.some(range(votes), m.whole(1, votes)):
                    for k, v in zip(leaves, (tree, i, vote, round(m.rng.uniform(-2, 2), 3)), strict=True):
                        leaves[k].append(v)
    return nodes, leaves
