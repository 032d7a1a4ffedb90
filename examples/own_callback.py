"""Callbacks of one's own: ``python examples/own_callback.py``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch

from visionmtl import create_model
from visionmtl.data import RoomsDataset, build_transform, make_loader
from visionmtl.engine import Callback, EpochSummary, Loaders, Trainer, TrainerOptions, TrainingParts
from visionmtl.losses import Criterion, build_loss
from visionmtl.weighting import ConstantWeighting


class TimeLimit(Callback):
    """Ends a run after the epoch in which its time is over."""

    def __init__(self, minutes: float) -> None:
        self.end = time.monotonic() + 60 * minutes

    def on_epoch_end(self, run: Any, epoch: EpochSummary) -> None:
        run.ended = time.monotonic() > self.end


class History(Callback):
    """Remembers the scores of a run, also over a resume."""

    scores: tuple[float, ...] = ()

    def on_evaluation(self, run: Any, results: Mapping[str, Any], score: float) -> None:
        self.scores = (*self.scores, score)

    def state_dict(self) -> dict[str, Any]:
        return {"scores": self.scores}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.scores = tuple(state["scores"])


def main(minutes: float = 1.0, epochs: int = 50, samples: int = 16) -> tuple[float, ...]:
    """Train until the time is over; the validation scores."""
    rooms = RoomsDataset(samples, (64, 64), tasks=["depth"])
    transform = build_transform(rooms.tasks, [])
    train, sampler = make_loader(rooms, rooms.tasks, transform, batch_size=4, train=True)
    val, _ = make_loader(rooms, rooms.tasks, transform, batch_size=4, train=False)
    model = create_model("resnet10t", rooms.tasks, decoder_options={"channels": 32})
    criterion = Criterion({"depth": build_loss(rooms.tasks[0])})
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    parts = TrainingParts(model, criterion, optimizer, ConstantWeighting(["depth"]))
    history = History()
    loaders = Loaders(train, val, sampler)
    Trainer(parts, loaders, TrainerOptions(epochs), [TimeLimit(minutes), history]).fit()
    return history.scores


if __name__ == "__main__":
    print(main())
