# SPDX-License-Identifier: Apache-2.0
"""The demo as a user runs it, and the figures it prints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pyneo.cli import main
from pyneo.data import DIGITS, held_out


def test_demo_predicts_held_out_digits_as_the_reference_does_and_refuses_broken_packages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["demo", "--json", "--out", str(tmp_path)]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["images"] == 359
    assert figures["accuracy"] >= 0.98
    assert figures["accuracy"] == figures["reference_accuracy"]
    assert figures["largest_difference"] < 1e-4
    assert set(figures["refused"]) == {"one bit flipped", "another key"}
    assert all(figures["refused"].values())
    assert Path(figures["picture"]).read_bytes().startswith(b"\x89PNG")


def test_demo_twice_in_one_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert main(["demo", "--out", str(tmp_path)]) == 0
    assert "All as it should be." in capsys.readouterr().out


def test_the_digits_model_is_small_and_the_split_is_a_fifth() -> None:
    assert DIGITS.stat().st_size < 200_000
    mask = held_out(1797)
    assert mask.sum() == 359
    assert (mask == held_out(1797)).all()
