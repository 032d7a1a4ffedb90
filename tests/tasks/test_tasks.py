from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from visionmtl.losses import BalancedBCELoss, BerHuLoss, CrossEntropyLoss, build_loss
from visionmtl.tasks import KINDS
from visionmtl.tasks.report import REPORTS
from visionmtl.types import (
    DENSE,
    KINDS,
    BoxTargets,
    DenseTargets,
    DetectionOutput,
    Prediction,
    Targets,
    TaskSpec,
)

SPECS = {
    "semseg": TaskSpec.semseg(["wall", "floor", "chair"]),
    "depth": TaskSpec.depth(),
    "normals": TaskSpec.normals(),
    "detection": TaskSpec.detection(["chair", "lamp"]),
    "disparity": TaskSpec.disparity(126.0),
    "saliency": TaskSpec.saliency(),
    "edge": TaskSpec.edge(),
}
NAMES = [(kind, name) for kind, entry in TASKS.items() for name in entry.losses]


def make_targets(value: torch.Tensor, annotated: bool = True) -> DenseTargets:
    valid = torch.full((value.shape[0], *value.shape[-2:]), annotated)
    return DenseTargets(value, valid, valid.flatten(1).any(1))


@pytest.mark.parametrize("kind", list(SPECS))
def test_every_kind_has_all_its_parts(kind: str) -> None:
    entry, spec = TASKS[kind], SPECS[kind]
    assert entry.head.build(spec, 16, [4, 8, 16, 32], channels=8).levels == entry.head.levels
    metric = entry.metric.from_task(spec)
    assert {metric.headline, metric.score_key, *metric.delta_m_keys} <= set(
        metric.higher_is_better_by_key
    )
    assert metric.higher_is_better_by_key[metric.score_key], (
        "the validation score is a mean of shares"
    )
    assert entry.losses
    assert kind in REPORTS


def test_the_table_has_every_kind_and_no_other() -> None:
    assert list(TASKS) == list(REPORTS) == list(SPECS) == list(KINDS)
    with pytest.raises(ValueError, match=f"known: {', '.join(TASKS)}"):
        TaskSpec("x", "albedo")


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


def test_edges_have_a_fixed_weight_and_saliency_is_balanced() -> None:
    edge, saliency = build_loss(SPECS["edge"]), build_loss(SPECS["saliency"])
    assert isinstance(edge, BalancedBCELoss)
    assert isinstance(saliency, BalancedBCELoss)
    assert (edge.positive_weight, saliency.positive_weight) == (0.95, None)


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
        (
            "depth",
            "berhu",
            {"treshold": 1},
            "loss 'berhu' has no option 'treshold'; its options: threshold",
        ),
        ("depth", "berhu", {"spec": 1}, "loss 'berhu' has no option 'spec'"),
        (
            "edge",
            None,
            {"positive_weight": 1.0},
            r"'balanced_bce': positive_weight must lie in \(0, 1\), .* got 1.0",
        ),
        ("depth", "l1", {"threshold": 1}, "loss 'l1' has no option 'threshold'; its options: none"),
        ("semseg", None, {"num_classes": 4}, "loss 'cross_entropy' has no option 'num_classes'"),
        (
            "semseg",
            None,
            {"class_weights": [1.0]},
            "task 'semseg': loss 'cross_entropy': class_weights .* 3, got 1",
        ),
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
            logits, distances, centerness = (
                torch.rand(3, a, n, requires_grad=True) for n in (2, 4, 1)
            )
            output = DetectionOutput(
                logits,
                distances,
                centerness.squeeze(-1),
                torch.rand(a, 2),
                torch.rand(a),
                size=(32, 32),
            )
            boxes = [torch.rand(n, 4) for n in counts]
            labels = [torch.zeros(n, dtype=torch.long) for n in counts]
        return output, BoxTargets(boxes, labels, [True, True, False])
    numpy_type, channels = DENSE[kind]
    with torch.device("meta"):
        prediction = torch.rand(
            2, 3 if kind in ("semseg", "normals") else 1, 4, 4, requires_grad=True
        )
        dtype = torch.uint8 if numpy_type is np.uint8 else torch.float32
        return prediction, make_targets(torch.zeros(2, *channels, 4, 4, dtype=dtype))


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_no_loss_waits_for_the_device(kind: str, name: str) -> None:
    options = {"class_weights": [1.0, 2.0, 3.0], "dice": 1.0} if name == "cross_entropy" else {}
    prediction, targets = meta_case(kind)
    loss = build_loss(SPECS[kind], name, **options).to("meta")(prediction, targets)
    loss.backward()
    assert loss.shape == ()
