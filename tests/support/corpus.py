# SPDX-License-Identifier: Apache-2.0
"""Small packages to start the fuzzer from and to run elsewhere: python -m tests.support.corpus OUT."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

import pyneo
from tests.support import control_flow
from tests.support.models import model, small_convnet


def one_node() -> onnx.ModelProto:
    """x [4] -> y [4]: the smallest model there is."""
    return model([helper.make_node("Relu", ["x"], ["y"])], {"x": (4,)}, {"y": (4,)}, {})


def small_mlp() -> onnx.ModelProto:
    """x [2, 8] -> y [2, 5]: two linear layers, softmax, concat, transpose."""
    rng = np.random.default_rng(0)
    node = helper.make_node
    nodes = [
        node("MatMul", ["x", "w1"], ["a"]),
        node("Add", ["a", "b1"], ["b"]),
        node("Tanh", ["b"], ["c"]),
        node("Concat", ["c", "x"], ["d"], axis=1),
        node("MatMul", ["d", "w2"], ["e"]),
        node("Softmax", ["e"], ["f"], axis=1),
        node("Transpose", ["f"], ["g"], perm=[1, 0]),
        node("Transpose", ["g"], ["h"], perm=[1, 0]),
        node("Slice", ["h", "start", "end", "axes"], ["y"]),
    ]
    constants = {
        "w1": rng.standard_normal((8, 6)).astype(np.float32), "b1": rng.standard_normal(6).astype(np.float32),
        "w2": rng.standard_normal((14, 6)).astype(np.float32), "start": np.array([0]), "end": np.array([5]),
        "axes": np.array([1]),
    }  # fmt: skip
    return model(nodes, {"x": (2, 8)}, {"y": (2, 5)}, constants)


MODELS = {"convnet": small_convnet, "mlp": small_mlp, "relu": one_node}


def write(out: Path, target: str) -> None:
    """One package a model, and the dynamic form of those whose first dim may be open."""
    out.mkdir(parents=True, exist_ok=True)
    for name, make in MODELS.items():
        (out / f"{name}-{target}.neo").write_bytes(pyneo.compile(make(), target=target).to_bytes())
    dynamic = pyneo.compile(small_convnet(), target=target, shapes={"x": ("N<=4", 3, "H", "W")})
    (out / f"dynamic-{target}.neo").write_bytes(dynamic.to_bytes())
    for name in control_flow.TEXTS:
        package = pyneo.compile(control_flow.make(name), target=target)
        (out / f"{name}-{target}.neo").write_bytes(package.to_bytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--target", default="host")
    args = parser.parse_args()
    write(args.out, args.target)


if __name__ == "__main__":
    main()
