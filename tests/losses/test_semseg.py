from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from visionmtl.losses.semseg import CrossEntropyLoss, soft_dice_loss
from visionmtl.types import DenseTargets

WEIGHTS = [0.5, 1.0, 2.0, 4.0]


def make_targets(value: Tensor, valid: Tensor) -> DenseTargets:
    return DenseTargets(value, valid, valid.flatten(1).any(1))


def random_case(seed: int = 0) -> tuple[Tensor, DenseTargets]:
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 4, 5, 6, generator=rng)
    value = torch.randint(0, 4, (2, 5, 6), generator=rng, dtype=torch.uint8)
    return logits, make_targets(value, torch.rand(2, 5, 6, generator=rng) > 0.3)


def test_uniform_logits_give_log_k() -> None:
    _, targets = random_case()
    loss = CrossEntropyLoss(4)(torch.zeros(2, 4, 5, 6), targets)
    assert loss.item() == pytest.approx(math.log(4))


@pytest.mark.parametrize("class_weights", [None, WEIGHTS])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_equals_torch_mean_with_ignore_index(
    class_weights: list[float] | None, label_smoothing: float
) -> None:
    logits, targets = random_case()
    labels = targets.value.long().masked_fill(~targets.valid, -100)
    weight = None if class_weights is None else torch.tensor(class_weights)
    expected = F.cross_entropy(
        logits, labels, weight, ignore_index=-100, label_smoothing=label_smoothing
    )
    loss = CrossEntropyLoss(4, class_weights=class_weights, label_smoothing=label_smoothing)(
        logits, targets
    )
    torch.testing.assert_close(loss, expected)


def numpy_dice(logits: Tensor, targets: DenseTargets) -> float:
    """Class by class, over flat float64 arrays."""
    z = np.exp(logits.double().numpy())
    p = np.moveaxis(z / z.sum(axis=1, keepdims=True), 1, -1)[targets.valid.numpy()]
    g = targets.value.numpy()[targets.valid.numpy()]
    losses = []
    for k in np.unique(g):
        truth = (g == k).astype(np.float64)
        losses.append(1 - 2 * (p[:, k] * truth).sum() / ((p[:, k] ** 2).sum() + truth.sum()))
    return float(np.mean(losses))


def test_dice_equals_numpy_and_skips_absent_classes() -> None:
    logits, targets = random_case()
    targets.value[targets.value == 3] = 1
    expected = numpy_dice(logits, targets)
    dice = CrossEntropyLoss(4, dice=2.0)(logits, targets) - CrossEntropyLoss(4)(logits, targets)
    assert dice.item() == pytest.approx(2 * expected, rel=1e-5)


def test_dice_of_a_part_is_weighted_by_its_pixels_not_by_class_weights() -> None:
    logits, targets = random_case()
    targets.valid[0, :3] = False
    plain, loss = (
        CrossEntropyLoss(4, class_weights=WEIGHTS),
        CrossEntropyLoss(4, class_weights=WEIGHTS, dice=2.0),
    )
    counts, added = loss.counts(targets), 0.0
    for i in range(2):
        part = make_targets(targets.value[i : i + 1], targets.valid[i : i + 1])
        dice = (
            loss(logits[i : i + 1], part, counts) - plain(logits[i : i + 1], part, counts)
        ).item()
        share = (part.valid.sum() / targets.valid.sum()).item()
        assert dice == pytest.approx(2 * share * numpy_dice(logits[i : i + 1], part), rel=1e-5)
        added += share
    assert added == pytest.approx(1.0)


def test_dice_golden_value() -> None:
    probabilities = torch.tensor([[[[0.5, 1.0]], [[0.5, 0.0]]]])
    labels, valid = torch.tensor([[[0, 0]]]), torch.ones(1, 1, 2, dtype=torch.bool)
    # class 0: 1 - 2 * 1.5 / (1.25 + 2); class 1 does not occur
    assert soft_dice_loss(probabilities, labels, valid).item() == pytest.approx(1 - 3 / 3.25)


@pytest.mark.parametrize(
    "options", [{}, {"class_weights": WEIGHTS}, {"dice": 1.0}, {"label_smoothing": 0.2}]
)
def test_nothing_valid_is_zero_with_zero_gradient(options: dict[str, Any]) -> None:
    logits, targets = random_case()
    logits.requires_grad_()
    loss = CrossEntropyLoss(4, **options)(
        logits, make_targets(targets.value, torch.zeros_like(targets.valid))
    )
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_invalid_pixels_have_no_influence() -> None:
    logits, targets = random_case()
    loss = CrossEntropyLoss(4, class_weights=WEIGHTS, dice=1.0)
    expected = loss(logits, targets)
    invalid = ~targets.valid
    poisoned = logits.masked_fill(invalid.unsqueeze(1), math.nan).requires_grad_()
    value = loss(poisoned, make_targets(targets.value.masked_fill(invalid, 255), targets.valid))
    value.backward()
    torch.testing.assert_close(value, expected)
    assert poisoned.grad is not None
    assert poisoned.grad.isfinite().all()
    assert not poisoned.grad.masked_select(invalid.unsqueeze(1)).any()


def test_only_a_class_of_weight_zero_gives_zero() -> None:
    logits, targets = random_case()
    targets.value.zero_()
    for smoothing in (0.0, 0.1):
        assert CrossEntropyLoss(4, class_weights=[0.0, 1.0, 1.0, 1.0], label_smoothing=smoothing)(
            logits, targets
        ).isfinite()


def test_nan_at_a_valid_pixel_is_reported() -> None:
    logits, targets = random_case()
    targets.valid[0, 0, 0] = True
    logits[0, 1, 0, 0] = math.nan
    assert CrossEntropyLoss(4)(logits, targets).isnan()
    assert CrossEntropyLoss(4, class_weights=WEIGHTS, dice=1.0)(logits, targets).isnan()


def test_perfect_prediction_is_zero_with_finite_gradient() -> None:
    _, targets = random_case()
    logits = (F.one_hot(targets.value.long(), 4).movedim(-1, 1) * 200.0).requires_grad_()
    loss = CrossEntropyLoss(4, dice=1.0)(logits, targets)
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_gradient() -> None:
    logits, targets = random_case()
    loss = CrossEntropyLoss(4, class_weights=WEIGHTS, label_smoothing=0.1, dice=1.0)
    assert torch.autograd.gradcheck(lambda z: loss(z, targets), logits.double().requires_grad_())


def test_bfloat16_logits_give_a_float32_loss() -> None:
    logits, targets = random_case()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = CrossEntropyLoss(4, dice=1.0)(logits.bfloat16(), targets)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(
        loss, CrossEntropyLoss(4, dice=1.0)(logits.bfloat16().float(), targets)
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_weights": [1.0, 2.0]}, "class_weights must hold one number per class: 4, got 2"),
        ({"class_weights": [1.0, -1.0, 1.0, 1.0]}, r"class_weights\.1: must be >= 0, got -1.0$"),
        (
            {"class_weights": [1.0, math.inf, 1.0, 1.0]},
            r"class_weights\.1: must be finite, got inf$",
        ),
        ({"class_weights": [0.0] * 4}, "must not be all zero"),
        ({"label_smoothing": 1.0}, "^CrossEntropyLoss: label_smoothing: must be < 1, got 1.0$"),
        ({"dice": -1.0}, "^CrossEntropyLoss: dice: must be >= 0, got -1.0$"),
        ({"dice": math.nan}, "^CrossEntropyLoss: dice: must be finite, got nan$"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CrossEntropyLoss(4, **options)


def test_weights_follow_the_module_but_not_the_state() -> None:
    loss = CrossEntropyLoss(4, class_weights=WEIGHTS)
    weights = loss.to(torch.float64).class_weights
    assert weights is not None
    assert weights.dtype == torch.float64
    assert not loss.state_dict()


# Annotations that speak of some classes only


def known_case() -> tuple[Tensor, DenseTargets]:
    """The first image speaks of classes 0 and 2 only, the second of all."""
    logits, targets = random_case()
    targets.value[0] = torch.where(targets.value[0] % 2 == 0, targets.value[0], 2)
    targets.known = torch.tensor([[True, False, True, False], [True] * 4])
    return logits, targets


@pytest.mark.parametrize("class_weights", [None, WEIGHTS])
def test_the_softmax_runs_over_the_known_classes(class_weights: list[float] | None) -> None:
    logits, targets = known_case()
    weights = torch.tensor(class_weights or [1.0] * 4)
    total = weight = 0.0
    for i, classes in enumerate(([0, 2], [0, 1, 2, 3])):
        labels = torch.tensor([classes.index(int(c)) for c in targets.value[i].flatten()]).view(
            5, 6
        )
        values = F.cross_entropy(
            logits[i : i + 1, classes], labels[None], weights[classes], reduction="none"
        )[0]
        total += values[targets.valid[i]].sum().item()
        weight += weights[targets.value[i].long()][targets.valid[i]].sum().item()
    loss = CrossEntropyLoss(4, class_weights=class_weights)(logits, targets)
    assert loss.item() == pytest.approx(total / weight, rel=1e-5)


@pytest.mark.parametrize("options", [{}, {"class_weights": WEIGHTS}, {"dice": 1.0}])
def test_nothing_is_learnt_about_unknown_classes(options: dict[str, Any]) -> None:
    logits, targets = known_case()
    leaf = logits.clone().requires_grad_()
    loss = CrossEntropyLoss(4, **options)(leaf, targets)
    loss.backward()
    assert leaf.grad is not None
    assert leaf.grad.isfinite().all()
    assert not leaf.grad[0, [1, 3]].any()  # exactly 0
    assert leaf.grad[0, [0, 2]].any()
    assert leaf.grad[1].abs().amax((1, 2)).all()
    assert not leaf.grad.masked_select(~targets.valid.unsqueeze(1)).any()
    other = logits.clone()
    other[0, [1, 3]] = torch.tensor([1e4, -1e4]).view(2, 1, 1)
    assert CrossEntropyLoss(4, **options)(other, targets).item() == loss.item()


def test_dice_over_known_classes_equals_numpy() -> None:
    logits, targets = known_case()
    masked = logits.clone()
    masked[0, [1, 3]] = -1e9
    dice = CrossEntropyLoss(4, dice=2.0)(logits, targets) - CrossEntropyLoss(4)(logits, targets)
    assert dice.item() == pytest.approx(2 * numpy_dice(masked, targets), rel=1e-5)


def test_a_single_known_class_teaches_nothing() -> None:
    logits, targets = random_case()
    targets.value.fill_(3)
    targets.known = torch.tensor([[False, False, False, True]] * 2)
    logits.requires_grad_()
    loss = CrossEntropyLoss(4)(logits, targets)
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_all_classes_known_is_the_plain_loss() -> None:
    logits, targets = random_case()
    expected = CrossEntropyLoss(4, class_weights=WEIGHTS, dice=1.0)(logits, targets)
    targets.known = torch.ones(2, 4, dtype=torch.bool)
    assert (
        CrossEntropyLoss(4, class_weights=WEIGHTS, dice=1.0)(logits, targets).item()
        == expected.item()
    )


def test_parts_with_and_without_unknown_classes_add_up() -> None:
    logits, targets = known_case()
    assert targets.known is not None
    loss = CrossEntropyLoss(4, class_weights=WEIGHTS)
    counts = loss.counts(targets)
    first = DenseTargets(
        targets.value[:1], targets.valid[:1], targets.annotated[:1], targets.known[:1]
    )
    second = make_targets(targets.value[1:], targets.valid[1:])
    torch.testing.assert_close(loss.counts(first) + loss.counts(second), counts)
    added = loss(logits[:1], first, counts) + loss(logits[1:], second, counts)
    torch.testing.assert_close(added, loss(logits, targets))


def test_images_that_are_not_annotated_beside_those_with_unknown_classes() -> None:
    logits, targets = known_case()
    targets.valid[1] = False
    targets.valid[0] = False
    logits.requires_grad_()
    loss = CrossEntropyLoss(4, dice=1.0)(logits, targets)
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_label_smoothing_is_refused_with_unknown_classes() -> None:
    logits, targets = known_case()
    message = "^label_smoothing must be 0 where data sets with different classes share a head$"
    with pytest.raises(ValueError, match=message):
        CrossEntropyLoss(4, label_smoothing=0.1)(logits, targets)
