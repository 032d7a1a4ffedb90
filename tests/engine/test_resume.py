"""Checkpoints of the format before callbacks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from visionmtl.engine.trainer import Trainer
from visionmtl.zoo.checkpoints import load_checkpoint, save_checkpoint
from visionmtl.zoo.load import load_model

MakeTrainer = Callable[..., Trainer]
SHORT = ("data.train.samples=4", "logging.every=1", "trainer.ema=0.9")


def as_format_1(path: Path, patch: pytest.MonkeyPatch) -> None:
    """Write a checkpoint anew as versions without callbacks wrote it."""
    content: dict[str, Any] = load_checkpoint(path)
    callbacks = content.pop("callbacks")
    content["progress"]["best_score"] = callbacks["Checkpoints"]["best_score"]
    size = callbacks["MetricsLog"]["size"]
    content["progress"]["log_sizes"] = {"metrics.jsonl": size, "metrics.csv": 700}
    content["window"] = {"sums": content["window"]["sums"], "steps": {}, "samples": {}}
    del content["format_version"]
    with patch.context() as inner:
        inner.setattr("visionmtl.zoo.checkpoints.FORMAT_VERSION", 1)
        save_checkpoint(path, content)
    assert load_checkpoint(path)["format_version"] == 1


def test_a_run_of_format_1_goes_on_exactly(
    tmp_path: Path, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    finals = []
    logs = []
    for name in ("now", "before"):
        folder = tmp_path / name
        last = folder / "checkpoints" / "last.pt"
        make_trainer(folder, *SHORT).fit()
        if name == "before":
            as_format_1(last, monkeypatch)
        make_trainer(folder, *SHORT, "trainer.epochs=4", resume=last).fit()
        final = load_checkpoint(last)
        finals.append({**final["model"], **final["ema"]})
        assert final["progress"]["step"] == 8
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        logs.append([line for line in lines if "speed" not in line])
    assert logs[0] == logs[1]
    assert all(torch.equal(finals[0][key], finals[1][key]) for key in finals[0])


def test_a_checkpoint_of_format_1_is_a_model(
    tmp_path: Path, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_trainer(tmp_path, *SHORT).fit()
    best = tmp_path / "checkpoints" / "best.pt"
    now = load_model(best).state_dict()
    as_format_1(best, monkeypatch)
    before = load_model(best).state_dict()
    assert all(torch.equal(now[key], before[key]) for key in now)
