# SPDX-License-Identifier: Apache-2.0
"""Targets and ISA tiers: PYNEO_ISA lowers, packages say what they need, hosts compile for what they can."""

from __future__ import annotations

import ast
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest

import pyneo
from pyneo import _core
from pyneo.compiler.targets import target as targets
from pyneo.package.package import Package
from pyneo.package.signing import verify
from tests.support.corpus import small_mlp
from tests.support.models import small_convnet

HOST = _core.host_target()["tier"]
AMX = "x86-64-v4-amx"
PRINT_TIER = "from pyneo import _core; print(_core.host_target()['tier'])"
# Asks Linux which register files this process may use: bit 18 is what AMX's tiles hold.
MAY_USE_TILES = """
import ctypes
from pyneo import _core
mask, arch_prctl, get_permission = ctypes.c_uint64(), 158, 0x1022
ctypes.CDLL(None).syscall(arch_prctl, get_permission, ctypes.byref(mask))
print((_core.host_target()["tier"], mask.value >> 18 & 1))
"""


def run(program: str, isa: str | None, stdin: bytes = b"", under: Sequence[str] = ()) -> str:
    """Output of the program in a process of its own, with PYNEO_ISA as given."""
    env = {k: v for k, v in os.environ.items() if k != "PYNEO_ISA"}
    if isa is not None:
        env["PYNEO_ISA"] = isa
    done = subprocess.run([*under, sys.executable, "-c", program], input=stdin, env=env, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


WHOLE = int(run(PRINT_TIER, None))  # this machine's tier, whatever PYNEO_ISA says


def can_prepare(target: str) -> bool:
    """Whether this CPU has the instructions of the code that packs for the target."""
    made_for = targets.find(target)
    if platform.machine() != "x86_64":
        return True
    return min(targets.TIERS[made_for.tier], targets.TIERS["avx512"]) <= WHOLE


def test_compiler_and_loader_know_the_same_tiers_and_every_target_has_one():
    assert list(targets.TIERS.items()) == [(name, i) for i, name in enumerate(verify.TIERS)]
    assert {targets.find(name).tier for name in targets.names()} == set(verify.TIERS)
    assert [targets.block_of(t) for t in verify.TIERS] == [8, 8, 16, 16]


@pytest.mark.parametrize("isa", verify.TIERS)
def test_pyneo_isa_lowers_the_tier_and_never_raises_it(isa):
    assert int(run(PRINT_TIER, isa)) == min(WHOLE, targets.TIERS[isa])


def test_a_name_that_pyneo_isa_does_not_know_lowers_nothing():
    assert int(run(PRINT_TIER, "avx1024")) == WHOLE


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="only Linux on x86-64 gives tiles"
)
@pytest.mark.parametrize("isa", [None, *verify.TIERS])
def test_the_tier_is_amx_exactly_where_linux_lets_the_process_use_tiles(isa):
    tier, tiles = ast.literal_eval(run(MAY_USE_TILES, isa))
    assert (tier == targets.TIERS["amx"]) == bool(tiles)


@pytest.mark.parametrize("here", ["x86_64", "aarch64", "riscv64"])
@pytest.mark.parametrize("name", targets.names()[1:])
def test_a_host_compiles_for_every_target_that_its_cpu_can_prepare(name, here, monkeypatch):
    monkeypatch.setattr(targets, "machine", lambda: here)
    for model in (small_convnet(), small_mlp()):
        if not can_prepare(name):
            with pytest.raises(pyneo.CompileError, match="cannot be prepared on this CPU"):
                pyneo.compile(model, name)
            continue
        package = Package.open(pyneo.compile(model, name).to_bytes())
        assert package.manifest.target.name == name
        assert package.manifest.target.tier == targets.find(name).tier


QEMU = shutil.which("qemu-x86_64-static")
LIST_KERNELS = """
from pyneo import _core, errors
x = (1, (4,), 0)
for tier in range(4):
    try: print([k["name"] for k in _core.kernel_list("Relu", b"", [x], [x], {"tier": tier})])
    except errors.CompileError as e: print(e)
"""


@pytest.mark.skipif(QEMU is None or platform.machine() != "x86_64", reason="needs qemu-x86_64-static")
@pytest.mark.parametrize("cpu, has", [("Nehalem", 0), ("Haswell", 1)])
def test_a_cpu_below_the_tier_refuses_to_compile_for_it(cpu, has):
    """On an emulated CPU: what would choose and pack is code of that tier, which would end the process."""
    said = run(LIST_KERNELS, None, under=[str(QEMU), "-cpu", cpu]).splitlines()
    assert said[: has + 1] == ["['f32_eltwise_relu']"] * (has + 1)
    assert len(said) == 4
    for tier, line in list(zip(verify.TIERS, said, strict=True))[has + 1 :]:
        assert f"tier {tier} cannot be prepared on this CPU, whose tier is {verify.TIERS[has]}: " in line


@pytest.mark.skipif(not can_prepare(AMX), reason="needs a CPU that compiles for AVX-512")
def test_a_package_for_amx_names_what_it_needs_and_runs_where_that_is():
    package = pyneo.compile(small_convnet(), AMX)
    assert package.manifest.target.tier == "amx"
    assert set(package.manifest.target.isa) >= {"avx512f", "amx_tile", "amx_int8"}
    data, x = package.to_bytes(), np.random.default_rng(0).standard_normal((1, 3, 32, 32), dtype=np.float32)
    if targets.machine() == "x86_64" and targets.TIERS["amx"] == HOST:
        want = pyneo.Model.load(pyneo.compile(small_convnet(), "x86-64"), allow_unsigned=True).predict(x)
        got = pyneo.Model.load(data, allow_unsigned=True).predict(x)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    else:
        with pytest.raises(pyneo.TargetError, match=r"needs a CPU with amx|compiled for x86_64"):
            pyneo.Model.load(data, allow_unsigned=True)


@pytest.mark.skipif(
    platform.machine() != "x86_64" or not can_prepare(AMX), reason="needs an x86-64 CPU with AVX-512"
)
@pytest.mark.parametrize("isa", ["portable", "avx2", "avx512"])
def test_a_package_for_amx_is_refused_below_it(isa):
    program = (
        "import sys, pyneo\n"
        "try: pyneo.Model.load(sys.stdin.buffer.read(), allow_unsigned=True)\n"
        "except pyneo.TargetError as e: print(e)\n"
    )
    said = run(program, isa, pyneo.compile(small_mlp(), AMX).to_bytes())
    here = verify.TIERS[min(WHOLE, targets.TIERS[isa])]
    assert f"the package needs a CPU with amx (target '{AMX}'), this one has {here}" in said
    assert "compile it for target='host'" in said
