# SPDX-License-Identifier: Apache-2.0
"""pyneo: compile a model once, sign it, run it fast on any CPU.

    pyneo.keygen("publisher")
    pyneo.compile("model.onnx", target="host").save("model.neo", key="publisher.key")
    y = pyneo.Model.load("model.neo", trust="publisher.pub").predict(x)

Everything is imported when it is first used: a device that only runs models imports no compiler.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyneo.errors import (
    CompileError,
    Error,
    ExpiredError,
    InputError,
    InputTypeError,
    ModelError,
    OutOfMemoryError,
    PackageError,
    RollbackError,
    SignatureError,
    TargetError,
)

if TYPE_CHECKING:
    from pyneo.compiler.driver import compile
    from pyneo.model import Model
    from pyneo.package.package import Package
    from pyneo.package.signing.keys import keygen
    from pyneo.package.signing.trust import TrustStore

__version__ = "0.1.0"

__all__ = [
    "CompileError",
    "Error",
    "ExpiredError",
    "InputError",
    "InputTypeError",
    "Model",
    "ModelError",
    "OutOfMemoryError",
    "Package",
    "PackageError",
    "RollbackError",
    "SignatureError",
    "TargetError",
    "TrustStore",
    "__version__",
    "compile",
    "keygen",
]

_LAZY = {
    "compile": "pyneo.compiler.driver",
    "Model": "pyneo.model",
    "Package": "pyneo.package.package",
    "TrustStore": "pyneo.package.signing.trust",
    "keygen": "pyneo.package.signing.keys",
}


if not TYPE_CHECKING:  # a type checker would take every unknown name for an object

    def __getattr__(name: str) -> object:
        module = _LAZY.get(name)
        if module is None:
            raise AttributeError(f"module 'pyneo' has no attribute {name!r}; it has {', '.join(__all__)}")
        from importlib import import_module

        value = getattr(import_module(module), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
