"""Procedural rooms: an endless data set with exact truth for every task, made from numbers alone.

Sample ``index`` of seed ``seed`` is the same on every machine; ``size`` only changes how finely its
scene is sampled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Self
from zlib import crc32

import numpy as np

from visionmtl._options import Count, Fraction, Seed, Sides, checking
from visionmtl.data.base import DATASETS
from visionmtl.data.rooms.layout import sample_scene
from visionmtl.data.rooms.raycast import cast
from visionmtl.data.rooms.scene import CLASSES, OBJECTS, Scene
from visionmtl.data.rooms.shading import photograph
from visionmtl.types import BoxTarget, DenseTarget, Sample, Target, TaskSpec

MAX_DEPTH = 10.0
"""Metres; the largest room has a diagonal of 9.6 m."""

MIN_PIXELS = 16
"""Objects that show fewer pixels get no box."""

RoomsSize = Annotated[tuple[int, int], Sides(32, 2048)]


@checking
@dataclass(frozen=True)
class TrainSplit:
    """The rooms to train on.

    Args:
        samples: number of images.
        seed: rooms of another seed are other rooms.
        drop_labels: task -> fraction of the samples that lose its annotation.
    """

    samples: Count = 512
    seed: Seed = 0
    drop_labels: dict[str, Fraction] = field(default_factory=dict)


@checking
@dataclass(frozen=True)
class ValSplit(TrainSplit):
    """The rooms to evaluate on: with a seed of their own, also where only ``samples`` is given."""

    samples: Count = 64
    seed: Seed = 1


@DATASETS.register("rooms")
class RoomsDataset:
    """Ray-cast rooms with semantic segmentation, depth, normals and boxes; a ``MultiTaskDataset``.

    Args:
        num_samples: how many samples the data set has; sample i does not depend on it.
        size: height and width in pixels.
        seed: data sets of different seeds have nothing in common: use two for training and
            validation.
        tasks: names of the tasks to give, in this order; all four if None.
        drop_labels: task -> fraction (0..1) of the samples that are not annotated for it. Which
            ones depends on seed, index and task only, and a larger fraction drops the same samples
            and more.

    Raises:
        ValueError: a number that makes no sense, an unknown or repeated task, a fraction outside
            0..1.
    """

    split_types: ClassVar[dict[str, type]] = {"train": TrainSplit, "val": ValSplit}
    source: ClassVar[str] = "the procedural rooms of visionmtl"  # in model cards, for a folder

    def __init__(
        self,
        num_samples: int,
        size: tuple[int, int] = (128, 160),
        seed: int = 0,
        tasks: Sequence[str] | None = None,
        drop_labels: Mapping[str, float] | None = None,
    ) -> None:
        if num_samples < 1:
            raise ValueError(f"num_samples: expected at least 1, got {num_samples}")
        if len(size) != 2 or min(size) < 1:
            raise ValueError(
                f"size: expected (height, width) of at least 1 pixel, got {tuple(size)}"
            )
        if seed < 0:
            raise ValueError(f"seed: expected 0 or more, got {seed}")
        self.tasks = _select(tasks)
        self.size = (int(size[0]), int(size[1]))
        self._num_samples = num_samples
        self._seed = seed
        self._drop_labels = dict(drop_labels or {})
        _check_fractions(self._drop_labels, [task.name for task in self.tasks])

    @classmethod
    def build(
        cls,
        split: TrainSplit,
        tasks: Sequence[str] | None = None,
        *,
        size: RoomsSize = (128, 160),
    ) -> Self:
        """The data set of a split.

        Args:
            split: how many samples, of which seed and with which labels.
            tasks: names of the tasks to give, in this order; all four if None.
            size: [height, width] in pixels.
        """
        return cls(split.samples, size, split.seed, tasks, split.drop_labels)

    def __len__(self) -> int:
        return self._num_samples

    def sample_id(self, index: int) -> str:
        return f"rooms-{self._seed}-{index:06d}"

    def __getitem__(self, index: int) -> Sample:
        """The sample ``index``.

        Raises:
            IndexError: ``index`` is outside 0..len - 1.
        """
        if not 0 <= index < self._num_samples:
            raise IndexError(f"sample {index} of a rooms data set of {self._num_samples}")
        rng = _generator(self._seed, index)
        scene = sample_scene(rng)
        view = cast(scene, self.size)
        valid = np.ones(self.size, bool)
        labels = np.array([CLASSES.index(part.label) for part in scene.parts], np.uint8)
        truth: dict[str, Target] = {
            "semseg": DenseTarget(labels[view.surface], valid),
            "depth": DenseTarget(view.depth, valid.copy()),
            "normals": DenseTarget(view.normals, valid.copy()),
            "detection": _boxes(scene, view.surface),
        }
        targets = {}
        for task in self.tasks:
            if self._annotated(index, task.name):
                targets[task.name] = truth[task.name]
        return Sample(photograph(scene, view, rng), targets, self.sample_id(index), view.camera)

    def _annotated(self, index: int, task: str) -> bool:
        dropped = self._drop_labels.get(task, 0.0)
        if dropped == 0:
            return True
        return float(_generator(self._seed, index, crc32(task.encode())).random()) >= dropped


def _select(tasks: Sequence[str] | None) -> list[TaskSpec]:
    """The wanted tasks; all if None."""
    specs = (
        TaskSpec.semseg(CLASSES),
        TaskSpec.depth(MAX_DEPTH),
        TaskSpec.normals(),
        TaskSpec.detection(OBJECTS),
    )
    known = {spec.name: spec for spec in specs}
    names = list(known)
    if tasks is not None:
        names = list(tasks)
    if not names or len(set(names)) < len(names):
        raise ValueError(f"tasks: expected different names, at least one, got {names}")
    for name in names:
        if name not in known:
            raise ValueError(f"tasks: unknown task {name!r}; known: {', '.join(known)}")
    return [known[name] for name in names]


def _check_fractions(drop_labels: Mapping[str, float], tasks: Sequence[str]) -> None:
    for name, fraction in drop_labels.items():
        if name not in tasks:
            listed = f"tasks of this data set: {', '.join(tasks)}"
            raise ValueError(f"drop_labels: unknown task {name!r}; {listed}")
        if not 0 <= fraction <= 1:
            raise ValueError(
                f"drop_labels: the fraction of {name!r} must be in 0..1, got {fraction}"
            )


def _generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


def _boxes(scene: Scene, surface: np.ndarray) -> BoxTarget:
    """Tight boxes around the visible pixels of each solid, in the order of the scene."""
    boxes = []
    labels = []
    for index, solid in enumerate(scene.solids, len(scene.panels)):
        mask = surface == index
        if mask.sum() < MIN_PIXELS:
            continue
        rows = np.flatnonzero(mask.any(1))
        columns = np.flatnonzero(mask.any(0))
        boxes.append((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
        labels.append(OBJECTS.index(solid.label))
    return BoxTarget(np.array(boxes, np.float32).reshape(-1, 4), np.array(labels, np.int64))
