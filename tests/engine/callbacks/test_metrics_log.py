from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from visionmtl._errors import RunError
from visionmtl.engine.callbacks.metrics_log import MetricsLog
from visionmtl.engine.logging import json_safe
from visionmtl.engine.state import RunProgress


def at(step: int, epoch: int) -> Any:
    """A run that is there."""
    return SimpleNamespace(progress=RunProgress(step=step, epoch=epoch))


def start(folder: Path, state: dict[str, Any] | None = None) -> MetricsLog:
    log = MetricsLog(folder)
    if state is not None:
        log.load_state_dict(state)
    log.on_start(at(0, 0))
    return log


def read(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_lines_are_readable_while_the_run_goes_on(tmp_path: Path) -> None:
    log = start(tmp_path)
    values = {"score": 1.5, "depth": {"rmse": math.nan, "per_class": {"a": math.inf}}}
    log.on_log(at(3, 1), "val", values)
    lines = read(tmp_path)  # before it is closed
    empty = {"rmse": None, "per_class": {"a": None}}
    assert lines == [{"step": 3, "epoch": 1, "split": "val", "score": 1.5, "depth": empty}]
    log.on_end(at(3, 1))
    log.on_end(at(3, 1))


def test_resume_drops_what_was_written_after_the_checkpoint(tmp_path: Path) -> None:
    log = start(tmp_path)
    log.on_log(at(1, 0), "train", {"lr": 0.1})
    state = log.state_dict()
    before = read(tmp_path)
    log.on_log(at(1, 1), "val", {"score": 2.0})  # the same step, and yet later
    log.on_log(at(2, 1), "train", {"lr": 0.2})
    log.on_end(at(2, 1))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "ep')  # a line cut by the end of the process
    start(tmp_path, state).on_end(at(1, 0))
    assert read(tmp_path) == before


def test_resume_in_a_new_folder_starts_a_new_file(tmp_path: Path) -> None:
    log = start(tmp_path, {"size": 500})
    log.on_log(at(10, 1), "train", {"lr": 0.1})
    assert [line["step"] for line in read(tmp_path)] == [10]
    log.on_end(at(10, 1))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_full_disk_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").symlink_to("/dev/full")
    log = start(tmp_path)
    with pytest.raises(
        RunError, match=r"metrics.jsonl: cannot be written \(No space left on device\)"
    ):
        log.on_log(at(1, 0), "train", {"lr": 0.1})
    log.on_end(at(1, 0))  # does not hide the first error by a second one


def test_json_safe_keeps_everything_else() -> None:
    assert json_safe({"a": 1, "b": {"c": None, "d": "x", "e": -math.inf}}) == {
        "a": 1,
        "b": {"c": None, "d": "x", "e": None},
    }
