# SPDX-License-Identifier: Apache-2.0
"""What predict takes and refuses: hostile cases 38 to 41, and a model's life: 48 to 50."""

from __future__ import annotations

import array
import gc
import os
import signal
import threading
import time

import numpy as np
import pytest

import pyneo
from pyneo.package.manifest import TensorSpec
from tests.package import forge


def load(op: str, inputs, outputs, **options):
    package = forge.runnable(op, [TensorSpec(*t) for t in inputs], [TensorSpec(*t) for t in outputs])
    return pyneo.Model.load(package, allow_unsigned=True, **options)


@pytest.fixture(scope="module")
def relu():
    return load("Relu", [("x", "float32", (4, 6))], [("y", "float32", (4, 6))])


@pytest.fixture(scope="module")
def add():
    return load(
        "Add", [("left", "float32", (2, 3)), ("right", "float32", (2, 3))], [("sum", "float32", (2, 3))]
    )


@pytest.fixture(scope="module")
def split():
    return load(
        "Split", [("x", "float32", (4, 6))], [("top", "float32", (2, 6)), ("bottom", "float32", (2, 6))]
    )


X = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float32)
Y = np.maximum(X, 0)


# ---- ways to call -------------------------------------------------------------------------------


def test_arrays_in_arrays_out(relu, add, split):
    assert np.array_equal(relu.predict(X), Y)
    a, b = X[:2, :3].copy(), X[2:, 3:].copy()
    assert np.array_equal(add.predict(a, b), a + b)
    top, bottom = split.predict(X)
    assert np.array_equal(top, X[:2]) and np.array_equal(bottom, X[2:])


def test_dict_in_dict_out(add, split):
    a, b = X[:2, :3].copy(), X[2:, 3:].copy()
    found = add.predict({"right": b, "left": a})
    assert list(found) == ["sum"] and np.array_equal(found["sum"], a + b)
    assert list(split.predict({"x": X})) == ["top", "bottom"]


def test_out_is_written_in_place(relu, split):
    y = np.full((4, 6), 7, np.float32)
    assert relu.predict(X, out=y) is y and np.array_equal(y, Y)
    top, bottom = np.empty((2, 2, 6), np.float32)
    found = split.predict(X, out=(top, bottom))
    assert found[0] is top and np.array_equal(bottom, X[2:])
    found = split.predict({"x": X}, out={"bottom": top, "top": bottom})
    assert found["top"] is bottom and np.array_equal(top, X[2:])


@pytest.mark.parametrize(
    "out, words",
    [
        (np.empty((4, 5), np.float32), r"out for 'y' .*float32 \[4, 6\]"),
        (np.empty((4, 6), np.float64), "out for 'y'"),
        (np.empty((4, 12), np.float32)[:, ::2], "C-contiguous"),
        (np.empty((4, 6), ">f4"), "out for 'y'"),
        (np.frombuffer(bytes(96), np.float32).reshape(4, 6), "writeable"),
        ([], "1 outputs, out holds 0"),
        ({"z": np.empty((4, 6), np.float32)}, "did you mean|unknown 'z'"),
        ("y", "out for 'y' is not an array"),
    ],
)
def test_an_out_that_does_not_fit_is_refused(relu, out, words):
    with pytest.raises(pyneo.InputError, match=words):
        relu.predict(X, out=out)
    assert np.array_equal(relu.predict(X), Y)


def test_an_out_that_is_the_input_is_refused(relu):
    x = X.copy()
    with pytest.raises(pyneo.InputError, match="overlaps"):
        relu.predict(x, out=x)
    assert np.array_equal(x, X) and np.array_equal(relu.predict(x), Y)


def test_a_session_gives_what_the_model_gives(relu):
    session = relu.session()
    assert np.array_equal(session.predict(X), Y)
    assert set(session.memory) == {"arena_bytes", "state_bytes", "scratch_bytes", "overhead_bytes"}


# ---- case 38: wrong names, dtypes, shapes -------------------------------------------------------


@pytest.mark.parametrize(
    "x, kind, words",
    [
        (X.astype(np.float64), TypeError, r"'x' expects float32 \[4, 6\], found float64 \[4, 6\]"),
        (X.astype(np.int32), TypeError, "found int32"),
        (X > 0, TypeError, "found bool"),
        (X.astype(np.complex64), TypeError, "found complex64"),
        (X[0], ValueError, r"found float32 \[6\]"),
        (X[None], ValueError, r"found float32 \[1, 4, 6\]"),
        (X[:3], ValueError, r"found float32 \[3, 6\]"),
        (X[:0], ValueError, r"found float32 \[0, 6\]"),
        (X.T, ValueError, r"found float32 \[6, 4\]"),
        (np.float32(1), ValueError, r"found float32 \[\]"),
        (np.array("words"), TypeError, "found <U5"),
        (np.zeros((4, 6), "M8[s]"), TypeError, "found datetime64"),
        (np.zeros((4, 6), [("a", "f4")]), TypeError, "'x' expects"),
    ],
)
def test_case_38_wrong_dtype_rank_and_dim_are_named(relu, x, kind, words):
    with pytest.raises(kind, match=words) as e:
        relu.predict(x)
    assert isinstance(e.value, pyneo.InputError)


def test_case_38_missing_extra_and_misspelt_inputs_are_named(add):
    a = X[:2, :3].copy()
    for args, words in [
        ((), "takes 2 inputs .'left', 'right'., found 0"),
        ((a,), "found 1"),
        ((a, a, a), "found 3"),
        (({},), "missing 'left', 'right'"),
        (({"left": a},), "missing 'right'"),
        (({"left": a, "rigth": a},), "unknown 'rigth' .did you mean 'right'"),
        (({"left": a, "right": a, "more": a},), "unknown 'more'"),
        (({"left": a, 5: a},), "unknown '5'"),
    ]:
        with pytest.raises(pyneo.InputError, match=words):
            add.predict(*args)


# ---- case 39: every layout of memory ------------------------------------------------------------


def unaligned(x):
    raw = np.zeros(x.nbytes + 1, np.uint8)[1:]
    view = raw.view(x.dtype).reshape(x.shape)
    view[...] = x
    assert not view.flags.aligned
    return view


def read_only(x):
    y = x.copy()
    y.flags.writeable = False
    return y


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.repeat(X, 2, axis=1)[:, ::2],
        lambda: X[::-1].copy()[::-1],
        lambda: X[:, ::-1].copy()[:, ::-1],
        lambda: X.T.copy().T,
        lambda: np.asfortranarray(X),
        lambda: read_only(X),
        lambda: X.astype(">f4"),
        lambda: unaligned(X),
        lambda: np.lib.stride_tricks.as_strided(X.copy(), X.shape, X.strides),
        lambda: np.frombuffer(X.tobytes(), np.float32).reshape(4, 6),
    ],
    ids=["strided", "backwards rows", "backwards columns", "transposed", "fortran", "read-only", "big-endian",
         "unaligned", "as_strided", "frombuffer"],
)  # fmt: skip
def test_case_39_any_layout_gives_what_a_dense_copy_gives(relu, make):
    x = make()
    assert np.array_equal(relu.predict(x), Y) and np.array_equal(relu.predict({"x": x})["y"], Y)


def test_case_39_a_broadcast_view_is_read_as_its_elements(relu):
    row = np.broadcast_to(X[0], (4, 6))
    assert row.strides[0] == 0 and np.array_equal(relu.predict(row), np.maximum(row, 0))


def test_case_39_a_scalar_model_takes_an_array_without_dims():
    model = load("Relu", [("x", "float32", ())], [("y", "float32", ())])
    y = model.predict(np.array(-3, np.float32))
    assert y.shape == () and y == 0
    assert model.predict(np.float32(2.5)) == 2.5


def test_case_39_and_31_an_array_without_elements_gives_one():
    model = load("Relu", [("x", "float32", (0, 6))], [("y", "float32", (0, 6))])
    assert model.predict(np.empty((0, 6), np.float32)).shape == (0, 6)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "uint8", "int8", "bool"])
def test_case_39_every_dtype_passes_unchanged(dtype):
    model = load("Identity", [("x", dtype, (3, 2))], [("y", dtype, (3, 2))])
    x = np.array([[0, 1], [1, 0], [1, 1]], dtype)
    for given in (x, np.asfortranarray(x), x.astype(x.dtype.newbyteorder(">"))):
        y = model.predict(given)
        assert y.dtype == np.dtype(dtype) and np.array_equal(y, x)


# ---- case 40: things that are no plain arrays ---------------------------------------------------


class Raises:
    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("broken on purpose")


class Offers:
    def __array__(self, dtype=None, copy=None):
        return X


class Sub(np.ndarray):
    pass


@pytest.mark.parametrize(
    "x", [X.tolist(), tuple(X.tolist()), X.astype(object), "x", 1.0, None, object(), Raises(),
          np.ma.array(X, mask=X > 0), np.array([[1], [1, 2]], object), {1, 2}],
)  # fmt: skip
def test_case_40_what_has_no_dtype_of_its_own_is_refused(relu, x):
    with pytest.raises(TypeError, match=r"array|mask|object") as e:
        relu.predict(x)
    assert isinstance(e.value, pyneo.InputTypeError) and len(str(e.value)) < 300


@pytest.mark.filterwarnings("ignore:the matrix subclass")
def test_case_40_what_offers_memory_is_taken(relu):
    flat = array.array("f", X.ravel().tolist())
    for x in (
        np.matrix(X),
        X.view(Sub),
        Offers(),
        memoryview(X),
        memoryview(flat).cast("B").cast("f", [4, 6]),
    ):
        assert np.array_equal(relu.predict(x), Y)
    vector = load("Relu", [("x", "float32", (24,))], [("y", "float32", (24,))])
    assert np.array_equal(vector.predict(flat), Y.ravel())


def test_case_40_dlpack_tensors_are_taken(relu):
    class Foreign:
        def __init__(self, x):
            self.x = x

        def __dlpack__(self, **options):
            return self.x.__dlpack__(**options)

        def __dlpack_device__(self):
            return self.x.__dlpack_device__()

    assert np.array_equal(relu.predict(Foreign(X.copy())), Y)
    with pytest.raises(pyneo.InputTypeError, match="found float64"):
        relu.predict(Foreign(X.astype(np.float64)))


def test_case_40_torch_tensors_are_taken(relu):
    torch = pytest.importorskip("torch")
    t = torch.from_numpy(X.copy())
    for x in (t, t.T.contiguous().T, t.clone().requires_grad_().detach()):
        assert np.array_equal(relu.predict(x), Y)
    with pytest.raises(pyneo.InputTypeError):
        relu.predict(t.clone().requires_grad_())
    with pytest.raises(pyneo.InputTypeError, match="found float64"):
        relu.predict(t.double())


# ---- case 41: other threads ---------------------------------------------------------------------


def test_case_41_inputs_changed_and_freed_meanwhile_do_no_harm():
    """The call holds its arrays. What it reads is undefined, that it returns is not."""
    model = load("Relu", [("x", "float32", (256, 1024))], [("y", "float32", (256, 1024))], threads=1)
    box = [np.ones((256, 1024), np.float32)]
    stop = threading.Event()

    def disturb():
        while not stop.is_set():
            box[0][::7] = -1
            box[0] = np.ones((256, 1024), np.float32)

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        for _ in range(300):
            y = model.predict(box[0])
            assert y.shape == (256, 1024) and ((y == 0) | (y == 1)).all()
    finally:
        stop.set()
        thread.join()


def test_case_45_sixteen_threads_on_one_model_agree_with_one():
    model = load("Exp", [("x", "float32", (64,))], [("y", "float32", (64,))], threads=1)
    inputs = np.random.default_rng(1).standard_normal((16, 64)).astype(np.float32)
    expected = [model.predict(x) for x in inputs]
    wrong = []

    def work(i: int) -> None:
        for _ in range(1000):
            if not np.array_equal(model.predict(inputs[i]), expected[i]):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(16)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert wrong == []


# ---- life of a model ----------------------------------------------------------------------------


def test_case_48_a_forked_child_predicts():
    model = load("Relu", [("x", "float32", (64, 4096))], [("y", "float32", (64, 4096))], threads=2)
    x = np.random.default_rng(2).standard_normal((64, 4096)).astype(np.float32)
    y = model.predict(x)
    child = os.fork()
    if child == 0:
        ok = False
        try:
            ok = np.array_equal(model.predict(x), y)
        finally:
            os._exit(0 if ok else 1)
    deadline = time.monotonic() + 30
    while (done := os.waitpid(child, os.WNOHANG)) == (0, 0):
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            pytest.fail("the child hangs")
        time.sleep(0.01)
    assert os.waitstatus_to_exitcode(done[1]) == 0
    assert np.array_equal(model.predict(x), y)


def test_case_49_outputs_outlive_their_model():
    model = load("Relu", [("x", "float32", (4, 6))], [("y", "float32", (4, 6))])
    session = model.session()
    y, z = model.predict(X), session.predict(X)
    del model
    gc.collect()
    assert np.array_equal(session.predict(X), Y)
    del session
    gc.collect()
    assert np.array_equal(y, Y) and np.array_equal(z, Y)


def test_case_50_a_signal_during_predict_leaves_the_model_usable():
    model = load("Erf", [("x", "float32", (512, 1024))], [("y", "float32", (512, 1024))], threads=1)
    x = np.ones((512, 1024), np.float32)
    expected = model.predict(x)

    class Alarm(Exception):
        pass

    def ring(*_):
        raise Alarm

    old = signal.signal(signal.SIGALRM, ring)
    interrupted = 0
    try:
        for i in range(50):
            try:
                signal.setitimer(signal.ITIMER_REAL, 0.0002 + i * 2e-5)
                while True:
                    model.predict(x)
            except Alarm:
                interrupted += 1
            assert np.array_equal(model.predict(x), expected)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
    assert interrupted == 50


def test_an_error_while_running_leaves_the_model_usable():
    model = load("Gather", [("table", "float32", (4,)), ("index", "int64", (2,))], [("y", "float32", (2,))])
    table = np.arange(4, dtype=np.float32)
    for _ in range(3):
        with pytest.raises(pyneo.ModelError, match=r"node 'node' .Gather."):
            model.predict(table, np.array([0, 4]))
        assert np.array_equal(model.predict(table, np.array([3, -4])), [3, 0])


def test_profile_names_every_node(relu):
    profile = relu.profile(X, runs=3)
    assert [(n.name, n.op) for n in profile.nodes] == [("node", "Relu")]
    assert profile.total_us > 0 and "Relu" in str(profile) and profile.by_op()["Relu"][0] == 1
    assert profile.to_json()["runs"] == 3
