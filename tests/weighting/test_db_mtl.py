from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from visionmtl.weighting import DBMTLLog


def test_golden_value_and_weights(weights_of: Any) -> None:
    weighting, losses = DBMTLLog(2), torch.tensor([0.5, 4.0])
    assert weighting(losses, [True, True]).item() == pytest.approx(math.log(2))
    torch.testing.assert_close(
        weights_of(weighting, losses, [True, True]), torch.tensor([2.0, 0.25])
    )


def test_a_loss_of_zero_has_a_finite_weight(weights_of: Any) -> None:
    weights = weights_of(DBMTLLog(2), torch.tensor([0.0, 4.0]), [True, True])
    torch.testing.assert_close(weights, torch.tensor([1e8, 0.25]))
