from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix
from torch import Tensor

from visionmtl.metrics import SemSegMetric
from visionmtl.types import DenseTargets

CLASSES = ("wall", "floor", "chair", "lamp")


def targets(value: Tensor, valid: Tensor | None = None) -> DenseTargets:
    valid = torch.ones(value.shape, dtype=torch.bool) if valid is None else valid
    return DenseTargets(value.to(torch.uint8), valid, valid.flatten(1).any(1))


def random_batch(batch: int = 6, seed: int = 0) -> tuple[Tensor, DenseTargets]:
    g = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, 4, 17, 23, generator=g)
    value = torch.randint(0, 4, (batch, 17, 23), generator=g)
    logits.scatter_add_(1, value.unsqueeze(1), torch.ones(batch, 1, 17, 23))
    return logits, targets(value, torch.rand(batch, 17, 23, generator=g) > 0.3)


def compute(*batches: tuple[Tensor, DenseTargets]) -> dict[str, Any]:
    metric = SemSegMetric(CLASSES)
    for prediction, target in batches:
        metric.update(prediction, target)
    return metric.compute()


def test_golden_value():
    truth = torch.tensor([[[0, 0, 1, 1]]])
    predicted = torch.tensor([[[0, 1, 1, 1]]])
    result = compute((predicted, targets(truth)))
    assert result["per_class"]["wall"] == pytest.approx(50.0)
    assert result["per_class"]["floor"] == pytest.approx(200 / 3)
    assert math.isnan(result["per_class"]["chair"])
    assert math.isnan(result["per_class"]["lamp"])
    assert result["miou"] == pytest.approx((50 + 200 / 3) / 2)
    assert result["pixel_accuracy"] == 75.0
    assert result["num_classes_present"] == 2


def test_class_that_is_only_predicted_counts_as_zero():
    result = compute((torch.tensor([[[0, 2]]]), targets(torch.tensor([[[0, 0]]]))))
    assert result["per_class"]["chair"] == 0.0
    assert result["miou"] == pytest.approx(25.0)


def test_equals_scikit_learn():
    logits, target = random_batch()
    result = compute((logits, target))
    mask = target.valid.numpy()
    truth, predicted = target.value.numpy()[mask], logits.argmax(1).numpy()[mask]
    matrix = confusion_matrix(truth, predicted, labels=range(4)).astype(np.float64)
    iou = 100 * np.diag(matrix) / (matrix.sum(0) + matrix.sum(1) - np.diag(matrix))
    assert list(result["per_class"].values()) == pytest.approx(iou.tolist())
    assert result["miou"] == pytest.approx(iou.mean())
    assert result["pixel_accuracy"] == pytest.approx(100 * np.mean(truth == predicted))


def test_perfect_prediction():
    _, target = random_batch()
    result = compute((target.value, target))
    assert (result["miou"], result["pixel_accuracy"]) == (100.0, 100.0)


def test_logits_and_class_ids_agree():
    logits, target = random_batch()
    assert compute((logits, target)) == compute((logits.argmax(1), target))


def test_batches_in_any_order_and_merged_states_equal_the_whole():
    logits, target = random_batch()
    halves = [
        (logits[part], DenseTargets(target.value[part], target.valid[part], target.annotated[part]))
        for part in (slice(4, 6), slice(0, 4))
    ]
    whole = compute((logits, target))
    assert compute(*halves) == whole
    first, second = SemSegMetric(CLASSES), SemSegMetric(CLASSES)
    first.update(*halves[0])
    second.update(*halves[1])
    first.merge_state(second)
    assert first.compute() == whole


def test_nothing_valid_is_nan():
    logits, target = random_batch()
    result = compute((logits, targets(target.value, torch.zeros_like(target.valid))))
    assert math.isnan(result["miou"])
    assert math.isnan(result["pixel_accuracy"])
    assert result["num_classes_present"] == 0
    assert all(math.isnan(iou) for iou in result["per_class"].values())


def test_invalid_pixels_may_hold_anything():
    logits, target = random_batch()
    other = targets(torch.where(target.valid, target.value, 255), target.valid)
    assert compute((logits, target)) == compute((logits, other))


def test_reset():
    metric = SemSegMetric(CLASSES)
    metric.update(*random_batch(seed=1))
    metric.reset()
    metric.update(*random_batch(seed=2))
    assert metric.compute() == compute(random_batch(seed=2))


def test_class_id_out_of_range_is_named():
    metric = SemSegMetric(CLASSES)
    metric.update(torch.zeros(1, 2, 2, dtype=torch.long), targets(torch.tensor([[[0, 7], [4, 1]]])))
    with pytest.raises(ValueError, match=r"2 valid pixels have a class id outside 0\.\.3"):
        metric.compute()


@pytest.mark.parametrize("shape", [(2, 3, 5, 5), (2, 4, 5, 6), (2, 4, 5)])
def test_wrong_shape_is_named(shape: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"semseg: expected logits \(2, 4, 5, 5\)"):
        SemSegMetric(CLASSES).update(torch.zeros(shape), targets(torch.zeros(2, 5, 5)))


# Annotations that speak of some classes only


def test_a_prediction_of_an_unknown_class_is_missed_but_no_false_positive():
    truth = torch.tensor([[[0, 0, 1, 1]], [[0, 0, 1, 1]]])
    predicted = torch.tensor([[[0, 2, 1, 1]], [[0, 2, 1, 1]]])
    target = targets(truth)
    target.known = torch.tensor([[True, True, False, False], [True, True, True, False]])
    result = compute((predicted, target))
    assert result["per_class"]["wall"] == pytest.approx(50.0)
    assert result["per_class"]["floor"] == pytest.approx(100.0)
    assert (
        result["per_class"]["chair"] == 0.0
    )  # predicted in the second image, which speaks of chairs
    assert result["pixel_accuracy"] == 75.0
    target.known[1, 2] = False
    result = compute((predicted, target))
    assert math.isnan(result["per_class"]["chair"])
    assert (result["miou"], result["num_classes_present"], result["pixel_accuracy"]) == (
        75.0,
        2,
        75.0,
    )


def test_known_classes_that_are_never_predicted_elsewhere_change_nothing():
    logits, target = random_batch()
    whole = compute((logits, target))
    target.known = torch.ones(6, 4, dtype=torch.bool)
    assert compute((logits, target)) == whole
    assert compute((logits.argmax(1), target)) == whole


def test_ids_out_of_range_are_still_reported_with_unknown_classes():
    target = targets(torch.tensor([[[0, 1]]]))
    target.known = torch.tensor([[True, True, False, False]])
    with pytest.raises(ValueError, match=r"semseg: 1 valid pixels have a class id outside 0\.\.3"):
        compute((torch.tensor([[[9, 1]]]), target))
