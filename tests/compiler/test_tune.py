# SPDX-License-Identifier: Apache-2.0
"""Tuning: measured times decide, are kept, and never change what a model computes beyond fp32 rounding."""

import json

import numpy as np
import onnx.parser
import pytest

import pyneo
from pyneo.cli import main
from pyneo.compiler.lower.tune import Tuner
from pyneo.compiler.targets.target import find, host

MODEL = """<ir_version: 8, opset_import: ["" : 17]>
net (float[1,32,20,20] x) => (float[1,48,20,20] y) {
    a = Conv <kernel_shape = [3,3], pads = [1,1,1,1]> (x, w)
    b = Relu (a)
    y = Conv <kernel_shape = [1,1]> (b, v)
}"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("PYNEO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def model():
    rng = np.random.default_rng(0)
    parsed = onnx.parser.parse_model(MODEL)
    for name, shape in (("w", (48, 32, 3, 3)), ("v", (48, 48, 1, 1))):
        array = rng.standard_normal(shape, dtype=np.float32)
        parsed.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return parsed


def kernels(package):
    return [s.kernel for s in package.report().steps if s.op == "Conv"]


def test_a_tuned_model_computes_the_same(model):
    x = np.random.default_rng(1).standard_normal((1, 32, 20, 20), dtype=np.float32)
    plain, tuned = (
        pyneo.Model.load(pyneo.compile(model, tune=t), allow_unsigned=True).predict(x) for t in (False, True)
    )
    np.testing.assert_allclose(tuned, plain, rtol=1e-4, atol=1e-4 * np.abs(plain).max())


def test_a_shape_is_measured_once(model, cache):
    first = pyneo.compile(model, tune=True).report()
    assert first.tuning is not None and "tuning" in str(first)
    (file,) = cache.iterdir()
    before = file.read_bytes()
    pyneo.compile(model, tune=True)
    assert file.read_bytes() == before
    assert Tuner(host()).measured == 0


def test_the_times_decide_and_not_the_estimates(model, cache):
    free = kernels(pyneo.compile(model, tune=True))
    (file,) = cache.iterdir()
    times = json.loads(file.read_text())
    for key in times:
        times[key] = 1e6 if json.loads(key)[0] in free else 1.0
    file.write_text(json.dumps(times))
    forced = pyneo.compile(model, tune=True)
    assert not set(kernels(forced)) & set(free)
    assert {s.measured for s in forced.report().tuning.swaps} <= set(kernels(forced))


@pytest.mark.parametrize("text", ["", "[1]", '{"a": "b"}', "\0"])
def test_a_broken_cache_is_measured_again(model, cache, text):
    pyneo.compile(model, tune=True)
    (file,) = cache.iterdir()
    file.write_text(text)
    pyneo.compile(model, tune=True)
    assert len(json.loads(file.read_text())) > 1


def test_a_folder_that_cannot_be_written_is_a_warning(model, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PYNEO_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="not kept"):
        pyneo.compile(model, tune=True)


def test_another_kind_of_machine_cannot_be_tuned_for_here(model):
    other = next(t for t in ("rpi4", "x86-64-v3") if find(t).arch != host().arch)
    with pytest.raises(pyneo.TargetError, match="Tune on such a device"):
        pyneo.compile(model, other, tune=True)


def test_the_command(model, tmp_path, capsys):
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    assert main(["tune", str(path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert 0 < found["measured_us"] <= found["estimated_us"]
    assert main(["tune", str(path)]) == 0
    assert "cost model" in capsys.readouterr().out
    assert main(["compile", str(path), "--tune", "-o", str(tmp_path / "m.neo")]) == 0
