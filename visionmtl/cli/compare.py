"""``visionmtl compare``."""

from __future__ import annotations

import argparse

from rich.console import Console

from visionmtl._console import say
from visionmtl._files import write_atomic
from visionmtl.analysis.compare.gains import compare
from visionmtl.analysis.compare.groups import choose_baseline, group_runs
from visionmtl.analysis.compare.reading import read_run
from visionmtl.analysis.compare.table import markdown, rich_table, sentences, tables
from visionmtl.cli.outputs import check_file, write_json


def run(arguments: argparse.Namespace) -> int:
    """Read the runs, print the tables and write the files.

    Raises:
        ValueError: a run that cannot be compared, or a baseline that does not fit the others.
    """
    check_file("--output", arguments.output)
    check_file("--json", arguments.json)
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
        write_json(arguments.json, comparison.to_dict())
    return 0
