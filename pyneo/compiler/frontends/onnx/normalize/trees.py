# SPDX-License-Identifier: Apache-2.0
"""Tree ensembles of ai.onnx.ml become the core's Trees (csrc/ops/trees.cc) and standard operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ....ir.graph import DType, Value
from ..limits import Problem
from .classes import binary, labels_of, multiclass
from .rule import Emitter, Op, rule

_ML = "ai.onnx.ml."
_TESTS = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
_EQ, _NAN_IS_TRUE = 4, 8
_AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")
Votes = list[list[tuple[int, float]]]  # (target, weight) pairs of each leaf
_TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")


@dataclass
class Branch:
    """An inner node of a source model. Children: a node's key, or ~leaf for a leaf."""

    feature: int
    tests: list[tuple[int, float]]  # taken in turn: the first that holds leads to `then`
    nan_is_true: bool
    then: int
    other: int


@dataclass
class Forest:
    """Trees in the core's form: a child comes after its parent, so every walk ends."""

    splits: list[float] = field(default_factory=list)
    nodes: list[list[int]] = field(default_factory=list)
    roots: list[int] = field(default_factory=list)

    def add(self, root: int, branch: Callable[[int], Branch]) -> None:
        """Adds the tree under a key (or ~leaf). Paths may join. Problem if one leads back to itself."""
        branches: dict[int, Branch] = {}
        placed: dict[int, int] = {}  # key: its first node, or where a branch without tests leads to
        done: list[int] = []  # keys, children before parents
        open_keys: set[int] = set()
        todo = [(root, False)]
        while todo:
            key, children_done = todo.pop()
            if children_done:
                open_keys.discard(key)
                done.append(key)
            elif key in open_keys:
                raise Problem(f"its tree {len(self.roots)} has a path that leads back to where it has been")
            elif key >= 0 and key not in branches:
                b = branches[key] = branch(key)
                open_keys.add(key)
                todo += [(key, True), (b.other, False)] + ([(b.then, False)] if b.tests else [])

        def place(child: int) -> int:
            while child >= 0 and not branches[child].tests:
                child = branches[child].other
            return child if child < 0 else placed[child]

        at = len(self.nodes)
        for key in reversed(done):  # parents first
            if branches[key].tests:
                placed[key] = at
                at += len(branches[key].tests)
        for key in reversed(done):
            b = branches[key]
            for i, (test, split) in enumerate(b.tests):
                last = i == len(b.tests) - 1
                follow = place(b.other) if last else placed[key] + i + 1
                self.nodes.append([b.feature, test | b.nan_is_true * _NAN_IS_TRUE, place(b.then), follow])
                self.splits.append(split)
        self.roots.append(place(root))


def _numbers(values: Sequence[float]) -> np.ndarray:
    """float32 where that is exact, else float64."""
    wide = np.array(values, np.float64)
    narrow = wide.astype(np.float32)
    return narrow if np.array_equal(narrow, wide, equal_nan=True) else wide


def _emit(
    b: Emitter, x: Value, forest: Forest, votes: Votes, targets: int, base: Sequence[float] | None,
    aggregate: str, post: str, dtype: DType = DType.F32,
) -> Value:  # fmt: skip
    """The Trees node, its result in `dtype`."""
    flat = [v for leaf in votes for v in leaf]
    if any(not 0 <= t < targets for t, _ in flat):
        raise Problem(f"a leaf votes for a target outside of the {targets} it has")
    weights = _numbers([w for _, w in flat])
    if dtype is DType.F64:
        weights = weights.astype(np.float64)
    inputs = [
        x,
        b.const(_numbers(forest.splits)),
        b.const(np.array(forest.nodes, np.int32).reshape(-1, 4)),
        b.const(np.array(forest.roots, np.int32)),
        b.const(np.cumsum([0, *(len(leaf) for leaf in votes)]).astype(np.int32)),
        b.const(np.array([t for t, _ in flat], np.int32)),
        b.const(weights),
    ]
    if base:
        inputs.append(b.const(np.array(base, weights.dtype)))
    (y,) = b.emit("Trees", inputs, {"targets": [targets], "aggregate": aggregate, "post_transform": post})
    return y if DType.of(weights.dtype) is dtype else b.emit("Cast", [y], {"to": [int(dtype)]})[0]


def _input(op: Op, b: Emitter) -> Value:
    """X as float32 or float64."""
    x = op.required(0)
    if x.dtype in (DType.F32, DType.F64):
        return x
    return b.emit("Cast", [x], {"to": [int(DType.F32)]})[0]


def _decode(op: Op, prefix: str) -> tuple[Forest, Votes]:
    """The node tables of TreeEnsembleRegressor and TreeEnsembleClassifier; `prefix`: of their votes."""
    names = ("nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_truenodeids", "nodes_falsenodeids")
    trees, ids, features, thens, others = (op.take_ints(n) or [] for n in names)
    modes, splits = op.attrs.pop("nodes_modes", None) or [], op.take_floats("nodes_values") or []
    missing = op.take_ints("nodes_missing_value_tracks_true") or [0] * len(ids)
    columns: list[Sequence[object]] = [trees, ids, features, thens, others, splits, missing]
    if not isinstance(modes, list) or any(len(c) != len(modes) for c in columns):
        raise Problem("its attributes 'nodes_*' differ in length; each is one entry a node")
    where = {(t, n): i for i, (t, n) in enumerate(zip(trees, ids, strict=True))}
    if len(where) != len(ids):
        raise Problem("two of its nodes have the same tree and node id")

    leaf_of: dict[int, int] = {}
    votes: Votes = []
    for i, mode in enumerate(modes):
        if mode == "LEAF":
            leaf_of[i] = len(votes)
            votes.append([])
        elif mode not in _TESTS:
            raise Problem(f"its node {i} has mode {mode!r}, expected LEAF, {', '.join(_TESTS)}")
    voters = [op.take_ints(f"{prefix}_{n}") or [] for n in ("treeids", "nodeids", "ids")]
    weights = op.take_floats(f"{prefix}_weights") or []
    if any(len(c) != len(weights) for c in voters):
        raise Problem(f"its attributes '{prefix}_*' differ in length; each is one entry a vote")
    for tree, node, target, weight in zip(*voters, weights, strict=True):
        leaf = leaf_of.get(where.get((tree, node), -1))
        if leaf is None:
            raise Problem(f"a vote names node {node} of tree {tree}, which is no leaf")
        votes[leaf].append((target, weight))

    def key(tree: int, node: int) -> int:
        i = where.get((tree, node))
        if i is None:
            raise Problem(f"tree {tree} has no node {node}, which another node names as its child")
        return ~leaf_of[i] if i in leaf_of else i

    def branch(i: int) -> Branch:
        test = _TESTS.index(str(modes[i]))
        tree = trees[i]
        return Branch(
            features[i], [(test, splits[i])], bool(missing[i]), key(tree, thens[i]), key(tree, others[i])
        )

    children = {(trees[i], c) for i in range(len(ids)) if i not in leaf_of for c in (thens[i], others[i])}
    roots: dict[int, list[int]] = {tree: [] for tree in trees}
    for tree, node in where:
        if (tree, node) not in children:
            roots[tree].append(node)
    forest = Forest()
    for tree, tops in roots.items():
        if len(tops) != 1:
            raise Problem(
                f"tree {tree} has {len(tops)} roots (nodes that are no other's child), expected one"
            )
        forest.add(key(tree, tops[0]), branch)
    if len(forest.nodes) != len(ids) - len(leaf_of):
        raise Problem("some of its nodes are reached from no root")
    return forest, votes


def _base(op: Op, targets: int) -> list[float] | None:
    base = op.take_floats("base_values")
    if base and len(base) != targets:
        raise Problem(f"it has {len(base)} base_values, expected {targets}")
    return base


@rule(_ML + "TreeEnsembleRegressor")
def regressor(op: Op, b: Emitter) -> bool:
    forest, votes = _decode(op, "target")
    targets = op.take_int("n_targets", 1)
    aggregate, post = op.take_str("aggregate_function", "SUM"), op.take_str("post_transform", "NONE")
    y = _emit(b, _input(op, b), forest, votes, targets, _base(op, targets), aggregate, post)
    b.emit_into("Identity", [y], None, op.outputs)
    return True


@rule(_ML + "TreeEnsembleClassifier")
def classifier(op: Op, b: Emitter) -> bool:
    forest, votes = _decode(op, "class")
    labels = labels_of(op, b, "classlabels_int64s", "classlabels_strings")
    post, n = op.take_str("post_transform", "NONE"), len(labels)
    voted = {target for leaf in votes for target, _ in leaf}
    x = _input(op, b)
    if n == 2 and voted == {0}:
        # One score for two classes. Weights that are all positive make it a probability.
        shares = all(weight >= 0 for leaf in votes for _, weight in leaf)
        score = _emit(b, x, forest, votes, 1, _base(op, 1), "SUM", "NONE")
        binary(op, b, score, labels, post, 0.5 if shares else 0.0, shares)
        return True
    scores = _emit(b, x, forest, votes, n, _base(op, n), "SUM", "NONE")
    multiclass(op, b, scores, labels, post)
    return True


@rule(_ML + "TreeEnsemble")
def ensemble(op: Op, b: Emitter) -> bool:
    """Version 5: branches and leaves in tables of their own, children by position."""
    names = ("featureids", "truenodeids", "falsenodeids", "trueleafs", "falseleafs", "modes")
    features, thens, others, then_leaf, other_leaf, modes = (op.take_ints(f"nodes_{n}") or [] for n in names)
    splits = op.take_floats("nodes_splits") or []
    missing = op.take_ints("nodes_missing_value_tracks_true") or [0] * len(modes)
    leaf_targets, leaf_weights = op.take_ints("leaf_targetids") or [], op.take_floats("leaf_weights") or []
    columns = (features, thens, others, then_leaf, other_leaf, modes, splits, missing)
    if len({len(c) for c in columns}) != 1 or len(leaf_targets) != len(leaf_weights):
        raise Problem("its attributes 'nodes_*' (or 'leaf_*') differ in length")
    sets = _member_sets(op.take_floats("membership_values") or [], modes)

    def child(to: int, is_leaf: int) -> int:
        if not 0 <= to < (len(leaf_targets) if is_leaf else len(modes)):
            raise Problem(f"a child names {'leaf' if is_leaf else 'node'} {to}, which does not exist")
        return ~to if is_leaf else to

    def branch(i: int) -> Branch:
        tests = [(modes[i], splits[i])] if modes[i] < len(_TESTS) else [(_EQ, v) for v in sets[i]]
        if modes[i] < 0:
            raise Problem(f"its node {i} has mode {modes[i]}, expected 0 to {len(_TESTS)}")
        then, other = child(thens[i], then_leaf[i]), child(others[i], other_leaf[i])
        return Branch(features[i], tests, bool(missing[i]), then, other)

    forest = Forest()
    for root in op.take_ints("tree_roots") or []:
        # A tree of one leaf is written as a branch whose children are that leaf.
        forest.add(child(root, 0), branch)
    aggregate, post = op.take_int("aggregate_function", 1), op.take_int("post_transform", 0)
    if not 0 <= aggregate < len(_AGGREGATES) or not 0 <= post < len(_TRANSFORMS):
        raise Problem(f"aggregate_function {aggregate} or post_transform {post} is unknown")
    votes = [[v] for v in zip(leaf_targets, leaf_weights, strict=True)]
    targets, x = op.take_int("n_targets", 1), op.required(0)
    how = _AGGREGATES[aggregate], _TRANSFORMS[post]
    y = _emit(b, _input(op, b), forest, votes, targets, None, *how, x.dtype)
    b.emit_into("Identity", [y], None, op.outputs)
    return True


def _member_sets(values: list[float], modes: list[int]) -> dict[int, list[float]]:
    """The values of each BRANCH_MEMBER node: the list holds one set a node, NaN between them."""
    sets: list[list[float]] = [[]]
    for v in values:
        if v != v:
            sets.append([])
        else:
            sets[-1].append(v)
    nodes = [i for i, mode in enumerate(modes) if mode == len(_TESTS)]
    if len(sets) < len(nodes):
        raise Problem(f"{len(sets)} sets in membership_values for {len(nodes)} nodes of mode BRANCH_MEMBER")
    return dict(zip(nodes, sets, strict=False))
