# SPDX-License-Identifier: Apache-2.0
"""A process of compare.py that holds one runtime with one model and computes when told.

Reads a JSON command a line from stdin, answers with one on the stdout it was started with:
    {"do": "load"}                         -> {"import_ms", "load_ms": load to first result, "version"}
    {"do": "run", "seconds": s, "least": n} -> {"ms": [one figure a run]}; one run before is not counted
    {"do": "output", "path": p}            -> {} ; the outputs, in order, in p
    {"do": "memory"}                       -> {"peak_mb": above python + numpy + the inputs}
A failure answers {"error": sentence}.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import isa
import numpy as np


def status_kb(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise KeyError(field)


class Worker:
    def __init__(self, runtime: str, model: Path, example: Path, threads: int) -> None:
        self.runtime, self.model, self.threads = runtime, model, threads
        with np.load(example) as arrays:
            self.inputs = {k: arrays[k] for k in arrays.files}
        self.base_kb = status_kb("VmRSS")

    def load(self) -> dict[str, Any]:
        from peers import peer

        start = time.perf_counter()
        adapter = peer(self.runtime)
        version = adapter.version()
        _import(self.runtime)
        imported = time.perf_counter()
        self.compute = adapter.load(self.model, self.threads, self.inputs)
        self.compute()
        done = time.perf_counter()
        return {"import_ms": (imported - start) * 1e3, "load_ms": (done - imported) * 1e3, "version": version}

    def run(self, seconds: float, least: int) -> dict[str, Any]:
        compute, clock, times = self.compute, time.perf_counter, []
        compute()
        end = clock() + seconds
        while len(times) < least or clock() < end:
            start = clock()
            compute()
            times.append((clock() - start) * 1e3)
        return {"ms": times}

    def output(self, path: str) -> dict[str, Any]:
        np.savez(path, *[np.asarray(y) for y in self.compute()])
        return {}

    def memory(self) -> dict[str, Any]:
        return {"peak_mb": (status_kb("VmHWM") - self.base_kb) / 1024}


def _import(runtime: str) -> None:
    """The runtime's import is reported by itself: a process pays it once, whatever it loads."""
    from importlib import import_module

    modules = {
        "litert": "ai_edge_litert.interpreter",
        "mnn": "MNN",
        "iree": "iree.runtime",
        "executorch": "executorch.extension.pybindings.portable_lib",
    }
    import_module(modules.get(runtime, runtime))


def main() -> None:
    # The runtimes may print; only answers go to the pipe.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    runtime, model, example, threads = sys.argv[1:5]
    isa.hide()
    worker = Worker(runtime, Path(model), Path(example), int(threads))
    for line in sys.stdin:
        command = json.loads(line)
        do = command.pop("do")
        try:
            answer = {
                "load": worker.load,
                "run": worker.run,
                "output": worker.output,
                "memory": worker.memory,
            }[do](**command)
        except Exception as e:  # whatever a runtime throws becomes a line of the table
            answer = {"error": f"{type(e).__name__}: {e}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
