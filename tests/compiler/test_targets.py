# SPDX-License-Identifier: Apache-2.0
"""Targets and ISA tiers: PYNEO_ISA lowers, a package says what it needs, any host compiles for any target."""

from __future__ import annotations

import ast
import os
import platform
import subprocess
import sys

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
# Asks Linux which register files this process may use: bit 18 is what AMX's tiles hold.
MAY_USE_TILES = """
import ctypes
from pyneo import _core
mask, arch_prctl, get_permission = ctypes.c_uint64(), 158, 0x1022
ctypes.CDLL(None).syscall(arch_prctl, get_permission, ctypes.byref(mask))
print((_core.host_target()["tier"], mask.value >> 18 & 1))
"""


def run(program: str, isa: str | None, stdin: bytes = b"") -> str:
    """Output of the program in a process of its own, with PYNEO_ISA as given."""
    env = {k: v for k, v in os.environ.items() if k != "PYNEO_ISA"}
    if isa is not None:
        env["PYNEO_ISA"] = isa
    done = subprocess.run([sys.executable, "-c", program], input=stdin, env=env, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()


def test_compiler_and_loader_know_the_same_tiers_and_every_target_has_one():
    assert list(targets.TIERS.items()) == [(name, i) for i, name in enumerate(verify.TIERS)]
    assert {targets.find(name).tier for name in targets.names()} == set(verify.TIERS)
    assert [targets.block_of(t) for t in verify.TIERS] == [8, 8, 16, 16]


@pytest.mark.parametrize("isa", verify.TIERS)
def test_pyneo_isa_lowers_the_tier_and_never_raises_it(isa):
    whole = int(run("from pyneo import _core; print(_core.host_target()['tier'])", None))
    found = int(run("from pyneo import _core; print(_core.host_target()['tier'])", isa))
    assert found == min(whole, targets.TIERS[isa])


def test_a_name_that_pyneo_isa_does_not_know_lowers_nothing():
    program = "from pyneo import _core; print(_core.host_target()['tier'])"
    assert run(program, "avx1024") == run(program, None)


@pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="only Linux on x86-64 gives tiles"
)
@pytest.mark.parametrize("isa", [None, *verify.TIERS])
def test_the_tier_is_amx_exactly_where_linux_lets_the_process_use_tiles(isa):
    tier, tiles = ast.literal_eval(run(MAY_USE_TILES, isa))
    assert (tier == targets.TIERS["amx"]) == bool(tiles)


@pytest.mark.parametrize("here", ["x86_64", "aarch64", "riscv64"])
@pytest.mark.parametrize("name", targets.names()[1:])
def test_any_host_compiles_for_any_target(name, here, monkeypatch):
    monkeypatch.setattr(targets, "machine", lambda: here)
    for model in (small_convnet(), small_mlp()):
        package = Package.open(pyneo.compile(model, name).to_bytes())
        assert package.manifest.target.name == name
        assert package.manifest.target.tier == targets.find(name).tier


def test_a_package_for_amx_names_what_it_needs_and_runs_where_that_is():
    package = pyneo.compile(small_convnet(), AMX)
    assert package.manifest.target.tier == "amx"
    assert set(package.manifest.target.isa) >= {"avx512f", "avx512_bf16", "amx_tile", "amx_bf16"}
    data, x = package.to_bytes(), np.random.default_rng(0).standard_normal((1, 3, 32, 32), dtype=np.float32)
    if targets.machine() == "x86_64" and targets.TIERS["amx"] == HOST:
        want = pyneo.Model.load(pyneo.compile(small_convnet(), "x86-64"), allow_unsigned=True).predict(x)
        got = pyneo.Model.load(data, allow_unsigned=True).predict(x)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    else:
        with pytest.raises(pyneo.TargetError, match=r"needs a CPU with amx|compiled for x86_64"):
            pyneo.Model.load(data, allow_unsigned=True)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="another machine refuses the architecture first")
@pytest.mark.parametrize("isa", ["portable", "avx2", "avx512"])
def test_a_package_for_amx_is_refused_below_it(isa):
    program = (
        "import sys, pyneo\n"
        "try: pyneo.Model.load(sys.stdin.buffer.read(), allow_unsigned=True)\n"
        "except pyneo.TargetError as e: print(e)\n"
    )
    said = run(program, isa, pyneo.compile(small_mlp(), AMX).to_bytes())
    here = verify.TIERS[min(HOST, targets.TIERS[isa])]
    assert f"the package needs a CPU with amx (target '{AMX}'), this one has {here}" in said
    assert "compile it for target='host'" in said
