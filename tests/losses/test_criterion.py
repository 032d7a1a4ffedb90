from __future__ import annotations

from typing import Any

import pytest
import torch

from visionmtl.losses import LOSSES, Criterion, build_loss
from visionmtl.losses.depth import BerHuLoss, DepthL1Loss
from visionmtl.losses.normals import CosineNormalsLoss
from visionmtl.losses.semseg import CrossEntropyLoss
from visionmtl.types import BoxTargets, DenseTargets, DetectionOutput, Prediction, Targets, TaskSpec

SPECS = {
    "semseg": TaskSpec.semseg(["wall", "floor", "chair"]),
    "depth": TaskSpec.depth(),
    "normals": TaskSpec.normals(),
    "detection": TaskSpec.detection(["chair", "lamp"]),
}


def make_targets(value: torch.Tensor, annotated: bool = True) -> DenseTargets:
    valid = torch.full((value.shape[0], *value.shape[-2:]), annotated)
    return DenseTargets(value, valid, valid.flatten(1).any(1))


def test_losses_are_stacked_in_task_order() -> None:
    criterion = Criterion({"train": DepthL1Loss(), "normals": CosineNormalsLoss(), "depth": DepthL1Loss()})
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


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, known in LOSSES.items() for name in known])
def test_every_name_is_built(kind: str, name: str) -> None:
    assert type(build_loss(SPECS[kind], name)) is LOSSES[kind][name]


@pytest.mark.parametrize("kind", list(LOSSES))
def test_the_first_is_the_default(kind: str) -> None:
    assert type(build_loss(SPECS[kind])) is next(iter(LOSSES[kind].values()))


def test_options_reach_the_loss() -> None:
    loss = build_loss(SPECS["depth"], "berhu", threshold=0.5)
    assert isinstance(loss, BerHuLoss)
    assert loss.threshold == 0.5
    weighted = build_loss(SPECS["semseg"], class_weights=[1, 2, 3])
    assert isinstance(weighted, CrossEntropyLoss)
    assert weighted.num_classes == 3


@pytest.mark.parametrize(
    ("kind", "name", "options", "message"),
    [
        ("depth", "huber", {}, "task 'depth': unknown depth loss 'huber'; known: l1, berhu, silog"),
        ("depth", "berhu", {"treshold": 1}, "loss 'berhu' has no option 'treshold'; its options: threshold"),
        ("depth", "berhu", {"spec": 1}, "loss 'berhu' has no option 'spec'"),
        ("depth", "l1", {"threshold": 1}, "loss 'l1' has no option 'threshold'; its options: none"),
        ("semseg", None, {"num_classes": 4}, "loss 'cross_entropy' has no option 'num_classes'"),
        ("semseg", None, {"class_weights": [1.0]}, "task 'semseg': loss 'cross_entropy': class_weights .* 3, got 1"),
        ("semseg", None, {"dice": "much"}, "task 'semseg': loss 'cross_entropy': "),
    ],
)
def test_bad_specs(kind: str, name: str | None, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_loss(SPECS[kind], name, **options)


def meta_case(kind: str) -> tuple[Prediction, Targets]:
    """Shapes without values: any step that has to read a value on the host raises."""
    if kind == "detection":
        a, counts = 20, (0, 1, 5)
        with torch.device("meta"):
            logits, distances, centerness = (torch.rand(3, a, n, requires_grad=True) for n in (2, 4, 1))
            output = DetectionOutput(
                logits, distances, centerness.squeeze(-1), torch.rand(a, 2), torch.rand(a), size=(32, 32)
            )
            boxes = [torch.rand(n, 4) for n in counts]
            labels = [torch.zeros(n, dtype=torch.long) for n in counts]
        return output, BoxTargets(boxes, labels, [True, True, False])
    shape = {"semseg": (2, 4, 4), "depth": (2, 1, 4, 4), "normals": (2, 3, 4, 4)}[kind]
    channels = {"semseg": 3, "depth": 1, "normals": 3}[kind]
    dtype = torch.uint8 if kind == "semseg" else torch.float32
    with torch.device("meta"):
        prediction = torch.rand(2, channels, 4, 4, requires_grad=True)
        return prediction, make_targets(torch.zeros(shape, dtype=dtype))


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, known in LOSSES.items() for name in known])
def test_no_loss_waits_for_the_device(kind: str, name: str) -> None:
    options = {"class_weights": [1.0, 2.0, 3.0], "dice": 1.0} if name == "cross_entropy" else {}
    prediction, targets = meta_case(kind)
    loss = build_loss(SPECS[kind], name, **options).to("meta")(prediction, targets)
    loss.backward()
    assert loss.shape == ()
