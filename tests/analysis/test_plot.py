from __future__ import annotations

import argparse
import json
import math
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from visionmtl.analysis.plot import draw_run, series
from visionmtl.cli.main import main
from visionmtl.cli.plot import run
from visionmtl.tasks import KINDS


def train(step: int, **values: Any) -> dict[str, Any]:
    return {"step": step, "epoch": 0, "split": "train", **values}


RECORDS = [
    train(10, loss={"semseg": 2.0, "depth": 0.5}, lr=0.1),
    train(20, loss={"semseg": 1.0, "depth": None}, lr=0.1, weights={"semseg": 1.0, "depth": 2.0}),
    train(20, epoch_loss={"semseg": 1.5}, samples={"semseg": 3, "depth": 3}),
    {"step": 20, "epoch": 1, "split": "speed", "images_per_second": 9.0},
    {
        "step": 20,
        "epoch": 1,
        "split": "val",
        "score": 40.0,
        "semseg": {"miou": 50.0, "per_class": {"a": 50.0}},
        "depth": {"rmse": 0.5},
        "samples": {"total": 2, "semseg": 2, "depth": 2},
    },
]
GRADIENTS = [
    train(
        step,
        gradient_norm={"semseg": 1.0, "depth": 99.0},
        conflict=0.5,
        gradient_cosine={"semseg/depth": cosine},
    )
    for step, cosine in [(10, -0.5), (30, 1.0)]
]


def write(folder: Path, records: list[dict[str, Any]]) -> Path:
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are drawn."""
    made: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, out, **options: made.append(figure))
    return made


def titles(figure: Figure) -> list[str]:
    return [title for axes in figure.axes if (title := axes.get_title(loc="left"))]


def panel(figure: Figure, title: str) -> Axes:
    (axes,) = (axes for axes in figure.axes if axes.get_title(loc="left") == title)
    return axes


def test_series_by_name_and_of_a_number() -> None:
    assert series(RECORDS[:1] + RECORDS[2:], "loss") == {
        "semseg": [(10, 2.0)],
        "depth": [(10, 0.5)],
    }
    assert series(GRADIENTS, "conflict") == {"conflict": [(10, 0.5), (30, 0.5)]}
    assert math.isnan(series(RECORDS, "loss")["depth"][1][1])
    assert series(RECORDS, "gradient_norm") == {}


def test_only_panels_with_data_are_drawn(tmp_path: Path, figures: list[Figure]) -> None:
    draw_run(write(tmp_path, RECORDS))
    assert titles(figures[0]) == [
        "training loss",
        "weight of each task",
        "validation: semseg miou (higher is better)",
        "validation: depth rmse (lower is better)",
    ]
    draw_run(write(tmp_path, GRADIENTS))
    assert titles(figures[1]) == [
        "norm of the task gradients",
        "share of task pairs in conflict",
        "cosine of the task gradients (red: conflict)",
    ]


def test_lines_have_the_values_and_a_task_has_one_colour(
    tmp_path: Path, figures: list[Figure]
) -> None:
    draw_run(write(tmp_path, [*RECORDS, *GRADIENTS]))
    losses = panel(figures[0], "training loss")
    np.testing.assert_array_equal(losses.lines[0].get_xydata(), [[10, 2.0], [20, 1.0]])
    assert panel(figures[0], "norm of the task gradients").get_yscale() == "log"
    assert losses.get_yscale() == "linear"
    metric = panel(figures[0], "validation: depth rmse (lower is better)")
    np.testing.assert_array_equal(metric.lines[0].get_xydata(), [[20, 0.5]])
    assert metric.lines[0].get_color() == losses.lines[1].get_color() != losses.lines[0].get_color()


@pytest.mark.parametrize("steps", [[10], [10, 30, 40]])
def test_the_heat_map_has_a_cell_per_pair_and_step(
    tmp_path: Path, figures: list[Figure], steps: list[int]
) -> None:
    cosines = [train(step, gradient_cosine={"a/b": -1.0}) for step in steps]
    cosines[-1]["gradient_cosine"]["a/c"] = 0.25  # c had no labels before
    draw_run(write(tmp_path, cosines))
    axes = panel(figures[0], "cosine of the task gradients (red: conflict)")
    (mesh,) = axes.collections
    expected = np.array([[-1.0] * len(steps), [math.nan] * (len(steps) - 1) + [0.25]])
    np.testing.assert_array_equal(np.ma.filled(mesh.get_array(), math.nan), expected)
    assert mesh.get_clim() == (-1, 1)
    edges = mesh.get_coordinates()[0, :, 0]
    assert all(
        left < step < right for left, step, right in zip(edges, steps, edges[1:], strict=False)
    )
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a / b", "a / c"]


def test_main_metrics_tell_the_kinds_apart() -> None:
    metrics = {kind.metric for kind in KINDS.values()}  # kinds may share one
    assert len({metric.headline for metric in metrics}) == len(metrics)


def test_the_command_writes_a_picture_also_of_a_run_that_was_cut(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, [*RECORDS, *GRADIENTS])
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 40, "ep')
    with pytest.raises(SystemExit) as stop:
        main(["plot", str(tmp_path)])
    assert stop.value.code == 0
    assert "plot.png" in capsys.readouterr().out
    picture = Image.open(BytesIO((tmp_path / "plot.png").read_bytes()))
    assert picture.format == "PNG"
    assert min(picture.size) > 500


@pytest.mark.parametrize(
    ("records", "problem"),
    [(None, "no run folder, it has no metrics.jsonl"), ([RECORDS[3]], "nothing to draw yet")],
)
def test_a_folder_without_metrics_is_one_line(
    tmp_path: Path,
    records: list[dict[str, Any]] | None,
    problem: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if records is not None:
        write(tmp_path, records)
    with pytest.raises(SystemExit) as stop:
        main(["plot", str(tmp_path)])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(tmp_path) in line
    assert problem in line


def test_a_folder_that_does_not_exist_is_found_before_anything_is_drawn(tmp_path: Path) -> None:
    write(tmp_path, RECORDS)
    arguments = argparse.Namespace(folder=tmp_path, output=tmp_path / "missing" / "a.png")
    with pytest.raises(ValueError, match=r"--output: .*a.png' is not a file in an existing folder"):
        run(arguments)
