# SPDX-License-Identifier: Apache-2.0
"""What a precision below fp32 costs: the same model compiled both ways, on the same inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from pyneo.errors import CompileError
from pyneo.model import Model
from pyneo.package.package import Package

Inputs = Mapping[str, ArrayLike]

_DRAWN = 3


class LossMeter:
    """The outputs of a model in fp32, to hold others against. Every package must be able to run here."""

    def __init__(self, exact: Package, samples: Sequence[Inputs] | None = None) -> None:
        """exact: the model in fp32. samples: inputs by name, each for one run; without them, three of
        normally distributed floats and of zeros for everything else, always the same ones.

        Raises CompileError where nothing can be drawn: shapes are bound at run time, or an input is text.
        """
        with Model.load(exact, allow_unsigned=True) as model:
            self._samples = _drawn(model) if samples is None else samples
            self._wanted = [_outputs(model, x) for x in self._samples]

    def loss(self, package: Package) -> float:
        """Largest difference of an output from fp32's, relative to the largest magnitude of that output.

        Infinite where one is finite and the other is not.
        """
        worst = 0.0
        with Model.load(package, allow_unsigned=True) as model:
            for sample, wanted in zip(self._samples, self._wanted, strict=True):
                for x, y in zip(wanted, _outputs(model, sample), strict=True):
                    if np.issubdtype(x.dtype, np.floating):
                        worst = max(worst, _difference(x, y))
        return worst


def _difference(wanted: np.ndarray, found: np.ndarray) -> float:
    finite = np.isfinite(wanted)
    if not np.array_equal(finite, np.isfinite(found)):
        return float("inf")
    x, y = wanted[finite], found[finite]
    if not x.size:
        return 0.0
    return float(np.max(np.abs(x - y))) / (float(np.max(np.abs(x))) or 1.0)


def _drawn(model: Model) -> list[Inputs]:
    for spec in model.inputs:
        if not all(isinstance(d, int) for d in spec.shape):
            raise CompileError(
                f"the loss cannot be measured on made-up inputs: input '{spec.name}' has the open shape "
                f"{list(spec.shape)}; give samples=, or fix the shape with shapes="
            )
        if spec.dtype.kind not in "fiub":
            raise CompileError(
                f"the loss cannot be measured on made-up inputs: input '{spec.name}' is of {spec.dtype}; "
                "give samples="
            )
    rng = np.random.default_rng(0)
    samples = []
    for _ in range(_DRAWN):
        sample: Inputs = {t.name: _draw(rng, [int(d) for d in t.shape], t.dtype) for t in model.inputs}
        samples.append(sample)
    return samples


def _draw(rng: np.random.Generator, shape: list[int], dtype: np.dtype) -> np.ndarray:
    drawn = rng.standard_normal(shape) if dtype.kind == "f" else np.zeros(shape)
    return drawn.astype(dtype)


def _outputs(model: Model, inputs: Inputs) -> list[np.ndarray]:
    found = model.predict(dict(inputs))
    return [np.asarray(found[t.name]) for t in model.outputs]
