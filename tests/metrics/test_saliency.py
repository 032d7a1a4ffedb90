from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from visionmtl.metrics.saliency import SaliencyMetric
from visionmtl.types import DenseTargets


def targets(value: Tensor, valid: Tensor | None = None) -> DenseTargets:
    valid = torch.ones_like(value, dtype=torch.bool) if valid is None else valid
    return DenseTargets(value.byte(), valid, valid.flatten(1).any(1))


def random_batch(batch: int = 6, seed: int = 0) -> tuple[Tensor, DenseTargets]:
    """A part is invalid, image 1 is not annotated, image 2 has nothing salient."""
    rng = torch.Generator().manual_seed(seed)
    value = (torch.rand(batch, 9, 12, generator=rng) > 0.6).byte()
    value[2] = 0
    prediction = (0.4 * value + 0.6 * torch.rand(batch, 9, 12, generator=rng)).unsqueeze(1)
    valid = (torch.rand(batch, 9, 12, generator=rng) > 0.2) & (torch.arange(batch) != 1).view(
        -1, 1, 1
    )
    return prediction, targets(torch.where(valid, value, 0), valid)


def part_of(
    batch: tuple[Tensor, DenseTargets], index: slice | Tensor
) -> tuple[Tensor, DenseTargets]:
    prediction, target = batch
    return prediction[index], DenseTargets(
        target.value[index], target.valid[index], target.annotated[index]
    )


def compute(*batches: tuple[Tensor, DenseTargets]) -> dict[str, float]:
    metric = SaliencyMetric()
    for batch in batches:
        metric.update(*batch)
    return metric.compute()


def reference(prediction: Tensor, target: DenseTargets) -> dict[str, float]:
    """A plain loop in float64."""
    f, f1, iou = [], [], []
    for step in range(1, 20):
        counts, precisions, recalls, ious = np.zeros(3), [], [], []
        for p, g, valid in zip(
            prediction[:, 0].double().numpy(), target.value, target.valid, strict=True
        ):
            if not valid.any():
                continue
            p, g = p[valid.numpy()] >= step / 20, g.numpy()[valid.numpy()] > 0
            both, union = (p & g).sum(), (p | g).sum()
            counts += both, p.sum(), g.sum()
            ious.append(both / union if union else 1.0)
            if g.any():
                precisions.append(both / p.sum() if p.any() else 0.0)
                recalls.append(both / g.sum())
        precision, recall = counts[0] / max(counts[1], 1), counts[0] / counts[2]
        f.append(1.3 * precision * recall / max(0.3 * precision + recall, 1e-12))
        if 4 <= step <= 18:
            precision, recall = np.mean(precisions), np.mean(recalls)
            f1.append(2 * precision * recall / max(precision + recall, 1e-12))
            iou.append(np.mean(ious))
    return {"max_f": 100 * max(f), "max_f1": 100 * max(f1), "miou": 100 * max(iou)}


def test_golden_value() -> None:
    """Two of three salient pixels at 0.9, a false one at 0.6, the third salient one at 0.1.

    From 0.65 on: P = 1, R = 2/3. At 0.05: P = 3/4, R = 1. At 0.6: P = R = 2/3.
    """
    value = torch.tensor([[[1, 1, 1, 0]]])
    found = compute((torch.tensor([[[[0.9, 0.9, 0.1, 0.6]]]]), targets(value)))
    assert found["max_f"] == pytest.approx(100 * 1.3 * (2 / 3) / (0.3 + 2 / 3))
    assert found["max_f1"] == pytest.approx(80)
    assert found["miou"] == pytest.approx(200 / 3)


@pytest.mark.parametrize("seed", range(4))
def test_equals_numpy_in_float64(seed: int) -> None:
    assert compute(random_batch(seed=seed)) == pytest.approx(
        reference(*random_batch(seed=seed)), rel=1e-12
    )


def test_the_outer_thresholds_serve_max_f_only() -> None:
    """Best at 0.05, where Maninis et al. have no threshold; at 0.2 one of two salient pixels is
    left.
    """
    found = compute((torch.tensor([[[[0.9, 0.06, 0.0]]]]), targets(torch.tensor([[[1, 1, 0]]]))))
    assert found == pytest.approx({"max_f": 100, "max_f1": 200 * 0.5 / 1.5, "miou": 50})


def test_perfect_prediction() -> None:
    _, target = random_batch()
    perfect = compute((target.value.float().unsqueeze(1), target))
    assert perfect == pytest.approx({"max_f": 100, "max_f1": 100, "miou": 100})
    assert list(perfect) == list(SaliencyMetric.higher_is_better_by_key)


def test_an_image_without_a_salient_pixel() -> None:
    """It costs precision of the split, and has an IoU of 1 where nothing is predicted, else of
    0.
    """
    value = torch.tensor([[[1, 0]], [[0, 0]]])
    wrong = compute((torch.tensor([[[[0.9, 0.0]]], [[[0.9, 0.0]]]]), targets(value)))
    assert wrong == pytest.approx(
        {"max_f": 100 * 1.3 * 0.5 / (0.3 * 0.5 + 1), "max_f1": 100, "miou": 50}
    )
    assert compute((torch.tensor([[[[0.9, 0.0]]], [[[0.0, 0.0]]]]), targets(value)))["miou"] == 100


def test_nothing_predicted() -> None:
    value = torch.tensor([[[1, 0]]])
    assert compute((torch.zeros(1, 1, 1, 2), targets(value))) == {
        "max_f": 0,
        "max_f1": 0,
        "miou": 0,
    }


@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
def test_nothing_annotated_is_nan() -> None:
    prediction, target = random_batch()
    for found in (
        compute(),
        compute((prediction, targets(target.value, torch.zeros_like(target.valid)))),
    ):
        assert all(math.isnan(value) for value in found.values())
    empty = compute((prediction, targets(torch.zeros_like(target.value))))
    assert math.isnan(empty["max_f"])
    assert math.isnan(empty["max_f1"])
    assert 0 <= empty["miou"] < 100


def test_invalid_pixels_have_no_influence_and_nan_is_not_salient() -> None:
    prediction, target = random_batch()
    poisoned = torch.where(target.valid.unsqueeze(1), prediction, math.nan)
    assert compute((poisoned, target)) == compute((prediction, target))
    salient = (target.value > 0).unsqueeze(1)
    missing = compute((torch.where(salient, math.nan, prediction), target))
    assert missing == compute((torch.where(salient, 0.0, prediction), target))


def test_batches_in_any_order_and_merged_states_equal_the_whole() -> None:
    batch = random_batch()
    halves = [part_of(batch, slice(3, 6)), part_of(batch, slice(0, 3))]
    whole = compute(batch)
    assert compute(*halves) == pytest.approx(whole, rel=1e-12)
    first, second = SaliencyMetric(), SaliencyMetric()
    first.update(*halves[0])
    second.update(*halves[1])
    first.merge_state(second)
    assert first.compute() == pytest.approx(whole, rel=1e-12)
    assert compute(part_of(batch, torch.tensor([0, 2, 3, 4, 5]))) == pytest.approx(whole, rel=1e-12)


def test_wrong_shape() -> None:
    message = r"saliency: expected probabilities of shape \(2, 1, 4, 4\), got \(2, 4, 4\)"
    with pytest.raises(ValueError, match=message):
        SaliencyMetric().update(torch.ones(2, 4, 4), targets(torch.ones(2, 4, 4)))
