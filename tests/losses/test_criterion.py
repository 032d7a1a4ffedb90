from __future__ import annotations

from itertools import chain
from typing import Any

import pytest
import torch

from visionmtl.losses import (
    BerHuLoss,
    CosineNormalsLoss,
    Criterion,
    CrossEntropyLoss,
    DepthL1Loss,
    FCOSLoss,
    build_loss,
)
from visionmtl.losses.points import PointTargets
from visionmtl.models.heads.detection import image_points
from visionmtl.tasks import TaskSpec
from visionmtl.types import Batch, BoxTargets, DenseTargets, DetectionOutput, Prediction


def make_targets(value: torch.Tensor, annotated: bool = True) -> DenseTargets:
    valid = torch.full((value.shape[0], *value.shape[-2:]), annotated)
    return DenseTargets(value, valid, valid.flatten(1).any(1))


def test_losses_are_stacked_in_task_order() -> None:
    criterion = Criterion(
        {"train": DepthL1Loss(), "normals": CosineNormalsLoss(), "depth": DepthL1Loss()}
    )
    up = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1)
    predictions = {
        "depth": torch.full((1, 1, 1, 1), 3.0),
        "train": torch.full((1, 1, 1, 1), 2.0, requires_grad=True),
        "normals": -up,
    }
    targets = {
        "normals": make_targets(up),
        "depth": make_targets(torch.zeros(1, 1, 1, 1)),
        "train": make_targets(torch.zeros(1, 1, 1, 1), annotated=False),
    }
    losses = criterion(predictions, targets)
    assert criterion.tasks == ["train", "normals", "depth"]
    assert losses.tolist() == [0.0, 2.0, 3.0]
    losses.sum().backward()
    assert predictions["train"].grad is not None


def test_missing_tasks_are_named() -> None:
    criterion = Criterion({"depth": DepthL1Loss(), "near": DepthL1Loss()})
    ones = torch.ones(1, 1, 1, 1)
    with pytest.raises(ValueError, match=r"no targets for task 'near'; got \['depth'\]"):
        criterion({"depth": ones, "near": ones}, {"depth": make_targets(ones)})
    with pytest.raises(ValueError, match=r"no prediction for task 'depth', 'near'; got \[\]"):
        criterion({}, {})
    with pytest.raises(ValueError, match="at least one task"):
        Criterion({})
    with pytest.raises(ValueError, match="no targets for task 'depth', 'near'"):
        criterion.prepare(Batch(ones, {}, ["a"]))
    with pytest.raises(ValueError, match="no targets for task 'near'"):
        criterion.counts({"depth": make_targets(ones)})


def test_a_loss_is_built_from_the_task() -> None:
    assert isinstance(build_loss(TaskSpec.depth()), DepthL1Loss)
    berhu = build_loss(TaskSpec.depth(), "berhu", threshold=0.5)
    assert isinstance(berhu, BerHuLoss)
    assert berhu.threshold == 0.5
    semseg = build_loss(TaskSpec.semseg(["a", "b"]), dice=1.0)
    assert isinstance(semseg, CrossEntropyLoss)
    assert semseg.num_classes == 2


@pytest.mark.parametrize(
    ("type_", "options", "message"),
    [
        ("l2", {}, r"^task 'far': unknown depth loss 'l2'; known: l1, berhu, silog"),
        ("cosine", {}, r"^task 'far': unknown depth loss 'cosine'; known: "),
        (None, {"weight": 1}, r"^task 'far': loss 'l1': weight: unknown option; known: none$"),
        ("berhu", {"threshold": 2}, r"^task 'far': loss 'berhu': threshold: must be <= 1, got 2$"),
    ],
)
def test_mistakes_name_the_task(type_: str | None, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_loss(TaskSpec.depth(name="far"), type_, **options)


SIZE = (40, 50)


def make_batch(seed: int, share: float, boxes: list[int | None]) -> Batch:
    """Two images: ``share`` of the pixels valid, so many boxes on each, None where they are not
    annotated.
    """
    rng = torch.Generator().manual_seed(seed)

    def dense(value: torch.Tensor) -> DenseTargets:
        valid = torch.rand(2, *SIZE, generator=rng) < share
        return DenseTargets(value, valid, valid.flatten(1).any(1))

    low = [torch.rand(n or 0, 2, generator=rng) * 20 for n in boxes]
    return Batch(
        images=torch.randint(0, 256, (2, 3, *SIZE), generator=rng, dtype=torch.uint8),
        targets={
            "semseg": dense(torch.randint(0, 3, (2, *SIZE), generator=rng, dtype=torch.uint8)),
            "depth": dense(torch.rand(2, 1, *SIZE, generator=rng) * 9),
            "normals": dense(torch.randn(2, 3, *SIZE, generator=rng)),
            "detection": BoxTargets(
                [torch.cat((corner, corner + 18), dim=1) for corner in low],
                [torch.zeros(len(corner), dtype=torch.long) for corner in low],
                [n is not None for n in boxes],
            ),
        },
        sample_ids=["a", "b"],
    )


def merged(batches: list[Batch]) -> Batch:
    """All of them in one."""
    targets = {}
    for task in batches[0].targets:
        parts: list[Any] = [batch.targets[task] for batch in batches]
        fields = [
            [getattr(part, name) for part in parts] for name in vars(parts[0]) if name != "known"
        ]
        joined = [
            list(chain(*field)) if isinstance(field[0], list) else torch.cat(field)
            for field in fields
        ]
        targets[task] = type(parts[0])(*joined)
    return Batch(torch.cat([batch.images for batch in batches]), targets, ["a", "b"] * len(batches))


def predict(images: torch.Tensor, weight: torch.Tensor) -> dict[str, Prediction]:
    """Pixel by pixel and point by point: what an image gets does not depend on the others."""
    x = torch.einsum("oc,bchw->bohw", weight, images.double() / 255)
    points, strides = image_points(SIZE, images.device)
    at = x.mean((2, 3)).unsqueeze(1) + points[:, :1].double() / 50
    detection = DetectionOutput(at[..., :1], at[..., 1:5].exp(), at[..., 5], points, strides, SIZE)
    return {"semseg": x[:, :3], "depth": x[:, 3:4], "normals": x[:, 4:7], "detection": detection}


def test_parts_of_four_tasks_add_up() -> None:
    criterion = Criterion(
        {
            "semseg": CrossEntropyLoss(3, class_weights=[1.0, 2.0, 3.0]),
            "depth": DepthL1Loss(),
            "normals": CosineNormalsLoss(),
            "detection": FCOSLoss(1),
        }
    )
    batches = [
        make_batch(0, 0.2, [3, None]),
        make_batch(1, 0.0, [None, None]),
        make_batch(2, 0.9, [1, 0]),
    ]
    weight = torch.randn(
        7, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64
    ).requires_grad_()
    targets = [criterion.prepare(batch) for batch in batches]
    assert isinstance(targets[0]["detection"], PointTargets)
    counts = torch.stack([criterion.counts(of_part) for of_part in targets]).sum(0)
    assert counts.shape == (6,)
    parts = [
        criterion(predict(batch.images, weight), of_part, counts)
        for batch, of_part in zip(batches, targets, strict=True)
    ]
    assert parts[1].tolist() == [0.0] * 4
    whole = merged(batches)
    expected = criterion(predict(whole.images, weight), whole.targets)
    assert (expected > 0).all()
    losses = torch.stack(parts).sum(0)
    torch.testing.assert_close(losses, expected, rtol=1e-6, atol=1e-6)
    for i in range(4):
        (grad,) = torch.autograd.grad(losses[i], weight, retain_graph=True)
        (right,) = torch.autograd.grad(expected[i], weight, retain_graph=True)
        torch.testing.assert_close(grad, right, rtol=1e-6, atol=1e-6)
