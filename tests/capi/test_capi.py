# SPDX-License-Identifier: Apache-2.0
"""The C interface through cffi: the ABI is what pyneo.h says, and it gives what the Python face gives."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

import pyneo
from pyneo import capi
from tests.support.models import small_convnet

ROOT = Path(__file__).resolve().parents[2]
# Sizes in bytes of every struct of pyneo.h on a 64-bit machine. They only ever grow at the end.
SIZES = {
    "pn_tensor": 88, "pn_open_options": 24, "pn_context_options": 24, "pn_context_memory": 40,
    "pn_profile_entry": 72, "pn_target": 40, "pn_node": 56, "pn_op_info": 24, "pn_kernel_info": 48,
    "pn_plan_buffer": 32, "pn_plan_node": 32,
}  # fmt: skip


@pytest.fixture(scope="module")
def lib() -> capi.Library:
    return capi.load()


@pytest.mark.parametrize("struct", SIZES)
def test_struct_sizes_are_pinned(lib: capi.Library, struct: str) -> None:
    assert lib.ffi.sizeof(struct) == SIZES[struct]


def test_library_exports_exactly_the_declared_functions(lib: capi.Library) -> None:
    nm = shutil.which("nm")
    if nm is None:
        pytest.skip("nm (binutils) is not installed")
    library = Path(capi.__file__).parent / "libpyneo.so"
    command = [nm, "-D", "--defined-only", str(library)]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    exported = {line.split()[-1] for line in listed.splitlines() if " T " in line}
    declared = {name for name in dir(lib.c) if name.startswith("pn_")}
    assert exported == declared


def test_outputs_equal_those_of_the_python_face(lib: capi.Library) -> None:
    package = pyneo.compile(small_convnet())
    x = np.random.default_rng(0).standard_normal((1, 3, 32, 32)).astype(np.float32)
    expected = pyneo.Model.load(package, allow_unsigned=True, threads=1).predict(x)
    with lib.open(package.to_bytes()) as model:
        assert model.inputs == [("x", np.dtype("float32"), (1, 3, 32, 32))]
        (y,) = model.context(threads=1).run([x])
    np.testing.assert_array_equal(y, expected)


def test_errors_are_sentences_and_the_next_call_works(lib: capi.Library) -> None:
    package = pyneo.compile(small_convnet()).to_bytes()
    with pytest.raises(pyneo.PackageError, match=r"not a \.neo file"):
        lib.open(b"x" * 4096)
    with lib.open(package) as model:
        context = model.context()
        words = r"input 'x' expects float32 \[1, 3, 32, 32\], found float32 \[1, 3\]"
        with pytest.raises(pyneo.InputError, match=words):
            context.run([np.zeros((1, 3), np.float32)])
        assert context.run([np.zeros((1, 3, 32, 32), np.float32)])[0].shape == (1, 10)


def test_a_struct_without_its_size_is_refused(lib: capi.Library) -> None:
    out = lib.ffi.new("pn_model**")
    options = lib.ffi.new("pn_open_options*", {"struct_size": 0})
    with pytest.raises(pyneo.InputError, match="struct_size"):
        lib.check(lib.c.pn_model_open(lib.ffi.NULL, 0, options, out))


def test_the_c_example_runs_a_package(tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    folder = Path(capi.__file__).parent
    program, package = tmp_path / "run", tmp_path / "model.neo"
    # The header's folder is called pyneo in an installed tree.
    (tmp_path / "pyneo").symlink_to(folder / "include")
    subprocess.run(
        [compiler, "-std=c11", "-Wall", "-Wextra", "-Werror", "-I", str(tmp_path),
         str(ROOT / "examples" / "c" / "run.c"), str(folder / "libpyneo.so"),
         f"-Wl,-rpath,{folder}", "-o", str(program)],
        check=True,
    )  # fmt: skip
    built = pyneo.compile(small_convnet())
    package.write_bytes(built.to_bytes())
    x = np.random.default_rng(1).standard_normal((1, 3, 32, 32)).astype(np.float32)
    (tmp_path / "x.raw").write_bytes(x.tobytes())
    command = [program, package, tmp_path / "x.raw"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    name, *numbers = printed.split()
    expected = pyneo.Model.load(built, allow_unsigned=True, threads=1).predict(x)
    assert name == "y"
    np.testing.assert_allclose(np.array(numbers, np.float32), expected.reshape(-1), rtol=1e-4, atol=1e-5)
    refused = subprocess.run([program, tmp_path / "x.raw"], capture_output=True, text=True, check=False)
    assert refused.returncode == 1 and "not a .neo file" in refused.stderr
