# SPDX-License-Identifier: Apache-2.0
"""An ensemble of trees in pyneo beside XGBoost, ONNX Runtime and treelite's compiled C, taking turns.

    pip install xgboost onnxmltools treelite tl2cgen onnxruntime
    python benchmarks/trees.py                                100 trees of depth 6, 30 features, one thread
    python benchmarks/trees.py --threads 2 --depth 8 --rows 1 64 1000

Every runtime predicts the same rows from an array to an array, called as its users call it; a turn is some
20 ms, and the figure is the median of the calls of all turns. Those that are not installed are left out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import present

TURN_SECONDS = 0.02
Call = Callable[[], Any]


def train(trees: int, depth: int, features: int) -> tuple[Any, np.ndarray]:
    """A booster and rows of the data that it learned from."""
    import xgboost

    rng = np.random.default_rng(0)
    x = rng.standard_normal((20000, features)).astype(np.float32)
    y = 2 * x[:, 0] + np.sin(3 * x[:, 1]) + x[:, 2] * x[:, 3] + 0.1 * rng.standard_normal(len(x))
    booster = xgboost.train(
        {"max_depth": depth, "eta": 0.1, "base_score": 0.5, "tree_method": "hist"},
        xgboost.DMatrix(x, y),
        trees,
    )
    return booster, x


def peer_pyneo(booster: Any, onnx: Any, x: np.ndarray, threads: int, folder: Path) -> dict[str, Call]:
    import pyneo

    package = pyneo.compile(onnx, shapes={"x": x.shape})
    model = pyneo.Model.load(package, allow_unsigned=True, threads=threads)
    return {"pyneo": lambda: model.predict(x)}


def peer_onnxruntime(booster: Any, onnx: Any, x: np.ndarray, threads: int, folder: Path) -> dict[str, Call]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        onnx.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return {"onnxruntime": lambda: session.run(None, {"x": x})[0]}


def peer_xgboost(booster: Any, onnx: Any, x: np.ndarray, threads: int, folder: Path) -> dict[str, Call]:
    booster.set_param({"nthread": threads})
    return {"xgboost (inplace_predict)": lambda: booster.inplace_predict(x)}


def peer_treelite(booster: Any, onnx: Any, x: np.ndarray, threads: int, folder: Path) -> dict[str, Call]:
    import tl2cgen
    import treelite

    library = folder / "trees.so"
    if not library.exists():
        tl2cgen.export_lib(treelite.frontend.from_xgboost(booster), "gcc", library, {"parallel_comp": 4})
    predictor = tl2cgen.Predictor(library, nthread=threads)
    matrix = tl2cgen.DMatrix(x)
    return {
        "tl2cgen": lambda: predictor.predict(tl2cgen.DMatrix(x)),
        "tl2cgen, DMatrix at hand": lambda: predictor.predict(matrix),
    }


PEERS = [peer_pyneo, peer_onnxruntime, peer_xgboost, peer_treelite]


def measure(calls: dict[str, Call], seconds: float) -> dict[str, float]:
    """Median microseconds of a call of each, in turns."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + seconds * len(calls)
    while time.perf_counter() < end:
        for name, call in calls.items():
            call()  # brings its memory back into the caches
            stop = time.perf_counter() + TURN_SECONDS
            while (begin := time.perf_counter()) < stop:
                call()
                times[name].append(time.perf_counter() - begin)
    return {name: float(np.median(t)) * 1e6 for name, t in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trees", type=int, default=100)
    parser.add_argument("--depth", type=int, default=6)
    parser.add_argument("--features", type=int, default=30)
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 1000, 10000])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=1.0, help="for each runtime and number of rows")
    args = parser.parse_args()

    from onnxmltools import convert_xgboost
    from onnxmltools.convert.common.data_types import FloatTensorType

    booster, data = train(args.trees, args.depth, args.features)
    types = [("x", FloatTensorType([None, args.features]))]
    onnx = convert_xgboost(booster, initial_types=types, target_opset=15)
    columns: list[dict[str, float]] = []
    apart: dict[str, float] = {}  # from pyneo, of the largest result
    with TemporaryDirectory() as folder:
        for rows in args.rows:
            x = np.ascontiguousarray(data[:rows])
            calls: dict[str, Call] = {}
            for peer in PEERS:
                try:
                    calls |= peer(booster, onnx, x, args.threads, Path(folder))
                except ImportError as e:
                    print(f"{peer.__name__[5:]}: left out, {e.name} is not installed")
            results = {name: np.asarray(call()).reshape(-1) for name, call in calls.items()}
            scale = float(np.abs(results["pyneo"]).max())
            for name, y in results.items():
                apart[name] = max(apart.get(name, 0), float(np.abs(y - results["pyneo"]).max()) / scale)
            columns.append(measure(calls, args.seconds))

    where = present.machine()
    print(f"{args.trees} trees of depth {args.depth}, {args.features} features, {args.threads} threads, "
          f"{where['cpu']}; median of a call in microseconds\n")  # fmt: skip
    print("| runtime | " + " | ".join(f"{n:,} rows" for n in args.rows) + " | differs from pyneo |")
    print("|---|" + "---:|" * (len(columns) + 1))
    for name in columns[0]:
        print(f"| {name} | " + " | ".join(f"{c[name]:,.1f}" for c in columns) + f" | {apart[name]:.0e} |")


if __name__ == "__main__":
    main()
