"""Benchmarks: how fast a config reads data, predicts, trains and evaluates on this machine, and what it costs.

All weights are random, nothing is downloaded. A number is the median over repetitions after a warm-up, and
``quartiles`` holds the 25th and 75th percentile. Whatever is compared is measured in turn, in one run, so that other
work on the machine meets both sides alike.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from rich.console import Console

BUSY = 0.5
"""Load per core above which other work disturbs the numbers."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``visionmtl benchmark``."""
    parser.add_argument("config", help="YAML file, see configs/")
    parser.add_argument("overrides", nargs="*", metavar="key.sub=value", help="change the config")
    parser.add_argument("--only", metavar="A,B", help="measure these sections only, such as forward,sharing")
    parser.add_argument("--repeats", type=int, default=11, help="timed repetitions of every number (default: 11)")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the results to this file")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda:0 or mps")


def run(arguments: argparse.Namespace) -> int:
    """Run the benchmark, print the table and write the JSON file.

    Raises:
        ValueError: a wrong argument, config or data set.
        RunError: a section that failed, for example for want of memory.
    """
    from rich.console import Console

    from visionmtl.benchmark.sections import benchmark
    from visionmtl.benchmark.table import table
    from visionmtl.cli import pick_device
    from visionmtl.configfile import load_config
    from visionmtl.engine.errors import RunError, last_line
    from visionmtl.files import write_atomic

    if arguments.repeats < 1:
        raise ValueError(f"--repeats: must be at least 1, got {arguments.repeats}")
    out: Path | None = arguments.json
    if out is not None and (out.is_dir() or not out.absolute().parent.is_dir()):
        raise ValueError(f"--json: {str(out)!r} is not a file in an existing folder")
    config = load_config(arguments.config, arguments.overrides)
    device = pick_device(arguments.device)
    only = arguments.only.split(",") if arguments.only is not None else None
    console = Console()
    record = _record(arguments, device)
    _warn_if_busy(record["load_average"], console)
    with console.status("") as status:
        try:
            record["sections"] = benchmark(
                config,
                device,
                only=only,
                repeats=arguments.repeats,
                announce=lambda section: status.update(f"measuring {section}"),
            )
        except (OSError, RuntimeError) as error:
            raise RunError(last_line(error)) from error
    console.print(table(record))
    if out is not None:
        write_atomic(out, (json.dumps(record, indent=2) + "\n").encode())
    return 0


def _record(arguments: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """What the numbers depend on beside the code."""
    import torch

    from visionmtl.engine.environment import environment

    return {
        "config": arguments.config,
        "overrides": arguments.overrides,
        "repeats": arguments.repeats,
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
        "environment": environment(device),
    }


def _warn_if_busy(load: float, console: Console) -> None:
    if load > BUSY * (os.cpu_count() or 1):
        console.print(f"[yellow]the machine is busy (load {load:.1f}): times will be longer than on a quiet one")
