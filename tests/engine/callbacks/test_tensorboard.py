from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from visionmtl.engine.callbacks.pictures import Pictures
from visionmtl.engine.callbacks.tensorboard import TensorBoard
from visionmtl.engine.state import RunProgress


def at(step: int, epoch: int) -> Any:
    """A run that is there."""
    return SimpleNamespace(progress=RunProgress(step=step, epoch=epoch))


def start(folder: Path, **options: Any) -> TensorBoard:
    board = TensorBoard(folder, **options)
    board.on_start(at(0, 0))
    return board


def test_events(tmp_path: Path) -> None:
    pictures = Pictures(tmp_path / "pictures", 1)
    pictures.sheet = np.zeros((8, 8, 3), np.uint8)
    board = start(tmp_path / "events", pictures=pictures)
    board.on_log(at(4, 1), "val", {"score": 2.0, "depth": {"rmse": 0.5}})
    board.on_evaluation(at(4, 1), {}, 2.0)
    board.on_end(at(4, 1))
    events = EventAccumulator(str(tmp_path / "events")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("val/depth/rmse")] == [(4, 0.5)]
    assert [e.step for e in events.Images("val/predictions")] == [4]


def test_failing_tensorboard_warns_once_and_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    board = start(tmp_path)

    def fail(*args: Any, **options: Any) -> None:
        raise ConnectionError("the network is down")

    monkeypatch.setattr(board._writer, "add_scalar", fail)
    with pytest.warns(
        UserWarning, match="TensorBoard is off from here on: the network is down"
    ) as warned:
        board.on_log(at(1, 0), "train", {"a": 1.0, "b": 2.0})
    assert len(warned) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        board.on_log(at(2, 0), "train", {"a": 1.0})
        board.on_end(at(2, 0))


def test_tensorboard_that_cannot_start(tmp_path: Path) -> None:
    (tmp_path / "events").write_text("a file")
    with pytest.warns(UserWarning, match="TensorBoard is off"):
        board = start(tmp_path / "events")
    board.on_log(at(1, 0), "train", {"a": 1.0})
    board.on_end(at(1, 0))
