from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from visionmtl.weighting import FAMO
from visionmtl.weighting.rows import RowAdam, constant_rows, put_rows

BOTH = [True, True]


def logits_of(weighting: FAMO) -> torch.Tensor:
    return torch.stack(list(weighting.logits))


def test_golden_value_and_weights(weights_of: Any) -> None:
    weighting, losses = FAMO(2), torch.tensor([1.0, 4.0])
    c = 1 / (0.5 / 1 + 0.5 / 4)
    assert weighting(losses, BOTH).item() == pytest.approx(c * 0.5 * math.log(4))
    weights = weights_of(weighting, losses, BOTH)
    torch.testing.assert_close(weights, c * 0.5 / losses)
    assert weights.sum().item() == pytest.approx(1)


def test_min_losses(weights_of: Any) -> None:
    weighting = FAMO(2, min_losses=[0.5, 0.0])
    weights = weights_of(weighting, torch.tensor([1.0, 4.0]), BOTH)
    torch.testing.assert_close(weights, torch.tensor([2.0, 0.25]) / 2.25)
    assert weights_of(weighting, torch.tensor([0.4, 4.0]), BOTH)[0] == 0.0


def test_the_task_that_fell_less_gains_weight() -> None:
    weighting = FAMO(2, lr=0.025, weight_decay=0.0)
    weighting.after_step(torch.tensor([1.0, 1.0]), torch.tensor([0.5, 0.9]), BOTH)
    torch.testing.assert_close(
        logits_of(weighting), torch.tensor([-0.025, 0.025])
    )  # Adam's first step is lr long


def test_flags() -> None:
    assert not FAMO.combines
    assert FAMO(2).needs_second_forward
    assert not FAMO(2, second_forward=False).needs_second_forward


def test_the_cheap_variant_learns_from_the_next_step() -> None:
    weighting = FAMO(3, second_forward=False, weight_decay=0.0)
    losses = [torch.tensor(row) for row in ([1.0, 1.0, 1.0], [0.5, 0.0, 0.9], [0.5, 1.0, 0.1])]
    weighting.after_step(losses[0], None, [True, True, True])
    assert logits_of(weighting).tolist() == [0.0, 0.0, 0.0]
    weighting.after_step(losses[1], None, [True, False, True])
    assert weighting.logits[0] < 0 == weighting.logits[1] < weighting.logits[2]
    assert weighting.last_losses.tolist() == pytest.approx([0.5, 1.0, 0.9])
    weighting.after_step(losses[2], None, [True, True, True])
    assert weighting.last_losses.tolist() == pytest.approx([0.5, 1.0, 0.1])


def test_the_cheap_variant_uses_the_logits_of_the_step_that_made_the_fall() -> None:
    weighting = FAMO(2, second_forward=False, weight_decay=0.0)
    rows = torch.rand(6, 2, generator=torch.Generator().manual_seed(0)) + 0.1
    expected = constant_rows(0.0, 2)
    logits, adam = [torch.zeros(2)], RowAdam(expected, 0.025)
    for number, row in enumerate(rows):
        weighting.after_step(row, None, BOTH)
        z = torch.softmax(logits[max(number - 1, 0)], dim=0)
        fall = ((rows[number - 1] + 1e-8) / (row + 1e-8)).log() if number else torch.zeros(2)
        adam.step((torch.diag(z) - torch.outer(z, z)) @ fall, BOTH)
        logits.append(torch.stack(list(expected)))
        torch.testing.assert_close(logits_of(weighting), logits[-1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lr": 0.0}, "^FAMO: lr: must be > 0, got 0.0$"),
        ({"weight_decay": -1.0}, "^FAMO: weight_decay: must be >= 0, got -1.0$"),
        (
            {"min_losses": [0.0]},
            r"^min_losses must be one number for each of 2 tasks, got \[0.0\]$",
        ),
        ({"min_losses": [0.0, -1.0]}, r"^FAMO: min_losses.1: must be >= 0, got -1.0$"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FAMO(2, **options)


def test_torchjd() -> None:
    scalarization = pytest.importorskip("torchjd.scalarization")
    floors = [0.0, 0.05, 0.1]
    oracle = scalarization.FAMO(3, min_losses=torch.tensor(floors), lr=0.05, weight_decay=0.01)
    weighting = FAMO(3, min_losses=floors, lr=0.05, weight_decay=0.01)
    for before, after in torch.rand(20, 2, 3, generator=torch.Generator().manual_seed(0)) + 0.2:
        torch.testing.assert_close(weighting(before, [True] * 3), oracle(before).detach())
        weighting.after_step(before, after, [True] * 3)
        oracle.update(after)
    torch.testing.assert_close(logits_of(weighting), oracle._w.detach())


class AdamByHand:
    """Kingma and Ba, 2015, algorithm 1, in float64 for each row by itself."""

    def __init__(self, size: int, lr: float) -> None:
        self.lr = lr
        self.values = [0.0] * size
        self.mean = [0.0] * size
        self.square = [0.0] * size
        self.steps = [0] * size

    def step(self, gradient: list[float], present: list[bool]) -> None:
        slopes = iter(gradient)
        for row, here in enumerate(present):
            if here:
                self._move(row, next(slopes))

    def _move(self, row: int, slope: float) -> None:
        self.steps[row] += 1
        self.mean[row] = 0.9 * self.mean[row] + 0.1 * slope
        self.square[row] = 0.999 * self.square[row] + 0.001 * slope**2
        mean = self.mean[row] / (1 - 0.9 ** self.steps[row])
        square = self.square[row] / (1 - 0.999 ** self.steps[row])
        self.values[row] -= self.lr * mean / (math.sqrt(square) + 1e-8)


def test_row_adam_is_adam_for_each_row_by_itself() -> None:
    rows = constant_rows(0.0, 3)
    adam, oracle = RowAdam(rows, 0.1), AdamByHand(3, 0.1)
    gradients = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    for number, gradient in enumerate(gradients):
        present = [True, number % 3 != 1, number % 4 != 2]
        adam.step(gradient[present], present)
        oracle.step(gradient[present].tolist(), present)
        assert all(row.grad is None for row in rows)
    torch.testing.assert_close(torch.stack(list(rows)), torch.tensor(oracle.values))


def test_rows_follow_the_module_to_another_type() -> None:
    """As to another device: the optimiser moves what the module holds."""
    weighting = FAMO(2).double()
    weighting.after_step(torch.ones(2).double(), torch.tensor([0.5, 0.9]).double(), BOTH)
    assert weighting.logits[0].dtype == torch.float64
    assert weighting.logits[0] < 0 < weighting.logits[1]


def test_no_other_optimiser_moves_the_rows() -> None:
    assert not any(p.requires_grad for p in FAMO(2).parameters())


def test_put_rows() -> None:
    buffer = torch.zeros(3)
    put_rows(buffer, torch.tensor([1.0, 2.0]), [True, False, True])
    assert buffer.tolist() == [1.0, 0.0, 2.0]
