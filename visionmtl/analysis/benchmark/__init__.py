"""Benchmarks: how fast a config reads data, predicts, trains and evaluates on this machine, and
what it costs.

With ``--balancing``: what balancing the gradients costs, on a network of its own.

All weights are random, nothing is downloaded. A number is the median over repetitions after a
warm-up, and ``quartiles`` holds the 25th and 75th percentile. Whatever is compared is measured in
turn, in one run, so that other work on the machine meets both sides alike.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from rich.console import Console

BUSY = 0.5
"""Load per core above which other work disturbs the numbers."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``visionmtl benchmark``."""
    parser.add_argument("config", nargs="?", help="YAML file, see configs/")
    parser.add_argument("overrides", nargs="*", metavar="key.sub=value", help="change the config")
    parser.add_argument(
        "--only", metavar="A,B", help="measure these sections only, such as forward,sharing"
    )
    parser.add_argument(
        "--balancing",
        action="store_true",
        help="measure a training step under gradient balancing instead, on a network of its own, without a config",
    )
    parser.add_argument(
        "--repeats", type=int, default=11, help="timed repetitions of every number (default: 11)"
    )
    parser.add_argument("--json", type=Path, metavar="OUT", help="write the results to this file")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda:0 or mps")


def run(arguments: argparse.Namespace) -> int:
    """Run the benchmark, print the table and write the JSON file.

    Raises:
        ValueError: a wrong argument, config or data set.
        RunError: a section that failed, for example for want of memory.
    """
    if (
        arguments.balancing
    ):  # what torch's profiler says is not for users; read when torch is loaded
        os.environ.setdefault("KINETO_LOG_LEVEL", "99")
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from rich.console import Console

    from visionmtl._errors import RunError, last_line
    from visionmtl._files import write_atomic
    from visionmtl.analysis.benchmark.table import table
    from visionmtl.cli.main import pick_device

    _check(arguments)
    device = pick_device(arguments.device)
    console = Console()
    record = _record(arguments, device)
    measure = _balancing if arguments.balancing else _config
    _warn_if_busy(record["load_average"], console)
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
        write_atomic(arguments.json, (json.dumps(record, indent=2) + "\n").encode())
    return 0


def _check(arguments: argparse.Namespace) -> None:
    if arguments.repeats < 1:
        raise ValueError(f"--repeats: must be at least 1, got {arguments.repeats}")
    out: Path | None = arguments.json
    if out is not None and (out.is_dir() or not out.absolute().parent.is_dir()):
        raise ValueError(f"--json: {str(out)!r} is not a file in an existing folder")
    if not arguments.balancing and arguments.config is None:
        raise ValueError("benchmark: give a config (see configs/), or --balancing")
    if arguments.balancing and (arguments.config is not None or arguments.only is not None):
        raise ValueError(
            "--balancing: measures a network of its own; leave out the config and --only"
        )


Announce = Callable[[str], None]
Results = tuple[dict[str, Any], dict[str, Any]]
"""What goes to the JSON file, and the same as sections of the table."""


def _config(arguments: argparse.Namespace, device: torch.device, announce: Announce) -> Results:
    from visionmtl.analysis.benchmark.sections import benchmark
    from visionmtl.config.load import load_config

    config = load_config(arguments.config, arguments.overrides)
    only = arguments.only.split(",") if arguments.only is not None else None
    sections = benchmark(config, device, only=only, repeats=arguments.repeats, announce=announce)
    return {"sections": sections}, sections


def _balancing(arguments: argparse.Namespace, device: torch.device, announce: Announce) -> Results:
    from visionmtl.analysis.benchmark.balancing import measure_balancing

    announce("balancing")
    results = measure_balancing(device, arguments.repeats)
    installed = {name: ratio for name, ratio in results["balancing"].items() if ratio is not None}
    ratios = {**installed, "quartiles": results["quartiles"]}
    sections = {
        "step over equal weighting": ratios,
        **{key: results[key] for key in ("step_ms", "memory_mib")},
    }
    return results, sections


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
        console.print(
            f"[yellow]the machine is busy (load {load:.1f}): times will be longer than on a quiet one"
        )
