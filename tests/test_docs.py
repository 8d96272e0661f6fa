# SPDX-License-Identifier: Apache-2.0
"""The code that docs/adding-an-operator.md shows is code of this tree."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "adding-an-operator.md").read_text()
BLOCKS = re.findall(r"^```(cpp|python)\n(.*?)^```", PAGE, re.M | re.S)
FILES = {"cpp": ("csrc", "*.cc"), "python": (".", "*.py")}


def lines(text: str) -> str:
    """Without indentation and empty lines."""
    return "\n".join(line.strip() for line in text.splitlines() if line.strip())


@pytest.mark.parametrize(("language", "block"), BLOCKS, ids=[b.split("(")[0].strip() for _, b in BLOCKS])
def test_the_page_shows_what_is_there(language: str, block: str) -> None:
    folder, pattern = FILES[language]
    places = [ROOT / folder] if folder != "." else [ROOT / "pyneo", ROOT / "tests"]
    files = [f for place in places for f in place.rglob(pattern) if f != Path(__file__)]
    assert any(lines(block) in lines(f.read_text()) for f in files)


def test_the_page_names_files_that_exist() -> None:
    names = re.findall(r"`((?:csrc|pyneo|tests|benchmarks|docs)/[\w/.]+\.\w+)`", PAGE)
    assert len(names) > 5
    assert [n for n in names if not (ROOT / n).exists()] == []
