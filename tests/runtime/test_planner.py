# SPDX-License-Identifier: Apache-2.0
"""The memory planner against a simulation by byte arrays that knows nothing of either C++ file."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyneo import _core
from pyneo.errors import InputError, PackageError

Buffer = tuple[int, int, bool, int]
Node = tuple[list[int], list[int], int, int]


@dataclass
class Case:
    buffers: list[Buffer] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    keep: list[int] = field(default_factory=list)

    def buffer(self, size: int, alias_of: int = -1, offset: int = 0, fixed: bool = False) -> int:
        self.buffers.append((size, alias_of, fixed, offset))
        return len(self.buffers) - 1

    def node(self, inputs: list[int], outputs: list[int], scratch: int = -1, in_place: int = 0) -> None:
        self.nodes.append((inputs, outputs, scratch, in_place))

    def plan(self) -> tuple[list[int], int, int]:
        return _core.plan_memory(self.buffers, self.nodes, self.keep)

    def check(self, offsets: list[int], arena: int) -> None:
        _core.check_plan(self.buffers, offsets, self.nodes, self.keep, arena)

    def root(self, b: int) -> int:
        while self.buffers[b][1] >= 0:
            b = self.buffers[b][1]
        return b


def run_on_bytes(case: Case, offsets: list[int], arena: int) -> bool:
    """Runs the nodes on a real arena, each output filled with random numbers of which a copy is kept aside.

    True if every read found what was written.
    """
    memory = np.zeros(arena, np.uint32)
    expected: dict[int, np.ndarray] = {}  # root -> its bytes as they should be
    rng = np.random.default_rng(0)

    def view(b: int) -> tuple[int, slice]:
        start, at = 0, b
        while case.buffers[at][1] >= 0:
            start += case.buffers[at][3]
            at = case.buffers[at][1]
        return at, slice(start, start + case.buffers[b][0])

    def intact(b: int) -> bool:
        root, part = view(b)
        if case.buffers[root][2]:
            return True
        got = memory[offsets[b] : offsets[b] + case.buffers[b][0]]
        want = expected.setdefault(root, np.zeros(case.buffers[root][0], np.uint32))[part]
        return len(got) == len(want) and bool(np.array_equal(got, want)) and bool(np.all(want != 0))

    for inputs, outputs, scratch, _ in case.nodes:
        if not all(intact(b) for b in inputs if b >= 0):
            return False
        if scratch >= 0:
            memory[offsets[scratch] : offsets[scratch] + case.buffers[scratch][0]] = 1
        for b in outputs:
            root, part = view(b)
            if case.buffers[root][2]:
                continue
            data = rng.integers(2, 2**32, case.buffers[b][0], np.uint32)
            memory[offsets[b] : offsets[b] + case.buffers[b][0]] = data
            expected.setdefault(root, np.zeros(case.buffers[root][0], np.uint32))[part] = data
    return all(intact(b) for b in case.keep)


def build(seed: int, steps: int, sizes: list[int]) -> Case:
    """A random network: chains, skips, concats written in place, splits read in place, views, scratch."""
    rng = random.Random(seed)
    case = Case()
    source = case.buffer(rng.choice(sizes), fixed=True)
    ready = [source]
    for _ in range(steps):
        kind = rng.random()
        inputs = [rng.choice(ready[-6:] if rng.random() < 0.8 else ready) for _ in range(rng.randint(1, 3))]
        scratch = case.buffer(rng.choice(sizes)) if rng.random() < 0.3 else -1
        if kind < 0.2:  # concat: each part is written by a node of its own
            parts = [rng.choice(sizes) for _ in range(rng.randint(2, 4))]
            whole = case.buffer(sum(parts))
            at = 0
            for size in parts:
                case.node(inputs, [case.buffer(size, whole, at)], scratch)
                scratch = -1
                at += size
            ready.append(whole)
        elif kind < 0.35:  # split, then a view of a view
            size = rng.choice(sizes)
            whole = case.buffer(2 * size)
            case.node(inputs, [whole], scratch)
            half = case.buffer(size, whole, size)
            ready += [case.buffer(size, whole, 0), half, case.buffer(size // 2, half, size - size // 2)]
        else:
            same = case.buffers[inputs[0]][0] if rng.random() < 0.6 else rng.choice(sizes)
            outputs = [case.buffer(same)]
            if rng.random() < 0.15:
                outputs.append(case.buffer(rng.choice(sizes)))
            case.node(inputs, outputs, scratch, rng.choice([0, 1, 2, 3, 7]))
            ready += outputs
    case.keep = sorted({ready[-1], rng.choice(ready)} - {source})
    return case


SIZES = [0, 1, 4, 63, 64, 65, 100, 256, 1000, 4096]
seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=150, deadline=None)
@given(seed=seeds, steps=st.integers(0, 40))
def test_every_read_finds_what_was_written(seed: int, steps: int) -> None:
    case = build(seed, steps, SIZES)
    offsets, arena, bound = case.plan()
    assert run_on_bytes(case, offsets, arena)
    assert bound <= arena
    for i, (size, alias, _, _) in enumerate(case.buffers):
        if case.buffers[case.root(i)][2]:
            assert offsets[i] == -1
        else:
            assert 0 <= offsets[i] <= arena - size
            assert alias >= 0 or offsets[i] % 64 == 0


@settings(max_examples=200, deadline=None)
@given(seed=seeds, steps=st.integers(1, 20), data=st.data())
def test_checker_accepts_nothing_that_breaks_on_real_bytes(
    seed: int, steps: int, data: st.DataObject
) -> None:
    case = build(seed, steps, [64, 128, 256])
    offsets, arena, _ = case.plan()
    roots = [i for i, b in enumerate(case.buffers) if b[1] < 0 and not b[2]]
    if not roots:
        return
    moved = data.draw(st.sampled_from(roots))
    to = 64 * data.draw(st.integers(0, max(0, (arena - case.buffers[moved][0]) // 64)))
    shift = to - offsets[moved]
    offsets = [o + shift if case.root(i) == moved else o for i, o in enumerate(offsets)]
    try:
        case.check(offsets, arena)
    except PackageError:
        return
    assert run_on_bytes(case, offsets, arena)


@settings(max_examples=50, deadline=None)
@given(seed=seeds)
def test_arena_stays_near_the_lower_bound(seed: int) -> None:
    # Random graphs are harder to pack than networks; the greedy orders still stay within half of the bound.
    case = build(seed, 60, [64 * k for k in range(1, 40)])
    _, arena, bound = case.plan()
    assert arena <= 1.5 * bound


def chain(length: int, in_place: int) -> Case:
    case = Case()
    last = case.buffer(1024, fixed=True)
    for _ in range(length):
        out = case.buffer(1024)
        case.node([last], [out], in_place=in_place)
        last = out
    case.keep = [last]
    return case


@pytest.mark.parametrize(("in_place", "arena"), [(0, 2048), (1, 1024)])
def test_a_chain_needs_two_buffers_or_one_in_place(in_place: int, arena: int) -> None:
    assert chain(10, in_place).plan()[1:] == (arena, arena)


def test_in_place_is_not_taken_while_another_node_still_reads_the_input() -> None:
    case = chain(1, 0)
    a = case.keep[0]
    b, c = case.buffer(1024), case.buffer(1024)
    case.node([a], [b], in_place=1)
    case.node([a, b], [c])
    case.keep = [c]
    offsets, _, _ = case.plan()
    assert offsets[a] != offsets[b]


def test_an_operand_given_twice_is_overwritten_only_if_both_uses_allow_it() -> None:
    for bits, same in [(1, False), (3, True)]:
        case = chain(1, 0)
        a, b = case.keep[0], case.buffer(1024)
        case.node([a, a], [b], in_place=bits)
        case.keep = [b]
        offsets, _, _ = case.plan()
        assert (offsets[a] == offsets[b]) == same


def test_concat_parts_lie_inside_the_result() -> None:
    case = Case()
    whole = case.buffer(300)
    x = case.buffer(100, fixed=True)
    parts = [case.buffer(100, whole, 100 * i) for i in range(3)]
    for p in parts:
        case.node([x], [p])
    out = case.buffer(64)
    case.node([whole], [out])
    case.keep = [out]
    offsets, arena, bound = case.plan()
    assert [offsets[p] - offsets[whole] for p in parts] == [0, 100, 200]
    assert arena == bound == 320 + 64


def broken(what: str) -> tuple[Case, list[int], int]:
    """x -> a -> b -> c with scratch at the second node, broken in one way."""
    case = Case()
    x = case.buffer(64, fixed=True)
    a, b, c, s = (case.buffer(64) for _ in range(4))
    case.node([x], [a])
    case.node([a], [b], s)
    case.node([a, b], [c])
    case.keep = [c]
    offsets, arena = [-1, 0, 64, 128, 192], 256
    if what == "output over an input that lives on":
        offsets[b] = 0
    elif what == "scratch over an input":
        offsets[s] = 0
    elif what == "scratch over an output":
        offsets[s] = 64
    elif what == "past the arena":
        offsets[c] = 256
    elif what == "negative offset":
        offsets[c] = -64
    elif what == "unaligned":
        offsets[c] = 130
    elif what == "read before written":
        case.nodes.reverse()
    elif what == "in place although not allowed":
        offsets[c] = 64
    elif what == "in place at another offset":
        case.nodes[2] = ([a, b], [c], -1, 3)
        case.buffers[c] = (128, -1, False, 0)
        offsets[c], arena = 64, 320
    elif what == "scratch read by another node":
        case.nodes[2] = ([a, b, s], [c], -1, 0)
    elif what == "kept but overwritten":
        case.keep = [a, c]
        case.nodes[2] = ([a, b], [c], -1, 1)
        offsets[c] = 0
    elif what == "written twice":
        case.nodes.append(([c], [b], -1, 0))
    elif what == "part never written":
        case.buffers[b] = (64, 5, False, 0)
        case.buffers.append((128, -1, False, 0))
        offsets.append(64)
        offsets[c], offsets[s], arena = 192, 256, 320
        case.keep = [c, 5]
    elif what == "view outside its buffer":
        case.buffers[b] = (64, a, False, 1)
    elif what == "cycle of views":
        case.buffers[a], case.buffers[b] = (64, b, False, 0), (64, a, False, 0)
    elif what == "index out of range":
        case.nodes[2] = ([a, 99], [c], -1, 0)
    return case, offsets, arena


def test_checker_accepts_the_plan_the_broken_ones_are_made_of() -> None:
    case, offsets, arena = broken("nothing")
    case.check(offsets, arena)


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("output over an input that lives on", "over its own input"),
        ("scratch over an input", "over its own input"),
        ("scratch over an output", "which overlap"),
        ("past the arena", "outside the arena"),
        ("negative offset", "outside the arena"),
        ("unaligned", "multiples of 64"),
        ("read before written", "nobody wrote"),
        ("in place although not allowed", "over its own input"),
        ("in place at another offset", "over"),
        ("scratch read by another node", "scratch of node 1"),
        ("kept but overwritten", "was overwritten"),
        ("written twice", "both written"),
        ("part never written", "nobody wrote"),
        ("view outside its buffer", "outside buffer"),
        ("cycle of views", "cycle"),
        ("index out of range", "5 buffers"),
    ],
)
def test_checker_names_what_is_wrong(what: str, message: str) -> None:
    case, offsets, arena = broken(what)
    with pytest.raises(PackageError, match=message):
        case.check(offsets, arena)


@pytest.mark.parametrize(
    "buffers",
    [
        [(-1, -1, False, 0)],
        [(2**62, -1, False, 0)],
        [(2**60, -1, False, 0), (2**60, -1, False, 0)],
        [(64, 0, False, 0)],
        [(64, 7, False, 0)],
        [(64, 1, False, 1), (64, -1, False, 0)],
        [(64, 1, False, 2**63 - 1), (64, -1, False, 0)],
        [(64, 1, False, 0), (64, 0, False, 0)],
        [(64, 1, True, 0), (64, -1, False, 0)],
    ],
)
def test_planner_refuses_impossible_buffers(buffers: list[Buffer]) -> None:
    with pytest.raises(InputError, match="memory plan"):
        _core.plan_memory(buffers, [], [])


def test_views_chained_ten_thousand_deep_are_resolved() -> None:
    case = Case()
    case.buffer(64, fixed=False)
    for i in range(10000):
        case.buffer(64, i, 0)
    case.node([], [0])
    case.keep = [10000]
    assert case.plan() == ([0] * 10001, 64, 64)


def test_ten_thousand_nodes_are_planned_and_checked() -> None:
    case = build(1, 10000, [64 * k for k in range(1, 100)])
    offsets, arena, bound = case.plan()
    case.check(offsets, arena)
    assert bound <= arena


def test_plan_of_buffers_nobody_uses_is_still_inside_the_arena() -> None:
    case = chain(3, 1)
    unused = case.buffer(5000)
    offsets, arena, _ = case.plan()
    assert 0 <= offsets[unused] <= arena - 5000
