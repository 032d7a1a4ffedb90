"""Parts of a data set: some of its samples, with some of their labels."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import numpy as np

from visionmtl.data.base import image_file_of
from visionmtl.types import MultiTaskDataset, Sample

_SPLIT = re.compile(r"(?P<name>[^\[\]]+)(\[(?P<start>\d+%?)?:(?P<stop>\d+%?)?\])?")


class Subset:
    """Some samples of a data set, in the given order.

    Args:
        dataset: what it reads from.
        indices: of its samples.
        kept: task -> bool, over ``indices``: whether the sample keeps its label; tasks that are
            missing keep all.
    """

    def __init__(
        self,
        dataset: MultiTaskDataset,
        indices: np.ndarray,
        kept: Mapping[str, np.ndarray] | None = None,
    ) -> None:
        self.dataset = dataset
        self.tasks = dataset.tasks
        self._indices = indices
        self._kept = dict(kept or {})

    def __len__(self) -> int:
        return len(self._indices)

    def position(self, index: int) -> int:
        """The index of a sample in the whole data set."""
        return int(self._indices[index])

    def sample_id(self, index: int) -> str:
        return self.dataset.sample_id(self.position(index))

    def image_file(self, index: int) -> Path | None:
        """The file of a sample's image, where it has one of its own."""
        return image_file_of(self.dataset, self.position(index))

    def __getitem__(self, index: int) -> Sample:
        sample = self.dataset[self.position(index)]
        targets = dict(sample.targets)
        for task, kept in self._kept.items():
            if not kept[index]:
                targets.pop(task, None)
        return replace(sample, targets=targets)


def parse_split(text: str) -> tuple[str, str | None, str | None]:
    """Name, start and stop of a split such as ``train``, ``train[:80%]`` or ``train[10:200]``.

    >>> parse_split("train[80%:]")
    ('train', '80%', None)

    Raises:
        ValueError: another form.
    """
    match = _SPLIT.fullmatch(text)
    if match is None:
        raise ValueError("must be a split such as train, train[:80%] or train[10:200]")
    return match["name"], match["start"], match["stop"]


def cut_split(dataset: MultiTaskDataset, text: str) -> MultiTaskDataset:
    """The part that ``text`` names of the split that ``dataset`` is; neighbours in the order of ids
    stay together.

    Frames of a video resemble their neighbours: a part of them, cut in one piece, is held out, a
    random one is not.

    Raises:
        ValueError: the part is empty.
    """
    _, start, stop = parse_split(text)
    if start is None and stop is None:
        return dataset
    first = _position(start or "0", len(dataset))
    last = _position(stop or "100%", len(dataset))
    if first >= last:
        raise ValueError(f"split {text!r}: no sample of {len(dataset)} lies in it")
    return Subset(dataset, np.arange(first, last))


def keep_labels(
    dataset: MultiTaskDataset,
    fractions: Mapping[str, float],
    seed: int,
    used: Sequence[str] | None = None,
) -> MultiTaskDataset:
    """A data set with a fraction of the labels of some tasks; samples that lose the labels of every
    task are left out.

    Which samples keep a label depends on seed, task and the number of samples alone. A larger
    fraction keeps the same labels and more.

    Args:
        dataset: the whole.
        fractions: task -> fraction of its samples in 0..1, rounded up to whole samples.
        seed: of the choice.
        used: names of the tasks that are trained, of which a sample must have a label; None for
            all.

    Raises:
        ValueError: an unknown task, a fraction outside 0..1, or nothing is left.
    """
    names = [spec.name for spec in dataset.tasks]
    kept: dict[str, np.ndarray] = {}
    for task, fraction in fractions.items():
        if task not in names:
            known = f"tasks of this data set: {', '.join(names)}"
            raise ValueError(f"labels: unknown task {task!r}; {known}")
        if not 0 <= fraction <= 1:
            raise ValueError(f"labels.{task}: must be a fraction in 0..1, got {fraction}")
        kept[task] = _choice(seed, task, fraction, len(dataset))
    if not kept:
        return dataset
    trained = [name for name in names if used is None or name in used]
    left = np.arange(len(dataset))
    if trained and set(trained) <= set(kept):
        left = np.flatnonzero(np.any([kept[task] for task in trained], axis=0))
    if not len(left):
        raise ValueError(f"labels: no label is left of {', '.join(trained)}")
    return Subset(dataset, left, {task: mask[left] for task, mask in kept.items()})


def _choice(seed: int, task: str, fraction: float, length: int) -> np.ndarray:
    """Which of the samples keep a label, bool (length,)."""
    sequence = np.random.SeedSequence([seed, crc32(task.encode())])
    rank = np.random.Generator(np.random.PCG64(sequence)).permutation(length)
    return rank < math.ceil(fraction * length - 1e-9)


def _position(text: str, length: int) -> int:
    """A bound of a split, in 0..length."""
    if text.endswith("%"):
        return min(length, round(int(text[:-1]) / 100 * length))
    return min(length, int(text))
