from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from visionmtl.data.report import REPORTS
from visionmtl.losses import BerHuLoss, CrossEntropyLoss
from visionmtl.tasks import TASKS, build_loss
from visionmtl.types import BoxTargets, DenseTargets, DetectionOutput, Prediction, Targets, TaskSpec

SPECS = {
    "semseg": TaskSpec.semseg(["wall", "floor", "chair"]),
    "depth": TaskSpec.depth(),
    "normals": TaskSpec.normals(),
    "detection": TaskSpec.detection(["chair", "lamp"]),
}
NAMES = [(kind, name) for kind, entry in TASKS.items() for name in entry.losses]


def make_targets(value: torch.Tensor, annotated: bool = True) -> DenseTargets:
    valid = torch.full((value.shape[0], *value.shape[-2:]), annotated)
    return DenseTargets(value, valid, valid.flatten(1).any(1))


@pytest.mark.parametrize("kind", list(SPECS))
def test_every_kind_has_all_its_parts(kind: str) -> None:
    entry, spec = TASKS[kind], SPECS[kind]
    assert entry.head.build(spec, 16, [4, 8, 16, 32], channels=8).levels == entry.head.levels
    assert entry.metric.from_task(spec).headline == entry.metric.headline
    assert entry.losses
    assert kind in REPORTS


def test_the_table_has_every_kind_and_no_other() -> None:
    assert list(TASKS) == list(REPORTS) == list(SPECS)
    with pytest.raises(ValueError, match=f"known: {', '.join(TASKS)}"):
        TaskSpec("x", "edge")


def test_specs_need_no_table() -> None:
    code = "import sys; from visionmtl import TaskSpec; print('visionmtl.tasks' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_every_name_is_built(kind: str, name: str) -> None:
    assert type(build_loss(SPECS[kind], name)) is TASKS[kind].losses[name]


@pytest.mark.parametrize("kind", list(TASKS))
def test_the_first_is_the_default(kind: str) -> None:
    assert type(build_loss(SPECS[kind])) is next(iter(TASKS[kind].losses.values()))


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


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_no_loss_waits_for_the_device(kind: str, name: str) -> None:
    options = {"class_weights": [1.0, 2.0, 3.0], "dice": 1.0} if name == "cross_entropy" else {}
    prediction, targets = meta_case(kind)
    loss = build_loss(SPECS[kind], name, **options).to("meta")(prediction, targets)
    loss.backward()
    assert loss.shape == ()
