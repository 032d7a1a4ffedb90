from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from visionmtl.tasks import KINDS, TaskSpec
from visionmtl.tasks.base import DenseKind
from visionmtl.types import (
    Batch,
    BoxTarget,
    BoxTargets,
    DenseTarget,
    DenseTargets,
)

SPECS = [
    TaskSpec.semseg(["wall", "door"]),
    TaskSpec.depth(5.0),
    TaskSpec.normals(),
    TaskSpec.detection(["chair"]),
]
MORE_SPECS = [TaskSpec.disparity(64), TaskSpec.saliency(), TaskSpec.edge()]


@pytest.mark.parametrize("spec", [*SPECS, *MORE_SPECS], ids=lambda spec: spec.name)
def test_dict_round_trip(spec: TaskSpec) -> None:
    assert TaskSpec.from_dict(spec.to_dict()) == spec
    assert all(isinstance(value, str | float | list) for value in spec.to_dict().values())


def test_constructors_name_the_task() -> None:
    names = [spec.name for spec in SPECS + MORE_SPECS]
    assert names == [spec.kind.name for spec in SPECS + MORE_SPECS]
    assert set(names) <= set(KINDS)
    assert TaskSpec.disparity(64, name="far").to_dict() == {
        "name": "far",
        "kind": "disparity",
        "max_disparity": 64.0,
    }
    assert TaskSpec.edge(0.011, name="outline").to_dict() == {
        "name": "outline",
        "kind": "edge",
        "tolerance": 0.011,
    }
    assert TaskSpec.depth(3, name="near").to_dict() == {
        "name": "near",
        "kind": "depth",
        "max_depth": 3.0,
    }
    assert SPECS[0].classes == ("wall", "door")
    assert [spec.num_classes for spec in SPECS] == [2, 0, 0, 1]


def test_specs_are_immutable_and_hashable() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SPECS[0].name = "other"  # type: ignore[misc]
    assert len({*SPECS, TaskSpec.depth(5.0)}) == 4


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"name": "a", "kind": "flow"},
            f"^task 'a': unknown kind of task 'flow'; known: {', '.join(KINDS)}$",
        ),
        (
            {"name": "a", "kind": "disparity"},
            "^task 'a': max_disparity: required option is missing$",
        ),
        (
            {"name": "a", "kind": "disparity", "max_disparity": float("inf")},
            "^task 'a': max_disparity: must be finite, got inf$",
        ),
        (
            {"name": "a b", "kind": "normals"},
            "^task name 'a b' must be letters, digits and underscores",
        ),
        ({"name": "", "kind": "normals"}, "^task name '' must be"),
        ({"name": "a", "kind": "semseg"}, "^task 'a': a semseg task needs at least one class$"),
        (
            {"name": "a", "kind": "detection", "classes": []},
            "^task 'a': a detection task needs at least one class$",
        ),
        (
            {"name": "a", "kind": "semseg", "classes": ["x", "y", "x"]},
            r"^task 'a': repeated classes \['x'\]$",
        ),
        (
            {"name": "a", "kind": "semseg", "classes": "bed"},
            "^task 'a': classes must be a list of names, got 'bed'$",
        ),
        (
            {"name": "a", "kind": "semseg", "classes": ["x", 1]},
            "^task 'a': classes must be a list of names, got ",
        ),
        (
            {"name": "a", "kind": "semseg", "classes": [f"c{i}" for i in range(257)]},
            "^task 'a': at most 256 classes, ids are 8-bit; got 257$",
        ),
        (
            {"name": "a", "kind": "depth", "max_depth": 0.0},
            r"^task 'a': .*max_depth: must be > 0, got 0\.0$",
        ),
        (
            {"name": "a", "kind": "depth", "max_depth": -1},
            "max_depth: must be > 0, got -1$",
        ),
        (
            {"name": "a", "kind": "depth", "max_depth": float("nan")},
            "max_depth: must be finite, got nan$",
        ),
        (
            {"name": "a", "kind": "depth", "max_depth": float("inf")},
            "max_depth: must be finite, got inf$",
        ),
        (
            {"name": "a", "kind": "normals", "unit": "m"},
            "^task 'a': unit: unknown option; known: none$",
        ),
        ({"kind": "normals"}, r"^task \{'kind': 'normals'\}: missing keys \['name'\]$"),
        ({"name": "a"}, r"^task \{'name': 'a'\}: missing keys \['kind'\]$"),
        ({}, r"^task \{\}: missing keys \['name', 'kind'\]$"),
    ],
)
def test_bad_specs_are_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        TaskSpec.from_dict(values)
    assert "\n" not in str(caught.value)


@pytest.fixture
def batch() -> Batch:
    """Two images of 4 x 6; nothing is annotated on the second."""
    valid = torch.zeros(2, 4, 6, dtype=torch.bool)
    valid[0, 1:] = True
    annotated = torch.tensor([True, False])
    dense = {
        "semseg": torch.arange(48, dtype=torch.uint8).reshape(2, 4, 6),
        "depth": torch.arange(48.0).reshape(2, 1, 4, 6),
        "normals": torch.arange(144.0).reshape(2, 3, 4, 6),
    }
    targets: dict[str, Any] = {
        task: DenseTargets(value, valid, annotated) for task, value in dense.items()
    }
    boxes = [torch.tensor([[1.0, 1, 3, 3]]), torch.zeros(0, 4)]
    targets["detection"] = BoxTargets(
        boxes, [torch.tensor([0]), torch.zeros(0, dtype=torch.long)], [True, False]
    )
    images = torch.zeros(2, 3, 4, 6, dtype=torch.uint8)
    return Batch(images, targets, ["a", "b"], dict.fromkeys(targets, 1))


@pytest.mark.parametrize(("index", "shape"), [(0, (4, 6)), (1, (4, 6)), (2, (4, 6, 3))])
def test_dense_truth_of_one_sample(index: int, shape: tuple[int, ...], batch: Batch) -> None:
    target = batch.sample_target(SPECS[index], 0)
    assert isinstance(target, DenseTarget)
    assert target.value.shape == shape
    assert target.valid.dtype == np.bool_
    assert target.valid.sum() == 18
    full = batch.targets[SPECS[index].name]
    assert isinstance(full, DenseTargets)
    assert target.value.dtype == full.value.numpy().dtype
    at = full.value[0, ..., 2, 5].flatten().tolist()
    assert np.atleast_1d(target.value[2, 5]).tolist() == at


def test_boxes_of_one_sample(batch: Batch) -> None:
    target = batch.sample_target(SPECS[3], 0)
    assert isinstance(target, BoxTarget)
    assert target.boxes.tolist() == [[1, 1, 3, 3]]
    assert target.labels.tolist() == [0]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_truth_that_is_not_annotated_is_none(spec: TaskSpec, batch: Batch) -> None:
    assert batch.sample_target(spec, 1) is None


def test_annotated_without_boxes_is_a_truth(batch: Batch) -> None:
    targets = batch.targets["detection"]
    assert isinstance(targets, BoxTargets)
    targets.annotated[1] = True
    target = batch.sample_target(SPECS[3], 1)
    assert isinstance(target, BoxTarget)
    assert target.boxes.shape == (0, 4)


def test_every_kind_has_a_value_per_pixel_or_boxes() -> None:
    dense = {name for name, kind in KINDS.items() if issubclass(kind, DenseKind)}
    boxes = {name for name, kind in KINDS.items() if kind.target is BoxTarget}
    assert "detection" in boxes
    assert dense ^ boxes == set(KINDS)


def test_the_classes_that_annotations_speak_of_travel_with_the_batch(batch: Batch) -> None:
    known = torch.tensor([[True, False], [True, True]])
    batch.targets["semseg"].known = known
    batch.targets["detection"].known = torch.tensor([[False], [True]])
    moved = batch.to(torch.device("meta"))
    for task in ("semseg", "detection"):
        mask = moved.targets[task].known
        assert mask is not None
        assert mask.device.type == "meta"
    assert moved.targets["depth"].known is None
    for spec, expected in ((SPECS[0], [True, False]), (SPECS[3], [False])):
        target = batch.sample_target(spec, 0)
        assert target is not None
        assert target.known is not None
        assert target.known.tolist() == expected
    depth = batch.sample_target(SPECS[1], 0)
    assert depth is not None
    assert depth.known is None


def test_pinning_leaves_nothing_out(batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    batch.targets["semseg"].known = torch.ones(2, 2, dtype=torch.bool)
    batch.targets["detection"].known = torch.ones(2, 1, dtype=torch.bool)
    pinned: list[torch.Tensor] = []

    def pin(tensor: torch.Tensor) -> torch.Tensor:
        pinned.append(tensor)
        return tensor

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    assert batch.pin_memory() is batch
    assert [tuple(tensor.shape) for tensor in pinned] == [
        *(
            (2, 3, 4, 6),
            (2, 4, 6),
            (2, 4, 6),
            (2, 2),
            (2, 1, 4, 6),
            (2, 4, 6),
            (2, 3, 4, 6),
            (2, 4, 6),
            (2, 1),
        )
    ]


def test_to_moves_every_tensor_and_keeps_the_host_values(batch: Batch) -> None:
    moved = batch.to(torch.device("meta"))
    assert moved.images.device.type == "meta"
    for task, target in moved.targets.items():
        assert type(target) is type(batch.targets[task])
        if isinstance(target, DenseTargets):
            assert {t.device.type for t in (target.value, target.valid, target.annotated)} == {
                "meta"
            }
        else:
            assert {t.device.type for t in [*target.boxes, *target.labels]} == {"meta"}
            assert target.annotated == [True, False]
    assert (moved.sample_ids, moved.annotated) == (batch.sample_ids, batch.annotated)
    assert batch.images.device.type == "cpu"


@pytest.mark.parametrize(
    ("device", "asynchronous"), [("cuda", True), ("cpu", False), ("mps", False)]
)
def test_only_copies_to_cuda_are_asynchronous(
    device: str, asynchronous: bool, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others could be read before they have arrived."""
    asked: list[bool] = []

    def to(tensor: torch.Tensor, device: torch.device, non_blocking: bool) -> torch.Tensor:
        asked.append(non_blocking)
        return tensor

    monkeypatch.setattr(torch.Tensor, "to", to)
    batch.to(torch.device(device))
    assert set(asked) == {asynchronous}
