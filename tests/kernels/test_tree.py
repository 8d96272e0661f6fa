# SPDX-License-Identifier: Apache-2.0
"""The packed tree kernel gives the reference's bits, and nothing in a packed forest can lead it astray."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from onnx import helper

from tests.kernels.compare import accepting, check, each_tier, run_kernel
from tests.kernels.harness import Node
from tests.support.hostile_plans import refused, survives
from tests.support.models import model
from tests.support.plan_records import Plan

LEQ, LT, GTE, GT, EQ, NEQ = range(6)
NAN_IS_TRUE = 8
KERNEL = "f32_trees"
PACKED = 64  # the layout


class Grown:
    """A random forest in the tables of the Trees operator."""

    def __init__(
        self, trees: int, depth: int, features: int, targets: int = 1, tests: tuple[int, ...] = (LEQ,),
        nan: bool = True, votes: int = 1, stop: float = 0.0, joins: float = 0.0, wide: bool = False,
        same_target: bool = True, seed: int = 0,
    ) -> None:  # fmt: skip
        self.rng = np.random.default_rng([trees, depth, features, targets, seed])
        self.features, self.tests, self.nan, self.stop, self.joins = features, tests, nan, stop, joins
        self.targets, self.votes, self.same_target = targets, votes, same_target
        self.nodes: list[list[int]] = []
        self.splits: list[float] = []
        self.leaves, self.voted = [0], []
        self.roots = [self.tree(t, depth) for t in range(trees)]
        splits = np.array(self.splits, np.float64)
        self.tables: list[Any] = [
            splits + 1e-12 if wide else splits.astype(np.float32),
            np.array(self.nodes, np.int32).reshape(-1, 4),
            np.array(self.roots, np.int32),
            np.array(self.leaves, np.int32),
            np.array(self.voted, np.int32),
            self.rng.standard_normal(len(self.voted)).astype(np.float32),
        ]

    def tree(self, tree: int, depth: int) -> int:
        self.made: list[int] = []
        return self.grow(tree % self.targets, depth, True)

    def leaf(self, target: int) -> int:
        count = int(self.rng.integers(0, 2 * self.votes)) if self.votes > 1 else 1
        for _ in range(count):
            one = self.same_target and self.votes == 1
            self.voted.append(target if one else int(self.rng.integers(self.targets)))
        self.leaves.append(len(self.voted))
        return ~(len(self.leaves) - 2)

    def grow(self, target: int, depth: int, top: bool) -> int:
        if depth == 0 or (not top and self.rng.random() < self.stop):
            return self.leaf(target)
        at = len(self.nodes)
        test = int(self.rng.choice(self.tests)) | (NAN_IS_TRUE if self.nan and self.rng.random() < 0.5 else 0)
        self.nodes.append([int(self.rng.integers(self.features)), test, 0, 0])
        self.splits.append(float(self.rng.integers(-4, 5)) / 2)
        self.nodes[at][2] = self.grow(target, depth - 1, False)
        later = [n for n in self.made if n > at]
        if later and self.rng.random() < self.joins:  # two ways to one node
            self.nodes[at][3] = int(self.rng.choice(later))
        else:
            self.nodes[at][3] = self.grow(target, depth - 1, False)
        self.made.append(at)
        return at

    def rows(self, n: int) -> np.ndarray:
        x = self.rng.standard_normal((n, self.features)).astype(np.float32)
        flat = x.reshape(-1)
        flat[::3] = np.round(flat[::3] * 2) / 2  # on the splits
        flat[1::7] = np.nan
        flat[2::11] = np.inf
        flat[4::13] = -np.inf
        flat[5::17] = -0.0
        return x

    def node(self, rows: int, base: bool = False, **attrs: Any) -> Node:
        inputs: list[Any] = [self.rows(rows), *self.tables]
        if base:
            inputs.append(np.linspace(-1, 1, self.targets).astype(np.float32))
        return Node("Trees", inputs, {"targets": self.targets, **attrs})


def same(node: Node, tier: str) -> None:
    check(node, KERNEL, tier, rtol=0, atol=0)


ROWS = [0, 1, 2, 4, 5, 15, 16, 17, 31, 33, 100, 301]


@each_tier
@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("depth", [0, 1, 2, 3, 4, 5, 6, 7, 9])
def test_depths(rows, depth, tier):
    same(Grown(5, depth, 7).node(rows), tier)


@each_tier
@pytest.mark.parametrize("rows", [1, 40])
@pytest.mark.parametrize("depth", [3, 12, 40])
@pytest.mark.parametrize("tests", [(LEQ,), (LT,), (GTE,), (GT,), (EQ,), (NEQ,), (LEQ, LT, GTE, GT, EQ, NEQ)])
@pytest.mark.parametrize("joins", [0.0, 0.3])
def test_every_comparison_in_trees_of_any_shape(rows, depth, tests, joins, tier):
    stop = 0.05 if depth == 3 else 0.45
    forest = Grown(12, depth, 5, tests=tests, stop=stop, joins=joins)
    same(forest.node(rows, base=True), tier)


@each_tier
@pytest.mark.parametrize("rows", [1, 3, 20])
@pytest.mark.parametrize(
    "targets,votes,same_target", [(3, 1, True), (3, 1, False), (1, 3, True), (5, 5, False)]
)
@pytest.mark.parametrize("post", ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO"])
def test_targets_votes_and_transforms(rows, targets, votes, same_target, post, tier):
    forest = Grown(7, 5, 4, targets, votes=votes, same_target=same_target, stop=0.1)
    same(forest.node(rows, base=True, post_transform=post), tier)
    same(forest.node(rows, aggregate="AVERAGE", post_transform=post), tier)


@each_tier
@pytest.mark.parametrize("tests", [(LEQ, GT), (LT, GTE), (EQ, NEQ)])
def test_splits_between_floats(tests, tier):
    same(Grown(6, 5, 3, tests=tests, wide=True).node(50), tier)


@each_tier
@pytest.mark.parametrize("features,targets", [(1, 1), (3000, 1), (10, 600)])
def test_sizes_that_leave_one_tile_to_a_block(features, targets, tier):
    same(Grown(9, 4, features, targets).node(70), tier)


@each_tier
def test_a_leaf_alone_and_no_tree_at_all(tier):
    same(Grown(3, 0, 2, nan=False).node(20), tier)
    same(Grown(0, 3, 2, nan=False).node(20, base=True), tier)


@each_tier
def test_a_chain_longer_than_complete_trees_go(tier):
    forest = Grown(1, 1, 2, tests=(GT,), nan=False)
    n = 900
    forest.tables[0] = np.arange(n, dtype=np.float32)
    forest.tables[1] = np.array([[0, GT, i + 1 if i + 1 < n else ~n, ~i] for i in range(n)], np.int32)
    forest.tables[3] = np.arange(n + 2, dtype=np.int32)
    forest.tables[4] = np.zeros(n + 1, np.int32)
    forest.tables[5] = np.arange(n + 1, dtype=np.float32)
    node = forest.node(64)
    node.inputs[0][:, 0] = np.arange(64) * 15.5
    same(node, tier)
    (y,), _ = run_kernel(node, KERNEL, tier)
    np.testing.assert_array_equal(y[:, 0], np.minimum(np.ceil(np.arange(64) * 15.5), n))


@each_tier
@pytest.mark.parametrize(
    "change",
    [
        {"aggregate": "MIN"},
        {"aggregate": "MAX"},
        {0: np.zeros((4, 3))},
        {1: np.array([np.nan, 0, 0], np.float32)},
        {1: np.array([np.inf, 0, 0], np.float32)},
        {6: np.full(4, np.inf, np.float32)},
        {6: np.zeros(4)},
        {2: np.array([[3, 0, 1, 2], [0, 0, ~0, ~1], [0, 0, ~2, ~3]], np.int32)},
        {2: np.array([[0, 0, 0, 2], [0, 0, ~0, ~1], [0, 0, ~2, ~3]], np.int32)},
        {2: np.array([[0, 6, 1, 2], [0, 0, ~0, ~1], [0, 0, ~2, ~3]], np.int32)},
        {2: np.array([[0, 0, 1, 3], [0, 0, ~0, ~1], [0, 0, ~2, ~3]], np.int32)},
        {2: np.array([[0, 0, 1, 2], [0, 0, ~0, ~1], [0, 0, ~2, ~4]], np.int32)},
        {3: np.array([3], np.int32)},
        {3: np.array([~4], np.int32)},
        {4: np.array([0, 2, 1, 3, 4], np.int32)},
        {4: np.array([0, 1, 2, 3, 5], np.int32)},
        {5: np.array([0, 0, 0, 1], np.int32)},
    ],
)
def test_what_it_leaves_to_the_reference(change, tier):
    forest = Grown(1, 2, 3, nan=False)
    node = forest.node(4)
    assert accepting(node, tier) == [KERNEL]
    for key, value in change.items():
        if isinstance(key, int):
            node.inputs[key] = value
        else:
            node.attrs[key] = value
    assert accepting(node, tier) == []


# ---- packages ------------------------------------------------------------------------------------


def packaged(forest: dict[str, Any], rows: int | str = 20) -> Plan:
    node = helper.make_node("TreeEnsembleRegressor", ["x"], ["y"], "trees", domain="ai.onnx.ml", **forest)
    made = model([node], {"x": (20, 2)}, {"y": None}, {}, opset=17)
    made.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    made.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    return Plan(made, shapes={"x": (rows, 2)})


def small(depth: int, targets: int = 1) -> dict[str, Any]:
    names = ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids")
    a: dict[str, list[Any]] = {f"nodes_{n}": [] for n in names}
    a |= {f"target_{n}": [] for n in ("treeids", "nodeids", "ids", "weights")}
    for tree in range(2):
        for i in range(2 * depth + 1):  # a chain: every other node is a leaf
            leaf = i % 2 == 1 or i == 2 * depth
            for name, value in [
                ("treeids", tree), ("nodeids", i), ("featureids", i % 4 // 2), ("values", i / 8),
                ("modes", "LEAF" if leaf else "BRANCH_LEQ"), ("truenodeids", 0 if leaf else i + 1),
                ("falsenodeids", 0 if leaf else i + 2),
            ]:  # fmt: skip
                a[f"nodes_{name}"].append(value)
            for t in range(targets if leaf else 0):
                for name, value in [("treeids", tree), ("nodeids", i), ("ids", t), ("weights", i + t / 2)]:
                    a[f"target_{name}"].append(value)
    return {**a, "n_targets": targets}


CHAINS = {"complete": small(4), "nodes": small(8), "lists": small(4, 3), "nodes of lists": small(8, 3)}


def packed_tensor(p: Plan) -> Any:
    (found,) = [t for t in p.tensors if t["layout"] == PACKED and t["bytes"] > 0]
    return found


@pytest.mark.parametrize("name", CHAINS)
@pytest.mark.parametrize("rows", [1, 20, "N<=32"])
def test_packed_trees_stand_alone_in_the_package(name, rows):
    p = packaged(CHAINS[name], rows)
    assert p.kernels() == [KERNEL]
    # Those that the packed one has taken in.
    assert sum(t["layout"] == PACKED and t["bytes"] == 0 for t in p.tensors) >= 4
    x = np.random.default_rng(0).standard_normal((rows if isinstance(rows, int) else 7, 2))
    x = x.astype(np.float32)
    with p.load() as m:
        np.testing.assert_array_equal(m.predict(x), _reference(CHAINS[name], x))


def _reference(forest: dict[str, Any], x: np.ndarray) -> np.ndarray:
    from onnx.reference import ReferenceEvaluator

    node = helper.make_node("TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", **forest)
    made = model([node], {"x": x.shape}, {"y": None}, {}, opset=17)
    made.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    (y,) = ReferenceEvaluator(made).run(None, {"x": x})
    return y


@pytest.mark.parametrize("rows", [3, 20])
@pytest.mark.parametrize("name", CHAINS)
def test_no_word_of_a_packed_forest_is_trusted(name, rows):
    """Every word of it in turn (of few rows, which walk one by one, every fifth) becomes an attacker's."""
    sound = packaged(CHAINS[name], rows)
    t = packed_tensor(sound)
    words = t["bytes"] // 4
    ran = tried = 0
    for at in range(0, words, 1 if rows == 20 else 5):
        for value in (0xFFFFFFFF, 0x00010000):
            tried += 1
            p = copy.copy(sound)
            p.weights = bytearray(sound.weights)
            p.weights[t["offset"] + at * 4 : t["offset"] + at * 4 + 4] = value.to_bytes(4, "little")
            ran += survives(p)
    assert 0 < ran < tried  # splits and leaves may be anything, the rest may not


@pytest.mark.parametrize("size", [0, 4, 60, 64, 128, 192])
def test_packed_forests_cut_short_are_refused(size):
    p = packaged(CHAINS["complete"])
    packed_tensor(p)["bytes"] = size
    refused(p, "packed trees")
