# SPDX-License-Identifier: Apache-2.0
"""The command line end to end."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import pyneo
from pyneo.cli import COMMANDS, main
from tests.package import forge

DIGITS = Path(pyneo.__file__).parent / "data" / "digits.onnx"
X = np.array([[-1, 2, -0.5]], np.float32)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with an unsigned package m.neo, a key pair, and an input x.npy; also the working directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.neo").write_bytes(forge.relu(key=None))
    np.save(tmp_path / "x.npy", X)
    assert main(["keygen", "publisher"]) == 0
    return tmp_path


@pytest.fixture
def signed(here, capsys):
    assert main(["sign", "m.neo", "--key", "publisher.key"]) == 0
    capsys.readouterr()
    return here


def test_keygen_makes_a_private_key_only_its_owner_can_read(here, capsys):
    assert (here / "publisher.key").stat().st_mode & 0o777 == 0o600
    capsys.readouterr()
    before = (here / "publisher.key").read_bytes()
    assert main(["keygen", "publisher"]) == 1
    assert "publisher.key exists and would be lost" in capsys.readouterr().err
    assert (here / "publisher.key").read_bytes() == before
    assert main(["keygen", "publisher", "--force", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pub"] == "publisher.pub"
    assert (here / "publisher.key").read_bytes() != before
    assert (here / "publisher.key").stat().st_mode & 0o777 == 0o600


def test_sign_verify_run(signed, capsys):
    assert main(["verify", "m.neo", "--trust", "publisher.pub", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] and len(found["signers"]) == 1 and found["manifest"]["name"] == "toy"
    assert main(["run", "m.neo", "--trust", "publisher.pub", "--input", "x.npy", "-o", "y.npy"]) == 0
    np.testing.assert_array_equal(np.load("y.npy"), np.maximum(X, 0))
    capsys.readouterr()
    assert main(["run", "m.neo", "--trust", "publisher.pub", "--input", "x=x.npy", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["y"] == {
        "dtype": "float32",
        "shape": [1, 3],
        "data": [[0.0, 2.0, 0.0]],
    }


def test_every_refusal_is_one_line_and_exit_code_1(signed, capsys):
    data = bytearray((signed / "m.neo").read_bytes())
    data[len(data) // 2] ^= 1
    (signed / "bad.neo").write_bytes(data)
    (signed / "words.npy").write_text("words")
    trust = ["--trust", "publisher.pub"]
    for argv, words in [
        (["verify", "bad.neo", *trust], "was signed|is not zero"),
        (["verify", "m.neo"], "pass trust="),
        (["run", "bad.neo", *trust, "--input", "x.npy"], "was signed|is not zero"),
        (["run", "m.neo", *trust], "takes 1 inputs .'x'., found 0"),
        (["run", "m.neo", *trust, "--input", "words.npy"], "no .npy file"),
        (["run", "m.neo", *trust, "--input", "z=x.npy"], "unknown 'z'"),
        (["inspect", "absent.neo"], "No such file"),
        (["inspect", "x.npy"], "not a pyneo package"),
        (["sign", "m.neo", "--key", "publisher.pub"], "is a public key"),
        (["verify", "m.neo", "--trust", "publisher.key"], "is a private key"),
    ]:
        assert main(argv) == 1, argv
        out, err = capsys.readouterr()
        assert (
            out == "" and re.search(words, err) and err.startswith("pyneo: error: ") and err.count("\n") == 1
        )


def test_wrong_usage_is_exit_code_2(capsys):
    for argv in ([], ["fly"], ["run"], ["run", "m.neo", "--threads", "many"], ["sign", "m.neo"], ["compile"]):
        try:
            code = main(argv)
        except SystemExit as e:
            code = e.code
        assert code == 2, argv


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as e:
        main([command, "--help"])
    text = capsys.readouterr().out
    assert e.value.code == 0 and f"usage: pyneo {command}" in text
    assert "SPDX" not in text and len(text.splitlines()) > 5


def test_inspect_shows_manifest_sections_and_signers(signed, capsys):
    assert main(["inspect", "m.neo"]) == 0
    text = capsys.readouterr().out
    for words in ("toy", "x: float32 [1, 3]", "plan", "weights", "says signed by"):
        assert words in text
    assert main(["inspect", "m.neo", "--json", "--trust", "publisher.pub"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [s["name"] for s in found["sections"]] == ["manifest", "plan", "weights", "signature"]
    assert found["file_bytes"] == os.path.getsize("m.neo")


def test_two_publishers_sign_one_after_the_other(signed, capsys):
    assert main(["keygen", "second"]) == 0
    assert main(["sign", "m.neo", "--key", "second.key", "-o", "both.neo"]) == 0
    capsys.readouterr()
    for key in ("publisher", "second"):
        assert main(["verify", "both.neo", "--trust", f"{key}.pub"]) == 0
    (signed / "trust.json").write_text('{"threshold": 2}')
    assert main(["verify", "both.neo", "--trust", "."]) == 0
    assert main(["verify", "m.neo", "--trust", "."]) == 1
    assert "signed by 1 of the 2" in capsys.readouterr().err


def test_counter_store_on_the_command_line(signed, capsys):
    p = forge.Package.open((signed / "m.neo").read_bytes())
    newer = forge.Package(forge.replace_manifest(p.manifest, release=5), p.sections)
    newer.save("new.neo", key="publisher.key")
    run = ["--trust", "publisher.pub", "--counter-store", "releases.json", "--input", "x.npy"]
    assert main(["run", "new.neo", *run]) == 0
    assert main(["run", "m.neo", *run]) == 1
    assert "older than release 5" in capsys.readouterr().err
    assert main(["run", "m.neo", *run, "--allow-rollback"]) == 0


def test_bench_reports_latency_memory_and_profile(signed, capsys):
    argv = [
        "bench",
        "m.neo",
        "--trust",
        "publisher.pub",
        "--threads",
        "1",
        "--runs",
        "20",
        "--trace",
        "t.json",
    ]
    assert main([*argv, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert 0 < found["min_ms"] <= found["median_ms"] <= found["p90_ms"] and found["runs"] == 20
    assert found["profile"]["nodes"][0]["op"] == "Relu"
    assert json.loads((signed / "t.json").read_text())["traceEvents"][0]["name"] == "node"
    assert main([*argv, "--profile"]) == 0
    assert "Relu" in capsys.readouterr().out


def test_python_m_pyneo_is_the_command(signed):
    done = subprocess.run(
        [sys.executable, "-m", "pyneo", "verify", "m.neo", "--trust", "publisher.pub"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "intact" in done.stdout and done.stderr == ""


@pytest.fixture
def compiled(tmp_path, monkeypatch, capsys):
    """The digits model compiled and signed by the command line: (folder, what --json printed)."""
    monkeypatch.chdir(tmp_path)
    assert main(["keygen", "publisher"]) == 0
    argv = ["compile", str(DIGITS), "-o", "digits.neo", "--key", "publisher.key", "--shape", "image=1,1,8,8"]
    capsys.readouterr()
    assert (
        main([*argv, "--release", "4", "--metadata", "labels=0-9", "--report", "report.txt", "--json"]) == 0
    )
    return tmp_path, json.loads(capsys.readouterr().out)


def test_compile_writes_a_signed_package_and_a_report(compiled, capsys):
    folder, found = compiled
    assert found["output"] == "digits.neo" and found["bytes"] == os.path.getsize("digits.neo")
    assert found["report"]["arena_bytes"] >= found["report"]["arena_lower_bound"] > 0
    assert "arena" in (folder / "report.txt").read_text()
    assert main(["verify", "digits.neo", "--trust", "publisher.pub", "--json"]) == 0
    m = json.loads(capsys.readouterr().out)["manifest"]
    assert (m["release"], m["metadata"]) == (4, {"labels": "0-9"})
    assert m["source"] == hashlib.sha256(DIGITS.read_bytes()).hexdigest()


def test_the_html_report_shows_every_step_and_buffer(compiled, capsys):
    from xml.etree import ElementTree

    report = compiled[1]["report"]
    argv = ["compile", str(DIGITS), "-o", "again.neo", "--key", "publisher.key", "--shape", "image=1,1,8,8"]
    assert main([*argv, "--quiet", "--report", "r.html"]) == 0
    page = (compiled[0] / "r.html").read_text()
    picture = ElementTree.fromstring(page[page.index("<svg") : page.index("</svg>") + 6])
    boxes = [{k: float(b.get(k)) for k in ("x", "y", "width", "height")} for b in picture.iter("rect")]
    assert len(boxes) == len(report["memory"]) > 0
    assert all(
        b["y"] >= -0.01 and b["y"] + b["height"] <= 400.01 and b["x"] + b["width"] <= 1000.01 for b in boxes
    )
    assert all(step["op"] in page for step in report["steps"])


def test_a_compiled_package_runs_as_onnx_runtime_does(compiled, capsys):
    runtime = pytest.importorskip("onnxruntime")
    x = np.random.default_rng(0).random((1, 1, 8, 8), dtype=np.float32) * 16
    np.save("x.npy", x)
    assert main(["run", "digits.neo", "--trust", "publisher.pub", "--input", "x.npy", "-o", "y.npy"]) == 0
    expected = runtime.InferenceSession(str(DIGITS), providers=["CPUExecutionProvider"]).run(
        None, {"image": x}
    )[0]
    np.testing.assert_allclose(np.load("y.npy"), expected, rtol=1e-4, atol=1e-4)


def test_compiling_the_same_model_twice_gives_the_same_bytes(compiled, capsys):
    first = (compiled[0] / "digits.neo").read_bytes()
    argv = ["compile", str(DIGITS), "-o", "again.neo", "--key", "publisher.key", "--shape", "image=1,1,8,8"]
    assert main([*argv, "--release", "4", "--metadata", "labels=0-9", "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert (compiled[0] / "again.neo").read_bytes() == first


def test_compile_says_what_is_wrong(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.onnx").write_text("no model")
    for argv, words in [
        (["compile", "absent.onnx"], "absent.onnx"),
        (["compile", "bad.onnx"], "bad.onnx"),
        (["compile", str(DIGITS), "--target", "vax"], "'vax' is unknown; known targets are host"),
        (["compile", str(DIGITS), "--shape", "image"], "must be NAME=VALUE"),
    ]:
        assert main(argv) == 1
        assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [tmp_path / "bad.onnx"]
    assert main(["compile", "--targets"]) == 0
    assert "rpi4" in capsys.readouterr().out.split()


def test_an_unsigned_package_is_written_with_a_warning(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["compile", str(DIGITS), "-o", "d.neo", "--shape", "image=1,1,8,8"]) == 0
    assert "pyneo: warning: d.neo is not signed" in capsys.readouterr().err
    assert main(["verify", "d.neo"]) == 1
    assert main(["verify", "d.neo", "--allow-unsigned"]) == 0
