"""Callbacks in a run."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from visionmtl.engine.callbacks import Callback, Checkpoints, EarlyStopping
from visionmtl.engine.callbacks.several import Callbacks
from visionmtl.engine.trainer import Trainer
from visionmtl.zoo.checkpoints import load_checkpoint

MakeTrainer = Callable[..., Trainer]
SHORT = ("data.train.samples=4", "trainer.accumulate=2", "logging.every=1")


class Moments(Callback):
    """Notes what is called."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("on_"):
            self.seen.append(name.removeprefix("on_"))
        return super().__getattribute__(name)


def test_the_moments_of_a_run(tmp_path: Path, make_trainer: MakeTrainer) -> None:
    trainer = make_trainer(tmp_path, *SHORT, "trainer.epochs=1", "data.train.samples=8")
    moments = Moments()
    trainer.callbacks = Callbacks([moments])
    trainer.fit()
    assert moments.seen == [
        "start",
        "epoch_start",
        *["log", "step"] * 2,
        *["log", "log", "epoch_end"],
        *["evaluation_start", "evaluation_batch", "evaluation_batch"],
        *["log", "evaluation", "end"],
    ]


def with_scores(patch: pytest.MonkeyPatch, *scores: float) -> None:
    given = iter(scores)
    patch.setattr("visionmtl.engine.trainer.validation_score", lambda *args: next(given))


def stoppable(trainer: Trainer, patience: int) -> Trainer:
    """The same, with an early end."""
    callbacks = trainer.callbacks.callbacks
    trainer.callbacks = Callbacks([*callbacks[:-1], EarlyStopping(patience), callbacks[-1]])
    return trainer


def test_a_run_that_gets_no_better_ends(
    tmp_path: Path, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_scores(monkeypatch, 1.0, 3.0, math.nan, 2.0, 3.0)
    trainer = stoppable(make_trainer(tmp_path, *SHORT, "trainer.epochs=9"), patience=2)
    trainer.fit()
    assert trainer.progress.epoch == 4
    saved = load_checkpoint(tmp_path / "checkpoints" / "last.pt")
    assert saved["callbacks"]["EarlyStopping"] == {"best_score": 3.0, "waited": 2}
    assert load_checkpoint(tmp_path / "checkpoints" / "best.pt")["progress"]["epoch"] == 2
    again = stoppable(make_trainer(tmp_path, *SHORT, "trainer.epochs=9"), patience=2)
    again.load_state_dict(saved)
    assert again.fit() == {}
    assert again.progress.epoch == 4


def test_patience_goes_on_after_a_resume(
    tmp_path: Path, make_trainer: MakeTrainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_scores(monkeypatch, 3.0, 1.0, 2.0)
    stoppable(make_trainer(tmp_path, *SHORT, "trainer.epochs=2"), patience=2).fit()
    trainer = stoppable(make_trainer(tmp_path, *SHORT, "trainer.epochs=9"), patience=2)
    trainer.load_state_dict(load_checkpoint(tmp_path / "checkpoints" / "last.pt"))
    trainer.fit()
    assert trainer.progress.epoch == 3


def test_patience_is_positive() -> None:
    with pytest.raises(ValueError, match="patience must be at least 1, got 0"):
        EarlyStopping(0)


def test_a_state_of_ones_own_is_in_the_checkpoint(
    tmp_path: Path, make_trainer: MakeTrainer
) -> None:
    class Images(Callback):
        count = 0

        def on_step(self, run: Any, losses: Any) -> None:
            self.count += 1

        def state_dict(self) -> dict[str, Any]:
            return {"count": self.count}

        def load_state_dict(self, state: Any) -> None:
            self.count = state["count"]

    def trainer(epochs: int) -> Trainer:
        made = make_trainer(tmp_path, *SHORT, f"trainer.epochs={epochs}")
        made.callbacks = Callbacks([Images(), Checkpoints(tmp_path / "checkpoints")])
        return made

    trainer(1).fit()
    longer = trainer(3)
    longer.load_state_dict(load_checkpoint(tmp_path / "checkpoints" / "last.pt"))
    longer.fit()
    assert longer.callbacks.state_dict()["Images"] == {"count": 3}
