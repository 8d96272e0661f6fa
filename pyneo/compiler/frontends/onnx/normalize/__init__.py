# SPDX-License-Identifier: Apache-2.0
"""Every operator of every operator set in one form: the newest. One table of rules, filled by topic."""

from __future__ import annotations

from . import (
    arithmetic,
    constants,
    control,
    encoders,
    microsoft,
    microsoft_attention,
    microsoft_quant,
    ml,
    nn,
    shape,
    svm,
    text,
    trees,
)
from .rule import RULES, Emitter, Op

__all__ = ["RULES", "Op", "normalize"]

# Importing a topic registers its rules.
_TOPICS = (
    arithmetic, constants, control, encoders, microsoft, microsoft_attention, microsoft_quant, ml, nn, shape,
    svm, text, trees,
)  # fmt: skip


def normalize(op: Op, emitter: Emitter) -> bool:
    """Applies the rules of an operator in order of operator set; True if they emitted all of it."""
    start = op.type
    for below, apply in RULES.get(start, ()):
        if op.version < below and apply(op, emitter):
            return True
        if op.type != start:
            break
    return False
