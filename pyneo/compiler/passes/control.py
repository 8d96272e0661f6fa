# SPDX-License-Identifier: Apache-2.0
"""Control flow that is decided at compile time: conditionals on constants, loops of a constant length."""

from __future__ import annotations

import numpy as np

from pyneo.compiler import core
from pyneo.compiler.budget import UNROLL_SEQUENCES
from pyneo.compiler.ir.clone import clone_body
from pyneo.compiler.ir.graph import STRUCTURAL, DType, Graph, Node, Value
from pyneo.compiler.passes.match import constant

_EVALUATED_ELEMENTS = 4096  # of a value that decides a loop's length


def inline_constant_if(graph: Graph) -> bool:
    """If on a constant condition: the nodes of the branch taken."""
    changed = False
    nodes: list[Node] = []
    for node in graph.nodes:
        condition = node.const(0) if node.op == "If" else None
        if condition is None or condition.size != 1:
            nodes.append(node)
            continue
        branch = node.subgraphs[0 if bool(condition.reshape(-1)[0]) else 1]
        nodes += branch.nodes
        nodes += _results(graph, node, branch.outputs)
        changed = True
    graph.nodes = nodes
    return changed


def unroll_loops(graph: Graph) -> bool:
    """Loop and Scan of a constant number of iterations, where that makes few nodes."""
    changed = False
    nodes: list[Node] = []
    for node in graph.nodes:
        found = None
        if node.op == "Loop":
            found = _unroll_loop(graph, node)
        elif node.op == "Scan":
            found = _unroll_scan(graph, node)
        changed |= found is not None
        nodes += [node] if found is None else found
    graph.nodes = nodes
    return changed


def _results(graph: Graph, node: Node, results: list[Value]) -> list[Node]:
    """Nodes that give the outputs of a node that is no more the values they have."""
    return [
        Node("Identity", graph.fresh_name(f"{node.name}/result"), [result], [v])
        for v, result in zip(node.outputs, results, strict=False)
        if v is not None
    ]


def _affordable(graph: Graph, body: Graph, trips: int) -> bool:
    made = trips * max(sum(1 for _ in body.all_nodes()), 1)
    sequences = any(n.op in STRUCTURAL for n in body.all_nodes())
    return graph.symbols.budget.unroll(made, sequences)


def _unroll_loop(graph: Graph, node: Node) -> list[Node] | None:
    body = node.subgraphs[0]
    carried_count = len(node.inputs) - 2
    stacked = body.outputs[1 + carried_count :]
    limit = UNROLL_SEQUENCES // max(len(body.nodes), 1)
    trips = constant_trips(node, limit)
    if trips is None or any(v is None for v in node.inputs[2:]):
        return None
    if trips == 0 and stacked:
        return None
    if not _affordable(graph, body, trips):
        return None
    carried: list[Value | None] = list(node.inputs[2:])
    rows: list[list[Value]] = [[] for _ in stacked]
    nodes: list[Node] = []
    going = constant(graph, f"{node.name}/going", np.array(True))
    for i in range(trips):
        index = constant(graph, f"{node.name}/iteration", np.array(i, np.int64))
        made, results = clone_body(body, [index, going, *carried], graph)
        nodes += made
        carried = list(results[1 : 1 + carried_count])
        for row, v in zip(rows, results[1 + carried_count :], strict=True):
            row.append(v)
    whole = [_stack(graph, node, row, 0, nodes) for row in rows]
    nodes += _results(graph, node, [*(v for v in carried if v is not None), *whole])
    return nodes


def _stack(graph: Graph, node: Node, row: list[Value], axis: int, nodes: list[Node]) -> Value:
    """One row for each iteration, along a new axis."""
    axes = constant(graph, f"{node.name}/axis", np.array([axis], np.int64))
    slices: list[Value | None] = []
    for v in row:
        y = Value(graph.fresh_name(f"{node.name}/row"), v.dtype)
        nodes.append(Node("Unsqueeze", graph.fresh_name(f"{node.name}/unsqueeze"), [v, axes], [y]))
        slices.append(y)
    whole = Value(graph.fresh_name(f"{node.name}/stacked"), row[0].dtype)
    nodes.append(Node("Concat", graph.fresh_name(f"{node.name}/concat"), slices, [whole], {"axis": [axis]}))
    return whole


def _unroll_scan(graph: Graph, node: Node) -> list[Node] | None:
    body = node.subgraphs[0]
    scanned = node.int_attr("num_scan_inputs", 0)
    states = len(node.inputs) - scanned
    if any(v is None for v in node.inputs):
        return None
    axes = node.ints_attr("scan_input_axes") or [0] * scanned
    backwards = node.ints_attr("scan_input_directions") or [0] * scanned
    out_axes = node.ints_attr("scan_output_axes") or [0] * (len(body.outputs) - states)
    out_backwards = node.ints_attr("scan_output_directions") or [0] * (len(body.outputs) - states)
    first = node.inputs[states]
    if first is None or first.shape is None or not isinstance(first.shape[axes[0]], int):
        return None
    trips = int(first.shape[axes[0]])
    if trips == 0 or not _affordable(graph, body, trips):
        return None
    carried: list[Value | None] = list(node.inputs[:states])
    rows: list[list[Value]] = [[] for _ in body.outputs[states:]]
    nodes: list[Node] = []
    for i in range(trips):
        slices: list[Value | None] = []
        for x, axis, reverse in zip(node.inputs[states:], axes, backwards, strict=True):
            assert x is not None
            at = constant(graph, f"{node.name}/at", np.array(trips - 1 - i if reverse else i, np.int64))
            y = Value(graph.fresh_name(f"{node.name}/slice"), x.dtype)
            nodes.append(
                Node("Gather", graph.fresh_name(f"{node.name}/gather"), [x, at], [y], {"axis": [axis]})
            )
            slices.append(y)
        made, results = clone_body(body, [*carried, *slices], graph)
        nodes += made
        carried = list(results[:states])
        for row, v, reverse in zip(rows, results[states:], out_backwards, strict=True):
            row.insert(0 if reverse else len(row), v)
    whole = [_stack(graph, node, row, axis, nodes) for row, axis in zip(rows, out_axes, strict=True)]
    nodes += _results(graph, node, [*(v for v in carried if v is not None), *whole])
    return nodes


def constant_trips(node: Node, limit: int) -> int | None:
    """How often a Loop's body runs, if constants decide it; else None.

    A condition that changes from iteration to iteration is computed, `limit` times at most.
    """
    body = node.subgraphs[0]
    trips, start = node.const(0), node.input(1)
    if (node.input(0) is not None and trips is None) or (start is not None and start.const is None):
        return None
    most = limit + 1 if trips is None else max(int(trips.reshape(-1)[0]), 0)
    going = start is None or start.const is None or bool(start.const.all())
    needed, carried = _slice_of_condition(body)
    if needed is None:
        return None
    known: dict[int, np.ndarray] = {}
    for i in carried:
        first = node.input(2 + i)
        if first is None or first.const is None:
            return None
        known[id(body.inputs[2 + i])] = first.const
    again = _source(body.outputs[0])
    if again.const is not None or again is body.inputs[1]:
        goes_on = bool(again.const.all()) if again.const is not None else going
        endless = going and goes_on and trips is None
        return None if endless else most if going and goes_on else min(most, int(going))
    for count in range(limit + 1):
        if count == most or not going:
            return count
        step = known | {
            id(body.inputs[0]): np.array(count, np.int64), id(body.inputs[1]): np.array(True)
        }  # fmt: skip
        for inner in needed:
            if not _evaluate(inner, step):
                return None
        result = _value(body.outputs[0], step)
        if result is None:
            return None
        going = bool(result.all())
        for i in carried:
            value = _value(body.outputs[1 + i], step)
            if value is None:
                return None
            known[id(body.inputs[2 + i])] = value
    return None


def _source(v: Value) -> Value:
    while v.producer is not None and v.producer.op == "Identity" and v.producer.inputs[0] is not None:
        v = v.producer.inputs[0]
    return v


def _value(v: Value, known: dict[int, np.ndarray]) -> np.ndarray | None:
    return v.const if v.const is not None else known.get(id(v))


def _slice_of_condition(body: Graph) -> tuple[list[Node] | None, list[int]]:
    """(nodes that the condition rests on, carried values that they read); None if it reads from outside."""
    made = {id(v): n for n in body.nodes for v in n.outputs if v is not None}
    position = {id(v): i for i, v in enumerate(body.inputs)}
    wanted, needed, carried = [body.outputs[0]], set(), set()
    seen: set[int] = set()
    while wanted:
        v = wanted.pop()
        if v.is_const or id(v) in seen:
            continue
        seen.add(id(v))
        if id(v) in position:
            i = position[id(v)] - 2
            if i >= 0:
                carried.add(i)
                wanted.append(body.outputs[1 + i])
        elif id(v) in made and not made[id(v)].subgraphs:
            needed.add(id(made[id(v)]))
            wanted += [x for x in made[id(v)].inputs if x is not None]
        else:
            return None, []
    return [n for n in body.nodes if id(n) in needed], sorted(carried)


def _evaluate(node: Node, known: dict[int, np.ndarray]) -> bool:
    """Adds the values of a node's outputs to `known`, if they are small and can be computed."""
    info = core.op_info(node.op)
    if info is None or info[0] & core.RANDOM:
        return False
    inputs: list[Value | None] = []
    for v in node.inputs:
        array = None if v is None else _value(v, known)
        if v is not None and (array is None or array.size > _EVALUATED_ELEMENTS):
            return False
        inputs.append(None if v is None or array is None else Value.constant(v.name, array, v.dtype or None))
    outputs = [Value(v.name) if v is not None else None for v in node.outputs]
    copy = Node(node.op, node.name, inputs, outputs, node.attrs)
    shapes = core.infer(copy)
    if any(int(np.prod(shape, dtype=object)) > _EVALUATED_ELEMENTS for _, shape in shapes):
        return False
    for v, (dtype, _), array in zip(node.outputs, shapes, core.evaluate(copy), strict=True):
        if v is not None:
            known[id(v)] = array.astype(bool) if dtype is DType.BOOL else array
    return True
