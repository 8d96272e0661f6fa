# SPDX-License-Identifier: Apache-2.0
"""Run a package once on arrays of .npy files."""

from __future__ import annotations

import argparse
import os
from typing import Any

from pyneo.cli.common import json_argument, load, model_arguments, pairs, print_json

HELP = "run a package on .npy files"


def arguments(parser: argparse.ArgumentParser) -> None:
    model_arguments(parser)
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="[NAME=]NPY",
        help="an input; by name, or in the model's order",
    )
    parser.add_argument(
        "-o", "--output", metavar="NPY", help="write the output here (.npz if there are several)"
    )
    json_argument(parser)


def run(args: argparse.Namespace) -> int:
    import numpy as np

    with load(args) as model:
        named = [text for text in args.input if "=" in text and not os.path.exists(text)]
        if named and len(named) != len(args.input):
            raise ValueError("give every --input a name, or none of them")
        if named:
            given = {name: _read(path) for name, path in pairs(named, "--input").items()}
            outputs: dict[str, Any] = model.predict(given)
        else:
            found = model.predict(*[_read(path) for path in args.input])
            listed = found if isinstance(found, tuple) else (found,)
            outputs = {t.name: y for t, y in zip(model.outputs, listed, strict=True)}
    if args.output:
        if len(outputs) == 1 and not args.output.endswith(".npz"):
            with open(args.output, "wb") as f:
                np.save(f, _columns(next(iter(outputs.values()))))
        else:
            np.savez(args.output, **{name: _columns(y) for name, y in outputs.items()})
    if args.json:
        shown = {
            name: {"dtype": y.dtype.name, "shape": list(y.shape)} if hasattr(y, "dtype") else {}
            for name, y in outputs.items()
        }
        if not args.output:
            for name, y in outputs.items():
                shown[name]["data"] = y.tolist() if hasattr(y, "dtype") else y
        print_json(shown)
    else:
        for name, y in outputs.items():
            if not hasattr(y, "dtype"):  # rows as dicts
                print(f"{name}: {y}")
                continue
            print(f"{name}: {y.dtype.name} {list(y.shape)}")
            if not args.output:
                print(np.array2string(y, threshold=64, precision=6))
    return 0


def _columns(y: Any) -> Any:
    """An output as an array: rows that are dicts without their keys."""
    return y if hasattr(y, "dtype") else [list(row.values()) for row in y]


def _read(path: str) -> Any:
    import numpy as np

    try:
        found = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as e:
        raise ValueError(f"{path} is no .npy file: {e}") from None
    if not isinstance(found, np.ndarray):
        raise ValueError(f"{path} holds several arrays; --input takes a .npy file with one")
    return found
