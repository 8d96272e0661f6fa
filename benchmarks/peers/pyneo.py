# SPDX-License-Identifier: Apache-2.0
"""pyneo itself: compiled for this machine and signed beforehand; loading verifies the signature."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from peers import Run


def version() -> str:
    import pyneo

    return pyneo.__version__


def why_not(model: Path) -> str | None:
    try:
        import pyneo  # noqa: F401
    except ImportError as e:
        return f"pyneo is not built or not on the path ({e}): pip install ."
    return None


def prepare(model: Path, out: Path) -> Path:
    import compileall

    import pyneo

    # The peers were installed, with byte code; a source tree may have none yet.
    compileall.compile_dir(str(Path(pyneo.__file__).parent), quiet=1)
    key = out / "benchmark"
    if not key.with_suffix(".key").exists():
        pyneo.keygen(key)
    path = out / (model.stem + ".neo")
    package = pyneo.compile(model, target="host", progress=False)
    package.save(path, key=key.with_suffix(".key"))
    return path


def load(path: Path, threads: int, inputs: dict[str, np.ndarray]) -> Run:
    import pyneo

    model = pyneo.Model.load(path, trust=path.with_name("benchmark.pub"), threads=threads)
    arrays = [inputs[t.name] for t in model.inputs]
    if len(model.outputs) == 1:
        return lambda: [model.predict(*arrays)]
    return lambda: list(model.predict(*arrays))
