# SPDX-License-Identifier: Apache-2.0
"""Builds libpyneo and the `_core` module with CMake and puts both into the wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()


class CMakeBuild(build_ext):
    """Runs CMake once; it writes libpyneo.so and _core next to the package's Python files."""

    def build_extension(self, ext: Extension) -> None:
        package_dir = Path(self.get_ext_fullpath(ext.name)).parent.resolve()
        package_dir.mkdir(parents=True, exist_ok=True)
        build_dir = Path(self.build_temp).resolve()
        build_dir.mkdir(parents=True, exist_ok=True)
        configure = [
            "cmake", "-S", str(ROOT), "-B", str(build_dir), "-G", "Ninja",
            "-DCMAKE_BUILD_TYPE=Release", "-DPYNEO_PYTHON=ON",
            f"-DPYNEO_PACKAGE_DIR={package_dir}", f"-DPython_EXECUTABLE={sys.executable}",
        ]  # fmt: skip
        subprocess.run(configure, check=True)
        self.native_dir = package_dir
        jobs = os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL", str(os.cpu_count() or 1))
        build = ["cmake", "--build", str(build_dir), "--target", "_core", "pyneo", "-j", jobs]
        subprocess.run(build, check=True)

    def copy_extensions_to_source(self) -> None:
        """In place and editable builds: what _core needs beside it goes into the source tree as well."""
        super().copy_extensions_to_source()
        target = ROOT / "pyneo"
        if self.native_dir != target:
            shutil.copy2(self.native_dir / "libpyneo.so", target / "libpyneo.so")
            shutil.copytree(self.native_dir / "include", target / "include", dirs_exist_ok=True)


setup(
    packages=find_packages(include=["pyneo", "pyneo.*"]),
    package_data={"pyneo": ["py.typed", "_core.pyi", "compiler/targets/*.toml", "data/*"]},
    ext_modules=[Extension("pyneo._core", sources=[])],
    cmdclass={"build_ext": CMakeBuild},
)
