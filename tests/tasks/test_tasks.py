from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch

from visionmtl.losses.base import LOSSES
from visionmtl.losses.criterion import build_loss
from visionmtl.losses.depth import BerHuLoss
from visionmtl.losses.mask import BalancedBCELoss
from visionmtl.losses.semseg import CrossEntropyLoss
from visionmtl.models.heads import HEADS
from visionmtl.tasks import KINDS
from visionmtl.types import (
    BoxTargets,
    DenseTargets,
    DetectionOutput,
    Prediction,
    Targets,
    TaskSpec,
)

GIVEN: dict[str, Any] = {"classes": ["wall", "floor", "chair"], "max_disparity": 126.0}
"""Fields of kinds whose default does not do."""


def example(name: str) -> TaskSpec:
    """A task of a kind."""
    kind: Any = KINDS[name]
    own = {field.name for field in fields(kind)}
    return TaskSpec(name, kind(**{field: GIVEN[field] for field in GIVEN if field in own}))


SPECS = {name: example(name) for name in KINDS}
NAMES = [(kind, name) for kind in SPECS for name in LOSSES.names_for(kind, SPECS[kind].kind.loss)]


def make_targets(value: torch.Tensor, annotated: bool = True) -> DenseTargets:
    valid = torch.full((value.shape[0], *value.shape[-2:]), annotated)
    return DenseTargets(value, valid, valid.flatten(1).any(1))


@pytest.mark.parametrize("kind", list(SPECS))
def test_every_kind_has_all_its_parts(kind: str) -> None:
    spec = SPECS[kind]
    given = {"in_channels": 16, "strides": [4, 8, 16, 32], **spec.kind.facts()}
    head = HEADS.make(spec.kind.head, given, {"channels": 8})
    assert type(head) is HEADS[spec.kind.head]
    metric = spec.kind.make_metric()
    assert {metric.headline, metric.score_key, *metric.delta_m_keys} <= set(
        metric.higher_is_better_by_key
    )
    assert metric.higher_is_better_by_key[metric.score_key], (
        "the validation score is a mean of shares"
    )
    assert type(metric) is spec.kind.metric
    assert spec.kind.report(spec).spec is spec
    assert spec.kind.codec.for_labels(spec.kind).kind is spec.kind


def test_an_unknown_kind_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=f"known: {', '.join(KINDS)}"):
        TaskSpec.from_dict({"name": "x", "kind": "albedo"})


def test_the_types_need_no_table() -> None:
    """The kinds come with ``visionmtl.TaskSpec``; networks import ``visionmtl.types``."""
    code = "import sys, visionmtl.types; print('visionmtl.tasks' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_every_name_is_built(kind: str, name: str) -> None:
    assert type(build_loss(SPECS[kind], name)) is LOSSES[name]


@pytest.mark.parametrize("kind", list(SPECS))
def test_the_loss_of_the_kind_is_the_default(kind: str) -> None:
    assert type(build_loss(SPECS[kind])) is LOSSES[KINDS[kind].loss]


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
            "loss 'berhu': treshold: unknown option",
        ),
        ("depth", "berhu", {"spec": 1}, "loss 'berhu': spec: unknown option"),
        (
            "edge",
            None,
            {"positive_weight": 1.0},
            "task 'edge': loss 'edge_bce': positive_weight: must be < 1, got 1.0",
        ),
        ("depth", "l1", {"threshold": 1}, "loss 'l1': threshold: unknown option"),
        ("semseg", None, {"num_classes": 4}, "loss 'cross_entropy': num_classes: unknown option"),
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
    if SPECS[kind].kind.has_boxes:
        a, counts = 20, (0, 1, 5)
        with torch.device("meta"):
            logits, distances, centerness = (
                torch.rand(3, a, n, requires_grad=True) for n in (3, 4, 1)
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
    numpy_type, channels = KINDS[kind].dtype, KINDS[kind].channels
    (width,) = channels or (max(SPECS[kind].num_classes, 1),)
    with torch.device("meta"):
        prediction = torch.rand(2, width, 4, 4, requires_grad=True)
        dtype = torch.uint8 if numpy_type is np.uint8 else torch.float32
        return prediction, make_targets(torch.zeros(2, *channels, 4, 4, dtype=dtype))


@pytest.mark.parametrize(("kind", "name"), NAMES)
def test_no_loss_waits_for_the_device(kind: str, name: str) -> None:
    options = {"class_weights": [1.0, 2.0, 3.0], "dice": 1.0} if name == "cross_entropy" else {}
    prediction, targets = meta_case(kind)
    loss = build_loss(SPECS[kind], name, **options).to("meta")(prediction, targets)
    loss.backward()
    assert loss.shape == ()
