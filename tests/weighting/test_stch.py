from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from visionmtl.weighting import STCH

BOTH = [True, True]


def warmed_up(*means: list[float], **options: float) -> STCH:
    weighting = STCH(len(means[0]), warmup_epochs=len(means), **options)
    for row in means:
        weighting.end_epoch(torch.tensor(row))
    return weighting


def test_the_warm_up_minimises_the_sum_of_logs(weights_of: Any) -> None:
    weighting, losses = STCH(2, warmup_epochs=2), torch.tensor([0.5, 4.0])
    for _ in range(2):
        assert weighting(losses, BOTH).item() == pytest.approx(math.log(2))
        torch.testing.assert_close(weights_of(weighting, losses, BOTH), 1 / losses)
        weighting.end_epoch(torch.tensor([1.0, 1.0]))
    assert weighting(losses, BOTH).item() == pytest.approx(2 * math.log(4.5))


def test_golden_value_and_weights(weights_of: Any) -> None:
    weighting, losses = warmed_up([9.0, 9.0], [1.0, 4.0], mu=0.5), torch.tensor([0.5, 4.0])
    assert weighting(losses, BOTH).item() == pytest.approx(2 * 0.5 * math.log(0.5**2 + 1.0**2))
    share = torch.tensor([0.25, 1.0]) / 1.25  # softmax of the relative log losses over mu
    torch.testing.assert_close(weights_of(weighting, losses, BOTH), 2 * share / losses)


def test_a_small_mu_is_the_maximum(weights_of: Any) -> None:
    weights = weights_of(warmed_up([1.0, 1.0], mu=1e-3), torch.tensor([0.5, 4.0]), BOTH)
    torch.testing.assert_close(weights, torch.tensor([0.0, 0.5]))


def test_the_reference_of_a_task_that_the_warm_up_missed() -> None:
    weighting, losses = (
        warmed_up([3.0, math.nan, math.nan], [math.nan, 2.0, math.nan]),
        torch.tensor([3.0, 2.0, 5.0]),
    )
    assert weighting.reference[:2].tolist() == [3.0, 2.0]
    assert weighting(losses, [True] * 3).item() == pytest.approx(3 * math.log(1 + 1 + 5))
    weighting.end_epoch(torch.tensor([7.0, 7.0, 5.0]))
    assert weighting.reference.tolist() == [3.0, 2.0, 5.0]
    assert weighting(losses, [True] * 3).item() == pytest.approx(3 * math.log(3))


@pytest.mark.parametrize("mu", [0.0, -1.0, math.inf, math.nan])
def test_bad_mu(mu: float) -> None:
    with pytest.raises(ValueError, match=r"^STCH: mu: must be (> 0|finite), got"):
        STCH(2, mu=mu)


def test_bad_warmup_epochs() -> None:
    with pytest.raises(ValueError, match=r"^STCH: warmup_epochs: must be >= 1, got 0$"):
        STCH(2, warmup_epochs=0)


def test_torchjd() -> None:
    """Ours is T times TorchJD's, of the log losses, with the log reference and all preferences
    1.
    """
    reference = torch.tensor([0.5, 1.0, 2.0])
    scalarization = pytest.importorskip("torchjd.scalarization")
    oracle = scalarization.STCH(mu=0.3, weights=torch.ones(3), reference=reference.log())
    weighting = warmed_up(reference.tolist(), mu=0.3)
    for losses in torch.rand(20, 3, generator=torch.Generator().manual_seed(0)) + 0.1:
        torch.testing.assert_close(weighting(losses, [True] * 3), 3 * oracle(losses.log()))
