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


def small_trees() -> onnx.ModelProto:
    """x [3, 4] -> y [3, 1]: two trees of two levels, whose packed form addresses features and leaves."""
    modes = ["BRANCH_LEQ", "LEAF", "BRANCH_LEQ", "LEAF", "LEAF"] * 2
    node = helper.make_node(
        "TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", n_targets=1, nodes_modes=modes,
        nodes_treeids=[0] * 5 + [1] * 5, nodes_nodeids=[0, 1, 2, 3, 4] * 2,
        nodes_featureids=[0, 0, 3, 0, 0, 2, 0, 1, 0, 0], nodes_values=[0.5, 0, -0.25, 0, 0, 1, 0, 2, 0, 0],
        nodes_truenodeids=[1, 0, 3, 0, 0] * 2, nodes_falsenodeids=[2, 0, 4, 0, 0] * 2,
        target_treeids=[0, 0, 0, 1, 1, 1], target_nodeids=[1, 3, 4] * 2, target_ids=[0] * 6,
        target_weights=[1.0, 2, 3, 4, 5, 6],
    )  # fmt: skip
    made = model([node], {"x": (3, 4)}, {"y": (3, 1)}, {})
    made.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    return made


MODELS = {"convnet": small_convnet, "mlp": small_mlp, "relu": one_node, "trees": small_trees}


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
