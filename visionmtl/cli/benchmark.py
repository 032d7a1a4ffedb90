"""``visionmtl benchmark``."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console

from visionmtl._errors import RunError, last_line
from visionmtl.analysis.benchmark.balancing import measure_balancing
from visionmtl.analysis.benchmark.sections import benchmark
from visionmtl.analysis.benchmark.table import table
from visionmtl.cli.outputs import check_file, write_json
from visionmtl.config.load import load_config
from visionmtl.engine.device import pick_device
from visionmtl.engine.environment import environment

BUSY = 0.5
"""Load per core above which other work disturbs the numbers."""
Announce = Callable[[str], object]
"""Called with the name of each section before it starts."""
Results = tuple[dict[str, Any], dict[str, Any]]
"""What goes to the JSON file, and the same as sections of the table."""


def run(arguments: argparse.Namespace) -> int:
    """Run the benchmark, print the table and write the JSON file.

    Raises:
        ValueError: a wrong argument, config or data set.
        RunError: a section that failed, for example for want of memory.
    """
    _check(arguments)
    device = pick_device(arguments.device)
    console = Console()
    record = _record(arguments, device)
    _warn_if_busy(record["load_average"], console)
    measure = _measure_config
    if arguments.balancing:
        measure = _measure_balancing
    with console.status("") as status:
        try:
            results, sections = measure(
                arguments, device, lambda section: status.update(f"measuring {section}")
            )
        except (OSError, RuntimeError) as error:
            raise RunError(last_line(error)) from error
    record |= results
    console.print(table({**record, "sections": sections}))
    if arguments.json is not None:
        write_json(arguments.json, record)
    return 0


def _check(arguments: argparse.Namespace) -> None:
    if arguments.repeats < 1:
        raise ValueError(f"--repeats: must be at least 1, got {arguments.repeats}")
    check_file("--json", arguments.json)
    if not arguments.balancing and arguments.config is None:
        raise ValueError("benchmark: give a config (see configs/), or --balancing")
    if arguments.balancing and (arguments.config is not None or arguments.only is not None):
        raise ValueError(
            "--balancing: measures a network of its own; leave out the config and --only"
        )


def _measure_config(
    arguments: argparse.Namespace, device: torch.device, announce: Announce
) -> Results:
    config = load_config(arguments.config, arguments.overrides)
    only = None
    if arguments.only is not None:
        only = arguments.only.split(",")
    sections = benchmark(config, device, only=only, repeats=arguments.repeats, announce=announce)
    return {"sections": sections}, sections


def _measure_balancing(
    arguments: argparse.Namespace, device: torch.device, announce: Announce
) -> Results:
    announce("balancing")
    results = measure_balancing(device, arguments.repeats)
    ratios = {name: ratio for name, ratio in results["balancing"].items() if ratio is not None}
    sections = {
        "step over equal weighting": {**ratios, "quartiles": results["quartiles"]},
        "step_ms": results["step_ms"],
        "memory_mib": results["memory_mib"],
    }
    return results, sections


def _record(arguments: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """What the numbers depend on beside the code."""
    return {
        "config": arguments.config,
        "overrides": arguments.overrides,
        "repeats": arguments.repeats,
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
        "environment": environment(device),
    }


def _warn_if_busy(load: float, console: Console) -> None:
    cores = os.cpu_count() or 1
    if load > BUSY * cores:
        console.print(
            f"[yellow]the machine is busy (load {load:.1f}): "
            "times will be longer than on a quiet one"
        )
