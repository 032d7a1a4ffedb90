"""Samples -> ``Batch``: every task of the run is present, with its validity."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from visionmtl.types import (
    Batch,
    BoxTarget,
    BoxTargets,
    DenseTarget,
    DenseTargets,
    Sample,
    Target,
    Targets,
    TaskSpec,
)

_EMPTY = BoxTarget(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))


def collate(samples: Sequence[Sample], tasks: Sequence[TaskSpec]) -> Batch:
    """Stack samples of one size; a task without annotation on a sample has no valid pixel and no
    box there.

    Raises:
        ValueError: images of different sizes.
    """
    shape = samples[0].image.shape
    for sample in samples:
        if sample.image.shape != shape:
            raise ValueError(
                f"a batch needs images of one size, got {shape[:2]} ({samples[0].sample_id}) "
                f"and {sample.image.shape[:2]} ({sample.sample_id}); "
                "add a resize or crop to data.transforms, "
                "or use batch size 1 (in training trainer.eval_batch_size: 1)"
            )
    images = torch.from_numpy(np.stack([sample.image for sample in samples]))
    annotated = {}
    for spec in tasks:
        annotated[spec.name] = sum(_teaches(sample.targets.get(spec.name)) for sample in samples)
    return Batch(
        images=images.permute(0, 3, 1, 2).contiguous(),
        targets={spec.name: _collate_task(samples, spec) for spec in tasks},
        sample_ids=[sample.sample_id for sample in samples],
        annotated=annotated,
    )


def _collate_task(samples: Sequence[Sample], spec: TaskSpec) -> Targets:
    found = [_checked(sample, spec) for sample in samples]
    annotated = [target is not None for target in found]
    known = _known(found, spec.num_classes)
    if spec.kind.has_boxes:
        boxes = [target if isinstance(target, BoxTarget) else _EMPTY for target in found]
        return BoxTargets(
            boxes=[torch.from_numpy(target.boxes) for target in boxes],
            labels=[torch.from_numpy(target.labels) for target in boxes],
            annotated=annotated,
            known=known,
        )
    height, width = samples[0].image.shape[:2]
    value = np.zeros((len(samples), *spec.kind.channels, height, width), spec.kind.dtype)
    valid = np.zeros((len(samples), height, width), bool)
    for i, target in enumerate(found):
        if isinstance(target, DenseTarget):
            if target.value.ndim == 3:
                value[i] = target.value.transpose(2, 0, 1)
            else:
                value[i] = target.value
            valid[i] = target.valid
    return DenseTargets(
        torch.from_numpy(value), torch.from_numpy(valid), torch.tensor(annotated), known
    )


def _known(found: Sequence[Target | None], num_classes: int) -> Tensor | None:
    """Which classes (B, K) each annotation speaks of; None where all speak of all."""
    masks = {}
    for i, target in enumerate(found):
        if target is not None and target.known is not None:
            masks[i] = torch.from_numpy(target.known)
    if not masks:
        return None
    known = torch.ones((len(found), num_classes), dtype=torch.bool)
    for i, mask in masks.items():
        known[i] = mask
    return known


def _teaches(target: Target | None) -> bool:
    """Whether a loss can learn from it: an image without objects has a truth, one without a valid
    pixel has none.
    """
    if isinstance(target, DenseTarget):
        return bool(target.valid.any())
    return target is not None


def _checked(sample: Sample, spec: TaskSpec) -> Target | None:
    """The target of a sample: numpy would stretch one of another size over the image without a
    word.
    """
    target = sample.targets.get(spec.name)
    expected = spec.kind.target
    if target is not None and not isinstance(target, expected):
        kind = type(target).__name__
        raise ValueError(
            f"{sample.sample_id}: {spec.name} needs a {expected.__name__}, got a {kind}"
        )
    if isinstance(target, DenseTarget):
        shapes = {target.value.shape[:2], target.valid.shape}
        if shapes != {sample.image.shape[:2]}:
            sizes = f"value {target.value.shape[:2]}, valid {target.valid.shape}"
            raise ValueError(
                f"{sample.sample_id}: {spec.name} is {sizes}, the image {sample.image.shape[:2]}"
            )
    return target
