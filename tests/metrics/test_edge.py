from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from visionmtl.metrics.edge import EdgeMetric
from visionmtl.types import DenseTargets

H, W = 60, 80  # the diagonal is 100 pixels
TOLERANCE = 0.035
LENGTH = 50  # of the lines


def mask(*columns: int, rows: slice = slice(5, 55)) -> Tensor:
    """Upright lines (1, 1, H, W)."""
    value = torch.zeros(1, 1, H, W)
    value[:, :, rows, list(columns)] = 1
    return value


def targets(value: Tensor, valid: Tensor | None = None) -> DenseTargets:
    value = value.squeeze(1).byte()
    valid = torch.ones_like(value, dtype=torch.bool) if valid is None else valid
    return DenseTargets(value, valid, valid.flatten(1).any(1))


def compute(*batches: tuple[Tensor, DenseTargets], **options: Any) -> dict[str, float]:
    metric = EdgeMetric(**{"max_dist": TOLERANCE, **options})
    for batch in batches:
        metric.update(*batch)
    return metric.compute()


def blurred(line: Tensor, height: float = 1.0) -> Tensor:
    """As a network gives it: a ridge several pixels wide."""
    kernel = torch.exp(-(torch.arange(-6.0, 7) ** 2) / 8).view(1, 1, 1, -1)
    return height * torch.nn.functional.conv2d(line, kernel, padding=(0, 6)).clamp(max=1)


def both(value: float) -> Any:
    return pytest.approx({"ods_f": value, "ois_f": value})


def random_batch(batch: int = 4, seed: int = 0) -> tuple[Tensor, DenseTargets]:
    """Lines, predicted with noise and a shift; a part is invalid, and image 1 is not annotated."""
    rng = torch.Generator().manual_seed(seed)
    value = torch.cat([mask(15 + 3 * i, 40, 60) for i in range(batch)])
    prediction = blurred(value.roll(1, 3), 0.7) + 0.2 * torch.rand(batch, 1, H, W, generator=rng)
    valid = torch.rand(batch, H, 1, generator=rng).expand(-1, -1, W) > 0.1
    valid = valid & (torch.arange(batch) != 1).view(-1, 1, 1)
    return prediction, targets(value * valid.unsqueeze(1), valid)


def test_perfect_prediction() -> None:
    assert compute((mask(20, 60), targets(mask(20, 60)))) == both(100)
    noise = (torch.rand(2, 1, H, W, generator=torch.Generator().manual_seed(0)) > 0.6).float()
    assert compute((noise, targets(noise)), max_dist=0) == both(100)


@pytest.mark.parametrize(("shift", "expected"), [(1, 100), (3, 100), (4, 0), (10, 0)])
def test_tolerance(shift: int, expected: float) -> None:
    assert compute((mask(20 + shift), targets(mask(20)))) == both(expected)


def test_a_second_response_costs_precision() -> None:
    """Two lines of 50 where there is one: P = 1/2, R = 1."""
    assert compute((mask(19, 21), targets(mask(20)))) == both(200 * 0.5 / 1.5)


def test_half_of_the_line() -> None:
    """25 of 50: P = 1, R = 1/2."""
    predicted = mask(20, rows=slice(5, 30))
    assert compute((predicted, targets(mask(20)))) == both(200 * 0.5 / 1.5)


def test_wide_ridges_are_one_line() -> None:
    truth = mask(20, 60)
    assert (
        compute((blurred(truth, 0.9), targets(truth)))["ods_f"] > 98
    )  # the ends of the lines may be off
    wide = torch.nn.functional.max_pool2d(truth, 5, stride=1, padding=2)
    found = compute((truth, targets(wide)))
    assert found["ods_f"] > 97  # the truth is thinned
    assert compute((wide, targets(wide))) == both(100)


def test_best_thresholds_of_images_differ() -> None:
    """Image A has its line at 0.3, image B has its own at 0.9 and a false one at 0.5.

    At 0.25: A 50 of 50, B 50 of 100 with 50 true: P = 100/150, R = 1. At 0.75: A nothing, B 50 of
    50: P = 1, R = 1/2.
    """
    prediction = torch.cat([0.3 * mask(20), 0.9 * mask(20) + 0.5 * mask(60)])
    found = compute((prediction, targets(torch.cat([mask(20), mask(20)]))), num_thresholds=3)
    assert found["ods_f"] == pytest.approx(200 * (2 / 3) / (5 / 3))
    assert found["ois_f"] == pytest.approx(100)


def test_thresholds_are_reached() -> None:
    assert compute((0.5 * mask(20), targets(mask(20))), num_thresholds=1) == both(100)
    assert compute((0.49 * mask(20), targets(mask(20))), num_thresholds=1) == both(0)


def test_images_without_an_edge_count_by_their_false_positives() -> None:
    value = torch.cat([mask(20), torch.zeros(1, 1, H, W)])
    assert compute((value, targets(value))) == both(100)
    prediction = torch.cat([mask(20), mask(30)])
    assert compute((prediction, targets(value))) == both(200 * 0.5 / 1.5)
    # At its own best threshold, the highest, image 1 has no false positive.
    weak = torch.cat([mask(20), 0.9 * mask(30)])
    assert compute((weak, targets(value))) == both(100)
    weak[0] *= 0.5
    assert compute((weak, targets(value)))["ois_f"] == pytest.approx(100)
    assert compute((weak, targets(value)))["ods_f"] == pytest.approx(200 * 0.5 / 1.5)


@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
def test_no_edge_at_all_is_nan() -> None:
    never = compute()
    nowhere = compute((mask(20), targets(torch.zeros(1, 1, H, W))))
    ignored = compute((mask(20), targets(mask(20), torch.zeros(1, H, W, dtype=torch.bool))))
    for found in (never, nowhere, ignored):
        assert list(found) == list(EdgeMetric.higher_is_better_by_key)
        assert all(math.isnan(value) for value in found.values())


def test_invalid_pixels_are_neither_predicted_nor_true() -> None:
    valid = torch.ones(1, H, W, dtype=torch.bool)
    valid[:, :, 40:] = False
    for elsewhere in (torch.zeros(1, 1, H, W), mask(60), mask(60) * math.nan):
        prediction = torch.where(valid.unsqueeze(1), mask(20), elsewhere)
        assert compute((prediction, targets(mask(20, 70), valid))) == both(100)


def test_nan_is_no_edge() -> None:
    prediction = torch.where(mask(20) > 0, math.nan, mask(60))
    assert compute((prediction, targets(mask(20, 60)))) == both(200 * 0.5 / 1.5)


def test_image_scale_is_seldom_worse() -> None:
    for seed in range(3):
        found = compute(random_batch(seed=seed))
        assert 0 < found["ods_f"] <= found["ois_f"] < 100


def test_more_thresholds_find_nearly_the_same() -> None:
    few, many = (compute(random_batch(), num_thresholds=n) for n in (19, 39))
    assert few["ods_f"] <= many["ods_f"] < few["ods_f"] + 3  # 39 contain the 19


def test_batches_in_any_order_and_merged_states_equal_the_whole() -> None:
    prediction, target = random_batch()
    parts = [
        (prediction[own], DenseTargets(target.value[own], target.valid[own], target.annotated[own]))
        for own in (slice(2, 4), slice(0, 2))
    ]
    whole = compute((prediction, target))
    assert compute(*parts) == whole
    first, second = EdgeMetric(TOLERANCE), EdgeMetric(TOLERANCE)
    first.update(*parts[0])
    second.update(*parts[1])
    first.merge_state(second)
    assert first.compute() == whole
    kept = torch.tensor([0, 2, 3])
    annotated = DenseTargets(target.value[kept], target.valid[kept], target.annotated[kept])
    assert compute((prediction[kept], annotated)) == whole


def test_half_precision() -> None:
    assert compute((mask(20).bfloat16(), targets(mask(20)))) == both(100)


def test_bad_arguments_are_named() -> None:
    with pytest.raises(
        ValueError, match=r"edge: max_dist must be a fraction of the diagonal in \[0, 1\), got 7.5"
    ):
        EdgeMetric(7.5)
    with pytest.raises(ValueError, match="edge: num_thresholds must be at least 1, got 0"):
        EdgeMetric(num_thresholds=0)
    with pytest.raises(
        ValueError, match=r"edge: expected probabilities of shape \(2, 1, 4, 4\), got \(2, 4, 4\)"
    ):
        EdgeMetric().update(torch.ones(2, 4, 4), targets(torch.ones(2, 1, 4, 4)))


def test_results_are_plain_numbers() -> None:
    assert all(type(value) is float for value in compute(random_batch()).values())
    assert np.isfinite(list(compute(random_batch()).values())).all()
