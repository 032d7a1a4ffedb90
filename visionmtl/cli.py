"""The command line: ``visionmtl train|eval|predict|check-data|benchmark|zoo``; the scripts in ``tools/`` are the same.

Exit codes: 0 done; 1 a run that failed, or data that is wrong; 2 a usage mistake; 128 + signal after an interruption.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import torch


class Parser(argparse.ArgumentParser):
    """Usage mistakes are one line and exit code 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> None:
    """Run one command and exit."""
    parser = Parser(prog="visionmtl", description="Multi-task learning for dense prediction.")
    commands = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)
    for name, (add_arguments, run) in COMMANDS.items():
        command = commands.add_parser(name, help=run.__doc__, description=run.__doc__)
        add_arguments(command)
        command.set_defaults(run=run)
    arguments, rest = parser.parse_known_args(argv)
    misplaced = [item for item in rest if item.startswith("-") or not hasattr(arguments, "overrides")]
    if misplaced:
        parser.error(f"unrecognized arguments: {' '.join(misplaced)}")
    if rest:  # argparse takes only one group of positionals: overrides may also stand after options
        arguments.overrides += rest
    _exit(arguments)


def _exit(arguments: argparse.Namespace) -> NoReturn:
    from visionmtl.engine.errors import Interrupted, RunError, last_line

    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    try:
        sys.exit(arguments.run(arguments))
    except Interrupted as stop:
        print(f"visionmtl: {stop}", file=sys.stderr)
        sys.exit(stop.exit_code)
    except RunError as error:
        print(f"visionmtl: failed: {error}", file=sys.stderr)
        sys.exit(1)
    except ValueError as error:
        print(f"visionmtl: error: {last_line(error)}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


def pick_device(name: str) -> torch.device:
    """``auto`` takes CUDA, then MPS, then the CPU.

    Raises:
        ValueError: a device that this machine does not have.
    """
    import torch

    if name == "auto":
        name = "cuda:0" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"--device: {name!r} is not a device; give auto, cpu, cuda:0 or mps") from None
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not present.get(device.type, False) or (device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count()):
        raise ValueError(f"--device: {name!r} is not available on this machine; use --device cpu or auto")
    return device


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda:0 or mps")


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", help="YAML file, see configs/")
    parser.add_argument("overrides", nargs="*", metavar="key.sub=value", help="change the config")
    parser.add_argument("--output-dir", type=Path, help="the run folder (default: output_dir/<config>-<time>)")
    parser.add_argument("--resume", metavar="auto|PATH", help="continue from the last checkpoint, or from this one")
    parser.add_argument("--print-config", action="store_true", help="print the complete config and exit")
    parser.add_argument("--limit-batches", type=_positive, help="at most so many batches per epoch and evaluation")
    _add_device(parser)


def train(arguments: argparse.Namespace) -> int:
    """Train the model that a config describes."""
    from visionmtl.configfile import dump_config, load_config

    config = load_config(arguments.config, arguments.overrides)
    if arguments.print_config:
        print(dump_config(config), end="")
        return 0
    from rich.console import Console

    from visionmtl.engine import run

    run.train(
        config,
        Path(arguments.config).stem,
        output_dir=arguments.output_dir,
        resume=arguments.resume,
        device=pick_device(arguments.device),
        limit_batches=arguments.limit_batches,
        console=Console(),
    )
    return 0


Command = tuple[Callable[[argparse.ArgumentParser], None], Callable[[argparse.Namespace], int]]

COMMANDS: dict[str, Command] = {
    "train": (_train_arguments, train),
}


if __name__ == "__main__":
    main()
