# SPDX-License-Identifier: Apache-2.0
"""Random models of one operator, of control flow, and of open sizes, against onnxruntime.

test_models.py has networks that passes rewrite; these are about what an operator means: each with every type,
form, mode and shape that it may have, at operator sets 7 to 23, and those of com.microsoft and ai.onnx.ml;
branches and loops inside one another; one package at many sizes. PYNEO_FUZZ_MODELS tries more of them.
"""

from __future__ import annotations

import os
import re

import pytest

import pyneo
from tests.fuzz.judge import judge, judge_sizes
from tests.fuzz.models import generate_contrib, generate_flow, generate_open, generate_operator
from tests.fuzz.spoil import spoil
from tests.fuzz.test_models import TARGETS

COUNT = int(os.environ.get("PYNEO_FUZZ_MODELS", "160"))
FIRST = int(os.environ.get("PYNEO_FUZZ_FIRST", "0"))

# What onnxruntime runs and pyneo refuses: types of few uses, what has no meaning in the standard.
_REFUSED = re.compile(
    "(GridSample|RoiAlign): input 0 has dtype float64|MeanVarianceNormalization: axis|PRelu: input 1|"
    "differ outside axis|the kernel spans|tf_half_pixel_for_nn"
)


def _accept(kind: str, text: str) -> bool:
    return kind in ("agrees", "accepted", "invalid") or (kind == "refused" and bool(_REFUSED.search(text)))


@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT))
def test_a_random_operator_agrees_with_onnxruntime(seed: int) -> None:
    model = generate_operator(seed)
    verdict = judge(model, (TARGETS[seed % len(TARGETS)],))
    assert _accept(verdict.kind, verdict.text), f"{verdict.kind}: {verdict.text} {model.patterns}"


@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT // 2))
def test_a_random_operator_of_other_domains_agrees_with_onnxruntime(seed: int) -> None:
    model = generate_contrib(seed)
    verdict = judge(model, (TARGETS[seed % len(TARGETS)],))
    assert _accept(verdict.kind, verdict.text), f"{verdict.kind}: {verdict.text} {model.patterns}"


@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT // 4))
def test_random_branches_and_loops_agree_with_onnxruntime(seed: int) -> None:
    verdict = judge(generate_flow(seed))
    assert _accept(verdict.kind, verdict.text), f"{verdict.kind}: {verdict.text}"


@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT // 4))
def test_a_random_model_is_right_at_one_size_after_another(seed: int) -> None:
    model = generate_open(seed)
    verdict = judge_sizes(model, (1, 7, 2))
    assert _accept(verdict.kind, verdict.text), f"{verdict.kind}: {verdict.text} {model.patterns}"


@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT // 2))
def test_a_random_operator_with_one_thing_wrong_is_refused_by_a_sentence(seed: int) -> None:
    """Or runs. onnxruntime is not asked: some of these models end its process."""
    model = generate_operator(seed)
    told = spoil(model, seed)
    try:
        with pyneo.Model.load(pyneo.compile(model.proto, progress=False), allow_unsigned=True) as m:
            m.predict(model.feeds)
    except pyneo.Error as e:
        assert len(str(e).split()) > 5, f"{told}: {e}"
