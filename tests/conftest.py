# SPDX-License-Identifier: Apache-2.0
"""Prints, after the tests, what the ONNX backend suite counted (tests/test_onnx_backend.py)."""

from __future__ import annotations

from collections import Counter

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    counts: Counter[tuple[str, str]] = Counter()
    kinds: dict[str, None] = {}
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for name, value in report.user_properties:
                if name == "onnx_backend":
                    kind, *numbers = value
                    kinds[kind] = None
                    for column, n in zip(("passed", "in scope", "cases"), numbers, strict=True):
                        counts[kind, column] += n
                        counts["all", column] += n
    if kinds:
        terminalreporter.section("ONNX backend suite")
        for kind in [*kinds, "all"]:
            terminalreporter.line(
                f"{kind:18} passed {counts[kind, 'passed']:5} of {counts[kind, 'in scope']:5} in scope "
                f"({counts[kind, 'cases']} cases)"
            )
