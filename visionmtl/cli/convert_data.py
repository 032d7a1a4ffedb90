"""``visionmtl convert-data``."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from visionmtl._console import say
from visionmtl.data.convert import convert
from visionmtl.engine.datasets import open_source


def run(arguments: argparse.Namespace) -> int:
    """Convert a data set; exit code 1 if a sample could not be read.

    Raises:
        ValueError: no such data set, split or task, or a destination that is not empty.
    """
    console = Console()
    destination: Path = arguments.destination
    splits = open_source(arguments.source)
    wanted = arguments.splits or list(splits)
    unknown = [split for split in wanted if split not in splits]
    if unknown:
        raise ValueError(f"--splits: unknown splits {unknown}; the data set has {list(splits)}")
    chosen = {split: splits[split] for split in wanted}
    source = Path(arguments.source).resolve()
    name = source.stem
    if source.is_dir():
        name = source.name
    faults = convert(chosen, destination, name, arguments.tasks)
    for sample, reason in faults:
        say(console, f"left out: {sample}: {reason}", "red")
    say(console, f"data set {destination}, see it with: visionmtl check-data {destination}")
    return int(bool(faults))
