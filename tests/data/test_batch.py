from __future__ import annotations

import re

import numpy as np
import pytest
import torch

from visionmtl.data.batch import collate
from visionmtl.tasks import TaskSpec
from visionmtl.types import (
    BoxTarget,
    BoxTargets,
    DenseTarget,
    DenseTargets,
    Sample,
    Target,
)

TASKS = [
    TaskSpec.semseg(["a", "b"]),
    TaskSpec.depth(),
    TaskSpec.normals(),
    TaskSpec.detection(["x"]),
]
SIZE = (4, 6)


def make_sample(name: str, *tasks: str, size: tuple[int, int] = SIZE, seed: int = 0) -> Sample:
    rng = np.random.default_rng(seed)
    valid = rng.random(size) > 0.3
    normals = rng.normal(size=(*size, 3)).astype(np.float32)
    targets: dict[str, Target] = {
        "semseg": DenseTarget(rng.integers(0, 2, size, dtype=np.uint8), valid),
        "depth": DenseTarget(rng.random(size, dtype=np.float32), valid),
        "normals": DenseTarget(normals, valid),
        "detection": BoxTarget(np.array([[0, 0, 2, 3]], np.float32), np.array([0])),
    }
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    return Sample(image, {task: targets[task] for task in tasks}, name)


def dense(target: object) -> DenseTargets:
    assert isinstance(target, DenseTargets)
    return target


def test_shapes_types_and_values() -> None:
    every = [spec.name for spec in TASKS]
    samples = [make_sample("a", *every), make_sample("b", *every, seed=1)]
    batch = collate(samples, TASKS)
    assert batch.images.dtype == torch.uint8
    assert batch.images.shape == (2, 3, *SIZE)
    assert list(batch.targets) == every
    assert batch.sample_ids == ["a", "b"]
    assert batch.annotated == dict.fromkeys(every, 2)
    for name, shape, dtype in [
        ("semseg", (2, *SIZE), torch.uint8),
        ("depth", (2, 1, *SIZE), torch.float32),
        ("normals", (2, 3, *SIZE), torch.float32),
    ]:
        target = dense(batch.targets[name])
        assert target.value.shape == shape
        assert target.value.dtype == dtype
        assert target.valid.shape == (2, *SIZE)
        assert target.valid.dtype == torch.bool
        assert target.annotated.tolist() == [True, True]
    for i, sample in enumerate(samples):
        assert np.array_equal(batch.images[i].permute(1, 2, 0).numpy(), sample.image)
        for spec in TASKS:
            back, given = batch.sample_target(spec, i), sample.targets[spec.name]
            for key, value in vars(given).items():
                assert np.array_equal(getattr(back, key), value)


def test_tasks_without_annotation_have_nothing_valid() -> None:
    samples = [make_sample("a", "semseg"), make_sample("b", "depth", "detection", seed=1)]
    batch = collate(samples, TASKS)
    assert batch.annotated == {"semseg": 1, "depth": 1, "normals": 0, "detection": 1}
    depth = dense(batch.targets["depth"])
    assert depth.annotated.tolist() == [False, True]
    assert not depth.valid[0].any()
    assert depth.valid[1].any()
    assert not dense(batch.targets["normals"]).valid.any()
    boxes = batch.targets["detection"]
    assert isinstance(boxes, BoxTargets)
    assert boxes.annotated == [False, True]
    assert isinstance(boxes.boxes, list)
    assert [tuple(b.shape) for b in boxes.boxes] == [(0, 4), (1, 4)]
    assert [label.dtype for label in boxes.labels] == [torch.int64, torch.int64]


def test_image_without_objects_is_annotated() -> None:
    sample = make_sample("a")
    sample.targets["detection"] = BoxTarget(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    batch = collate([sample], TASKS[3:])
    boxes = batch.targets["detection"]
    assert boxes.annotated == [True]
    assert batch.annotated == {"detection": 1}


def test_a_sample_without_a_valid_pixel_has_nothing_to_learn_from() -> None:
    void, good = make_sample("a", "semseg", "depth"), make_sample("b", "depth", seed=1)
    for target in void.targets.values():
        assert isinstance(target, DenseTarget)
        target.valid[:] = False
    batch = collate([void, good], TASKS[:2])
    assert batch.annotated == {"semseg": 0, "depth": 1}
    assert dense(batch.targets["depth"]).annotated.tolist() == [True, True]


def test_only_the_tasks_of_the_run() -> None:
    batch = collate([make_sample("a", "semseg", "depth")], TASKS[1:2])
    assert list(batch.targets) == ["depth"]


def test_a_batch_owns_its_memory() -> None:
    sample = make_sample("a", "semseg")
    batch = collate([sample], TASKS[:1])
    before = batch.images.clone()
    sample.image[:] = 0
    assert torch.equal(batch.images, before)


def test_images_of_different_sizes() -> None:
    sizes = "got (4, 6) (a) and (4, 8) (b)"
    message = (
        f"{sizes}; add a resize or crop to data.transforms, "
        "or use batch size 1 (in training trainer."
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        collate([make_sample("a"), make_sample("b", size=(4, 8))], TASKS)


@pytest.mark.parametrize("part", ["value", "valid"])
def test_target_of_another_size_is_not_stretched(part: str) -> None:
    sample = make_sample("hall", "depth")
    setattr(sample.targets["depth"], part, np.ones((1, 6), np.float32 if part == "value" else bool))
    with pytest.raises(ValueError, match=r"hall: depth is value .*, the image \(4, 6\)"):
        collate([sample], TASKS)


def test_target_of_another_kind() -> None:
    sample = make_sample("hall", "detection")
    sample.targets["depth"] = sample.targets["detection"]
    with pytest.raises(ValueError, match="hall: depth needs a DenseTarget, got a BoxTarget"):
        collate([sample], TASKS)


def test_masks_and_disparity() -> None:
    tasks = [TaskSpec.saliency(), TaskSpec.edge(), TaskSpec.disparity(9)]
    sample, valid = make_sample("a"), np.ones(SIZE, bool)
    for spec in tasks:
        kind = np.float32 if spec.name == "disparity" else np.uint8
        sample.targets[spec.name] = DenseTarget(np.ones(SIZE, kind), valid)
    batch = collate([sample, make_sample("b")], tasks)
    assert [dense(target).value.dtype for target in batch.targets.values()] == [
        torch.uint8,
        torch.uint8,
        torch.float32,
    ]
    assert [tuple(dense(target).value.shape) for target in batch.targets.values()] == [
        *((2, *SIZE), (2, *SIZE), (2, 1, *SIZE))
    ]
    assert batch.annotated == {"saliency": 1, "edge": 1, "disparity": 1}
    for spec in tasks:
        back, given = batch.sample_target(spec, 0), sample.targets[spec.name]
        assert isinstance(back, DenseTarget)
        assert isinstance(given, DenseTarget)
        assert np.array_equal(back.value, given.value)


def test_classes_that_annotations_speak_of() -> None:
    samples = [
        make_sample("a", "semseg", "detection"),
        make_sample("b", "semseg"),
        make_sample("c"),
    ]
    samples[0].targets["semseg"].known = np.array([True, False])
    samples[0].targets["detection"].known = np.array([True])
    batch = collate(samples, TASKS)
    semseg, boxes = batch.targets["semseg"], batch.targets["detection"]
    assert semseg.known is not None
    assert boxes.known is not None
    assert semseg.known.dtype == torch.bool
    assert semseg.known.tolist() == [[True, False], [True, True], [True, True]]
    assert boxes.known.tolist() == [[True]] * 3
    assert batch.targets["depth"].known is None
    back = batch.sample_target(TASKS[0], 0)
    assert back is not None
    assert back.known is not None
    assert back.known.tolist() == [True, False]
    alone = collate(samples[1:], TASKS)
    assert alone.targets["semseg"].known is None
    assert alone.targets["detection"].known is None
