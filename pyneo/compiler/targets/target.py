# SPDX-License-Identifier: Apache-2.0
"""Targets: the kinds of machine a model can be compiled for, each a row of targets.toml beside this file."""

from __future__ import annotations

import platform
import sys
from dataclasses import dataclass
from importlib import resources
from typing import Any

from pyneo import _core
from pyneo.errors import TargetError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TIERS = {"portable": 0, "avx2": 1, "avx512": 2, "amx": 3}


def block_of(tier: str) -> int:
    """Channels of a block in the layouts of a tier."""
    return 16 if TIERS[tier] >= TIERS["avx512"] else 8


@dataclass(frozen=True)
class Target:
    """A machine as the compiler sees it: architecture, ISA tier of its kernels, cores and caches (bytes)."""

    name: str
    arch: str
    tier: str
    cores: int
    l1_bytes: int
    l2_bytes: int
    l3_bytes: int

    @property
    def block(self) -> int:
        """Channels of a block in this target's layouts."""
        return block_of(self.tier)

    @property
    def runs_here(self) -> bool:
        """Whether this machine can run what is compiled for the target."""
        here = host()
        return self.arch == here.arch and TIERS[self.tier] <= TIERS[here.tier]

    @property
    def native(self) -> dict[str, int]:
        """The target as the core takes it."""
        return {
            "tier": TIERS[self.tier],
            "foreign": int(self.arch != machine()),
            "cores": self.cores,
            "l1_bytes": self.l1_bytes,
            "l2_bytes": self.l2_bytes,
            "l3_bytes": self.l3_bytes,
        }


def _table() -> dict[str, dict[str, Any]]:
    return tomllib.loads((resources.files(__package__) / "targets.toml").read_text(encoding="utf-8"))


def names() -> list[str]:
    """Every target name that `find` knows."""
    return ["host", *_table()]


def host() -> Target:
    """This machine, with the tier that PYNEO_ISA may have lowered."""
    native = _core.host_target()
    number = native.pop("tier")
    tier = next(name for name, n in TIERS.items() if n == number)
    return Target("host", machine(), tier, **native)


def machine() -> str:
    """Architecture name of this machine: x86_64, aarch64, ..."""
    found = platform.machine().lower()
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(found, found)


def find(name: str) -> Target:
    """The target of that name; TargetError lists the known ones."""
    if name == "host":
        return host()
    table = _table()
    if name not in table:
        raise TargetError(f"target '{name}' is unknown; known targets are {', '.join(names())}")
    return Target(name=name, **table[name])
