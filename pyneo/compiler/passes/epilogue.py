# SPDX-License-Identifier: Apache-2.0
"""Epilogues: activations and residual sums become part of the operator before them."""

from __future__ import annotations

from pyneo.compiler.ir.graph import Attr, DType, Graph, Node, Value
from pyneo.compiler.passes.match import Readers, producer, scalar, take_output

# Operators whose kernels apply `act`, and those that also add a residual (input 3) and apply `post_act`.
_WITH_ACT = ("Conv", "ConvTranspose", "MatMul", "Gemm", "Add", "Mul")
_WITH_RESIDUAL = ("Conv", "MatMul")

_SIMPLE = {
    "Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "HardSwish": "hard_swish", "Softplus": "softplus",
    "Mish": "mish", "Silu": "silu",
}  # fmt: skip


def as_activation(node: Node) -> tuple[str, float | None, float | None] | None:
    """(name, alpha, beta) of a node that is an activation of its first input (csrc/ops/activation.h)."""
    if node.op in _SIMPLE:
        return _SIMPLE[node.op], None, None
    if node.op == "LeakyRelu":
        return "leaky_relu", node.float_attr("alpha", 0.01), None
    if node.op == "Elu":
        return "elu", node.float_attr("alpha", 1.0), None
    if node.op == "HardSigmoid":
        return "hard_sigmoid", node.float_attr("alpha", 0.2), node.float_attr("beta", 0.5)
    if node.op == "Gelu":
        return ("gelu_tanh" if node.str_attr("approximate", "none") == "tanh" else "gelu"), None, None
    if node.op == "Swish" and node.float_attr("alpha", 1.0) == 1.0:
        return "silu", None, None
    if node.op == "Clip":
        low, high = scalar(node.input(1)), scalar(node.input(2))
        if (node.input(1) is not None and low is None) or (node.input(2) is not None and high is None):
            return None
        if low == 0 and high is None:
            return "relu", None, None
        return "clip", float("-inf") if low is None else low, float("inf") if high is None else high
    return None


def fuse_activations(graph: Graph) -> bool:
    """Conv, Gemm, MatMul, Add, Mul followed by an activation that alone reads the result."""
    readers = Readers(graph)
    changed = False
    for node in graph.nodes:
        if (
            node.op not in _WITH_ACT
            or not node.is_known
            or node.outputs[0] is None
            or node.output.dtype is not DType.F32
        ):
            continue
        has_residual = node.op in _WITH_RESIDUAL and node.input(3) is not None
        slot = "post_act" if has_residual else "act"
        if node.attrs.get(slot):
            continue
        user = readers.only(node.output)
        if user is None or user.inputs[0] is not node.output:
            continue
        act = as_activation(user)
        if act is None:
            continue
        name, alpha, beta = act
        node.attrs[slot] = name
        for suffix, number in (("alpha", alpha), ("beta", beta)):
            if number is not None:
                node.attrs[f"{slot}_{suffix}"] = _floats(number)
        take_output(graph, node, user)
        graph.remove([user])
        readers = Readers(graph)
        changed = True
    return changed


def _floats(number: float) -> Attr:
    return [float(number)]


def fuse_residuals(graph: Graph) -> bool:
    """Conv or MatMul followed by Add of a tensor of its shape: the sum happens in the kernel's epilogue.

    Of two candidates the later one takes the sum, since the other's result exists by then.
    """
    readers = Readers(graph)
    position = {id(n): i for i, n in enumerate(graph.nodes)}
    changed = False
    for add in list(graph.nodes):
        if add.op != "Add" or len(add.inputs) != 2 or not add.is_known or add.output.dtype is not DType.F32:
            continue
        a, b = add.inputs
        if a is None or b is None or a is b or a.shape != b.shape or a.is_const or b.is_const:
            continue
        candidates = [
            (v.producer, other)
            for v, other in ((a, b), (b, a))
            if v.producer is not None
            and id(v.producer) in position
            and _takes_residual(v.producer, v)
            and readers.only(v) is add
        ]
        if not candidates:
            continue
        node, residual = max(candidates, key=lambda c: position[id(c[0])])
        if residual.producer is not None and position.get(id(residual.producer), -1) > position[id(node)]:
            # The residual is made after the node: run the node where the sum stood.
            graph.nodes.remove(node)
            graph.nodes.insert(graph.nodes.index(add), node)
        node.inputs = [*node.inputs, *[None] * (3 - len(node.inputs)), residual]
        if add.attrs.get("act"):
            for suffix in ("", "_alpha", "_beta"):
                if f"act{suffix}" in add.attrs:
                    node.attrs[f"post_act{suffix}"] = add.attrs[f"act{suffix}"]
        take_output(graph, node, add)
        graph.remove([add])
        readers = Readers(graph)
        position = {id(n): i for i, n in enumerate(graph.nodes)}
        changed = True
    return changed


def _takes_residual(node: Node, v: Value) -> bool:
    if node.op not in _WITH_RESIDUAL or node.outputs[0] is not v or node.input(3) is not None:
        return False
    weights = node.const(1)
    return weights is not None and (node.op == "Conv" or weights.ndim == 2)


def find_silu(graph: Graph) -> bool:
    """x * sigmoid(x) is one activation; so is x * hardsigmoid(x) with alpha 1/6, beta 1/2 (HardSwish)."""
    readers = Readers(graph)
    changed = False
    for node in graph.nodes:
        if (
            node.op != "Mul"
            or len(node.inputs) != 2
            or not node.is_known
            or node.attrs
            or node.output.dtype is not DType.F32
        ):
            continue
        for x, gate in (node.inputs, node.inputs[::-1]):
            sigmoid = producer(gate, "Sigmoid") or producer(gate, "HardSigmoid")
            if sigmoid is None or x is None or sigmoid.inputs[0] is not x:
                continue
            if readers.only(sigmoid.output) is not node:
                continue
            if sigmoid.op == "HardSigmoid" and not (
                abs(sigmoid.float_attr("alpha", 0.2) - 1 / 6) < 1e-6
                and sigmoid.float_attr("beta", 0.5) == 0.5
            ):
                continue
            node.op = "Swish" if sigmoid.op == "Sigmoid" else "HardSwish"
            node.inputs = [x]
            changed = True
            break
    return changed
