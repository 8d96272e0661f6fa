# SPDX-License-Identifier: Apache-2.0
"""Models compiled with `state`: outputs that a session keeps and gives back as inputs of the next run."""

from __future__ import annotations

import threading

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest

import pyneo
from tests.support.plan_records import INPUT, Plan


def parse(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : 18]> {text}')


def lstm(batch: int | str) -> onnx.ModelProto:
    """x [4, batch, 3], h0 and c0 [1, batch, 5] -> y [4, 1, batch, 5], hn, cn."""
    rng = np.random.default_rng(0)
    state = f"float[1, {batch}, 5]"
    made = parse(f"""stream (float[4, {batch}, 3] x, {state} h0, {state} c0) =>
        (float[4, 1, {batch}, 5] y, {state} hn, {state} cn) {{
        y, hn, cn = LSTM<hidden_size = 5>(x, w, r, , , h0, c0)
    }}""")
    for name, width in (("w", 3), ("r", 5)):
        values = rng.standard_normal((1, 20, width)).astype(np.float32)
        made.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    return made


CACHE = """cache (float[B, 2, 1, 4] k, float[B, 2, T, 4] past) =>
    (float[B, 2, 1, 4] y, float[B, 2, U, 4] present) {
    present = Concat<axis = 2>(past, k)
    y = ReduceMean<keepdims = 1>(present, axis)
}"""
COUNT = """count (float[N] x, int64[1] seen) => (int64[M] at, int64[1] seen2) {
    found = NonZero(x)
    here = Shape<start = 1>(found)
    seen2 = Add(seen, here)
    at = Mul(seen2, here)
}"""

OPEN = """ranks (float[N, 3] x, float[2, 3] h) => (float[N, 3] y, float[] hn)
    <float zero = {0.0}, float one = {1.0}, int64[1] flat = {-1}> {
    s = ReduceSum<keepdims = 0>(x)
    c = Greater(s, zero)
    hn = If(c) <then_branch = yes () => (float[] p) { p = Add(h, one) },
                else_branch = no () => (float[] q) { q = Reshape(h, flat) }>
    t = ReduceSum<keepdims = 0>(h)
    y = Add(x, t)
}"""


def cache() -> onnx.ModelProto:
    made = parse(CACHE)
    made.graph.initializer.append(onnx.numpy_helper.from_array(np.array([2]), "axis"))
    return made


def load(model: onnx.ModelProto, **options: object) -> pyneo.Model:
    return pyneo.Model.load(pyneo.compile(model, **options), allow_unsigned=True, threads=1)


def steps(batch: int, count: int = 6) -> list[np.ndarray]:
    rng = np.random.default_rng(batch)
    return [rng.standard_normal((4, batch, 3)).astype(np.float32) for _ in range(count)]


def unrolled(batch: int, xs: list[np.ndarray]) -> list[np.ndarray]:
    """What ONNX Runtime gives when its caller carries the state."""
    session = onnxruntime.InferenceSession(lstm(batch).SerializeToString())
    h = c = np.zeros((1, batch, 5), np.float32)
    found = []
    for x in xs:
        y, h, c = session.run(None, {"x": x, "h0": h, "c0": c})
        found.append(y)
    return found


@pytest.mark.parametrize("batch", [2, "N"])
def test_a_stream_is_the_run_whose_caller_carries_the_state(batch):
    model = load(lstm(batch), state={"hn": "h0", "cn": "c0"})
    assert [t.name for t in model.inputs] == ["x"] and [t.name for t in model.outputs] == ["y"]
    session, other = model.session(), model.session()
    want = unrolled(2, steps(2))
    for _ in range(2):
        for x, y in zip(steps(2), want, strict=True):
            np.testing.assert_allclose(session.predict(x), y, rtol=1e-5, atol=1e-6)
            other.predict(x + 1)
        session.reset()


def test_predict_of_a_model_begins_anew():
    model = load(lstm(2), state={"hn": "h0", "cn": "c0"})
    x = steps(2)[0]
    for _ in range(3):
        np.testing.assert_allclose(model.predict(x), unrolled(2, [x])[0], rtol=1e-5, atol=1e-6)


def test_another_batch_needs_a_reset():
    session = load(lstm("N"), state={"hn": "h0", "cn": "c0"}).session()
    session.predict(steps(2)[0])
    with pytest.raises(pyneo.InputError, match=r"N is 3 now.*'h0' was made for 2: reset"):
        session.predict(steps(3)[0])
    session.reset()
    for x, y in zip(steps(3), unrolled(3, steps(3)), strict=True):
        np.testing.assert_allclose(session.predict(x), y, rtol=1e-5, atol=1e-6)


def test_one_state_of_two_and_the_other_by_hand():
    session = load(lstm(1), state={"hn": "h0"}).session()
    c = np.zeros((1, 1, 5), np.float32)
    for x, want in zip(steps(1), unrolled(1, steps(1)), strict=True):
        y, c = session.predict(x, c)
        np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-6)


def test_a_cache_grows_to_its_bound():
    shapes = {"k": ("B", 2, 1, 4), "past": ("B", 2, "T<=5", 4)}
    model = load(cache(), shapes=shapes, state={"present": "past"})
    session = model.session()
    rng = np.random.default_rng(1)
    for batch in (1, 3):
        seen: list[np.ndarray] = []
        for _ in range(6):
            k = rng.standard_normal((batch, 2, 1, 4)).astype(np.float32)
            seen.append(k)
            want = np.concatenate(seen, axis=2).mean(axis=2, keepdims=True)
            np.testing.assert_allclose(session.predict(k), want, rtol=1e-5, atol=1e-6)
        for _ in range(2):
            with pytest.raises(pyneo.InputError, match=r"the state 'past' is \[\d, 2, 6, 4\].*T<=5.*reset"):
                session.predict(k)
        session.reset()
    assert session.memory["state_bytes"] >= 2 * 3 * 2 * 5 * 4 * 4


def test_state_of_a_model_whose_shapes_depend_on_data():
    session = load(parse(COUNT), state={"seen2": "seen"}).session()
    total = 0
    for data in ([1, 0, 2], [0, 0, 0], [3, 4], [1, 0, 2]):
        x = np.array(data, np.float32)
        total += np.count_nonzero(x)
        np.testing.assert_array_equal(session.predict(x), [total * np.count_nonzero(x)])


def test_state_whose_rank_is_known_when_it_is_there():
    session = load(parse(OPEN), state={"hn": "h"}).session()
    x = np.ones((2, 3), np.float32)
    for i in range(3):
        np.testing.assert_array_equal(session.predict(x), x + 6 * i)
    np.testing.assert_array_equal(session.predict(-x), -x + 18)
    with pytest.raises(pyneo.InputError, match=r"the state 'h' is \[6\], its bounds are \[2, 3\]: reset"):
        session.predict(x)
    session.reset()
    np.testing.assert_array_equal(session.predict(x), x)


def test_a_failed_run_leaves_the_state():
    session = load(parse(COUNT), state={"seen2": "seen"}).session()
    session.predict(np.ones(3, np.float32))
    with pytest.raises(pyneo.InputError):
        session.predict(np.ones((3, 1), np.float32))
    assert session.predict(np.ones(1, np.float32)) == [4]


def test_case_45_sessions_of_eight_threads_do_not_meet():
    model = load(lstm("N"), state={"hn": "h0", "cn": "c0"})
    want = load(lstm("N"), state={"hn": "h0", "cn": "c0"}).session()
    xs = steps(2, 200)
    expected = [want.predict(x) for x in xs]
    wrong = []

    def work() -> None:
        session = model.session()
        for i, x in enumerate(xs):
            if not np.array_equal(session.predict(x), expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"nothing": "h0"}, "no output 'nothing'; its outputs are y, hn, cn"),
        ({"hn": "nothing"}, "no input 'nothing'; its inputs are x, h0, c0"),
        ({"hn": "h0", "cn": "h0"}, "two outputs are to become input 'h0'"),
        ({"y": "h0"}, "output 'y' has shape"),
    ],
)
def test_a_tie_that_cannot_be_is_an_error(state, words):
    with pytest.raises(pyneo.CompileError, match=words):
        pyneo.compile(lstm(2), state=state)


def test_hostile_ties_are_refused():
    far = 2**32 - 1
    for flags in ([0, 2, 0], [2, 0, 0], [0, 3, 2], [0, 2, 2], [0, 0, 2], [1, 2, 3], [0, 0, far], [0, 2, 4]):
        p = Plan(lstm(2), state={"hn": "h0", "cn": "c0"})
        for i, value in zip(p.of(INPUT), flags, strict=True):
            p.tensors[i]["flags"] = value
        with pytest.raises(pyneo.PackageError, match="plan: "):
            p.load()
    p = Plan(lstm(2), state={"hn": "h0", "cn": "c0"})
    p.tensors[p.operands[-1]]["flags"] = 2  # an output
    with pytest.raises(pyneo.PackageError, match="unknown flags"):
        p.load()
