# SPDX-License-Identifier: Apache-2.0
"""What `import pyneo` offers, and what it does not drag in."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import pyneo

ROOT = Path(__file__).parent.parent
PUBLIC = sorted(
    {"CompileError", "Error", "ExpiredError", "InputError", "InputTypeError", "Model", "ModelError",
     "OutOfMemoryError", "Package", "PackageError", "RollbackError", "SignatureError", "TargetError",
     "TrustStore", "__version__", "compile", "keygen"}
)  # fmt: skip


def modules_after(program: str) -> set[str]:
    """Names of the modules a fresh interpreter has loaded after the program."""
    end = "\nimport sys; print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", program + end], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return set(done.stdout.split())


def test_the_public_names_are_these_and_no_others():
    assert PUBLIC == dir(pyneo) == sorted(pyneo.__all__)
    for name in PUBLIC:
        assert getattr(pyneo, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'predict'; it has"):
        _ = pyneo.predict


def test_one_version_everywhere():
    from pyneo import _core

    stated = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.M)
    built = re.search(r"project\(pyneo VERSION ([0-9.]+)", (ROOT / "CMakeLists.txt").read_text())
    assert stated and built
    assert pyneo.__version__ == _core.__version__ == stated[1] == built[1]


def test_importing_pyneo_imports_next_to_nothing():
    added = modules_after("import numpy, pyneo") - modules_after("import numpy")
    assert added <= {"__future__", "pyneo", "pyneo.errors"}


def test_a_device_imports_no_compiler_and_no_cryptography_until_it_verifies():
    found = modules_after("import numpy, pyneo; pyneo.Model")
    for name in (
        "onnx",
        "cryptography",
        "hashlib",
        "_hashlib",
        "rich",
        "matplotlib",
        "pyneo.compiler",
        "argparse",
    ):
        assert name not in found


def test_verifying_imports_ed25519_and_not_all_of_cryptography(tmp_path):
    from tests.package import forge

    path = tmp_path / "m.neo"
    path.write_bytes(forge.relu())
    (tmp_path / "p.pub").write_bytes(forge.KEY.public.to_pem())
    found = modules_after(f"import pyneo; pyneo.Model.load({str(path)!r}, trust={str(tmp_path / 'p.pub')!r})")
    assert "cryptography.hazmat.primitives.asymmetric.ed25519" in found
    assert "cryptography.hazmat.primitives.serialization" not in found
    assert "_hashlib" not in found  # a second OpenSSL
    assert "pyneo.compiler" not in found


def test_every_error_is_a_pyneo_error_and_of_its_builtin_kind():
    for name in PUBLIC:
        if name.endswith("Error"):
            assert issubclass(getattr(pyneo, name), pyneo.Error)
    assert issubclass(pyneo.InputError, ValueError) and issubclass(pyneo.InputTypeError, TypeError)
    assert issubclass(pyneo.OutOfMemoryError, MemoryError)
    assert issubclass(pyneo.RollbackError, pyneo.SignatureError) and issubclass(
        pyneo.TargetError, pyneo.PackageError
    )
