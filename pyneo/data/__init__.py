# SPDX-License-Identifier: Apache-2.0
"""What the demo needs: a CNN trained by examples/train_digits.py, and which digits it never saw."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

# ONNX: image float32 (N, 1, 8, 8) with values 0..16 -> logits float32 (N, 10).
DIGITS = Path(__file__).parent / "digits.onnx"


def held_out(count: int) -> npt.NDArray[np.bool_]:
    """Which of scikit-learn's `count` digits are held out from training: a fixed random fifth, as a mask."""
    mask = np.zeros(count, np.bool_)
    mask[np.random.RandomState(0).permutation(count)[: count // 5]] = True
    return mask
