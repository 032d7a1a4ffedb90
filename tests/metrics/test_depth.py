from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from visionmtl.metrics import DepthMetric
from visionmtl.types import DenseTargets


def targets(value: Tensor, valid: Tensor | None = None) -> DenseTargets:
    valid = value[:, 0] > 0 if valid is None else valid
    return DenseTargets(value, valid, valid.flatten(1).any(1))


def random_batch(batch: int = 6, seed: int = 0) -> tuple[Tensor, DenseTargets]:
    g = torch.Generator().manual_seed(seed)
    depth = 0.5 + 9 * torch.rand(batch, 1, 19, 13, generator=g)
    prediction = depth * torch.exp(0.3 * torch.randn(depth.shape, generator=g))
    valid = torch.rand(batch, 19, 13, generator=g) > 0.4
    valid[1] = False
    return prediction, targets(torch.where(valid.unsqueeze(1), depth, 0.0), valid)


def part_of(batch: tuple[Tensor, DenseTargets], part: slice) -> tuple[Tensor, DenseTargets]:
    prediction, target = batch
    return prediction[part], DenseTargets(
        target.value[part], target.valid[part], target.annotated[part]
    )


def compute(*batches: tuple[Tensor, DenseTargets]) -> dict[str, float]:
    metric = DepthMetric(max_depth=10.0)
    for prediction, target in batches:
        metric.update(prediction, target)
    return metric.compute()


def reference(prediction: Tensor, target: DenseTargets) -> dict[str, float]:
    g_all, p_all = target.value[:, 0].double().numpy(), prediction[:, 0].double().numpy()
    mask = target.valid.numpy()
    g, p = g_all[mask], np.clip(p_all[mask], 1e-3, 10.0)
    d = np.log(p) - np.log(g)
    ratio = np.maximum(p / g, g / p)
    images = [
        np.sqrt(np.mean((np.clip(p_all[i][mask[i]], 1e-3, 10.0) - g_all[i][mask[i]]) ** 2))
        for i in range(len(g_all))
        if mask[i].any()
    ]
    return {
        "abs_err": np.mean(np.abs(p - g)),
        "abs_rel": np.mean(np.abs(p - g) / g),
        "sq_rel": np.mean((p - g) ** 2 / g),
        "rmse": np.sqrt(np.mean((p - g) ** 2)),
        "rmse_log": np.sqrt(np.mean(d**2)),
        "log10": np.mean(np.abs(np.log10(p) - np.log10(g))),
        "silog": 100 * np.std(d),
        "delta1": 100 * np.mean(ratio < 1.25),
        "delta2": 100 * np.mean(ratio < 1.25**2),
        "delta3": 100 * np.mean(ratio < 1.25**3),
        "rmse_per_image": np.mean(images),
    }


def test_golden_value():
    result = compute((torch.tensor([[[[2.0, 4.0]]]]), targets(torch.tensor([[[[1.0, 4.0]]]]))))
    assert result["abs_err"] == 0.5
    assert result["abs_rel"] == 0.5
    assert result["sq_rel"] == 0.5
    assert result["rmse"] == pytest.approx(math.sqrt(0.5))
    assert result["rmse_log"] == pytest.approx(math.log(2) / math.sqrt(2))
    assert result["log10"] == pytest.approx(math.log10(2) / 2)
    assert result["silog"] == pytest.approx(100 * math.log(2) / 2)
    assert (result["delta1"], result["delta2"], result["delta3"]) == (50.0, 50.0, 50.0)


def test_equals_numpy_in_float64():
    assert compute(random_batch()) == pytest.approx(reference(*random_batch()), rel=1e-12)


def test_keys_are_those_that_have_a_direction():
    assert list(compute(random_batch())) == list(DepthMetric.higher_is_better_by_key)


def test_perfect_prediction():
    _, target = random_batch()
    result = compute((target.value.clone(), target))
    for key, higher_is_better in DepthMetric.higher_is_better_by_key.items():
        assert result[key] == (100.0 if higher_is_better else 0.0), key


def test_rmse_is_pooled_and_the_mean_over_images_has_its_own_key():
    depth = torch.full((2, 1, 1, 4), 5.0)
    valid = torch.tensor([[[True, True, True, True]], [[True, False, False, False]]])
    prediction = depth + torch.tensor([1.0, 2.0]).view(2, 1, 1, 1)
    result = compute((prediction, targets(depth, valid)))
    assert result["rmse"] == pytest.approx(math.sqrt((4 * 1 + 1 * 4) / 5))
    assert result["rmse_per_image"] == pytest.approx(1.5)


def test_prediction_is_clamped_and_truth_out_of_range_left_out():
    truth = torch.tensor([[[[10.0, 12.0, 1e-4, 1.0]]]])
    prediction = torch.tensor([[[[99.0, 3.0, 3.0, -1.0]]]])
    result = compute((prediction, targets(truth)))
    assert result["abs_err"] == pytest.approx((0.0 + 0.999) / 2)


def test_batches_in_any_order_and_merged_states_equal_the_whole():
    batch = random_batch()
    halves = [part_of(batch, slice(4, 6)), part_of(batch, slice(0, 4))]
    whole = compute(batch)
    assert compute(*halves) == pytest.approx(whole, rel=1e-12)
    first, second = DepthMetric(10.0), DepthMetric(10.0)
    first.update(*halves[0])
    second.update(*halves[1])
    first.merge_state(second)
    assert first.compute() == pytest.approx(whole, rel=1e-12)


def test_images_without_valid_pixels_do_not_count():
    batch = random_batch()
    annotated = torch.tensor([0, 2, 3, 4, 5])
    prediction, target = batch
    kept = DenseTargets(
        target.value[annotated], target.valid[annotated], target.annotated[annotated]
    )
    assert compute(batch) == pytest.approx(compute((prediction[annotated], kept)), rel=1e-12)


def test_nothing_valid_is_nan():
    prediction, target = random_batch()
    result = compute((prediction, targets(target.value, torch.zeros_like(target.valid))))
    assert all(math.isnan(value) for value in result.values())


def test_nan_in_invalid_pixels_does_no_harm():
    prediction, target = random_batch()
    poisoned = torch.where(target.valid.unsqueeze(1), prediction, math.nan)
    value = torch.where(target.valid.unsqueeze(1), target.value, math.nan)
    assert compute((poisoned, targets(value, target.valid))) == compute((prediction, target))


def test_nan_prediction_fails_the_shares_and_shows_in_the_errors():
    result = compute((torch.tensor([[[[math.nan, 2.0]]]]), targets(torch.tensor([[[[2.0, 2.0]]]]))))
    assert result["delta1"] == 50.0
    assert math.isnan(result["rmse"])
    assert math.isnan(result["silog"])


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"0 < min_depth < max_depth metres, got 0\.001 and 0\.0"):
        DepthMetric(0.0)
    with pytest.raises(
        ValueError, match=r"depth: expected metres of shape \(2, 1, 4, 4\), got \(2, 4, 4\)"
    ):
        DepthMetric(10.0).update(torch.ones(2, 4, 4), targets(torch.ones(2, 1, 4, 4)))
