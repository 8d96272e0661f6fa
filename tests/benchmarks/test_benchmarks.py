# SPDX-License-Identifier: Apache-2.0
"""The benchmark models are what they say, and compare.py counts as it says. No speed is tested."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))

import compare  # noqa: E402
import isa  # noqa: E402
import models  # noqa: E402
import present  # noqa: E402
import table  # noqa: E402
from peers import call, convert  # noqa: E402

# Multiply-adds in millions, from the papers and model cards of the architectures.
SMALL = {"squeezenet": 350, "mobilenet_v2": 300, "ds_cnn": 2.7}


def multiply_adds(model: onnx.ModelProto) -> float:
    """Of convolutions and Gemm, in millions."""
    inferred = onnx.shape_inference.infer_shapes(model)
    shapes = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in [*inferred.graph.value_info, *inferred.graph.output]
    }
    weights = {t.name: list(t.dims) for t in model.graph.initializer}
    total = 0
    for node in model.graph.node:
        if node.op_type == "Conv":
            total += int(np.prod(shapes[node.output[0]])) * int(np.prod(weights[node.input[1]][1:]))
        elif node.op_type == "Gemm":
            total += int(np.prod(weights[node.input[1]]))
    return total / 1e6


@pytest.mark.parametrize("name", SMALL)
def test_model_is_valid_costs_what_the_architecture_costs_and_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "OUT", tmp_path)
    path, inputs = models.build(name)
    model = onnx.load(str(path))
    onnx.checker.check_model(model, full_check=True)
    assert multiply_adds(model) == pytest.approx(SMALL[name], rel=0.05)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, inputs)
    assert np.isfinite(y).all() and y.std() > 1e-3
    assert models.build(name)[0].read_bytes() == path.read_bytes()


def test_builders_are_deterministic() -> None:
    first, second = (models.MODELS["ds_cnn"]().model().SerializeToString() for _ in range(2))
    assert first == second


def test_compare_measures_two_runtimes_and_writes_json_and_chart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(models, "OUT", tmp_path)
    arguments = [
        "ds_cnn",
        "--threads",
        "1",
        "--runtimes",
        "pyneo",
        "onnxruntime",
        "--rounds",
        "2",
        "--seconds",
    ]
    files = ["--json", str(tmp_path / "r.json"), "--chart", str(tmp_path / "r.png")]
    assert compare.main([*arguments, "0.01", *files]) == 0
    found = json.loads((tmp_path / "r.json").read_text())
    assert found["skipped"] == []
    ours, theirs = found["results"]
    assert (ours["runtime"], theirs["runtime"]) == ("pyneo", "onnxruntime")
    assert ours["error"] < 1e-5 and theirs["error"] == 0
    for r in (ours, theirs):
        assert r["runs"] >= 4
        assert 0 < r["p10_ms"] <= r["median_ms"] <= r["p90_ms"]
        assert r["load_ms"] > 0 and r["peak_mb"] > 0
    ratio = ours["median_ms"] / theirs["median_ms"]
    assert found["summary"]["1"]["geometric_mean"] == pytest.approx(ratio)
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")
    assert "ds_cnn" in capsys.readouterr().out


def result(model: str, runtime: str, median: float) -> compare.Result:
    return compare.Result(model, 1, runtime, "1", 0, 0, median_ms=median)


def test_summary_takes_the_best_peer_of_each_model() -> None:
    results = [result("a", "pyneo", 1.0), result("a", "onnxruntime", 2.0), result("a", "ncnn", 4.0)]
    results += [result("b", "pyneo", 8.0), result("b", "ncnn", 1.0), result("c", "ncnn", 1.0)]
    summary = present.summarise(compare.Comparison({}, results))["1"]
    assert summary["ratio"] == {"a": 0.5, "b": 8.0}
    assert summary["geometric_mean"] == pytest.approx(2.0)
    assert summary["worst"] == "b"


@pytest.mark.parametrize(
    ("found", "error"),
    [
        ([[1.0, -2.0]], 0.0),
        ([[1.0, -1.5]], 0.25),
        ([[1.0]], float("inf")),
        ([[1.0, -2.0], [0.0]], float("inf")),
    ],
)
def test_error_is_relative_to_the_references_scale(found: list[list[float]], error: float) -> None:
    assert compare.difference([np.array(y) for y in found], [np.array([[1.0, -2.0]])]) == error


def test_a_runtime_that_fails_becomes_a_reason_not_a_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "OUT", tmp_path)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    comparison = compare.Comparison({})
    np.savez(tmp_path / "broken.npz", x=np.zeros(1))
    options = compare.parse(["--threads", "1", "--runtimes", "pyneo", "onnxruntime"])
    compare.measure("broken", broken, tmp_path / "broken.npz", options, comparison)
    assert {s.runtime for s in comparison.skipped} == {"pyneo", "onnxruntime"}
    assert comparison.results == []


SEEN = "import sys; sys.path.insert(0, 'benchmarks'); import isa; isa.hide()\n" \
    "from pyneo import _core; print(_core.host_target()['tier'])"  # fmt: skip


@pytest.mark.parametrize("level", isa.LEVELS)
def test_isa_hides_what_is_above_it_from_what_is_imported_later(
    level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in (isa.VARIABLE, "PYNEO_ISA"):
        monkeypatch.setenv(variable, "")  # so that it is put back afterwards
        monkeypatch.delenv(variable)
    whole = int(subprocess.check_output([sys.executable, "-c", SEEN], cwd=ROOT))
    try:
        isa.restrict(level, tmp_path)
    except RuntimeError as e:  # no x86-64, or a kernel that cannot trap CPUID: then --isa must say so
        assert str(e).startswith("--isa")
        return
    assert isa.level() == os.environ["PYNEO_ISA"] == level
    monkeypatch.delenv("PYNEO_ISA")  # CPUID alone shall tell
    seen = int(subprocess.check_output([sys.executable, "-c", SEEN], cwd=ROOT))
    assert seen == min(whole, list(isa.LEVELS).index(level))


def test_converter_gets_tables_that_its_made_up_indices_fit(tmp_path: Path) -> None:
    table = onnx.numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(2, 3), "table")
    helper = onnx.helper
    graph = helper.make_graph(
        [helper.make_node("Gather", ["table", "ids"], ["y"])],
        "g",
        [helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, [1, 4])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 4, 3])],
        [table],
    )
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    longer = convert.with_long_tables(path)
    ids = np.array([[0, 1, 1, 0]])
    before, after = (onnxruntime.InferenceSession(m).run(None, {"ids": ids})[0] for m in (str(path), longer))
    np.testing.assert_array_equal(before, after)
    onnxruntime.InferenceSession(longer).run(None, {"ids": ids + 14})


def test_tables_show_the_best_of_all_runtimes_and_the_ratio_of_every_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = []
    for name, ours, theirs in (("first", 1.0, 2.0), ("second", 1.0, 8.0)):
        results = [result("m", "pyneo", ours), result("m", "litert", 16.0)]
        results += [result("m", "iree", theirs), result("m", "ncnn", 9.0)]
        runs.append(tmp_path / f"{name}.json")
        runs[-1].write_text(json.dumps(asdict(compare.Comparison({}, results))))
    assert table.main([str(r) for r in runs]) == 0
    said = capsys.readouterr().out
    assert "| m | 1.00 | - | - | 16.0 | 8.00 iree | 0.50, 0.12 |" in said
    assert "Geometric mean 0.25, worst 0.25 (m)." in said


def test_converters_say_what_their_tool_said() -> None:
    with pytest.raises(RuntimeError, match="status 3: error: no such operator"):
        call([sys.executable, "-c", "print('read'); print('error: no such operator'); raise SystemExit(3)"])
