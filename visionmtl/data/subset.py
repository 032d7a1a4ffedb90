"""Parts of a data set: some of its samples, with some of their labels."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from zlib import crc32

import numpy as np

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
        self.dataset, self.tasks = dataset, dataset.tasks
        self._indices, self._kept = indices, dict(kept or {})

    def __len__(self) -> int:
        return len(self._indices)

    def position(self, index: int) -> int:
        """The index of a sample in the whole data set."""
        return int(self._indices[index])

    def sample_id(self, index: int) -> str:
        return self.dataset.sample_id(self.position(index))

    def __getitem__(self, index: int) -> Sample:
        sample = self.dataset[self.position(index)]
        dropped = [task for task, kept in self._kept.items() if not kept[index]]
        return replace(
            sample, targets={k: v for k, v in sample.targets.items() if k not in dropped}
        )


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
    first, last = _position(start or "0", len(dataset)), _position(stop or "100%", len(dataset))
    if first >= last:
        raise ValueError(f"split {text!r}: no sample of {len(dataset)} lies in it")
    return Subset(dataset, np.arange(first, last))


def keep_labels(
    dataset: MultiTaskDataset,
    shares: Mapping[str, float],
    seed: int,
    used: Sequence[str] | None = None,
) -> MultiTaskDataset:
    """A data set with a share of the labels of some tasks; samples that lose the labels of every
    task are left out.

    Which samples keep a label depends on seed, task and the number of samples alone. A larger share
    keeps the same labels and more.

    Args:
        dataset: the whole.
        shares: task -> share of its samples in 0..1, rounded up to whole samples.
        seed: of the choice.
        used: names of the tasks that are trained, of which a sample must have a label; None for
            all.

    Raises:
        ValueError: an unknown task, a share outside 0..1, or nothing is left.
    """
    names = [spec.name for spec in dataset.tasks]
    kept: dict[str, np.ndarray] = {}
    for task, share in shares.items():
        if task not in names:
            raise ValueError(
                f"labels: unknown task {task!r}; tasks of this data set: {', '.join(names)}"
            )
        if not 0 <= share <= 1:
            raise ValueError(f"labels.{task}: must be a share in 0..1, got {share}")
        rng = np.random.Generator(
            np.random.PCG64(np.random.SeedSequence([seed, crc32(task.encode())]))
        )
        rank = rng.permutation(len(dataset))
        kept[task] = rank < math.ceil(share * len(dataset) - 1e-9)
    if not kept:
        return dataset
    left, used = np.arange(len(dataset)), [name for name in names if used is None or name in used]
    if used and set(used) <= set(kept):
        left = np.flatnonzero(np.any([kept[task] for task in used], axis=0))
    if not len(left):
        raise ValueError(f"labels: no label is left of {', '.join(used)}")
    return Subset(dataset, left, {task: mask[left] for task, mask in kept.items()})


def _position(text: str, length: int) -> int:
    """A bound of a split, in 0..length."""
    if text.endswith("%"):
        return min(length, round(int(text[:-1]) / 100 * length))
    return min(length, int(text))
