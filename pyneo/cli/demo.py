# SPDX-License-Identifier: Apache-2.0
"""`pyneo demo`: compile, sign, verify and run a small CNN on handwritten digits it never saw."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pyneo.cli.common import json_argument, print_json

if TYPE_CHECKING:
    from pyneo import Model

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]


HELP = "the whole road on handwritten digits: compile, sign, verify, predict, refuse a broken copy"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--out", type=Path, default=Path("pyneo-demo"), help="folder for keys, package, picture"
    )
    json_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Exit status 0 if accuracy is the reference's and the broken copies were refused, else 1."""
    import pyneo
    from pyneo.data import DIGITS

    def say(text: str) -> None:
        if not args.json:
            print(text, flush=True)

    images, labels = _held_out_digits()
    out: Path = args.out
    out.mkdir(parents=True, exist_ok=True)
    package_path = out / "digits.neo"

    say(f"1. compile {DIGITS.name}, a CNN trained by examples/train_digits.py, for this machine")
    start = time.perf_counter()
    package = pyneo.compile(DIGITS, target="host", shapes={"image": (1, 1, 8, 8)}, progress=False)
    compile_s = time.perf_counter() - start
    say(_indent(str(package.report())))

    say("2. sign it")
    keys = pyneo.keygen(out / "publisher", force=True)
    package.save(package_path, key=keys.key)
    say(f"   {package_path} ({package_path.stat().st_size:,} bytes), signed with {keys.key}")

    say(f"3. verify it against {keys.pub}, and load it")
    start = time.perf_counter()
    model = pyneo.Model.load(package_path, trust=keys.pub, threads=1)
    load_ms = (time.perf_counter() - start) * 1e3
    say(f"   signature, digests, plan: sound; loaded in {load_ms:.1f} ms")

    say(f"4. predict the {len(images)} digits that training never saw")
    logits = np.concatenate([model.predict(x) for x in images[:, None]])
    right = logits.argmax(1) == labels
    reference = _reference(DIGITS, images)
    latency = _latencies(model, images[:1])
    session = model.session()
    figures: dict[str, Any] = {
        "images": len(images),
        "accuracy": float(right.mean()),
        "reference_accuracy": None,
        "largest_difference": None,
        "latency_us": {
            q: float(np.percentile(latency, p)) for q, p in [("p10", 10), ("median", 50), ("p90", 90)]
        },
        "compile_s": compile_s,
        "load_ms": load_ms,
        "package_bytes": package_path.stat().st_size,
        "memory": session.memory,
    }
    say(f"   accuracy  {right.mean():.2%} ({int(right.sum())} of {len(right)})")
    if reference is None:
        say("   reference not installed: pip install onnxruntime to compare")
        agrees = True
    else:
        figures["reference_accuracy"] = float((reference.argmax(1) == labels).mean())
        figures["largest_difference"] = float(np.abs(logits - reference).max())
        agrees = bool(np.array_equal(reference.argmax(1), logits.argmax(1)))
        say(f"   reference {figures['reference_accuracy']:.2%} (onnxruntime), largest difference of a logit "
            f"{figures['largest_difference']:.1e}")  # fmt: skip
    us = figures["latency_us"]
    spread = f"p10 {us['p10']:.1f}, p90 {us['p90']:.1f}"
    say(f"   latency   {us['median']:.1f} us an image from Python, one thread ({spread})")
    say(
        "   memory    "
        + ", ".join(f"{k.removesuffix('_bytes')} {v:,} bytes" for k, v in figures["memory"].items())
    )

    picture = figures["picture"] = _draw(out / "digits.png", images, labels, logits)
    say(f"5. a few of them, the least certain first: {picture or 'no picture, pip install matplotlib'}")

    say("6. flip one bit of a weight, and trust another key")
    figures["refused"] = _attacks(package_path, keys.pub, out)
    for what, refusal in figures["refused"].items():
        say(f"   {what}: {refusal or 'ACCEPTED'}")
    refused = all(figures["refused"].values())
    if args.json:
        print_json(figures)
    elif agrees and refused:
        say("All as it should be.")
    else:
        say(
            "FAILED: "
            + ("a broken package was accepted" if not refused else "predictions differ from the reference's")
        )
    return 0 if agrees and refused else 1


def _held_out_digits() -> tuple[Floats, Ints]:
    """Images (n, 1, 8, 8) with values 0..16, and what they show."""
    from pyneo.data import held_out
    from pyneo.errors import Error

    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise Error("the demo reads its digits from scikit-learn: pip install scikit-learn") from None
    digits = load_digits()
    mask = held_out(len(digits.target))
    images = np.ascontiguousarray(digits.images[mask][:, None], np.float32)
    return images, digits.target[mask].astype(np.int64)


def _reference(path: Path, images: Floats) -> Floats | None:
    try:
        import onnxruntime
    except ImportError:
        return None
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found: Floats = session.run(None, {"image": images})[0]
    return found


def _latencies(model: Model, x: Floats, runs: int = 3000) -> npt.NDArray[np.float64]:
    """Microseconds of each of `runs` predictions, after some to warm up."""
    times = np.empty(runs + 200)
    clock = time.perf_counter
    for i in range(len(times)):
        start = clock()
        model.predict(x)
        times[i] = clock() - start
    return times[200:] * 1e6


def _draw(path: Path, images: Floats, labels: Ints, logits: Floats) -> str | None:
    """Writes a picture of 24 digits with predictions; its path, None without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return None
    scaled = np.exp(logits - logits.max(1, keepdims=True))
    probability = scaled / scaled.sum(1, keepdims=True)
    shown = np.argsort(probability.max(1), kind="stable")[:24]
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    for axes, i in zip(figure.subplots(3, 8).flat, shown, strict=True):
        guess = int(probability[i].argmax())
        axes.imshow(images[i, 0], cmap="gray_r", interpolation="nearest")
        axes.set_title(f"{guess} ({probability[i, guess]:.0%})", fontsize=10,
                       color="tab:green" if guess == labels[i] else "tab:red")  # fmt: skip
        axes.set_axis_off()
    figure.savefig(path, dpi=110)
    return str(path)


def _attacks(package: Path, trusted: str, out: Path) -> dict[str, str | None]:
    """What was tried, and the sentence with which it was refused (None: it was not)."""
    import pyneo

    data = bytearray(package.read_bytes())
    sections = pyneo.Package.open(package, trust=trusted).inspect()["sections"]
    weights = next(s for s in sections if s["name"] == "weights")
    data[weights["offset"] + weights["bytes"] // 2] ^= 1
    broken = out / "digits-broken.neo"
    broken.write_bytes(data)
    stranger = pyneo.keygen(out / "stranger", force=True)
    found: dict[str, str | None] = {}
    for what, path, key in [("one bit flipped", broken, trusted), ("another key", package, stranger.pub)]:
        try:
            pyneo.Model.load(path, trust=key).close()
            found[what] = None
        except pyneo.SignatureError as e:
            found[what] = f"{type(e).__name__}: {e}"
    return found


def _indent(text: str) -> str:
    return "\n".join(f"   {line}" for line in text.splitlines())
