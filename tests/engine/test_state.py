from __future__ import annotations

import pytest

from visionmtl.engine.parts import TrainerOptions
from visionmtl.engine.state import RunProgress


@pytest.mark.parametrize(
    ("epoch", "batch", "evaluated", "due"),
    [
        (0, 0, 0, False),
        (1, 0, 0, False),
        (2, 0, 0, True),
        (2, 0, 2, False),  # evaluated before it was stopped
        (2, 3, 0, False),  # in the epoch after
        (4, 0, 2, True),
        (5, 0, 4, True),  # the last one
        (5, 0, 5, False),
        (6, 0, 4, True),
    ],
)
def test_when_an_evaluation_is_due(epoch: int, batch: int, evaluated: int, due: bool) -> None:
    options = TrainerOptions(epochs=5, eval_every=2)
    progress = RunProgress(epoch=epoch, batch=batch, evaluated=evaluated)
    assert progress.evaluation_due(options) is due
