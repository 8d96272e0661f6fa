# SPDX-License-Identifier: Apache-2.0
"""Fixed costs: what a node costs that computes nothing, and what a call costs, in nanoseconds.

python benchmarks/micro/fixed.py

The node is a Softmax over no rows: its time is the plan's interpretation and a kernel's entry. Every figure
is the best of many short samples: other work on the machine only ever slows them down.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import onnx
from onnx import TensorProto, helper

import pyneo

SHORT, LONG = 10, 210


def chain(nodes: int, rows: int) -> pyneo.Model:
    """A model of so many Softmax nodes over `rows` rows of 16."""
    names = ["x", *(f"t{i}" for i in range(1, nodes)), "y"]
    graph = helper.make_graph(
        [helper.make_node("Softmax", [a], [b], name=b) for a, b in pairwise(names)],
        "chain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (rows, 16))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (rows, 16))],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return pyneo.Model.load(pyneo.compile(model), allow_unsigned=True, threads=1)


def fastest(calls: dict[str, Callable[[], object]], seconds: float = 5.0) -> dict[str, float]:
    """Nanoseconds of one call of each, measured in turns."""
    best = dict.fromkeys(calls, float("inf"))
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for name, call in calls.items():
            start = time.perf_counter_ns()
            for _ in range(50):
                call()
            best[name] = min(best[name], (time.perf_counter_ns() - start) / 50)
    return best


def main() -> None:
    nothing = np.zeros((0, 16), np.float32)
    x = np.zeros((1, 16), np.float32)
    y = np.empty_like(x)
    short, long, one = chain(SHORT, 0), chain(LONG, 0), chain(1, 1)
    session = one.session()
    core = session._context.run  # what predict adds to it is Python's
    ns = fastest({
        "short": lambda: short.predict(nothing),
        "long": lambda: long.predict(nothing),
        "predict": lambda: one.predict(x),
        "out": lambda: one.predict(x, out=y),
        "dict": lambda: one.predict({"x": x}),
        "core": lambda: core((x,)),
        "empty": lambda: np.empty((1, 16), np.float32),
    })  # fmt: skip
    for what, figure in {
        "a node without work": (ns["long"] - ns["short"]) / (LONG - SHORT),
        "predict(x), a model of one node": ns["predict"],
        "predict(x, out=y)": ns["out"],
        "predict({'x': x})": ns["dict"],
        "the compiled module's part of predict(x)": ns["core"],
        "numpy.empty of the output, to compare": ns["empty"],
    }.items():
        print(f"{what:42} {figure:7.0f} ns")


if __name__ == "__main__":
    main()
