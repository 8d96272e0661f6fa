# SPDX-License-Identifier: Apache-2.0
"""Runs runtimes as on an older x86-64 CPU, by hiding newer instruction sets from them (cpuid.c)."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("cpuid.c")
# As PYNEO_ISA names the tiers; the processor that LLVM (IREE) is to compile for.
LEVELS = {"portable": "x86-64-v2", "avx2": "x86-64-v3", "avx512": "x86-64-v4"}
VARIABLE = "PYNEO_BENCHMARK_ISA"  # tells the processes of compare.py: "LEVEL LIBRARY"


def restrict(level: str, out: Path) -> None:
    """Prepares this process's environment so that `hide` in its children hides what is above `level`.

    Raises RuntimeError, with the reason, where that cannot be had.
    """
    if os.uname().machine != "x86_64":
        raise RuntimeError(f"--isa {level} hides x86-64 instruction sets, but this is {os.uname().machine}")
    library = out / "cpuid.so"
    command = [os.environ.get("CC", "cc"), "-O2", "-shared", "-fPIC", "-o", str(library), str(SOURCE)]
    try:
        out.mkdir(parents=True, exist_ok=True)
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as e:
        reason = getattr(e, "stderr", None) or e
        raise RuntimeError(f"--isa needs a C compiler (CC, else cc) to build {SOURCE.name}: {reason}") from e
    os.environ[VARIABLE] = f"{level} {library}"
    os.environ["PYNEO_ISA"] = level
    trial = [sys.executable, "-c", "import isa; isa.hide()"]
    done = subprocess.run(trial, cwd=SOURCE.parent, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1])


def level() -> str | None:
    """The level that `restrict` set, None if it was not called."""
    return os.environ[VARIABLE].split(" ", 1)[0] if VARIABLE in os.environ else None


def hide() -> None:
    """Hides what `restrict` was told to hide from everything that this process imports from now on."""
    if VARIABLE not in os.environ:
        return
    name, library = os.environ[VARIABLE].split(" ", 1)
    if ctypes.CDLL(library).pn_hide_above(list(LEVELS).index(name)) != 0:
        raise RuntimeError(f"--isa {name}: this CPU, hypervisor or kernel cannot trap the CPUID instruction")
