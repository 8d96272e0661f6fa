# SPDX-License-Identifier: Apache-2.0
"""Many threads, one model, a context each: the bits of a single thread, and no allocation in a run.

With PYNEO_TSAN=1 the whole core is built under ThreadSanitizer first (build-tsan/, some minutes) and run so.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

import pyneo
from pyneo.data import DIGITS

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """The digits model by batch: one image keeps to a thread, sixteen are worth sharing out."""
    found = {}
    for batch in (1, 16):
        found[batch] = tmp_path_factory.mktemp("package") / "digits.neo"
        with pytest.warns(UserWarning, match="not signed"):
            pyneo.compile(DIGITS, shapes={"image": (batch, 1, 8, 8)}, progress=False).save(found[batch])
    return found


def build(folder: Path, library: Path, *flags: str) -> Path:
    compiler = os.environ.get("CC") or shutil.which("cc")
    assert compiler, "no C compiler: install one, or name it in CC"
    program = folder / "sessions_test"
    command = [
        compiler, "-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", f"-I{ROOT / 'csrc/include'}",
        *flags, str(ROOT / "tests/native/sessions_test.c"), f"-L{library}", "-lpyneo",
        f"-Wl,-rpath,{library}", "-pthread", "-o", str(program),
    ]  # fmt: skip
    subprocess.run(command, check=True)
    return program


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("plain"), Path(pyneo.__file__).parent)


@pytest.fixture(scope="module")
def tsan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not os.environ.get("PYNEO_TSAN"):
        pytest.skip("set PYNEO_TSAN=1 to build the core under ThreadSanitizer and run it so")
    build_dir = ROOT / "build-tsan"
    configure = [
        "cmake", "-S", str(ROOT), "-B", str(build_dir), "-G", "Ninja", "-DPYNEO_SANITIZE=thread",
        f"-DPYNEO_PACKAGE_DIR={build_dir}",
    ]  # fmt: skip
    subprocess.run(configure, check=True)
    subprocess.run(["cmake", "--build", str(build_dir), "--target", "pyneo"], check=True)
    return build(tmp_path_factory.mktemp("tsan"), build_dir, "-fsanitize=thread", "-DSANITIZED")


def run(program: Path, *arguments: object) -> None:
    done = subprocess.run(
        [program, *map(str, arguments)], capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stderr}"


# Threads, runs of each, images a run, threads of the pool that a context may use.
LOADS = [(16, 10000, 1, 1), (16, 300, 16, 2), (3, 1000, 16, 3)]


@pytest.mark.parametrize(("threads", "runs", "batch", "pool"), LOADS)
def test_many_threads_give_the_bits_of_one(
    plain: Path, packages: dict[int, Path], threads: int, runs: int, batch: int, pool: int
) -> None:
    run(plain, "threads", packages[batch], threads, runs, pool)


@pytest.mark.parametrize(("threads", "runs", "batch", "pool"), LOADS)
def test_many_threads_without_a_data_race(
    tsan: Path, packages: dict[int, Path], threads: int, runs: int, batch: int, pool: int
) -> None:
    run(tsan, "threads", packages[batch], threads, runs, pool)


@pytest.mark.parametrize("batch", [1, 16])
def test_a_run_allocates_nothing(plain: Path, packages: dict[int, Path], batch: int) -> None:
    run(plain, "allocations", packages[batch])
