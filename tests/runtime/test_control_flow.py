# SPDX-License-Identifier: Apache-2.0
"""Control flow and shapes that depend on data, as the runtime runs them, against ONNX Runtime."""

from __future__ import annotations

import signal
import threading

import numpy as np
import onnxruntime
import pytest

import pyneo
from tests.support.control_flow import TEXTS, make

X = {
    "mixed": np.array([[1, 0, -2], [0, 3, 0], [1, 1, 9]], np.float32),
    "negative": np.array([[-1, 0, -2], [0, -3, 0]], np.float32),
    "ones": np.ones((5, 3), np.float32),
    "zeros": np.zeros((2, 3), np.float32),
    "one_row": np.array([[0.5, -0.25, 7]], np.float32),
    "no_rows": np.zeros((0, 3), np.float32),
}


def load(name: str, threads: int = 1) -> pyneo.Model:
    return pyneo.Model.load(pyneo.compile(make(name)), allow_unsigned=True, threads=threads)


def feeds(name: str) -> list[dict[str, np.ndarray]]:
    names = [v.name for v in make(name).graph.input]
    found = []
    for x in X.values():
        if name in ("unique", "loop_data", "scan", "scan_across", "loop_swap") and len(x) == 0:
            continue  # a maximum of nothing, or what ONNX leaves open
        if "m" in names:
            found += [{"x": x, "m": np.array(m)} for m in (1, 2, 7)]
        elif "n" in names:
            found += [{"x": x, "n": np.array(n)} for n in (0, 1, 5)]
        elif "shape" in names:
            found += [{"x": x, "shape": np.array(s)} for s in ([-1], [3, -1], [1, -1, 3, 1]) if x.size]
        else:
            found.append({"x": x})
    return found


@pytest.mark.parametrize("name", TEXTS)
def test_results_are_those_of_onnxruntime(name):
    session = onnxruntime.InferenceSession(make(name).SerializeToString())
    model = load(name)
    for again in range(2):  # the second time over shapes that were seen
        for feed in feeds(name):
            want = session.run(None, feed)
            found = model.predict(feed)
            for info, y in zip(model.outputs, want, strict=True):
                assert found[info.name].dtype == y.dtype
                told = str((again, feed))
                np.testing.assert_allclose(found[info.name], y, rtol=1e-5, atol=1e-6, err_msg=told)


@pytest.mark.parametrize("name", [n for n in TEXTS if n.startswith("loop")])
def test_a_loop_of_no_iterations_gives_back_what_it_was_given(name):
    x = X["mixed"]
    found = load(name).predict({"x": x, "m": np.array(0)})
    first = next(iter(found.values()))
    np.testing.assert_array_equal(first, x)
    if "all" in found:
        assert len(found["all"]) == 0


@pytest.mark.parametrize("name", TEXTS)
def test_runs_over_seen_shapes_take_no_more_memory(name):
    session = load(name).session()
    for _ in range(3):
        for feed in feeds(name)[:6]:
            session.predict(feed)
    before = session.memory
    for _ in range(3):
        for feed in feeds(name)[:6]:
            session.predict(feed)
    assert session.memory == before


def test_outputs_go_to_a_callers_array_of_their_shape():
    model = load("nonzero")
    at, y = np.empty((4, 2), np.int64), np.empty(4, np.float32)
    x = np.array([[1, 0, 2], [0, 3, 4]], np.float32)
    model.predict(x, out=(at, y))
    np.testing.assert_array_equal(at, np.argwhere(x))
    np.testing.assert_array_equal(y, x[x != 0] ** 2)
    with pytest.raises(pyneo.InputError, match="out for 'y' must be"):
        model.predict(x, out=(at, np.empty(5, np.float32)))


def test_through_the_c_interface():
    pytest.importorskip("cffi")
    from pyneo import capi

    lib = capi.load()
    with lib.open(pyneo.compile(make("loop_growing")).to_bytes()) as model:
        context = model.context(threads=1)
        for m in (2, 5):
            found = context.run([X["mixed"], np.array(m)])[0]
            np.testing.assert_array_equal(found, np.concatenate([X["mixed"]] + [X["mixed"] / 2] * m))
        t = lib.ffi.new("pn_tensor*", {"struct_size": lib.ffi.sizeof("pn_tensor")})
        assert lib.c.pn_context_output_shape(context._context, 0, t) == lib.c.PN_NEEDS_VALUE
        with pytest.raises(pyneo.Error, match="'y' depends on data: run the model"):
            lib.check(lib.c.pn_context_output_shape(context._context, 0, t))


@pytest.mark.parametrize("name", ["loop_nested", "if_ranks", "nonzero"])
def test_case_45_eight_threads_get_the_same_bits(name):
    model = load(name, threads=2)
    every = feeds(name)
    want = [model.predict(f) for f in every]
    wrong: list[object] = []

    def work(offset: int) -> None:
        session = model.session()
        for i in range(1000):
            k = (i + offset) % len(every)
            found = session.predict(every[k])
            if any(not np.array_equal(found[n], y) for n, y in want[k].items()):
                wrong.append((offset, i))

    threads = [threading.Thread(target=work, args=(t,)) for t in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


class Alarm(Exception):
    pass


def test_case_50_a_signal_ends_a_loop_that_does_not_end():
    model = load("loop_while")
    session = model.session()

    def ring(*_: object) -> None:
        raise Alarm

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        with pytest.raises(Alarm):
            session.predict({"x": X["mixed"], "m": np.array(2**62)})
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    y, steps = session.predict(X["mixed"], np.array(4))
    assert steps == 4
    np.testing.assert_array_equal(y, X["mixed"] + 2)


def test_a_shape_beyond_memory_is_an_error_and_the_model_runs_on():
    model = load("range")
    for n in (2**45, 2**61):
        with pytest.raises((pyneo.OutOfMemoryError, pyneo.ModelError), match="memory"):
            model.predict(X["ones"], np.array(n))
    assert model.predict(X["ones"], np.array(3)).tolist() == [0, 1, 4]


def test_nodes_of_subgraphs_are_in_the_profile():
    model = load("loop_count")
    few, many = (model.profile({"x": X["ones"], "m": np.array(m)}, runs=3) for m in (1, 400))
    ops = {row.op for row in many.nodes}
    assert "Loop" in ops and ops & {"Mul", "Add"}

    def inside(p: object) -> float:
        return sum(row.us for row in p.nodes if row.op in ("Mul", "Add", "Cast", "Eltwise"))

    assert inside(many) > 20 * inside(few)
