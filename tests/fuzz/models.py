# SPDX-License-Identifier: Apache-2.0
"""Random models: an input, one to three patterns one behind the other, and which values are outputs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx

from tests.fuzz import contrib, flow, general, images, operators, transformers
from tests.fuzz.maker import OPSETS, Maker, Unfit, Val

Pattern = Callable[[Maker, Val], Val]

_TRIES = 40


@dataclass
class Model:
    """A model, what it is fed, and the dims that are bound at run time (input -> shape with symbols)."""

    proto: onnx.ModelProto
    feeds: dict[str, np.ndarray]
    shapes: dict[str, tuple[int | str, ...]] = field(default_factory=dict)
    patterns: list[str] = field(default_factory=list)


def generate(seed: int, only: str = "") -> Model:
    """The model of a seed; `only`: the name of the pattern that it begins with."""
    m = Maker(seed)
    for again in itertools.count(1):
        kind = m.pick(images, images, transformers, transformers, general)
        if only and not any(p.__name__ == only for p in kind.PATTERNS):
            continue
        start = {images: images.image, transformers: transformers.rows, general: general.anything}[kind]
        x = start(m)
        used: list[str] = []
        wanted = m.pick(1, 1, 1, 2, 2, 3)
        for _ in range(_TRIES):
            patterns = kind.PATTERNS if m.chance(0.8) or not used else general.PATTERNS
            pattern = m.rng.choice([p for p in patterns if not only or used or p.__name__ == only])
            mark = len(m.nodes)
            try:
                x = _applied(m, pattern, x)
                used.append(pattern.__name__)
            except (Unfit, ValueError, IndexError):
                del m.nodes[mark:]
                made = {o for n in m.nodes for o in n.output}
                kept = made | set(m.inputs) | set(m.constants)
                m.values = {n: v for n, v in m.values.items() if n in kept}
            if len(used) == wanted or x.shape is None:
                break
        if used:
            return Model(m.model(_outputs(m, x)), m.inputs, _shapes(m), used)
        m = Maker(seed + (again << 32))
    raise AssertionError("some pattern fits some value")


def generate_operator(seed: int, only: str = "") -> Model:
    """The model of a seed whose first pattern is one operator with odd attributes and types."""
    found = [p for p in operators.PATTERNS if not only or p.__name__ == only]
    return _chain(
        seed, operators.OPSETS, lambda _: Val("", (), onnx.TensorProto.FLOAT), found, (0, 0, 0, 1, 2)
    )


def generate_contrib(seed: int, only: str = "") -> Model:
    """The model of a seed of one operator of com.microsoft or ai.onnx.ml."""
    found = [p for p in contrib.PATTERNS if not only or p.__name__ == only]
    return _chain(seed, contrib.OPSETS, lambda _: Val("", (), onnx.TensorProto.FLOAT), found, (0,))


def generate_flow(seed: int) -> Model:
    """The model of a seed with branches and loops."""
    return _chain(seed, OPSETS, flow.started, flow.PATTERNS, (0, 0, 1))


def _chain(
    seed: int,
    opsets: Sequence[int],
    start: Callable[[Maker], Val],
    first: Sequence[Pattern],
    more: Sequence[int],
) -> Model:
    """One of the patterns, and some of general use behind it."""
    for again in itertools.count():
        m = Maker(seed + (again << 32), opsets)
        x = start(m)
        used: list[str] = []
        for pattern in (m.rng.choice(first), *(m.rng.choice(general.PATTERNS) for _ in range(m.pick(*more)))):
            mark = len(m.nodes)
            try:
                x = _applied(m, pattern, x)
                used.append(pattern.__name__)
            except (Unfit, ValueError, IndexError):
                if not used:
                    break
                del m.nodes[mark:]
                kept = {o for n in m.nodes for o in n.output} | set(m.inputs) | set(m.constants)
                m.values = {n: v for n, v in m.values.items() if n in kept}
        if used:
            return Model(m.model(_outputs(m, x)), m.inputs, {}, used)
    raise AssertionError("some pattern fits some value")


def _applied(m: Maker, pattern: object, x: Val) -> Val:
    y: Val = pattern(m, x)  # type: ignore[operator]
    if y.name in m.inputs or y.name in m.constants:
        raise Unfit
    if y.shape is not None and np.prod(y.shape, dtype=np.float64) > 1e5:
        raise Unfit
    return y


def _outputs(m: Maker, last: Val) -> list[Val]:
    """The last value, often more of them, sometimes every value that is not read."""
    made = [o for n in m.nodes for o in n.output if o and n.op_type != "Constant"]
    read = {i for n in m.nodes for i in n.input}
    found = [last.name]
    if m.chance(0.3):
        found += m.some(made, min(len(made), m.whole(1, 2)))
    if m.chance(0.7):
        found += [v for v in made if v not in read]
    if m.chance(0.03) and m.inputs:
        found.append(m.pick(*m.inputs))
    return [m.values[n] for n in dict.fromkeys(found)]


def generate_open(seed: int) -> Model:
    """The model of a seed, some of whose dims are open."""
    for again in itertools.count():
        key = seed + (again << 36)
        model = generate(key)
        if not model.shapes:
            m = Maker(key + 1)
            m.inputs = model.feeds
            model.shapes = _shapes(m, 0)
        if model.shapes:
            return model
    raise AssertionError("some model has an input of some rank")


def _shapes(m: Maker, fixed: float = 0.75) -> dict[str, tuple[int | str, ...]]:
    """Some dims as symbols: mostly the batch of all inputs, sometimes any."""
    if m.chance(fixed) or not m.inputs:
        return {}
    shapes: dict[str, tuple[int | str, ...]] = {}
    first = next(iter(m.inputs.values())).shape
    which = m.some(range(len(first)), m.whole(1, len(first))) if first and m.chance(0.4) else [0]
    names = {first[i]: f"{m.pick('', '0<=')}D{i}{m.pick('', '<=64')}" for i in which if i < len(first)}
    for name, array in m.inputs.items():
        dims = [names.get(d, d) if i == 0 or len(which) > 1 else d for i, d in enumerate(array.shape)]
        if dims != list(array.shape):
            shapes[name] = tuple(dims)
    return shapes
