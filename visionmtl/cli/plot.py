"""``visionmtl plot``."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console

from visionmtl._console import say
from visionmtl._files import write_atomic
from visionmtl.analysis.plot import draw_run
from visionmtl.cli.outputs import check_file


def run(arguments: argparse.Namespace) -> int:
    """Draw the picture of a run.

    Raises:
        ValueError: the folder has no metrics, or the picture cannot be put where it should.
    """
    folder: Path = arguments.folder
    check_file("--output", arguments.output)
    output: Path = arguments.output or folder / "plot.png"
    write_atomic(output, draw_run(folder))
    say(Console(), f"picture {output}")
    return 0
