# SPDX-License-Identifier: Apache-2.0
"""ONNX's own backend suite through pyneo.compile and Model.predict.

A case is in scope unless the importer says that it needs an operator the core lacks or a type that pyneo
does not compute with; every case in scope must pass. Counts are printed at the end of the run
(tests/conftest.py). Inputs that decide shapes are inputs: they are known when the model runs.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import onnx
import pytest

import pyneo
from pyneo.compiler.frontends.onnx import load_onnx
from tests.support.backend_suite import KINDS, Case, cases, check

SLICES = 8  # of the node cases, so that several processes can share them

OUT_OF_SCOPE = (
    "is not supported (nodes",  # an operator that the core lacks
    "element type",
    "only tensors are supported",
    "no arithmetic in pyneo",
    "looks into them",  # strings, which pyneo moves and compares only
    "looks at letters of strings",
)

_RESIDUE = "the reference's rounding leaves 2e-7 where pyneo gives the exact 0; the suite allows 1e-7"
_RESIZED = "the suite takes the resized length before it is rounded down; onnxruntime, as pyneo, after"

# Cases that are in scope and do not pass, each with its reason.
EXCLUDED: dict[str, str] = {
    "test_attention_4d_causal_fp16_expanded": "float16: the reference rounds after every step, "
    "pyneo once at the end",
    "test_dft_inverse": _RESIDUE,
    "test_dft_inverse_opset19": _RESIDUE,
    "test_training_dropout_default": "training: the mask is numpy's random stream",
    "test_training_dropout_default_mask": "training: the mask is numpy's random stream",
    "test_training_dropout": "training: the mask is numpy's random stream",
    "test_training_dropout_mask": "training: the mask is numpy's random stream",
    "test_maxunpool_export_with_output_shape": "the suite reads the indices against another shape "
    "than output_shape",
    "test_resize_downsample_scales_linear_align_corners": _RESIZED,
    "test_resize_downsample_scales_cubic_align_corners": _RESIZED,
}

# The number of cases in scope must not shrink unnoticed.
AT_LEAST = {"node": 1680, "simple": 17, "pytorch-converted": 82, "pytorch-operator": 35, "real": 9}

Arrays = list[np.ndarray]


def predict(model: onnx.ModelProto, inputs: Arrays) -> Arrays:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pyneo.Model.load(pyneo.compile(model), allow_unsigned=True) as m:
            y = m.predict(*inputs)
    return list(y) if isinstance(y, tuple) else [y]


class Tally:
    """What became of the cases of one test."""

    def __init__(self) -> None:
        self.total = self.in_scope = self.passed = 0
        self.failures: list[str] = []

    def run(self, case: Case) -> None:
        self.total += 1
        try:
            check(case, predict)
            self.passed += 1
            if case.name in EXCLUDED:
                self.failures.append(f"{case.name}: passes, so take it off the list of exclusions")
        except Exception as e:
            problems = getattr(e, "problems", [str(e)])
            if any(words in p for p in problems for words in OUT_OF_SCOPE):
                return
            if case.name not in EXCLUDED:
                self.failures.append(f"{case.name}: {type(e).__name__}: {str(e).strip()[:300]}")
        self.in_scope += 1


PARTS = [("node", i) for i in range(SLICES)] + [(kind, 0) for kind in KINDS if kind != "node"]


@pytest.mark.parametrize(("kind", "part"), PARTS)
def test_backend_suite(kind: str, part: int, record_property: Callable[[str, object], None]) -> None:
    tally = Tally()
    for case in [c for c in cases() if c.kind == kind][part :: SLICES if kind == "node" else 1]:
        tally.run(case)
    record_property("onnx_backend", (kind, tally.passed, tally.in_scope, tally.total))
    assert not tally.failures, "\n".join(tally.failures)


def test_scope_has_not_shrunk() -> None:
    found = dict.fromkeys(KINDS, 0)
    for case in cases():
        try:
            load_onnx(case.load())
        except pyneo.CompileError as e:
            if any(words in p for p in e.problems for words in OUT_OF_SCOPE):
                continue
        found[case.kind] += 1
    assert {k: n for k, n in found.items() if n < AT_LEAST[k]} == {}
