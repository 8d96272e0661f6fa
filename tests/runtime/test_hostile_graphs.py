# SPDX-License-Identifier: Apache-2.0
"""Hostile cases 27 and 28 in plans with subgraphs: signed packages whose graphs do not fit together."""

from __future__ import annotations

import contextlib
import copy
import random
import signal
from collections.abc import Iterator
from functools import cache

import numpy as np
import pytest

import pyneo
from tests.support.control_flow import make
from tests.support.hostile_plans import refused, sentence
from tests.support.plan_records import ARENA, Plan

NAMES = ["if_nested", "loop_nested", "loop_count", "scan_across", "nonzero"]
BEGIN, COUNT, IN, N_IN, OUT, N_OUT = range(6)


@cache
def compiled(name: str) -> Plan:
    return Plan(make(name))


def plan(name: str) -> Plan:
    """A plan of this test's own to change."""
    p = copy.copy(compiled(name))
    for field in ("tensors", "nodes", "operands", "graphs", "symbols", "attrs", "strings", "weights"):
        setattr(p, field, copy.deepcopy(getattr(p, field)))
    return p


class TooLong(Exception):
    pass


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Ends a loop that a mutation made endless."""

    def ring(*_: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def survives(p: Plan, data: bytes | None = None) -> None:
    """Loads and runs, or raises a clean error. A crash would end the test process."""
    try:
        with time_limit(2), p.load(data) as m:
            shapes = [[d if isinstance(d, int) and d >= 0 else 3 for d in t.shape] for t in m.inputs]
            for fill in (0, 2):
                m.predict(*(np.full(s, fill, t.dtype) for s, t in zip(shapes, m.inputs, strict=True)))
    except TooLong:
        pass
    except (pyneo.Error, MemoryError) as e:
        sentence(e)


def owner(p: Plan, op: str = "") -> dict:
    """The first node with subgraphs (of that operator)."""
    return next(n for n in p.nodes if n["subgraphs"] and op in ("", p.text(n["op"])))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("field", [BEGIN, COUNT])
@pytest.mark.parametrize("change", [-1, 1, 1000])
def test_graphs_with_gaps_or_shared_nodes_are_refused(name, field, change):
    for g in range(len(plan(name).graphs)):
        p = plan(name)
        if p.graphs[g][field] + change < 0:
            continue
        p.graphs[g][field] += change
        refused(p, "plan: ")


@pytest.mark.parametrize("name", NAMES[:4])
def test_a_subgraph_that_calls_itself_or_an_outer_graph_is_refused(name):
    count = len(plan(name).graphs)
    for i, n in enumerate(plan(name).nodes):
        for first in range(count + 1):
            if not n["subgraphs"] or first == n["subgraph"]:
                continue
            p = plan(name)
            p.nodes[i]["subgraph"] = first
            refused(p, "belongs to|subgraphs are out of range|nested")


@pytest.mark.parametrize("name", NAMES)
def test_other_numbers_of_subgraphs_are_refused(name):
    for i, n in enumerate(plan(name).nodes):
        for wrong in {0, 1, 2, 3, 65535} - {n["subgraphs"]}:
            p = plan(name)
            p.nodes[i]["subgraphs"] = wrong
            if wrong and not n["subgraphs"]:
                p.nodes[i]["subgraph"] = 1
            refused(p, "subgraphs")


def test_a_graph_of_no_node_is_refused():
    p = plan("nonzero")
    p.graphs.append([len(p.nodes), 0, 0, 0, 0, 0, 0, 0])
    refused(p, "belongs to no node")


def test_nesting_has_a_limit():
    for depth in (16, 17):
        p = plan("if_nested")
        inner = p.graphs[-1]
        condition = p.operands[owner(p)["operands"]]
        # The last branch returns what an If inside it does, whose branches return what one inside ... does.
        for _ in range(depth - 2):
            result = p.operands[inner[OUT]]
            made = [copy.deepcopy(p.tensors[result]) for _ in range(2)]
            index = [len(p.tensors), len(p.tensors) + 1]
            p.tensors += made
            n = copy.deepcopy(owner(p))
            n["subgraph"], n["operands"] = len(p.graphs), len(p.operands)
            p.operands += [condition, result]
            old = next(m for m in p.nodes if p.operands[m["operands"] + m["inputs"]] == result)
            at = p.nodes.index(old)
            branches = []
            for k in range(2):
                branch = copy.deepcopy(old)
                branch["operands"] = len(p.operands)
                p.operands += [*p.operands[old["operands"] : old["operands"] + old["inputs"]], index[k]]
                branches.append(branch)
                p.nodes.append(branch)
                p.graphs.append([len(p.nodes) - 1, 1, 0, 0, len(p.operands) - 1, 1, 0, 0])
            p.nodes[at] = n
            inner = p.graphs[-1]
        if depth == 16:
            with p.load() as m:
                assert m.predict(np.ones((2, 3), np.float32)).shape == (2, 3)
        else:
            refused(p, "more than 16 deep")


@pytest.mark.parametrize("name", NAMES)
def test_case_28_a_read_of_what_is_not_there_yet_is_refused(name):
    p = plan(name)
    written = {}  # tensor -> node that writes it
    for i, n in enumerate(p.nodes):
        for k in range(n["outputs"]):
            written[p.operands[n["operands"] + n["inputs"] + k]] = i
    tried = 0
    for i, n in enumerate(p.nodes):
        for t, at in written.items():
            if n["inputs"] == 0 or at < i:
                continue
            p = plan(name)
            p.operands[n["operands"]] = t
            refused(p, "before any node has written it|operands do not fit|must be bool")
            tried += 1
    assert tried > 3


@pytest.mark.parametrize("name", NAMES)
def test_case_28_a_second_write_is_refused(name):
    p = plan(name)
    outputs = [n["operands"] + n["inputs"] for n in p.nodes if n["outputs"]]
    for a in outputs:
        for b in outputs:
            if a == b:
                continue
            p = plan(name)
            p.operands[a] = p.operands[b]
            refused(p, "a second time|in a subgraph|before any node")


@pytest.mark.parametrize("name", NAMES)
def test_a_graphs_lists_name_its_own_tensors(name):
    count = len(plan(name).tensors)
    for g, graph in enumerate(plan(name).graphs):
        for at in [*range(graph[IN], graph[IN] + graph[N_IN]), *range(graph[OUT], graph[OUT] + graph[N_OUT])]:
            for t in range(-1, count):
                p = plan(name)
                if p.operands[at] == t:
                    continue
                p.operands[at] = t
                if g == 0:
                    refused(p, "plan: |node")
                else:
                    survives(p)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("field", ["inputs", "outputs"])
def test_other_numbers_of_operands_are_refused_or_run(name, field):
    for i, n in enumerate(plan(name).nodes):
        for wrong in {0, 1, 2, 3, 4, 5, 65535} - {n[field]}:
            p = plan(name)
            p.nodes[i][field] = wrong
            survives(p)


@pytest.mark.parametrize("name", NAMES)
def test_case_27_any_operand_may_be_any_tensor(name):
    p = plan(name)
    every = [(at, t) for at in range(len(p.operands)) for t in range(-1, len(p.tensors))]
    for at, t in random.Random(name).sample(every, min(300, len(every))):
        p = plan(name)
        p.operands[at] = t
        survives(p)


@pytest.mark.parametrize("name", NAMES)
def test_open_types_and_ranks_are_for_what_a_run_makes(name):
    for i, t in enumerate(plan(name).tensors):
        p = plan(name)
        p.tensors[i]["dtype"] = 0
        survives(p) if t["storage"] == ARENA else refused(p, "unknown dtype 0")
        p = plan(name)
        p.tensors[i].update(rank=255, dims=[0] * 8)
        survives(p) if t["storage"] in (ARENA, 3) else refused(p, "rank may not be open")
        for dtype in range(1, 18):
            p = plan(name)
            p.tensors[i]["dtype"] = dtype
            survives(p)


def test_a_static_plan_has_no_subgraphs():
    for name in NAMES[:4]:
        p = plan(name)
        p.flags = 0
        refused(p, "plan: |node")


@pytest.mark.parametrize("name", NAMES)
def test_changed_bytes_of_a_plan_are_refused_or_run(name):
    sound = plan(name).encode()
    rng = random.Random(name)
    for _ in range(400):
        data = bytearray(sound)
        for _ in range(rng.choice([1, 1, 2, 4])):
            at = rng.randrange(160, len(data))
            data[at] = rng.choice([0, 1, 2, 255, 128, rng.randrange(256), data[at] ^ (1 << rng.randrange(8))])
        survives(plan(name), bytes(data))
