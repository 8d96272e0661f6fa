# SPDX-License-Identifier: Apache-2.0
"""Model.load: every way in, and what each refuses."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

import pyneo
from pyneo.package.manifest import Target, TensorSpec
from pyneo.package.package import Package
from tests.package import forge

X = np.array([[-1, 2, -0.5]], np.float32)
Y = np.array([[0, 2, 0]], np.float32)


@pytest.fixture
def files(tmp_path):
    """A signed package, and the publisher's key pair, on disk."""
    pair = pyneo.keygen(tmp_path / "publisher")
    package = Package.open(forge.relu(key=None))
    package.save(tmp_path / "m.neo", key=pair.key)
    return tmp_path / "m.neo", pair


@pytest.mark.parametrize("mode", ["copy", "map"])
@pytest.mark.parametrize("threads", [0, 1, 2])
def test_a_signed_file_runs(files, mode, threads):
    path, pair = files
    with pyneo.Model.load(path, trust=pair.pub, mode=mode, threads=threads) as model:
        np.testing.assert_array_equal(model.predict(X), Y)
        assert model.inputs == [("x", np.dtype("float32"), (1, 3))]
        assert model.outputs == [("y", np.dtype("float32"), (1, 3))]
        assert model.metadata["name"] == "toy" and model.metadata["release"] == 1
    with pytest.raises(pyneo.Error, match="is closed"):
        model.predict(X)


def test_bytes_and_package_objects_run():
    data = forge.relu()
    for source in (data, bytearray(data), memoryview(data), Package.open(data)):
        np.testing.assert_array_equal(pyneo.Model.load(source, trust=forge.TRUST).predict(X), Y)


def test_a_changed_source_buffer_does_not_change_the_model():
    data = bytearray(forge.relu())
    model = pyneo.Model.load(data, trust=forge.TRUST)
    data[:] = bytes(len(data))
    np.testing.assert_array_equal(model.predict(X), Y)


def test_an_unsigned_package_needs_the_word(tmp_path):
    data = forge.relu(key=None)
    with pytest.raises(pyneo.SignatureError, match="allow_unsigned=True"):
        pyneo.Model.load(data)
    with pytest.raises(pyneo.SignatureError, match="not signed"):
        pyneo.Model.load(data, trust=forge.TRUST)
    np.testing.assert_array_equal(pyneo.Model.load(data, allow_unsigned=True).predict(X), Y)
    path = tmp_path / "m.neo"
    with pytest.warns(UserWarning, match="not signed"):
        Package.open(data).save(path)
    assert path.read_bytes() == data


def test_a_signed_package_needs_somebody_to_trust():
    with pytest.raises(pyneo.SignatureError, match="pass trust="):
        pyneo.Model.load(forge.relu())
    with pytest.raises(pyneo.SignatureError, match="not signed by a trusted key"):
        pyneo.Model.load(forge.relu(), trust=forge.OTHER.public, allow_unsigned=True)


@pytest.mark.parametrize(
    "target, words",
    [
        (Target("rpi4", "aarch64"), "compiled for aarch64"),
        (Target("next", os.uname().machine, "avx1024"), "needs a CPU with avx1024"),
        (Target("next", os.uname().machine, "amx2", ("amx_tile",)), "needs a CPU with amx2"),
    ],
)
def test_case_24_another_machine_is_refused_at_load(target, words):
    with pytest.raises(pyneo.TargetError, match=words):
        pyneo.Model.load(forge.relu(target=target), trust=forge.TRUST)


def test_case_24_a_cpu_without_the_tier_is_refused_by_name():
    """The same package in a process whose tier was lowered: refusal, not SIGILL."""
    program = (
        "import sys, pyneo\n"
        "data = sys.stdin.buffer.read()\n"
        "try: pyneo.Model.load(data, allow_unsigned=True)\n"
        "except pyneo.TargetError as e: print(e)\n"
    )
    data = forge.relu(key=None, target=Target("host", os.uname().machine, "avx2", ("avx2",)))
    env = {**os.environ, "PYNEO_ISA": "portable"}
    done = subprocess.run(
        [sys.executable, "-c", program], input=data, env=env, capture_output=True, check=True
    )
    assert b"needs a CPU with avx2" in done.stdout and b"this one has portable" in done.stdout


def test_an_operator_that_this_runtime_lacks_is_a_target_error():
    x, y = TensorSpec("x", "float32", (1, 3)), TensorSpec("y", "float32", (1, 3))
    package = forge.runnable("FutureOp", [x], [y])
    with pytest.raises(pyneo.TargetError, match="FutureOp"):
        pyneo.Model.load(package, allow_unsigned=True)


def test_a_broken_plan_is_a_package_error_though_signed():
    with pytest.raises(pyneo.PackageError, match="plan"):
        pyneo.Model.load(forge.signed(), trust=forge.TRUST)
    with pytest.raises(pyneo.PackageError, match="inputs are not those of the plan"):
        other = [TensorSpec("other", "float32", (1, 3))]
        plan = forge.plan("Relu", other, [TensorSpec("y", "float32", (1, 3))])
        pyneo.Model.load(forge.package(plan=plan, weights=b""), allow_unsigned=True)


def test_case_17_a_counter_store_refuses_older_releases(tmp_path):
    store = tmp_path / "releases.json"
    new, old = forge.relu(release=3), forge.relu(release=2)
    pyneo.Model.load(new, trust=forge.TRUST, counter_store=store)
    with pytest.raises(pyneo.RollbackError):
        pyneo.Model.load(old, trust=forge.TRUST, counter_store=store)
    pyneo.Model.load(old, trust=forge.TRUST, counter_store=store, allow_rollback=True)
    pyneo.Model.load(old, trust=forge.TRUST, counter_store=store)


def test_a_release_that_fails_to_load_is_not_remembered(tmp_path):
    store = tmp_path / "releases.json"
    with pytest.raises(pyneo.PackageError):
        pyneo.Model.load(forge.signed(release=9), trust=forge.TRUST, counter_store=store)
    pyneo.Model.load(forge.relu(release=3), trust=forge.TRUST, counter_store=store)


def test_case_18_and_15_device_and_clock_are_asked():
    data = forge.relu(devices=("kiosk-7",), created="2026-01-01T00:00:00Z", expires="2027-01-01T00:00:00Z")
    pyneo.Model.load(data, trust=forge.TRUST, device="kiosk-7", clock=1780000000)
    with pytest.raises(pyneo.TargetError, match="kiosk-7"):
        pyneo.Model.load(data, trust=forge.TRUST, device="kiosk-8", clock=1780000000)
    with pytest.raises(pyneo.ExpiredError, match="expired on 2027-01-01"):
        pyneo.Model.load(data, trust=forge.TRUST, device="kiosk-7", clock=lambda: 1900000000)
    with pytest.raises(pyneo.ExpiredError, match="clock is not set"):
        pyneo.Model.load(data, trust=forge.TRUST, device="kiosk-7", clock=0)


@pytest.mark.parametrize("mode", ["copy", "map"])
def test_case_21_odd_files_are_refused_in_both_modes(tmp_path, mode):
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    for name in ("empty", "fifo", "link", "."):
        with pytest.raises(pyneo.PackageError):
            pyneo.Model.load(tmp_path / name, allow_unsigned=True, mode=mode)
    with pytest.raises(pyneo.PackageError, match="max_bytes"):
        (tmp_path / "m.neo").write_bytes(forge.relu(key=None))
        pyneo.Model.load(tmp_path / "m.neo", allow_unsigned=True, mode=mode, max_bytes=100)


def test_case_20_a_file_changed_after_load_changes_nothing(tmp_path):
    """mode="copy": overwritten, cut short, removed; no SIGBUS, the same result."""
    path = tmp_path / "m.neo"
    path.write_bytes(forge.relu(shape=(64, 1024)))
    model = pyneo.Model.load(path, trust=forge.TRUST)
    x = np.random.default_rng(0).standard_normal((64, 1024), dtype=np.float32)
    with open(path, "r+b") as f:
        f.write(b"\xff" * 4096)
    np.testing.assert_array_equal(model.predict(x), np.maximum(x, 0))
    os.truncate(path, 0)
    np.testing.assert_array_equal(model.predict(x), np.maximum(x, 0))
    path.unlink()
    np.testing.assert_array_equal(model.session().predict(x), np.maximum(x, 0))


def test_case_48_a_model_is_pickled_by_its_path(files):
    path, pair = files
    model = pyneo.Model.load(path, trust=pair.pub, threads=1)
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(X), Y)
    path.write_bytes(b"\0" * 10)
    with pytest.raises(pyneo.PackageError):
        pickle.loads(pickle.dumps(model))
    with pytest.raises(TypeError, match="load it from a path"):
        pickle.dumps(pyneo.Model.load(forge.relu(), trust=forge.TRUST))


def test_a_package_object_is_pickled_with_its_bytes():
    package = Package.open(forge.relu())
    assert pickle.loads(pickle.dumps(package)).to_bytes() == package.to_bytes()


@pytest.mark.parametrize("bad", [{"mode": "fast"}, {"threads": -1}])
def test_bad_options_are_value_errors(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        pyneo.Model.load(forge.relu(), trust=forge.TRUST, **bad)


def test_case_47_loading_leaks_no_descriptor_and_no_memory():
    """2,000 loads that succeed and 2,000 that fail: resident memory grows by less than 1 MB after warm-up."""
    good, bad = forge.relu(), bytearray(forge.relu())
    bad[-70] ^= 1

    def rss() -> int:
        with open("/proc/self/statm") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def loop(n: int) -> None:
        for _ in range(n):
            with pyneo.Model.load(good, trust=forge.TRUST, threads=1) as model:
                model.predict(X)
            with pytest.raises(pyneo.SignatureError):
                pyneo.Model.load(bad, trust=forge.TRUST, threads=1)

    loop(500)
    before, files = rss(), len(os.listdir("/proc/self/fd"))
    loop(2000)
    assert rss() - before < 1 << 20
    assert len(os.listdir("/proc/self/fd")) == files
