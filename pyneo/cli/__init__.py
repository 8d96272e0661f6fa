# SPDX-License-Identifier: Apache-2.0
"""The `pyneo` command: one module for each sub-command.

A command is a module here with HELP (one line), arguments(parser) and run(args) -> exit code, whose name
is in COMMANDS. Its heavy imports belong into run. Exit codes: 0 done, 1 refused or failed, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from typing import Any

COMMANDS = ("keygen", "compile", "tune", "sign", "verify", "inspect", "run", "bench", "demo")

_EPILOG = """examples:
  pyneo keygen publisher
  pyneo compile model.onnx -o model.neo --key publisher.key
  pyneo run model.neo --trust publisher.pub --input x.npy
"""


def make_parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    import pyneo

    parser = argparse.ArgumentParser(
        prog="pyneo",
        description="Compile a model once, sign it, run it fast on any CPU.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"pyneo {pyneo.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    for name in COMMANDS:
        module = import_module(f"pyneo.cli.{name}")
        command = commands.add_parser(name, help=module.HELP, description=module.__doc__)
        module.arguments(command)
        command.set_defaults(run=module.run)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command line and returns the exit code; sentences about failures go to standard error."""
    from pyneo.errors import Error

    args = make_parser().parse_args(argv)
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            return int(args.run(args))
        except BrokenPipeError:  # the reader of a pipe, such as head, has left
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except (Error, OSError, ValueError, ImportError) as e:
            print(f"pyneo: error: {e}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            print("pyneo: interrupted", file=sys.stderr)
            return 130


def _show_warning(message: Any, *_: Any, **__: Any) -> None:
    print(f"pyneo: warning: {message}", file=sys.stderr)
