# SPDX-License-Identifier: Apache-2.0
"""pyneo beside every other runtime that is installed, interleaved in one run.

    python benchmarks/compare.py                                    all models, 1 and 2 threads
    python benchmarks/compare.py resnet50 ds_cnn --threads 1 --json out.json --chart out.png
    python benchmarks/compare.py --onnx mine.onnx                   a model of your own (static shapes)

Each runtime has a process of its own for each model, pinned to as many CPUs as it gets threads; they take
turns of a fraction of a second, and who is not on turn is stopped. Latencies of different runs are
not comparable (neighbours, clocks), those within one run are. See docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import isa
import models
import numpy as np
import present
from peers import NAMES, peer

HERE = Path(__file__).resolve().parent

PREPARE_SECONDS = 900
PREPARE = "import sys; sys.path.insert(0, sys.argv[1]); from pathlib import Path; from peers import peer\n" \
    "print(peer(sys.argv[2]).prepare(Path(sys.argv[3]), Path(sys.argv[4])))"  # fmt: skip


class Refused(Exception):
    """A runtime cannot run a model; the message says why."""


@dataclass
class Result:
    """One runtime with one model and one number of threads. Times in milliseconds, memory in MB."""

    model: str
    threads: int
    runtime: str
    version: str
    import_ms: float
    load_ms: float
    peak_mb: float = 0.0
    error: float | None = None  # largest difference from the reference / largest magnitude of the reference
    runs: int = 0
    median_ms: float = 0.0
    p10_ms: float = 0.0
    p90_ms: float = 0.0


@dataclass
class Skip:
    model: str
    runtime: str
    reason: str


@dataclass
class Comparison:
    machine: dict[str, Any]
    results: list[Result] = field(default_factory=list)
    skipped: list[Skip] = field(default_factory=list)


class Process:
    """A worker.py; stopped except while it answers."""

    def __init__(self, runtime: str, model: Path, example: Path, threads: int, cpus: list[int]) -> None:
        self.runtime = runtime
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "worker.py"), runtime, str(model), str(example), str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, cpus),
        )  # fmt: skip

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.send_signal(signal.SIGCONT)
        try:
            self.process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise Refused(f"its process ended with status {self.process.wait()} while asked to {do}")
        self.process.send_signal(signal.SIGSTOP)
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer

    def end(self) -> None:
        self.process.send_signal(signal.SIGCONT)
        self.process.kill()
        self.process.wait()


def prepare(runtime: str, model: Path) -> Path:
    """Compiles or converts in a process of its own."""
    reason = peer(runtime).why_not(model)
    if reason:
        raise Refused(reason)
    command = [sys.executable, "-c", PREPARE, str(HERE), runtime, str(model), str(models.OUT)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PREPARE_SECONDS)
    except subprocess.TimeoutExpired:
        raise Refused(f"compiling or converting took longer than {PREPARE_SECONDS} s") from None
    if done.returncode != 0:
        raise Refused((done.stderr.strip().splitlines() or ["no message"])[-1])
    return Path(done.stdout.strip().splitlines()[-1])


def measure(name: str, model: Path, example: Path, options: argparse.Namespace, into: Comparison) -> None:
    """All runtimes with one model, at every number of threads."""
    usable = sorted(os.sched_getaffinity(0))
    files: dict[str, Path] = {}
    for runtime in options.runtimes:
        try:
            say(f"{name}: preparing {runtime}")
            files[runtime] = prepare(runtime, model)
        except Refused as e:
            into.skipped.append(Skip(name, runtime, str(e)))
    for threads in options.threads:
        processes: dict[str, Process] = {}
        results: dict[str, Result] = {}
        outputs: dict[str, list[np.ndarray]] = {}
        times: dict[str, list[float]] = {}
        with tempfile.TemporaryDirectory() as folder:
            try:
                for runtime, file in files.items():
                    say(f"{name}, {threads} thread(s): loading {runtime}")
                    processes[runtime] = p = Process(runtime, file, example, threads, usable[:threads])
                    try:
                        answer = p.ask("load")
                        saved = Path(folder) / f"{runtime}.npz"
                        p.ask("output", path=str(saved))
                    except Refused as e:
                        into.skipped.append(Skip(name, runtime, f"{threads} thread(s): {e}"))
                        processes.pop(runtime).end()
                        continue
                    results[runtime] = Result(name, threads, runtime, **answer)
                    with np.load(saved) as arrays:
                        outputs[runtime] = [arrays[k] for k in arrays.files]
                    times[runtime] = []
                for turn in range(options.rounds):
                    say(f"{name}, {threads} thread(s): round {turn + 1} of {options.rounds}")
                    order = list(results)
                    shift = turn % max(1, len(order))
                    for runtime in order[shift:] + order[:shift]:
                        times[runtime] += processes[runtime].ask("run", seconds=options.seconds, least=2)[
                            "ms"
                        ]
                for runtime, r in results.items():
                    r.peak_mb = processes[runtime].ask("memory")["peak_mb"]
            finally:
                for p in processes.values():
                    p.end()
        reference = outputs.get("onnxruntime")
        for runtime, r in results.items():
            r.runs = len(times[runtime])
            r.p10_ms, r.median_ms, r.p90_ms = (float(v) for v in np.percentile(times[runtime], [10, 50, 90]))
            r.error = None if reference is None else difference(outputs[runtime], reference)
            into.results.append(r)


def difference(found: list[np.ndarray], reference: list[np.ndarray]) -> float:
    """Largest difference over the reference's largest magnitude; infinite if counts or sizes differ.

    Shapes may differ by dims of 1: ncnn knows no batch.
    """
    if [y.size for y in found] != [r.size for r in reference]:
        return float("inf")
    worst = 0.0
    for y, r in zip(found, reference, strict=True):
        if r.size:
            d = np.abs(y.reshape(r.shape).astype(np.float64) - r.astype(np.float64)).max()
            worst = max(worst, float(d / max(float(np.abs(r).max()), 1e-30)))
    return worst


def say(text: str) -> None:
    """Progress, on one line of the terminal; nothing where stderr is a file."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def own_model(path: Path) -> Path:
    """Random inputs for a user's model, beside the benchmark models' ones."""
    import onnx
    from onnx import helper

    model = onnx.load(str(path), load_external_data=False)
    constant = {i.name for i in model.graph.initializer}
    rng, arrays = np.random.default_rng(7), {}
    for i in model.graph.input:
        if i.name in constant:
            continue
        dims = [d.dim_value for d in i.type.tensor_type.shape.dim]
        if not all(dims):
            raise SystemExit(f"{path}: input {i.name} has an open shape; export it with fixed dims")
        dtype = helper.tensor_dtype_to_np_dtype(i.type.tensor_type.elem_type)
        random = rng.standard_normal(dims) if dtype.kind == "f" else rng.integers(0, 2, dims)
        arrays[i.name] = random.astype(dtype)
    models.OUT.mkdir(parents=True, exist_ok=True)
    example = models.OUT / f"{path.stem}.inputs.npz"
    np.savez(example, **arrays)
    return example


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "models", nargs="*", metavar="MODEL", help=f"default: all of {', '.join(models.MODELS)}"
    )
    parser.add_argument("--onnx", type=Path, action="append", default=[], help="also this file (repeatable)")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--runtimes", nargs="+", default=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--rounds", type=int, default=10, help="turns of each runtime (default 10)")
    parser.add_argument(
        "--seconds", type=float, default=0.3, help="length of a turn, at least 2 runs (default 0.3)"
    )
    parser.add_argument("--isa", choices=list(isa.LEVELS), help="hide newer instruction sets from all")
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    parser.add_argument("--chart", type=Path, help="draw latencies relative to the best peer to this PNG")
    options = parser.parse_args(arguments)
    for name in options.models:
        if name not in models.MODELS:
            parser.error(f"no benchmark model named {name}; there are: {', '.join(models.MODELS)}")
    for name in options.runtimes:
        if name not in NAMES:
            parser.error(f"no runtime named {name}; there are: {', '.join(NAMES)}")
    cpus = len(os.sched_getaffinity(0))
    if max(options.threads) > cpus:
        parser.error(f"--threads {max(options.threads)}: this process may use {cpus} CPUs")
    return options


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    if options.isa:
        try:
            isa.restrict(options.isa, models.OUT)
        except RuntimeError as e:
            raise SystemExit(str(e)) from e
    comparison = Comparison(present.machine(options.isa))
    chosen = options.models or ([] if options.onnx else list(models.MODELS))
    for name in chosen:
        path, _ = models.build(name)
        measure(name, path, path.with_suffix(".npz"), options, comparison)
    for path in options.onnx:
        measure(path.stem, path, own_model(path), options, comparison)
    say("")
    summary = present.summarise(comparison)
    print(present.text(comparison, summary))
    if options.json:
        options.json.write_text(json.dumps({**asdict(comparison), "summary": summary}, indent=1) + "\n")
    if options.chart:
        present.chart(comparison, options.chart)
    return 0


if __name__ == "__main__":
    sys.exit(main())
