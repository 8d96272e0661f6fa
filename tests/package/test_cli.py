# SPDX-License-Identifier: Apache-2.0
"""The command line end to end on a package made by hand; compile has its own tests."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from pyneo.cli import COMMANDS, main
from tests.package import forge

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


def test_unsigned_files_warn_when_they_are_written(here, capsys):
    from pyneo.cli import _show_warning

    _show_warning("words")
    assert capsys.readouterr().err == "pyneo: warning: words\n"


def test_python_m_pyneo_is_the_command(signed):
    done = subprocess.run(
        [sys.executable, "-m", "pyneo", "verify", "m.neo", "--trust", "publisher.pub"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and "intact" in done.stdout and done.stderr == ""
