"""The command line:
``visionmtl train|eval|predict|check-data|convert-data|benchmark|compare|inspect|plot|zoo``.

The scripts in ``tools/`` are the same.

Exit codes: 0 done; 1 a run that failed, or data that is wrong; 2 a usage mistake; 128 + signal
after an interruption.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from visionmtl._errors import Interrupted, RunError, last_line
from visionmtl._plugins import load_plugins
from visionmtl.cli.arguments import build_parser

PROFILER = {"KINETO_LOG_LEVEL": "99", "TORCH_CPP_LOG_LEVEL": "ERROR"}
"""Environment in which torch's profiler says nothing; torch reads it when it is imported."""


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run one command and exit."""
    arguments = parse(argv)
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # no look for a newer version
    if arguments.command == "benchmark" and arguments.balancing:
        for name, value in PROFILER.items():
            os.environ.setdefault(name, value)
    sys.exit(_run(arguments))


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse a command line; exits with code 2 after a usage mistake.

    argparse takes only one group of positionals, but overrides may also stand after options.
    """
    arguments, rest = build_parser().parse_known_args(argv)
    takes_more = hasattr(arguments, "overrides")
    misplaced = [item for item in rest if item.startswith("-") or not takes_more]
    if misplaced:
        arguments.parser.error(f"unrecognized arguments: {' '.join(misplaced)}")
    if takes_more:
        arguments.overrides += rest
    return arguments


def _run(arguments: argparse.Namespace) -> int:
    """The exit code of a command, whose module is imported here and not before."""
    try:
        load_plugins(arguments.plugins)
        command = import_module(f"visionmtl.cli.{arguments.command.replace('-', '_')}")
        code: int = command.run(arguments)
    except Interrupted as stop:
        _complain(str(stop))
        return stop.exit_code
    except RunError as error:
        _complain(f"failed: {error}")
        return 1
    except OSError as error:  # a folder that cannot be written, a download that failed
        _complain(f"failed: {last_line(error)}")
        return 1
    except ValueError as error:
        _complain(*(f"error: {line}" for line in _mistakes(error)))
        return 2
    except KeyboardInterrupt:
        return 130
    return code


def _mistakes(error: ValueError) -> list[str]:
    """The lines of an error that lists several mistakes; of others, its one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) < 2 or lines[0].startswith("Caught "):  # the traceback of a loader process
        return [last_line(error)]
    return lines


def _complain(*messages: str) -> None:
    """Lines on stderr, in one write: those of several processes must not mix."""
    rank = ""
    if os.environ.get("WORLD_SIZE", "1") != "1":
        rank = f"[rank {os.environ.get('RANK')}] "
    sys.stderr.write("".join(f"{rank}visionmtl: {message}\n" for message in messages))


if __name__ == "__main__":
    main()
