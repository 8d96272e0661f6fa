# SPDX-License-Identifier: Apache-2.0
"""Hostile cases 35 and 36, and every word of a plan in turn: wrong places in a correctly signed package.

Every one of them is refused in a sentence, before anything of it runs, or runs to the right answer.
"""

from __future__ import annotations

import numpy as np
import pytest

import pyneo
from tests.package import forge
from tests.support.hostile_plans import EVERY, plan, refused, sentence, survives
from tests.support.plan_records import ALIAS, ARENA, CONST, INPUT, OUTPUT

# ---- 35, 36: memory -----------------------------------------------------------------------------


def test_case_35_one_tensor_as_input_and_output_is_refused():
    p = plan("relu")
    for k in (0, 1):
        p.operands[:] = [k] * len(p.operands)
        refused(p)


def test_case_35_input_and_output_of_one_arena_buffer_are_refused_or_right():
    """In place where the kernel allows it (Softmax), an error where it does not (a product)."""
    x = np.random.default_rng(1).standard_normal((2, 8)).astype(np.float32)
    p = plan("mlp")
    right = p.load().predict(x)
    arena = p.of(ARENA)
    ran = 0
    for i in arena:
        for j in arena:
            q = plan("mlp")
            if i == j or q.tensors[i]["offset"] == q.tensors[j]["offset"]:
                continue
            q.tensors[i]["offset"] = q.tensors[j]["offset"]
            try:
                found = q.load().predict(x)
            except pyneo.Error as e:
                sentence(e)
                continue
            ran += 1
            np.testing.assert_array_equal(found, right)
    assert ran < len(arena) * (len(arena) - 1)


def test_case_35_predict_into_its_own_input_is_refused_or_right():
    m = plan("relu").load()
    x = np.array([-1, 2, -3, 4], np.float32)
    try:
        found = m.predict(x, out=x)
    except (pyneo.Error, TypeError) as e:
        sentence(e)
    else:
        np.testing.assert_array_equal(found, [0, 2, 0, 4])


@pytest.mark.parametrize("name", ["convnet", "mlp"])
def test_case_36_an_arena_too_small_is_refused(name):
    for size in (0, 1, 64, -64):
        p = plan(name)
        p.arena_bytes = size if size >= 0 else p.arena_bytes + size
        refused(p, "past the end of the arena")


def test_case_36_an_arena_impossibly_large_is_refused():
    for size in (2**47, 2**63, 2**64 - 1):
        p = plan("relu")
        p.arena_bytes = size
        refused(p, "arena is impossibly large")


@pytest.mark.parametrize("name", ["convnet", "mlp"])
def test_case_36_any_offset_in_the_arena_gives_an_error_or_the_right_answer(name):
    p = plan(name)
    m = p.load()
    x = np.random.default_rng(1).standard_normal(m.inputs[0][2]).astype(np.float32)
    right, refusals = m.predict(x), 0
    for i in p.of(ARENA):
        good = p.tensors[i]["offset"]
        for offset in (*range(0, 512, 32), good + 64, good + 4, p.arena_bytes - 64, 2**63, 2**64 - 64):
            p.tensors[i]["offset"] = offset
            try:
                np.testing.assert_array_equal(p.load().predict(x), right)
            except pyneo.Error as e:
                sentence(e)
                refusals += 1
        p.tensors[i]["offset"] = good
    assert refusals > 0


def test_case_36_scratch_absent_or_too_small_or_elsewhere_is_refused():
    found = 0
    for name in EVERY:
        p = plan(name)
        for n in p.nodes:
            if n["scratch"] < 0 or name == "dynamic":
                continue
            found += 1
            t = p.tensors[n["scratch"]]
            good, n["scratch"] = n["scratch"], -1
            refused(p, "scratch")
            for other in p.of(INPUT) + p.of(OUTPUT) + p.of(CONST):
                n["scratch"] = other
                refused(p, "scratch")
            n["scratch"] = good
            t.update(dims=[0] * 8, bytes=0)
            refused(p, "scratch")
    assert found > 0


@pytest.mark.parametrize("offset", [1, 4, 32, 2**20, 2**62, 2**63, 2**64 - 64])
def test_case_36_a_constant_misaligned_or_past_the_weights_is_refused(offset):
    for i in plan("mlp").of(CONST):
        p = plan("mlp")
        p.tensors[i]["offset"] = (p.tensors[i]["offset"] + offset) % 2**64
        refused(p, "aligned|past the end|impossible|share")


def test_case_36_overlapping_constants_are_refused():
    p = plan("mlp")
    first, second = p.of(CONST)[:2]
    p.tensors[second]["offset"] = p.tensors[first]["offset"]
    refused(p, "two constants share")


def test_case_36_weights_of_another_size_are_refused():
    p = plan("mlp")
    p.weights += bytes(64)
    refused(p, "bytes of weights")


def test_case_36_views_that_cannot_be_are_refused():
    view = plan("convnet").of(ALIAS)[0]
    for change in (
        {"alias_of": view}, {"alias_of": 10**6}, {"alias_of": -1}, {"alias_of": -2}, {"offset": 4},
        {"offset": 2**63}, {"offset": 2**64 - 4}, {"offset": 2}, {"storage": 6}, {"storage": 255},
    ):  # fmt: skip
        p = plan("convnet")
        p.tensors[view].update(change)
        refused(p)


def test_case_36_views_of_each_other_are_refused():
    p = plan("convnet")
    a, b = p.of(ALIAS)[0], p.of(ARENA)[0]
    p.tensors[b].update(storage=ALIAS, alias_of=a, offset=0)
    p.tensors[a].update(alias_of=b, offset=0)
    refused(p, "circular")


@pytest.mark.parametrize("name", ["convnet", "dynamic", "mlp", "relu"])
def test_case_36_writes_to_inputs_and_constants_are_refused(name):
    p = plan(name)
    for n in p.nodes:
        i = n["operands"] + n["inputs"]
        good = p.operands[i]
        for other in p.of(INPUT) + p.of(CONST):
            p.operands[i] = other
            assert not survives(p)
        p.operands[i] = good


@pytest.mark.parametrize("name", ["convnet", "dynamic", "mlp", "relu"])
def test_case_36_an_output_that_nothing_writes_is_refused(name):
    p = plan(name)
    p.nodes.pop()
    p.graphs[0][1] -= 1
    refused(p, "never written")


@pytest.mark.parametrize("name", EVERY)
def test_case_36_any_storage_of_any_tensor_is_refused_or_runs(name):
    for i, t in enumerate(plan(name).tensors):
        for storage in range(7):
            for alias_of in {-1, t["alias_of"], 0}:
                p = plan(name)
                p.tensors[i].update(
                    storage=storage, alias_of=alias_of, offset=0 if storage > 1 else t["offset"]
                )
                survives(p)


@pytest.mark.parametrize("name", EVERY)
def test_case_36_any_dtype_and_layout_of_any_tensor_is_refused_or_runs(name):
    for i in range(len(plan(name).tensors)):
        for field, values in (("dtype", (*range(24), 255)), ("layout", (0, 1, 8, 16, 64, 255))):
            for value in values:
                p = plan(name)
                p.tensors[i][field] = value
                survives(p)


# ---- the whole section --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["convnet", "dynamic", "mlp", "lstm", "top_k"])
def test_every_word_of_a_plan_may_be_wrong(name):
    """Words of zeros and of ones, half words of ones."""
    p = plan(name)
    data = p.encode()
    ran = refusals = 0
    for size, fills in ((8, (bytes(8), b"\xff" * 8)), (4, (b"\xff" * 4,))):
        for at in range(0, len(data), size):
            for fill in fills:
                if data[at : at + size] != fill:
                    if survives(p, data[:at] + fill + data[at + size :]):
                        ran += 1
                    else:
                        refusals += 1
    assert ran > 0 and refusals > ran // 2


def test_a_plan_cut_short_is_refused():
    p = plan("mlp")
    data = p.encode()
    for cut in range(0, len(data), 24):
        assert not survives(p, data[:cut])


def test_the_key_of_these_tests_signs_them():
    """Without its signature the same package is refused before its plan is read."""
    p = plan("relu")
    with pytest.raises(pyneo.SignatureError):
        pyneo.Model.load(p.source, trust=forge.TRUST)
