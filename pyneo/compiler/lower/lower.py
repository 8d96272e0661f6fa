# SPDX-License-Identifier: Apache-2.0
"""Lowering: an optimised graph becomes a plan for one target."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from pyneo.compiler import core
from pyneo.compiler.ir.graph import Graph, Layout, Node, Value
from pyneo.compiler.lower import layouts
from pyneo.compiler.lower.blocks import fuse_blocks
from pyneo.compiler.lower.chains import fuse_chains
from pyneo.compiler.lower.groups import fill_blocks
from pyneo.compiler.lower.memory import MemoryPlan, list_values, plan_memory
from pyneo.compiler.lower.plan import write_plan
from pyneo.compiler.lower.tune import Tuner
from pyneo.compiler.lower.views import Views, find_views
from pyneo.compiler.targets.target import TIERS, Target


@dataclass
class Lowered:
    """The sections of a package and what the report tells of them."""

    graph: Graph
    choice: layouts.Choice
    views: Views
    memory: MemoryPlan
    plan: bytes
    weights: np.ndarray

    @property
    def steps(self) -> list[Node]:
        """Nodes that run, in order, graph by graph."""
        return [n for n in self.graph.all_nodes() if id(n) not in self.views.gone]


def lower(graph: Graph, target: Target, tuner: Tuner | None = None) -> Lowered:
    """Chooses kernels and layouts, packs weights, plans memory, writes the plan. Changes the graph."""
    for part in graph.walk():
        fill_blocks(part, target)
        fuse_blocks(part, target)
        if not graph.is_dynamic:
            fuse_chains(part, target)
        _own_outputs(part)
    choice = layouts.assign(graph, target, tuner)
    _pack_weights(graph, choice, target)
    _share_constants(graph)
    if graph.is_dynamic:  # views and memory are decided when shapes are bound
        views = Views()
        memory = list_values(graph)
    else:
        views = find_views(graph)
        memory = plan_memory(graph, views, _scratch(graph, choice))
    plan, weights = write_plan(graph, views, memory, TIERS[target.tier])
    return Lowered(graph, choice, views, memory, plan, weights)


def _own_outputs(graph: Graph) -> None:
    """Every graph output is made by a node of its own: inputs, constants, repeats and captures are copied."""
    inputs = {id(v) for v in graph.inputs}
    seen = set(inputs)
    made = {id(v) for n in graph.nodes for v in n.outputs}
    for i, v in enumerate(graph.outputs):
        if id(v) in seen or v.is_const or id(v) not in made:
            y = Value(v.name, v.dtype, v.shape, samples=v.samples)
            graph.nodes.append(Node("Identity", graph.fresh_name(f"{v.name}/copy"), [v], [y]))
            graph.outputs[i] = y
            if id(v) in made or v.is_const:
                v.name = graph.fresh_name(v.name)
            elif id(v) not in inputs:
                y.name = graph.fresh_name(v.name)
        seen.add(id(graph.outputs[i]))


def _pack_weights(graph: Graph, choice: layouts.Choice, target: Target) -> None:
    """Replaces constants that a kernel reads packed; a constant packed alike for two nodes is stored once."""
    packed: dict[tuple[tuple[int, ...], str, tuple[int, ...]], Value] = {}
    for node in graph.all_nodes():
        option = choice.picked.get(node)
        if option is None or option.kernel is None or option.kernel.packed_input < 0:
            continue
        at = option.kernel.packed_input
        plain = node.inputs[at]
        assert plain is not None
        absorbed = [i for i in range(len(node.inputs)) if option.kernel.absorbed_inputs >> i & 1]
        together = tuple(id(node.inputs[i]) for i in (at, *absorbed))
        key = (together, option.kernel.name, tuple(node.output.dims))
        if key not in packed:
            array = core.pack(node, option.kernel, target.native)
            packed[key] = Value(plain.name, plain.dtype, plain.shape, array, layout=Layout.PACKED)
        node.inputs[at] = packed[key]
        for i in absorbed:
            if (v := node.inputs[i]) is not None:
                node.inputs[i] = Value(v.name, v.dtype, v.shape, _NOTHING, layout=Layout.PACKED)


_NOTHING = np.zeros(0, np.uint8)


def _share_constants(graph: Graph) -> None:
    """Constants of the same bytes become one value: exporters write tied weights out more than once."""
    known: dict[tuple[object, ...], Value] = {}
    for node in graph.all_nodes():
        for i, v in enumerate(node.inputs):
            if v is not None and v.const is not None:
                raw = np.ascontiguousarray(v.const).reshape(-1).view(np.uint8)
                key = (v.dtype, v.layout, v.shape, raw.nbytes, hashlib.blake2b(raw.data).digest())
                node.inputs[i] = known.setdefault(key, v)


def _scratch(graph: Graph, choice: layouts.Choice) -> dict[Node, int]:
    wanted = {}
    for node in graph.nodes:
        option = choice.picked.get(node)
        if option is not None and option.kernel is not None:
            wanted[node] = option.kernel.scratch_bytes
        else:
            wanted[node] = core.reference_scratch(node)
    return wanted
