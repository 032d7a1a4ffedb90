"""Comparing finished runs: did sharing or balancing help, or is it the noise of the seeds?

Run folders -> ``Run`` (reading) -> ``Group`` of seeds (groups) -> gains over the baseline (gains)
-> tables.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``visionmtl compare``."""
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="folders of finished runs"
    )
    parser.add_argument(
        "--baseline",
        required=True,
        metavar="PATTERN",
        help="what the others are compared with: name of a group or of one of its run folders, * and ? allowed; "
        "single-task runs that cover all tasks together are one baseline",
    )
    parser.add_argument(
        "--output", type=Path, metavar="MD", help="write the tables to this file as Markdown"
    )
    parser.add_argument("--json", type=Path, metavar="OUT", help="write all numbers to this file")


def run(arguments: argparse.Namespace) -> int:
    """Read the runs, print the tables and write the files.

    Raises:
        ValueError: a run that cannot be compared, or a baseline that does not fit the others.
    """
    from rich.console import Console

    from visionmtl._console import say
    from visionmtl._files import write_atomic
    from visionmtl.analysis.compare.gains import compare
    from visionmtl.analysis.compare.groups import choose_baseline, group_runs
    from visionmtl.analysis.compare.reading import read_run
    from visionmtl.analysis.compare.table import markdown, rich_table, sentences, tables

    for option in ("output", "json"):
        path: Path | None = getattr(arguments, option)
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            raise ValueError(f"--{option}: {str(path)!r} is not a file in an existing folder")
    groups = group_runs([read_run(folder) for folder in arguments.runs])
    comparison = compare(groups, choose_baseline(groups, arguments.baseline))
    console = Console()
    for table in tables(comparison):
        console.print(rich_table(table))
    for line in sentences(comparison):
        say(console, f"- {line}")
    if arguments.output is not None:
        write_atomic(arguments.output, markdown(comparison).encode())
    if arguments.json is not None:
        write_atomic(arguments.json, (json.dumps(comparison.to_dict(), indent=2) + "\n").encode())
    return 0
