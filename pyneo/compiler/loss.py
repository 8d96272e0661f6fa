# SPDX-License-Identifier: Apache-2.0
"""What a precision below fp32 costs: the same model compiled both ways, on the same inputs."""

from __future__ import annotations

import numpy as np

from pyneo.model import Model
from pyneo.package.package import Package

_SAMPLES = 3


def measured_loss(exact: Package, fast: Package) -> float | None:
    """Largest difference between the outputs, relative to the largest magnitude of each output.

    Both packages are for a target that runs here. Inputs: normally distributed floats, zeros for everything
    else, always the same ones. None where shapes are bound at run time.
    """
    worst = 0.0
    rng = np.random.default_rng(0)
    with Model.load(exact, allow_unsigned=True) as a, Model.load(fast, allow_unsigned=True) as b:
        for _ in range(_SAMPLES):
            arrays = {}
            for spec in a.inputs:
                shape = [d for d in spec.shape if isinstance(d, int)]
                if len(shape) != len(spec.shape) or spec.dtype.kind not in "fiub":
                    return None
                drawn = rng.standard_normal(shape) if spec.dtype.kind == "f" else np.zeros(shape)
                arrays[spec.name] = drawn.astype(spec.dtype)
            for x, y in zip(_outputs(a, arrays), _outputs(b, arrays), strict=True):
                if np.issubdtype(x.dtype, np.floating) and x.size:
                    scale = float(np.max(np.abs(x))) or 1.0
                    worst = max(worst, float(np.max(np.abs(x - y))) / scale)
    return worst


def _outputs(model: Model, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    found = model.predict(arrays)
    return [np.asarray(found[t.name]) for t in model.outputs]
