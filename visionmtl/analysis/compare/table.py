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
from visionmtl.metrics.base import TaskMetric
from visionmtl.types import TaskSpec

ARROWS = {True: "↑", False: "↓"}
"""Whether higher is better -> sign in a header."""


@dataclass(frozen=True)
class Table:
    """A title, a header, and rows whose first cell is the name of a group."""

    title: str
    header: list[str]
    rows: list[list[str]]


def tables(comparison: Comparison) -> list[Table]:
    """Main metrics and delta_m; the metrics of each task; the costs. One row per group."""
    metrics = [_metrics(comparison, spec) for spec in comparison.tasks]
    return [_results(comparison), *metrics, _costs(comparison)]


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
        lines += [f"**{table.title}**", "", _line(table.header)]
        lines.append(_line(["---", *["---:"] * (len(table.header) - 1)]))
        lines += [_line(_marked(row)) for row in table.rows]
        lines.append("")
    lines += [f"- {line}" for line in sentences(comparison)]
    return "\n".join(lines) + "\n"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _marked(row: list[str]) -> list[str]:
    name, *cells = [cell.replace("|", "\\|") for cell in row]
    return [f"`{name}`", *cells]


def sentences(comparison: Comparison) -> Iterator[str]:
    """The verdict on each group, and what a reader of the tables must know."""
    for group in comparison.others:
        yield comparison.verdict(group)
    for warning in comparison.warnings:
        yield f"Warning: {warning}"
    yield (
        "Every value is of the last evaluation of a run, never of its best: to choose the best "
        "epoch on the split that is reported favours whoever evaluates more often. "
        "Mean ± sample standard deviation over seeds."
    )
    names = "; ".join(group.name for group in comparison.baseline)
    yield (
        f"delta_m in percent against the mean over seeds of the baseline ({names}), one value per "
        "seed of a group. Convention A: the main metric of each task, higher is better. "
        "B: several metrics of each task, lower is better."
    )
    yield (
        "Noise is 2 standard errors, those of both sides together. With 2 or 3 seeds this is a low "
        "bar: a difference just above it may still be luck."
    )
    yield (
        "Images/s (median over epochs) and time (with evaluations) hold for the machine as it was "
        f"then{_machines(comparison)}. MACs are of one image of the input size."
    )


def _machines(comparison: Comparison) -> str:
    names = {run.hardware for group in comparison.groups for run in group.runs} - {""}
    if not names:
        return ""
    return f": {'; '.join(sorted(names))}"


def _label(comparison: Comparison, group: Group) -> str:
    if group in comparison.baseline:
        return f"{group.name} (baseline)"
    return group.name


def _title(metric: type[TaskMetric], key: str) -> str:
    return f"{key} {ARROWS[metric.higher_is_better_by_key[key]]}"


def _results(comparison: Comparison) -> Table:
    header = ["", "seeds"]
    for spec in comparison.tasks:
        metric = spec.kind.metric
        header.append(f"{spec.name} {_title(metric, metric.headline)}")
    for convention, higher in CONVENTIONS.items():
        header.append(f"delta_m {convention} % {ARROWS[higher]}")
    rows = []
    for group in comparison.groups:
        row = [_label(comparison, group), str(len(group.runs))]
        values = comparison.metrics[group.name]
        for spec in comparison.tasks:
            cell = ""
            if spec.name in values:
                cell = values[spec.name][spec.kind.metric.headline].significant()
            row.append(cell)
        row += [comparison.gain(group, name).text(2, sign="+") for name in CONVENTIONS]
        rows.append(row)
    return Table("Main metrics and delta_m", header, rows)


def _metrics(comparison: Comparison, spec: TaskSpec) -> Table:
    metric = spec.kind.metric
    keys = list(dict.fromkeys((metric.headline, *metric.delta_m_keys)))
    header = ["", *[_title(metric, key) for key in keys]]
    rows = []
    for group in comparison.groups:
        values = comparison.metrics[group.name].get(spec.name)
        if values is not None:
            cells = [values[key].significant() for key in keys]
            rows.append([_label(comparison, group), *cells])
    return Table(spec.name, header, rows)


def _costs(comparison: Comparison) -> Table:
    header = ["", "parameters (M)", "MACs (G)", "input", "training images/s", "training time"]
    rows = []
    for group in comparison.groups:
        cost = comparison.costs[group.name]
        size = "n/a"
        if cost.input_size is not None:
            size = f"{cost.input_size[0]}x{cost.input_size[1]}"
        row = [
            _label(comparison, group),
            f"{cost.parameters / 1e6:.2f}",
            _giga([cost.macs]),
            size,
            cost.images_per_second.significant(),
            _time(cost.minutes),
        ]
        rows.append(row)
    if len(comparison.baseline) > 1:
        rows.append(_sum_of_baseline(comparison))
    return Table("Cost", header, rows)


def _sum_of_baseline(comparison: Comparison) -> list[str]:
    """What the networks of a baseline of several groups cost together."""
    costs = [comparison.costs[group.name] for group in comparison.baseline]
    parameters = sum(cost.parameters for cost in costs)
    macs = _giga([cost.macs for cost in costs])
    minutes = Spread(sum(cost.minutes.mean for cost in costs), math.nan, 1)
    return ["all of the baseline together", f"{parameters / 1e6:.2f}", macs, "", "", _time(minutes)]


def _giga(counts: list[int | None]) -> str:
    """The sum of counts in units of 10^9, where all are known."""
    total = 0
    for count in counts:
        if count is None:
            return "n/a"
        total += count
    return f"{total / 1e9:.2f}"


def _time(minutes: Spread) -> str:
    if minutes.mean >= 120:
        return f"{Spread(minutes.mean / 60, minutes.std / 60, minutes.count).text(1)} h"
    if math.isnan(minutes.mean):
        return "n/a"
    return f"{minutes.text(1)} min"
