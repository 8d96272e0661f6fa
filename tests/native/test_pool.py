# SPDX-License-Identifier: Apache-2.0
"""The thread pool, built by itself and run with and without ThreadSanitizer."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CASES = [
    "each_task_once",
    "writes_of_tasks_are_seen_by_the_caller",
    "many_callers_at_once",
    "calls_inside_tasks_run_serially",
    "two_threads_really_work_at_once",
    "a_forked_child_has_workers_of_its_own",
    "exit_while_others_work",
    "callers_own_parallel_for",
    "affinity_limits_the_cpus",
]


def build(folder: Path, *flags: str) -> Path:
    compiler = os.environ.get("CXX") or shutil.which("c++")
    assert compiler, "no C++ compiler: install one, or name it in CXX"
    program = folder / "pool_test"
    sources = [*sorted((ROOT / "csrc/threads").glob("*.cc")), ROOT / "tests/native/pool_test.cc"]
    command = [
        compiler, "-std=gnu++17", "-g", "-Wall", "-Wextra", "-Werror", "-fno-exceptions", "-fno-rtti",
        f"-I{ROOT / 'csrc'}", *flags, *map(str, sources), "-pthread", "-o", str(program),
    ]  # fmt: skip
    subprocess.run(command, check=True)
    return program


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("pool"), "-O2")


@pytest.fixture(scope="module")
def tsan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("pool_tsan"), "-O1", "-fsanitize=thread")


def run(program: Path, *arguments: str) -> str:
    environment = {**os.environ, "TSAN_OPTIONS": "exitcode=66 atexit_sleep_ms=0"}
    done = subprocess.run(
        [program, *arguments], env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, f"{arguments}: exit status {done.returncode}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("case", CASES)
def test_pool(plain: Path, case: str) -> None:
    run(plain, case)


# ThreadSanitizer does not support threads in a forked child.
@pytest.mark.parametrize("case", [c for c in CASES if "forked" not in c])
def test_pool_has_no_data_race(tsan: Path, case: str) -> None:
    run(tsan, case)


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def version1(group: str, quota: str) -> dict[str, str]:
    return {f"{group}/cpu.cfs_quota_us": quota, f"{group}/cpu.cfs_period_us": "100000"}


@pytest.mark.parametrize(
    ("groups", "files", "cpus"),
    [
        ("0::/", {"cpu.max": "max 100000\n"}, 0),
        ("0::/", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/", {"cpu.max": "50000 100000\n"}, 1),
        ("0::/", {"cpu.max": "350000 100000\n"}, 3),
        ("0::/", {"cpu.max": "nonsense"}, 0),
        ("0::/", {"cpu.max": "100000 0\n"}, 0),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "300000 100000\n"}, 3),
        ("0::/a/b\n", {"a/b/cpu.max": "200000 100000\n", "a/cpu.max": "900000 100000\n"}, 2),
        ("0::/host/path/not/here\n", {"cpu.max": "400000 100000\n"}, 4),
        ("12:memory:/x\n4:cpu,cpuacct:/x\n", version1("cpu/x", "250000"), 2),
        ("4:cpu,cpuacct:/x", version1("cpu,cpuacct", "100000"), 1),
        ("4:cpu:/x", version1("cpu/x", "-1"), 0),
        ("4:cpuset:/x", version1("cpu/x", "100000"), 0),
        ("", {}, 0),
        ("no colons here\n:\n::\n", {}, 0),
    ],
)  # fmt: skip
def test_quota_of_control_groups(
    plain: Path, tmp_path: Path, groups: str, files: dict[str, str], cpus: int
) -> None:
    write(tmp_path, files)
    assert int(run(plain, "quota", groups, str(tmp_path))) == cpus
