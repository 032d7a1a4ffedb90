"""A batch in parts against the same batch in one piece, for every loss."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from visionmtl.losses import (
    AngularNormalsLoss,
    BalancedBCELoss,
    BerHuLoss,
    CosineNormalsLoss,
    CrossEntropyLoss,
    DepthL1Loss,
    EdgeBCELoss,
    FCOSLoss,
    SILogLoss,
    TaskLoss,
)
from visionmtl.models.heads.detection import image_points
from visionmtl.types import BoxTargets, DenseTargets, DetectionOutput, Prediction, Targets

SIZE = (60, 90)
K = 4
WEIGHTS = [0.5, 0.0, 2.0, 4.0]
EXACT: dict[str, TaskLoss] = {
    "l1": DepthL1Loss(),
    "cosine": CosineNormalsLoss(),
    "angular": AngularNormalsLoss(),
    "cross-entropy": CrossEntropyLoss(K),
    "cross-entropy-weighted": CrossEntropyLoss(K, class_weights=WEIGHTS, label_smoothing=0.1),
    "bce-balanced": BalancedBCELoss(),
    "bce-edge": EdgeBCELoss(),
    "fcos": FCOSLoss(K, box_weight=2.0, centerness_weight=3.0),
    "fcos-focal": FCOSLoss(K, box_weight=0.0, centerness_weight=0.0),
    "fcos-box": FCOSLoss(K, class_weight=0.0, centerness_weight=0.0),
    "fcos-centerness": FCOSLoss(K, class_weight=0.0, box_weight=0.0),
}
STATISTIC: dict[str, TaskLoss] = {
    "berhu": BerHuLoss(),
    "silog": SILogLoss(),
    "silog-invariant": SILogLoss(variance_focus=1.0, alpha=1.0),
    "dice": CrossEntropyLoss(K, dice=1.0),
}
exact = pytest.mark.parametrize("loss", EXACT.values(), ids=EXACT)
statistic = pytest.mark.parametrize("loss", STATISTIC.values(), ids=STATISTIC)
every = pytest.mark.parametrize(
    "loss", [*EXACT.values(), *STATISTIC.values()], ids=[*EXACT, *STATISTIC]
)
splits = pytest.mark.parametrize("split", [(2, 1, 3), (1, 1, 1, 1, 1, 1), (5, 1)], ids=str)


def make_boxes(rng: torch.Generator) -> BoxTargets:
    """Boxes on images 0, 3 and 4, none on the others; 2 and 4 are not annotated."""
    boxes, labels = [], []
    for n in (5, 0, 0, 9, 3, 0):
        low = torch.rand(n, 2, generator=rng) * torch.tensor([60.0, 40.0])
        boxes.append(torch.cat((low, low + 4 + torch.rand(n, 2, generator=rng) * 30), dim=1))
        labels.append(torch.randint(0, K, (n,), generator=rng))
    return BoxTargets(boxes, labels, [True, True, False, True, False, True])


def make_case(loss: TaskLoss, seed: int = 0) -> tuple[Prediction, Targets, list[Tensor]]:
    """Six images in float64, the third without truth; and the leaves of the prediction."""
    rng = torch.Generator().manual_seed(seed)
    if isinstance(loss, FCOSLoss):
        points, strides = image_points(SIZE, torch.device("cpu"))
        shape = (6, len(points))
        logits, centerness = (
            torch.randn(*shape, *n, generator=rng).double().requires_grad_() for n in ((K,), ())
        )
        distances = (torch.rand(*shape, 4, generator=rng) * 30 + 1).double().requires_grad_()
        output = DetectionOutput(logits, distances, centerness, points, strides, SIZE)
        return output, make_boxes(rng), [logits, distances, centerness]
    valid = torch.rand(6, 7, 8, generator=rng) < torch.tensor([0.1, 0.9, 0.0, 0.5, 1.0, 0.3]).view(
        -1, 1, 1
    )
    if isinstance(loss, CrossEntropyLoss):
        prediction, value = (
            torch.randn(6, K, 7, 8, generator=rng),
            torch.randint(0, K, (6, 7, 8), generator=rng).byte(),
        )
    elif isinstance(loss, BalancedBCELoss):
        prediction, value = (
            torch.randn(6, 1, 7, 8, generator=rng),
            torch.randint(0, 2, (6, 7, 8), generator=rng).byte(),
        )
    elif isinstance(loss, CosineNormalsLoss | AngularNormalsLoss):
        prediction, value = (
            F.normalize(torch.randn(6, 3, 7, 8, generator=rng).double(), dim=1) for _ in range(2)
        )
    else:
        prediction, value = (torch.rand(6, 1, 7, 8, generator=rng) * 9 + 0.5 for _ in range(2))
    prediction = prediction.double().requires_grad_()
    return prediction, DenseTargets(value, valid, valid.flatten(1).any(1)), [prediction]


def cut(prediction: Any, targets: Any, split: tuple[int, ...]) -> list[tuple[Any, Any]]:
    """The parts of a batch."""
    parts, start = [], 0
    for length in split:
        own = slice(start, start + length)
        start += length
        if isinstance(targets, BoxTargets):
            values = {
                n: getattr(prediction, n)[own] for n in ("class_logits", "distances", "centerness")
            }
            truth: Any = BoxTargets(targets.boxes[own], targets.labels[own], targets.annotated[own])
            parts.append((replace(prediction, **values), truth))
        else:
            truth = DenseTargets(targets.value[own], targets.valid[own], targets.annotated[own])
            parts.append((prediction[own], truth))
    assert start == 6
    return parts


def prepared(loss: TaskLoss, parts: list[tuple[Any, Any]]) -> tuple[list[tuple[Any, Any]], Tensor]:
    """The parts with their targets prepared, and the counts of the whole."""
    ready = [(prediction, loss.prepare(targets, SIZE)) for prediction, targets in parts]
    return ready, torch.stack([loss.counts(targets) for _, targets in ready]).sum(0)


def assert_equal(value: Tensor, expected: Tensor, leaves: list[Tensor]) -> None:
    """In value and gradient."""
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-6)
    grads = torch.autograd.grad(value, leaves)
    for grad, right in zip(grads, torch.autograd.grad(expected, leaves), strict=True):
        assert grad.isfinite().all()
        torch.testing.assert_close(grad, right, rtol=1e-6, atol=1e-6 * float(right.abs().max()))


@splits
@exact
def test_parts_add_up_to_the_whole(loss: TaskLoss, split: tuple[int, ...]) -> None:
    prediction, targets, leaves = make_case(loss)
    parts, counts = prepared(loss, cut(prediction, targets, split))
    value = torch.stack([loss(*part, counts) for part in parts]).sum()
    expected = loss(prediction, targets)
    assert expected > 0
    assert_equal(value, expected, leaves)


@splits
@statistic
def test_losses_with_batch_statistics_are_averaged(loss: TaskLoss, split: tuple[int, ...]) -> None:
    prediction, targets, leaves = make_case(loss)
    parts, counts = prepared(loss, cut(prediction, targets, split))
    value = torch.stack([loss(*part, counts) for part in parts]).sum()
    assert isinstance(targets, DenseTargets)
    shares = [truth.valid.sum() / targets.valid.sum() for _, truth in parts]
    expected = torch.stack(
        [share * loss(*part) for share, part in zip(shares, parts, strict=True)]
    ).sum()
    assert expected > 0
    assert_equal(value, expected, leaves)


@every
def test_own_counts_are_the_default(loss: TaskLoss) -> None:
    prediction, targets, leaves = make_case(loss)
    ready = loss.prepare(targets, SIZE)
    counts = loss.counts(ready)
    assert counts.dtype == torch.float32
    assert counts.shape == (loss.num_counts,)
    expected, values = (
        loss(prediction, targets),
        [loss(prediction, ready, counts), loss(prediction, ready)],
    )
    grads = torch.autograd.grad(expected, leaves)
    for value in values:
        assert value.item() == expected.item()
        assert all(map(torch.equal, torch.autograd.grad(value, leaves), grads))


@every
@pytest.mark.parametrize("elsewhere", [True, False], ids=["truth elsewhere", "no truth at all"])
def test_a_part_without_truth_adds_nothing(loss: TaskLoss, elsewhere: bool) -> None:
    prediction, targets, leaves = make_case(loss)
    with torch.no_grad():
        for leaf in leaves:
            leaf[2] = math.nan
    parts, counts = prepared(loss, cut(prediction, targets, (2, 1, 3)))
    value = loss(*parts[1], counts if elsewhere else torch.zeros_like(counts))
    assert value.item() == 0.0
    assert not any(grad.any() for grad in torch.autograd.grad(value, leaves))


@every
def test_nan_is_reported_by_the_part_that_has_it(loss: TaskLoss) -> None:
    prediction, targets, leaves = make_case(loss)
    with torch.no_grad():
        for leaf in leaves:
            leaf[3] = math.nan
    parts, counts = prepared(loss, cut(prediction, targets, (2, 1, 3)))
    assert [bool(loss(*part, counts).isnan()) for part in parts] == [False, False, True]


@every
def test_counting_waits_for_nothing(loss: TaskLoss) -> None:
    """On the meta device there are no values: any step that has to read one on the host raises."""
    with torch.device("meta"):
        boxes = [torch.rand(n, 4) for n in (0, 3)]
        dense = DenseTargets(
            torch.zeros(2, 4, 4).byte(), torch.zeros(2, 4, 4).bool(), torch.zeros(2).bool()
        )
        classes = [torch.zeros(len(b), dtype=torch.long) for b in boxes]
    targets = BoxTargets(boxes, classes, [True, False]) if isinstance(loss, FCOSLoss) else dense
    moved = (
        CrossEntropyLoss(K, class_weights=WEIGHTS).to("meta")
        if isinstance(loss, CrossEntropyLoss)
        else loss
    )
    counts = moved.counts(moved.prepare(targets, SIZE))
    assert counts.is_meta
    assert counts.shape == (loss.num_counts,)


@every
@pytest.mark.parametrize("known", [False, True], ids=["all classes", "some classes"])
def test_no_value_is_read_on_the_host(loss: TaskLoss, known: bool) -> None:
    """Forward or backward: on a GPU the host would wait there. (Derivatives do it too, that of
    prod() for one.)
    """
    prediction, targets, _ = make_case(loss)
    if (
        known
        and isinstance(loss, CrossEntropyLoss | FCOSLoss)
        and not getattr(loss, "label_smoothing", 0.0)
    ):
        targets.known = torch.ones(6, K, dtype=torch.bool)
    ready = loss.prepare(targets, SIZE)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        loss(prediction, ready, loss.counts(ready)).backward()
    calls = {event.name for event in profile.events()}
    assert any(name.endswith("Backward0") for name in calls)
    assert not calls & {
        "aten::item",
        "aten::_local_scalar_dense",
        "aten::nonzero",
        "aten::is_nonzero",
        "aten::equal",
    }
