"""A comparison for people: tables for the terminal and in Markdown, and what must be known to read
them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from rich import table as rich_tables
from rich.markup import escape

from visionmtl.analysis.compare.gains import CONVENTIONS, Comparison
from visionmtl.analysis.compare.groups import Group
from visionmtl.analysis.compare.spread import Spread
from visionmtl.types import TaskSpec

ARROWS = {True: "↑", False: "↓"}


@dataclass(frozen=True)
class Table:
    """A title, a header, and rows whose first cell is the name of a group."""

    title: str
    header: list[str]
    rows: list[list[str]]


def tables(comparison: Comparison) -> list[Table]:
    """Main metrics and delta_m; the metrics of each task; the costs. One row per group."""
    return [
        _results(comparison),
        *(_metrics(comparison, spec) for spec in comparison.tasks),
        _costs(comparison),
    ]


def rich_table(table: Table) -> rich_tables.Table:
    """A table for the terminal."""
    made = rich_tables.Table(
        *map(escape, table.header), title=escape(table.title), title_justify="left"
    )
    made.columns[0].overflow = "fold"
    for column in made.columns[1:]:
        column.justify = "right"
    for row in table.rows:
        made.add_row(*map(escape, row))
    return made


def markdown(comparison: Comparison) -> str:
    """The tables with their captions, ready to be pasted into a page."""
    lines: list[str] = []
    for table in tables(comparison):
        rows = [
            table.header,
            ["---", *["---:"] * (len(table.header) - 1)],
            *map(_marked, table.rows),
        ]
        lines += [f"**{table.title}**", "", *(f"| {' | '.join(row)} |" for row in rows), ""]
    lines += [f"- {line}" for line in sentences(comparison)]
    return "\n".join(lines) + "\n"


def sentences(comparison: Comparison) -> Iterator[str]:
    """The verdict on each group, and what a reader of the tables must know."""
    yield from (comparison.verdict(group) for group in comparison.others)
    yield from (f"Warning: {warning}" for warning in comparison.warnings)
    yield (
        "Every value is of the last evaluation of a run, never of its best: to choose the best epoch on the split that "
        "is reported favours whoever evaluates more often. Mean ± sample standard deviation over seeds."
    )
    names = "; ".join(group.name for group in comparison.baseline)
    yield (
        f"delta_m in percent against the mean over seeds of the baseline ({names}), one value per seed of a "
        "group. Convention A: the main metric of each task, higher is better. B: all metrics, lower is better."
    )
    yield (
        "Noise is 2 standard errors, those of both sides together. With 2 or 3 seeds this is a low bar: "
        "a difference just above it may still be luck."
    )
    machines = sorted(
        {run.hardware for group in comparison.groups for run in group.runs if run.hardware}
    )
    yield (
        "Images/s (median over epochs) and time (with evaluations) hold for the machine as it was then"
        f"{': ' if machines else ''}{'; '.join(machines)}. MACs are of one image of the input size."
    )


def _label(comparison: Comparison, group: Group) -> str:
    return f"{group.name} (baseline)" if group in comparison.baseline else group.name


def _marked(row: list[str]) -> list[str]:
    name, *cells = (cell.replace("|", "\\|") for cell in row)
    return [f"`{name}`", *cells]


def _results(comparison: Comparison) -> Table:
    header = ["", "seeds"]
    for spec in comparison.tasks:
        metric = spec.kind.metric
        header.append(
            f"{spec.name} {metric.headline} {ARROWS[metric.higher_is_better_by_key[metric.headline]]}"
        )
    header += [
        f"delta_m {convention} % {ARROWS[higher]}" for convention, higher in CONVENTIONS.items()
    ]
    rows = []
    for group in comparison.groups:
        values = comparison.metrics[group.name]
        mains = [
            values[spec.name][spec.kind.metric.headline].significant()
            if spec.name in values
            else ""
            for spec in comparison.tasks
        ]
        gains = [comparison.gain(group, convention).text(2, sign="+") for convention in CONVENTIONS]
        rows.append([_label(comparison, group), str(len(group.runs)), *mains, *gains])
    return Table("Main metrics and delta_m", header, rows)


def _metrics(comparison: Comparison, spec: TaskSpec) -> Table:
    metric = spec.kind.metric
    keys = list(dict.fromkeys((metric.headline, *metric.delta_m_keys)))
    header = ["", *(f"{key} {ARROWS[metric.higher_is_better_by_key[key]]}" for key in keys)]
    rows = [
        [
            _label(comparison, group),
            *(comparison.metrics[group.name][spec.name][key].significant() for key in keys),
        ]
        for group in comparison.groups
        if spec.name in comparison.metrics[group.name]
    ]
    return Table(spec.name, header, rows)


def _costs(comparison: Comparison) -> Table:
    header = ["", "parameters (M)", "MACs (G)", "input", "training images/s", "training time"]
    rows = []
    for group in comparison.groups:
        cost = comparison.costs[group.name]
        macs = "n/a" if cost.macs is None else f"{cost.macs / 1e9:.2f}"
        size = f"{cost.input_size[0]}x{cost.input_size[1]}" if cost.input_size else "n/a"
        speed, time = cost.images_per_second.significant(), _time(cost.minutes)
        rows.append(
            [_label(comparison, group), f"{cost.parameters / 1e6:.2f}", macs, size, speed, time]
        )
    if len(comparison.baseline) > 1:
        rows.append(_sum_of_baseline(comparison))
    return Table("Cost", header, rows)


def _sum_of_baseline(comparison: Comparison) -> list[str]:
    """What the networks of a baseline of several groups cost together."""
    costs = [comparison.costs[group.name] for group in comparison.baseline]
    parameters = sum(cost.parameters for cost in costs)
    macs = (
        "n/a"
        if any(c.macs is None for c in costs)
        else f"{sum(c.macs or 0 for c in costs) / 1e9:.2f}"
    )
    minutes = Spread(sum(cost.minutes.mean for cost in costs), math.nan, 1)
    return ["all of the baseline together", f"{parameters / 1e6:.2f}", macs, "", "", _time(minutes)]


def _time(minutes: Spread) -> str:
    if minutes.mean >= 120:
        return f"{Spread(minutes.mean / 60, minutes.std / 60, minutes.count).text(1)} h"
    text = minutes.text(1)
    return text if text == "n/a" else f"{text} min"
