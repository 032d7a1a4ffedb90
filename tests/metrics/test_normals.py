from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from visionmtl.metrics import NormalsMetric
from visionmtl.metrics.normals import angle_degrees
from visionmtl.types import DenseTargets


def targets(value: Tensor, valid: Tensor | None = None) -> DenseTargets:
    valid = value.abs().sum(1) > 0 if valid is None else valid
    return DenseTargets(value, valid, valid.flatten(1).any(1))


def tilted(degrees: list[float]) -> Tensor:
    """(1, 3, 1, W): vectors at the given angles from (0, 0, -1)."""
    angle = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
    return torch.stack([angle.sin(), torch.zeros_like(angle), -angle.cos()])[None, :, None]


def random_batch(batch: int = 6, seed: int = 0) -> tuple[Tensor, DenseTargets]:
    g = torch.Generator().manual_seed(seed)
    value = F.normalize(torch.randn(batch, 3, 19, 13, generator=g), dim=1)
    prediction = F.normalize(value + 0.4 * torch.randn(value.shape, generator=g), dim=1)
    valid = torch.rand(batch, 19, 13, generator=g) > 0.4
    return prediction, targets(torch.where(valid.unsqueeze(1), value, 0.0), valid)


def compute(*batches: tuple[Tensor, DenseTargets]) -> dict[str, float]:
    metric = NormalsMetric()
    for prediction, target in batches:
        metric.update(prediction, target)
    return metric.compute()


def test_golden_value():
    result = compute((tilted([0, 10, 20, 25, 100]), targets(tilted([0, 0, 0, 0, 0]))))
    assert result["mean"] == pytest.approx(31.0)
    assert result["median"] == pytest.approx(20.0)
    assert [result[key] for key in ("within_11.25", "within_22.5", "within_30")] == pytest.approx(
        [40.0, 60.0, 80.0]
    )


@pytest.mark.parametrize("seed", range(3))
def test_equals_numpy_in_float64(seed: int):
    prediction, target = random_batch(seed=seed)
    mask = target.valid.numpy()
    a, b = (np.moveaxis(v.double().numpy(), 1, -1)[mask] for v in (prediction, target.value))
    a, b = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (a, b))
    angle = np.degrees(np.arccos(np.clip((a * b).sum(-1), -1, 1)))
    result = compute((prediction, target))
    assert result["mean"] == pytest.approx(angle.mean(), rel=1e-9)
    assert result["median"] == pytest.approx(np.median(angle), abs=0.005 + 1e-9)
    for threshold in (11.25, 22.5, 30):
        assert result[f"within_{threshold:g}"] == pytest.approx(100 * np.mean(angle < threshold))


def test_median_of_an_even_number_is_the_mean_of_the_middle_two():
    assert compute((tilted([1, 2, 40, 50]), targets(tilted([0] * 4))))["median"] == pytest.approx(
        21.0
    )


def test_perfect_prediction():
    _, target = random_batch()
    result = compute((target.value.clone(), target))
    for key, higher_is_better in NormalsMetric.higher_is_better_by_key.items():
        assert result[key] == (100.0 if higher_is_better else 0.0), key


def test_small_and_opposite_angles_keep_their_digits():
    angle = angle_degrees(tilted([1e-5, 180.0]), tilted([0, 0]))
    assert angle.flatten().tolist() == pytest.approx([1e-5, 180.0], rel=1e-6)


def test_length_of_the_prediction_does_not_matter():
    prediction, target = random_batch()
    assert compute((7 * prediction, target)) == pytest.approx(
        compute((prediction, target)), rel=1e-6
    )


def test_zero_prediction_counts_as_ninety_degrees():
    _, target = random_batch()
    result = compute((torch.zeros_like(target.value), target))
    assert (result["mean"], result["median"], result["within_30"]) == (90.0, 90.0, 0.0)


def test_batches_in_any_order_and_merged_states_equal_the_whole():
    prediction, target = random_batch()
    halves = [
        (
            prediction[part],
            DenseTargets(target.value[part], target.valid[part], target.annotated[part]),
        )
        for part in (slice(4, 6), slice(0, 4))
    ]
    whole = compute((prediction, target))
    assert compute(*halves) == pytest.approx(whole, rel=1e-12)
    first, second = NormalsMetric(), NormalsMetric()
    first.update(*halves[0])
    second.update(*halves[1])
    first.merge_state(second)
    assert first.compute() == pytest.approx(whole, rel=1e-12)


def test_nothing_valid_is_nan():
    prediction, target = random_batch()
    result = compute((prediction, targets(target.value, torch.zeros_like(target.valid))))
    assert list(result) == list(NormalsMetric.higher_is_better_by_key)
    assert all(math.isnan(value) for value in result.values())


def test_nan_in_invalid_pixels_does_no_harm():
    prediction, target = random_batch()
    poisoned = torch.where(target.valid.unsqueeze(1), prediction, math.nan)
    assert compute((poisoned, target)) == compute((prediction, target))


def test_nan_prediction_fails_the_shares_and_shows_in_the_mean():
    prediction = tilted([0, 0, 0])
    prediction[..., 0] = math.nan
    result = compute((prediction, targets(tilted([0, 0, 0]))))
    assert math.isnan(result["mean"])
    assert result["median"] == 0.0
    assert result["within_30"] == pytest.approx(200 / 3)


def test_wrong_shape_is_named():
    with pytest.raises(
        ValueError, match=r"normals: expected vectors of shape \(2, 3, 4, 4\), got \(1, 3, 4, 4\)"
    ):
        NormalsMetric().update(torch.ones(1, 3, 4, 4), targets(torch.ones(2, 3, 4, 4)))
