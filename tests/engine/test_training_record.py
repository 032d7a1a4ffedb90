from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from visionmtl.config.data import sources
from visionmtl.engine.training_record import training_record


def test_what_was_trained_not_what_was_planned(
    mixture: tuple[str, ...],
    make_config: Callable[..., Any],
    make_trainer: Callable[..., Any],
    tmp_path: Path,
) -> None:
    options = (*mixture, "data.sets.1.val='train[80%:]'", "trainer.epochs=9", "seed=4")
    config = make_config(*options)
    trainer = make_trainer(tmp_path, *options)
    trainer.progress.epoch = 3
    trainer.progress.seconds = 90.0
    best = {"results": {"depth": {"rmse": math.nan}}, "progress": {"epoch": 2}}
    record = training_record(trainer, config, best)
    assert (record.epochs, record.best_epoch, record.seed) == (3, 2, 4)
    assert record.training_minutes == 1.5
    assert record.metrics == {"depth": {"rmse": None}}
    roots = [part.root for part in sources(config.data) if part.type != "rooms"]
    assert record.source == f"`{roots[0]}` and `{roots[1]}`"
    assert record.split == "val, train[80%:]"
    assert record.data == "mixture"


def test_rooms_have_no_folder(
    make_config: Callable[..., Any], make_trainer: Callable[..., Any], tmp_path: Path
) -> None:
    best = {"results": {}, "progress": {"epoch": 1}}
    record = training_record(make_trainer(tmp_path), make_config(), best)
    assert record.source == "the procedural rooms of visionmtl"
    assert record.split == "val"
