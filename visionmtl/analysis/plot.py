"""A run in one picture, from its metrics.jsonl: losses, validation, weights, gradients and their
conflicts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from visionmtl.engine.logging import read_metrics
from visionmtl.metrics.base import TaskMetric
from visionmtl.tasks import KINDS

Record = Mapping[str, Any]
Series = dict[str, list[tuple[int, float]]]
"""Name of a line -> its points (step, value)."""

COLUMNS = 2
PANEL = 6.5, 2.6
"""Width and height of a panel in inches."""
FEW_POINTS = 40
"""Points of lines that have fewer are marked."""
LOG_RATIO = 30.0
"""Lines that span more than this factor have a logarithmic axis."""


def draw_run(folder: Path) -> bytes:
    """The PNG of a run; panels without data are left out.

    Raises:
        ValueError: names the folder: it has no metrics, or none that can be drawn.
    """
    path = folder / "metrics.jsonl"
    if not path.is_file():
        raise ValueError(f"{folder}: no run folder, it has no metrics.jsonl")
    records = read_metrics(path)
    training = [record for record in records if record["split"] == "train"]
    validation = [record for record in records if record["split"] == "val"]
    panels = [*_training_panels(training), *_validation_panels(validation)]
    cosines = series(training, "gradient_cosine")
    if not panels and not cosines:
        raise ValueError(
            f"{path}: nothing to draw yet; the first line is written at step logging.every"
        )
    return _png(folder.absolute().name, panels, cosines)


def series(records: Sequence[Record], key: str) -> Series:
    """The lines of one key of the records: one for each name, or one called ``key`` where it holds
    a number.

    A null, which stands for a value that was not defined, is NaN: a gap in the line.
    """
    lines: Series = {}
    for record in records:
        values = record.get(key, {})
        if not isinstance(values, Mapping):
            values = {key: values}
        for name, number in values.items():
            if number is None:
                number = math.nan
            lines.setdefault(name, []).append((record["step"], number))
    return lines


Panel = Callable[[Any, Mapping[str, str]], None]
"""Draws into a matplotlib ``Axes``, given the colour of each task."""


def _training_panels(records: Sequence[Record]) -> list[Panel]:
    draw: dict[str, Callable[..., None]] = {
        "loss": partial(_lines, title="training loss"),
        "weights": partial(_lines, title="weight of each task"),
        "gradient_norm": partial(_lines, title="norm of the task gradients"),
        "conflict": partial(_lines, title="share of task pairs in conflict", limits=(-0.05, 1.05)),
    }
    panels: list[Panel] = []
    for key, panel in draw.items():
        lines = series(records, key)
        if lines:
            panels.append(partial(panel, lines))
    return panels


def _validation_panels(records: Sequence[Record]) -> list[Panel]:
    """A panel per main metric of a task; the log does not say of which kind a task is."""
    if not records:
        return []
    panels: list[Panel] = []
    for task, values in records[-1].items():
        if not isinstance(values, Mapping):
            continue
        evaluations = [{**record.get(task, {}), "step": record["step"]} for record in records]
        for metric in _metrics():
            key = metric.headline
            if key not in values:
                continue
            aim = "lower"
            if metric.higher_is_better_by_key[key]:
                aim = "higher"
            title = f"validation: {task} {key} ({aim} is better)"
            panels.append(partial(_lines, {task: series(evaluations, key)[key]}, title=title))
    return panels


def _metrics() -> list[type[TaskMetric]]:
    """The metrics of all kinds, each main metric once."""
    by_key = {kind.metric.headline: kind.metric for kind in KINDS.values()}
    return list(by_key.values())


def _lines(
    lines: Series,
    axes: Any,
    colours: Mapping[str, str],
    *,
    title: str,
    limits: tuple[float, float] | None = None,
) -> None:
    values = np.array([value for points in lines.values() for _, value in points])
    finite = values[np.isfinite(values)]
    if limits is not None:
        axes.set_ylim(*limits)
    elif len(finite) and finite.min() > 0 and finite.max() > LOG_RATIO * finite.min():
        axes.set_yscale("log")
    for name, points in lines.items():
        marker = None
        if len(points) < FEW_POINTS:
            marker = "."
        steps, numbers = zip(*points, strict=True)
        axes.plot(steps, numbers, label=name, color=colours[name], lw=1.2, marker=marker)
    axes.set_title(title, loc="left", fontsize=10)
    axes.grid(alpha=0.25, which="both")
    if len(lines) > 1:
        above = {"loc": "lower right", "bbox_to_anchor": (1.0, 0.98), "frameon": False}
        axes.legend(ncols=len(lines), fontsize=8, handlelength=1.2, columnspacing=1.0, **above)


def _heat_map(cosines: Series, figure: Any, axes: Any) -> None:
    """Rows: pairs of tasks; columns: steps."""
    steps = np.unique([step for points in cosines.values() for step, _ in points]).astype(float)
    matrix = np.full((len(cosines), len(steps)), np.nan)
    for row, points in zip(matrix, cosines.values(), strict=True):
        at, values = zip(*points, strict=True)
        row[np.searchsorted(steps, at)] = values
    axes.set_facecolor("0.8")  # a pair of which one task had no labels
    mesh = axes.pcolormesh(
        _edges(steps), range(len(cosines) + 1), matrix, cmap="RdBu", vmin=-1, vmax=1
    )
    names = [pair.replace("/", " / ") for pair in cosines]
    axes.set_yticks(np.arange(len(cosines)) + 0.5, names, fontsize=8)
    axes.invert_yaxis()
    axes.set_title("cosine of the task gradients (red: conflict)", loc="left", fontsize=10)
    figure.colorbar(mesh, ax=axes, pad=0.01)


def _edges(steps: np.ndarray) -> np.ndarray:
    """Borders (N + 1,) of columns at steps (N,): each reaches half way to the next."""
    gaps = np.ones(1)
    if len(steps) > 1:
        gaps = np.diff(steps)
    before = steps[:1] - gaps[0] / 2
    between = steps[1:] - gaps[: len(steps) - 1] / 2
    after = steps[-1:] + gaps[-1] / 2
    return np.concatenate([before, between, after])


def _png(name: str, panels: Sequence[Panel], cosines: Series) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = math.ceil(len(panels) / COLUMNS)
    heights = [PANEL[1]] * rows
    if cosines:
        heights.append(0.7 + 0.28 * len(cosines))
    figure = Figure(figsize=(COLUMNS * PANEL[0], sum(heights) + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(name, fontsize=12)
    grid = figure.add_gridspec(len(heights), COLUMNS, height_ratios=heights)
    colours = _Colours()
    for index, panel in enumerate(panels):
        axes = figure.add_subplot(grid[divmod(index, COLUMNS)])
        panel(axes, colours)
        axes.set_xlabel("step", fontsize=8)
        axes.set_xlim(0, None)
    if cosines:
        axes = figure.add_subplot(grid[-1, :])
        _heat_map(cosines, figure, axes)
        axes.set_xlabel("step", fontsize=8)
    out = BytesIO()
    figure.savefig(out, format="png", dpi=110)
    return out.getvalue()


class _Colours(dict[str, str]):
    """A colour for every name, in the order in which they are asked for: a task has the same one in
    every panel.
    """

    def __missing__(self, name: str) -> str:
        return self.setdefault(name, f"C{len(self) % 10}")
