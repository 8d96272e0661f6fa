# SPDX-License-Identifier: Apache-2.0
"""Precisions below fp32, by name and by accuracy budget. Only a CPU with AMX loses anything by them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import pyneo
from pyneo import _core
from pyneo.cli import main
from pyneo.compiler.report import Report
from pyneo.compiler.targets.target import TIERS
from pyneo.errors import CompileError
from tests.support.models import small_convnet

HAS_AMX = _core.host_target()["tier"] >= TIERS["amx"]
RNG = np.random.default_rng(5)
X = RNG.standard_normal((256, 512), dtype=np.float32)
W = RNG.standard_normal((2, 512, 512), dtype=np.float32) / 16


def products(rows: int | str = 256) -> onnx.ModelProto:
    """(x @ w0, x @ w1): two products for the budget to choose from; w1 has a scale of its own."""
    x = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [rows, 512])
    ys = [helper.make_tensor_value_info(f"y{i}", onnx.TensorProto.FLOAT, [rows, 512]) for i in range(2)]
    nodes = [helper.make_node("MatMul", ["x", f"w{i}"], [f"y{i}"]) for i in range(2)]
    weights = [numpy_helper.from_array(w, f"w{i}") for i, w in enumerate(W)]
    return helper.make_model(helper.make_graph(nodes, "products", [x], ys, weights))


def predicted(package: pyneo.Package, x: np.ndarray = X) -> list[np.ndarray]:
    with pyneo.Model.load(package, allow_unsigned=True) as model:
        return list(model.predict({"x": x}).values())


def loss_of(package: pyneo.Package, x: np.ndarray = X) -> float:
    """Against fp32's outputs, as the report defines it."""
    exact = predicted(pyneo.compile(products()), x)
    pairs = zip(exact, predicted(package, x), strict=True)
    return max(float(np.max(np.abs(a - b))) / float(np.max(np.abs(a))) for a, b in pairs)


def budgeted(max_loss: float, x: np.ndarray = X) -> tuple[pyneo.Package, Report]:
    package = pyneo.compile(products(), max_loss=max_loss, samples=[{"x": x}])
    return package, package.report()


def test_precision_is_one_of_the_known_ones():
    with pytest.raises(CompileError, match="precision 'fp16' is unknown; there are fp32 and bf16x3"):
        pyneo.compile(small_convnet(), precision="fp16")


def test_bf16x3_takes_three_products_where_there_is_amx():
    package = pyneo.compile(products(), precision="bf16x3")
    loss, report = loss_of(package), package.report()
    assert loss < 2e-5
    assert (loss > 1e-6) == HAS_AMX
    assert report.precision == "bf16x3"
    assert report.loss < 2e-5
    assert (report.loss > 1e-6) == HAS_AMX
    assert "loss against fp32" in str(report)
    assert "loss" not in str(pyneo.compile(products()).report())


def test_a_wide_budget_reduces_every_product_and_the_report_states_the_measured_loss():
    package, report = budgeted(1e-3)
    assert report.precision == "bf16x3 in 2 of 2 products"
    assert report.loss == loss_of(package)
    assert (report.loss > 1e-6) == HAS_AMX


@pytest.mark.skipif(not HAS_AMX, reason="below AMX no precision loses anything")
def test_a_budget_between_reduces_what_it_allows():
    of_each = loss_of(budgeted(1e-3)[0])
    package, report = budgeted(of_each * 0.999)
    assert report.precision in ("bf16x3 in 0 of 2 products", "bf16x3 in 1 of 2 products")
    assert report.loss == loss_of(package) <= of_each * 0.999
    package, report = budgeted(1e-12)
    assert report.precision == "bf16x3 in 0 of 2 products"
    assert report.loss == loss_of(package) == 0


@pytest.mark.skipif(not HAS_AMX, reason="below AMX no precision loses anything")
def test_the_loss_is_measured_on_the_samples():
    """One large column drowns the others in the sums, and with them what their last bits lose."""
    lopsided = X.copy()
    lopsided[:, 0] *= 1e6
    assert budgeted(1e-3)[1].loss != budgeted(1e-3, lopsided)[1].loss == loss_of(budgeted(1e-3)[0], lopsided)


def test_open_shapes_are_measured_on_samples_or_refused():
    with pytest.raises(CompileError, match=r"input 'x' has the open shape \['N', 512\]; give samples="):
        pyneo.compile(products("N"), max_loss=1e-4)
    report = pyneo.compile(products("N"), max_loss=1e-4, samples=[{"x": X}, {"x": X[:7]}]).report()
    assert report.precision == "bf16x3 in 2 of 2 products"
    assert pyneo.compile(products("N"), precision="bf16x3").report().loss is None


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"max_loss": 0.0}, "max_loss must be a number above 0, as in 1e-4; found 0.0"),
        ({"max_loss": float("nan")}, "found nan"),
        ({"max_loss": 1e-4, "precision": "bf16x3"}, "max_loss chooses the precision"),
        ({"max_loss": 1e-4, "target": "rpi4"}, "the target does not run on this machine"),
        ({"max_loss": 1e-4, "samples": []}, "samples is empty"),
    ],
)
def test_what_cannot_be_asked_is_said(asked, said):
    with pytest.raises(CompileError, match=said):
        pyneo.compile(products(), **asked)


def test_a_wrong_sample_is_an_input_error():
    with pytest.raises(pyneo.InputError, match="x"):
        pyneo.compile(products(), max_loss=1e-4, samples=[{"x": X[:, :7]}])


def test_the_command_line_takes_a_budget_and_samples(tmp_path, capsys):
    model, sample, out = tmp_path / "m.onnx", tmp_path / "x.npz", tmp_path / "m.neo"
    onnx.save(products("N"), model)
    np.savez(sample, x=X)
    told = ["compile", str(model), "-o", str(out), "--max-loss", "1e-3", "--sample"]
    assert main([*told, str(sample)]) == 0
    assert "bf16x3 in 2 of 2 products; loss against fp32" in capsys.readouterr().out
    assert out.exists()
    assert main([*told, str(model)]) == 1
    assert "is not an .npz file of arrays by name" in capsys.readouterr().err
