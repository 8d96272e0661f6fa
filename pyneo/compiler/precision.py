# SPDX-License-Identifier: Apache-2.0
"""Precisions below fp32: asked for by name, or as the fastest that keeps within an accuracy budget.

On AMX, float32 products are sums of products of bfloat16 pieces: six products of three pieces of each factor
are as exact as fp32, three products of two pieces ("bf16x3") keep 14 bits or more (csrc/kernels/amx/tile.h).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Sequence

from pyneo.compiler.ir.graph import Graph, Node
from pyneo.compiler.loss import Inputs, LossMeter
from pyneo.errors import CompileError
from pyneo.package.package import Package

# Pieces of a factor that a precision asks kernels for.
PRECISIONS = {"fp32": 3, "bf16x3": 2}
_IN_PIECES = ("Attention", "Conv", "Gemm", "MatMul")

Rewrite = Callable[[Graph], None]  # of an optimised graph, before it is lowered


def check(precision: str, max_loss: float | None, samples: Sequence[Inputs] | None, runs_here: bool) -> None:
    """CompileError for what cannot be asked."""
    if precision not in PRECISIONS:
        raise CompileError(f"precision '{precision}' is unknown; there are {' and '.join(PRECISIONS)}")
    if samples is not None and not samples:
        raise CompileError("samples is empty; give dicts of inputs by name, or leave it out")
    if max_loss is None:
        return
    if not (math.isfinite(max_loss) and max_loss > 0):
        raise CompileError(f"max_loss must be a number above 0, as in 1e-4; found {max_loss}")
    if precision != "fp32":
        raise CompileError(f"max_loss chooses the precision, and precision='{precision}' names it; give one")
    if not runs_here:
        raise CompileError(
            "max_loss is measured by running the model, and the target does not run on this machine; compile "
            "on such a device, or ask for precision='bf16x3' by name"
        )


def compile_within(
    build: Callable[[Rewrite], Package],
    max_loss: float,
    samples: Sequence[Inputs] | None,
    show: Callable[[str], None],
) -> Package:
    """The model with as many of its products reduced as the budget allows, the largest products first.

    How many is found by bisection: every package that is kept was measured.
    """
    names: list[str] = []
    kept = build(lambda graph: names.extend(_products(graph)))
    meter = LossMeter(kept, samples)
    _describe(kept, 0, len(names), 0.0)
    fits, fails, count = 0, len(names) + 1, len(names)
    while fits < count < fails:
        show(f"measuring the loss with {count} of {len(names)} products reduced")
        reduced = set(names[:count])
        package = build(lambda graph, reduced=reduced: _reduce(graph, reduced))  # type: ignore[misc]
        loss = meter.loss(package)
        if loss <= max_loss:
            fits, kept = count, package
            _describe(kept, count, len(names), loss)
        else:
            fails = count
        count = (fits + fails) // 2
    return kept


def _describe(package: Package, reduced: int, products: int, loss: float) -> None:
    report = package.report()
    report.precision, report.loss = f"bf16x3 in {reduced} of {products} products", loss


def compile_named(
    build: Callable[[Rewrite], Package],
    precision: str,
    samples: Sequence[Inputs] | None,
    runs_here: bool,
    show: Callable[[str], None],
) -> Package:
    """The model in that precision; below fp32, the report states the loss where it can be measured."""
    if precision == "fp32":
        return build(lambda graph: None)
    package = build(lambda graph: _reduce(graph, set(_products(graph)), PRECISIONS[precision]))
    package.report().precision = precision
    if runs_here:
        show("measuring the loss against fp32")
        try:
            meter = LossMeter(build(lambda graph: None), samples)
        except CompileError:
            if samples is not None:
                raise
        else:
            package.report().loss = meter.loss(package)
    return package


def _products(graph: Graph) -> list[str]:
    """Names of the nodes that are formed from pieces, those of the most multiply-adds first."""
    found = [n for n in graph.all_nodes() if n.op in _IN_PIECES]
    return [n.name for n in sorted(found, key=_work, reverse=True)]


def _work(node: Node) -> float:
    """About the multiply-adds; 0 where data decides the shapes."""
    x, w = node.input(0), node.input(1)
    if not node.is_known or x is None or w is None:
        return 0.0
    if node.op == "Attention":
        depth = 2 * w.dims[-2]
    elif node.op == "Conv":
        depth = math.prod(w.dims[1:])
    else:
        depth = x.dims[0 if node.int_attr("transA", 0) else -1]
    return float(math.prod(node.output.dims)) * depth


def _reduce(graph: Graph, names: Container[str], pieces: int = PRECISIONS["bf16x3"]) -> None:
    for node in graph.all_nodes():
        if node.op in _IN_PIECES and node.name in names:
            node.attrs["pieces"] = [pieces]
