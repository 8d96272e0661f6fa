# SPDX-License-Identifier: Apache-2.0
"""Random models, and random models with one thing wrong, against onnxruntime.

The other tests of the compiler show each rule its pattern and the near misses that its author thought of.
Here the models are those that nobody thought of: patterns of every rule with odd constants, axes, types and
readers, one behind the other, of fixed and of open shapes, on every kind of machine that this one can stand
for, with one thread and with two. The seeds are fixed; PYNEO_FUZZ_MODELS=5000 tries more of them,
PYNEO_FUZZ_FIRST=100000 others. `generate(seed).proto` is the model of a test that fails.
"""

from __future__ import annotations

import os
import re

import pytest

from pyneo.compiler.passes import attention, images, phases, projections, pyramid
from pyneo.compiler.targets.target import find
from tests.fuzz.judge import judge, judge_spoilt
from tests.fuzz.models import generate
from tests.fuzz.spoil import spoil

COUNT = int(os.environ.get("PYNEO_FUZZ_MODELS", "240"))
FIRST = int(os.environ.get("PYNEO_FUZZ_FIRST", "0"))
TARGETS = [t for t in ("host", "x86-64-v3", "x86-64") if t == "host" or find(t).runs_here]

# What onnxruntime refuses though it has a meaning: operators that it lacks for a type, integers of another
# width, images without pixels.
_NARROWER = re.compile(
    "NOT_IMPLEMENTED|Type Error|Type parameter|'Cubic' mode only|Only N can be zero|labels allowed|"
    "must be at least 1, got 0|Pad reflect|cannot broadcast on dim|padding values must be|"
    "output dimension is <= 0|cannot be reshaped|Dilation not supported"
)


@pytest.fixture(autouse=True)
def eager(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """For every other model all rules find it worth their while: models here are small."""
    if request.node.callspec.params["seed"] % 2:
        monkeypatch.setattr(images, "_SPLIT_SAVES", 0)
        monkeypatch.setattr(images, "_SPLIT_KEEPS", 0.99)
        monkeypatch.setattr(phases, "_LANES", 1000)
        monkeypatch.setattr(projections, "_NARROWEST", 2)
        monkeypatch.setattr(attention, "_FEWEST", 1)
        monkeypatch.setattr(pyramid, "_GAIN", 0.0)


@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT))
def test_a_random_model_agrees_with_onnxruntime(seed: int) -> None:
    model = generate(seed)
    verdict = judge(model, (TARGETS[seed % len(TARGETS)],))
    # "accepted": onnxruntime has no such operator, and the specification's evaluator another result. Some
    # models are invalid by nature, such as a window larger than what a pool before it left.
    known = ("agrees", "accepted", "invalid")
    assert verdict.kind in known, f"{verdict.kind}: {verdict.text} {model.patterns}"


@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT // 2))
def test_a_random_model_with_one_thing_wrong_is_refused_or_agrees(seed: int) -> None:
    model = generate(seed)
    told = spoil(model, seed)
    verdict = judge_spoilt(model)
    if verdict.kind == "accepted" and _NARROWER.search(verdict.text):
        return
    assert verdict.kind in ("agrees", "invalid"), f"{told}: {verdict.kind}: {verdict.text} {model.patterns}"
    assert verdict.kind == "agrees" or len(verdict.text.split()) > 5, verdict.text
