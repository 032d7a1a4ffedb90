from __future__ import annotations

import csv
import json
import math
import warnings
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from visionmtl._errors import RunError
from visionmtl.engine.logging import CSV_HEADER, RunLogger, json_safe


def read(folder: Path) -> tuple[list[dict[str, Any]], list[list[str]]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    with (folder / "metrics.csv").open(newline="") as file:
        return lines, list(csv.reader(file))


def test_lines_are_readable_while_the_run_goes_on(tmp_path: Path) -> None:
    logger = RunLogger(tmp_path, tensorboard=False)
    values = {"score": 1.5, "depth": {"rmse": math.nan, "per_class": {"a": math.inf}}}
    logger.log("val", 3, 1, values)
    lines, table = read(tmp_path)  # before it is closed
    empty = {"rmse": None, "per_class": {"a": None}}
    assert lines == [{"step": 3, "epoch": 1, "split": "val", "score": 1.5, "depth": empty}]
    assert table == [
        CSV_HEADER,
        ["3", "1", "val", "score", "1.5"],
        ["3", "1", "val", "depth/rmse", "nan"],
        ["3", "1", "val", "depth/per_class/a", "inf"],
    ]
    logger.close()
    logger.close()


def test_resume_drops_what_was_written_after_the_checkpoint(tmp_path: Path) -> None:
    logger = RunLogger(tmp_path, tensorboard=False)
    logger.log("train", 1, 0, {"lr": 0.1})
    sizes = logger.sizes()
    before = read(tmp_path)
    logger.log("val", 1, 1, {"score": 2.0})  # the same step, and yet later
    logger.log("train", 2, 1, {"lr": 0.2})
    logger.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "ep')  # a line cut by the end of the process
    RunLogger(tmp_path, tensorboard=False, resume_step=1, sizes=sizes).close()
    assert read(tmp_path) == before


def test_resume_in_a_new_folder_starts_new_files(tmp_path: Path) -> None:
    logger = RunLogger(
        tmp_path, False, resume_step=9, sizes={"metrics.jsonl": 500, "metrics.csv": 300}
    )
    logger.log("train", 10, 1, {"lr": 0.1})
    lines, table = read(tmp_path)
    assert [line["step"] for line in lines] == [10]
    assert table[0] == CSV_HEADER
    logger.close()


def test_tensorboard_events(tmp_path: Path) -> None:
    logger = RunLogger(tmp_path, tensorboard=True)
    logger.log("val", 4, 1, {"score": 2.0, "depth": {"rmse": 0.5}})
    logger.close()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("val/depth/rmse")] == [(4, 0.5)]


def test_failing_tensorboard_warns_once_and_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = RunLogger(tmp_path, tensorboard=True)

    def fail(*args: Any, **options: Any) -> None:
        raise ConnectionError("the network is down")

    monkeypatch.setattr(logger._writer, "add_scalar", fail)
    with pytest.warns(
        UserWarning, match="TensorBoard is off from here on: the network is down"
    ) as warned:
        logger.log("train", 1, 0, {"a": 1.0, "b": 2.0})
    assert len(warned) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        logger.log("train", 2, 0, {"a": 1.0})
        logger.close()
    assert len(read(tmp_path)[0]) == 2


def test_tensorboard_that_cannot_start(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").write_text("a file")
    with pytest.warns(UserWarning, match="TensorBoard is off"):
        logger = RunLogger(tmp_path, tensorboard=True)
    logger.log("train", 1, 0, {"a": 1.0})
    logger.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    logger = RunLogger(tmp_path, tensorboard=False)
    with pytest.raises(
        RunError, match=r"metrics.jsonl: cannot be written \(No space left on device\)"
    ):
        logger.log("train", 1, 0, {"a": 1.0})
    logger.close()  # does not hide the first error by a second one


def test_json_safe_keeps_everything_else() -> None:
    assert json_safe({"a": 1, "b": {"c": None, "d": "x", "e": -math.inf}}) == {
        "a": 1,
        "b": {"c": None, "d": "x", "e": None},
    }
