# SPDX-License-Identifier: Apache-2.0
"""Cross-builds libpyneo and the C example with ziglang: python wheels/cross.py aarch64-linux-gnu.2.28 OUT.

Writes OUT/libpyneo.so and OUT/run (examples/c, linked statically against libpyneo).
Needs ziglang, cmake, ninja.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def wrapper(folder: Path, name: str, command: str) -> Path:
    """An executable that CMake can take for a compiler."""
    path = folder / name
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m ziglang {command} "$@"\n', encoding="utf-8")
    path.chmod(0o755)
    return path


def build(triple: str, out: Path) -> None:
    """Builds for a zig target triple such as aarch64-linux-gnu.2.28."""
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    cc = wrapper(out, "cc", f"cc -target {triple}")
    cxx = wrapper(out, "c++", f"c++ -target {triple}")
    arch = triple.split("-", 1)[0]
    configure = [
        "cmake", "-S", str(ROOT), "-B", str(out / "build"), "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
        "-DCMAKE_SYSTEM_NAME=Linux", f"-DCMAKE_SYSTEM_PROCESSOR={arch}", f"-DCMAKE_C_COMPILER={cc}",
        f"-DCMAKE_CXX_COMPILER={cxx}", f"-DCMAKE_AR={wrapper(out, 'ar', 'ar')}",
        f"-DCMAKE_RANLIB={wrapper(out, 'ranlib', 'ranlib')}", f"-DCMAKE_STRIP={shutil.which('true')}",
        f"-DPYNEO_PACKAGE_DIR={out}",
    ]  # fmt: skip
    subprocess.run(configure, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", str(out / "build"), "--target", "pyneo", "pyneo_static"], check=True)
    subprocess.run(
        [str(cc), "-std=gnu11", "-O2", "-s", "-I", str(ROOT / "csrc" / "include"),
         str(ROOT / "examples" / "c" / "run.c"), str(out / "build" / "libpyneo.a"),
         "-lm", "-lpthread", "-static", "-o", str(out / "run")],
        check=True,
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("triple", help="zig target triple; a glibc version may follow the ABI")
    parser.add_argument("out", type=Path, help="folder for the results")
    args = parser.parse_args()
    build(args.triple, args.out)


if __name__ == "__main__":
    main()
