"""Results as a table for the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from visionmtl.metrics.multitask import Results
from visionmtl.types import TaskSpec


def format_table(results: Results, tasks: Sequence[TaskSpec]) -> Table:
    """A table for the terminal: one line per value, an arrow to its better side.

    The main metric of each task is in bold.
    """
    table = Table("task", "metric", "", "value")
    table.columns[-1].justify = "right"
    for task in tasks:
        _add_values(table, task, results[task.name])
        samples = results.get("samples", {})
        if task.name in samples:
            table.add_row("", "samples", "", f"{samples[task.name]} / {samples['total']}")
        table.add_section()
    return table


def _add_values(table: Table, task: TaskSpec, values: Mapping[str, Any]) -> None:
    """A line per value of a task; its name is in the first one."""
    metric = task.kind.metric
    label = task.name
    for key, higher in metric.higher_is_better_by_key.items():
        value = float(values[key])
        text = "n/a" if math.isnan(value) else f"{value:#.4g}"
        arrow = "↑" if higher else "↓"
        style = None
        if key == metric.headline:
            style = "bold"
        table.add_row(label, key, arrow, text, style=style)
        label = ""
