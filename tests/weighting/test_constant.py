from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from visionmtl.weighting import ConstantWeighting
from visionmtl.weighting.rows import present_rows

THREE = ["semseg", "depth", "normals"]


def test_golden_value_and_weights(weights_of: Any) -> None:
    weighting = ConstantWeighting(THREE, weights={"normals": 2.0, "depth": 0.5})
    losses = torch.tensor([1.0, 2.0, 3.0])
    assert weighting(losses, [True, True, True]).item() == 8.0
    assert weights_of(weighting, losses, [True, True, True]).tolist() == [1.0, 0.5, 2.0]
    assert weights_of(weighting, losses, [True, False, True]).tolist() == [1.0, 0.0, 2.0]


def test_all_weights_are_one_if_none_are_given() -> None:
    assert ConstantWeighting(THREE).weights.tolist() == [1.0, 1.0, 1.0]


def test_weights_are_in_the_state() -> None:
    other = ConstantWeighting(THREE)
    other.load_state_dict(ConstantWeighting(THREE, weights={"depth": 3.0}).state_dict())
    assert other.weights.tolist() == [1.0, 3.0, 1.0]


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"depth": -1.0}, r"^ConstantWeighting: weights.depth: must be >= 0, got -1.0$"),
        ({"depth": math.nan}, r"^ConstantWeighting: weights.depth: must be .*, got nan$"),
        ({"depth": math.inf}, r"^ConstantWeighting: weights.depth: must be finite, got inf$"),
        (dict.fromkeys(THREE, 0.0), r"^weights: one must be positive, got \{'semseg': 0.0, "),
        ({"edge": 1.0}, r"^weights: unknown tasks \['edge'\]; the run has \['semseg', "),
        (
            [1.0, 2.0, 3.0],
            r"^ConstantWeighting: weights: must be a mapping, got \[1.0, 2.0, 3.0\]$",
        ),
    ],
)
def test_bad_weights(weights: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConstantWeighting(THREE, weights=weights)


def test_present_rows() -> None:
    values = torch.tensor([1.0, 2.0, 3.0])
    assert present_rows(values, [True, False, True]).tolist() == [1.0, 3.0]
    assert present_rows(values, [False, False, False]).shape == (0,)
