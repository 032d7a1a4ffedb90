"""Reads every sample of a data set once and says what is in it: ranges, classes, invalid shares,
and what is broken.

Copies of a data set differ in units, sentinels and sign conventions; the numbers here show it
before a training does.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Group, RenderableType
from rich.progress import track
from rich.table import Table
from rich.text import Text

from visionmtl._images import read_bytes
from visionmtl.data.folder import FolderDataset
from visionmtl.data.sets.base import PackedDataset
from visionmtl.tasks.drawing import grid, save_image
from visionmtl.tasks.report import TaskReport
from visionmtl.types import MultiTaskDataset, Sample, TaskSpec


@dataclass
class Report:
    """The result of ``check_dataset``.

    Attributes:
        samples: length of the data set.
        tasks: one report per task, in task order.
        problems: sample id and reason, for each sample that cannot be used.
        notes: lines about what is allowed and deserves a look.
        sizes: (width, height) -> number of images.
        examples: indices of a few readable samples, spread over the data set, for ``overview``.
    """

    samples: int
    tasks: list[TaskReport]
    problems: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    examples: list[int] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether every sample can be used."""
        return not self.problems

    def render(self) -> RenderableType:
        """Tables and lists for a rich console."""
        sizes = ", ".join(f"{w}x{h} ({n})" for (w, h), n in self.sizes.most_common(5)) or "none"
        if len(self.sizes) > 5:
            sizes += f" and {len(self.sizes) - 5} more sizes"
        parts: list[RenderableType] = [
            Text(f"{self.samples} samples, images {sizes}"),
            self._overall(),
        ]
        with_classes = [task for task in self.tasks if task.spec.classes and task.counts.any()]
        parts += [task.class_table() for task in with_classes]
        whole: Any = {"no_wrap": True, "overflow": "ignore"}  # lines that are searched and copied
        parts += [Text(f"note: {note}", "yellow", **whole) for note in self.notes]
        parts += [Text(f"{name}: {reason}", "red", **whole) for name, reason in self.problems]
        usable = self.samples - len(self.problems)
        colour = "green" if self.ok else "red"
        parts.append(Text(f"{usable} of {self.samples} samples can be used", colour))
        return Group(*parts)

    def _overall(self) -> Table:
        table = Table("task", "annotated", "invalid", "contents")
        for task in self.tasks:
            table.add_row(
                task.spec.name, f"{task.annotated}/{self.samples}", task.invalid, task.contents()
            )
        return table


def check_dataset(
    dataset: MultiTaskDataset, progress: bool = True, max_overview: int = 6
) -> Report:
    """Reads and checks every sample; ``ValueError`` and ``OSError`` become problems, and the check
    goes on.

    Args:
        dataset: any data set; those on disk are also asked about dropped boxes, and folders about
            labels without image.
        progress: show a bar.
        max_overview: length of ``Report.examples``.
    """
    reports = {spec.name: spec.kind.report(spec) for spec in dataset.tasks}
    report = Report(len(dataset), list(reports.values()))
    readable = []
    for index in track(range(len(dataset)), "checking", transient=True, disable=not progress):
        try:
            sample = dataset[index]
            check_sample(sample, dataset.tasks)
        except (ValueError, OSError) as error:
            report.problems.append((dataset.sample_id(index), str(error)))
            continue
        readable.append(index)
        report.sizes[sample.image.shape[1], sample.image.shape[0]] += 1
        for name, target in sample.targets.items():
            reports[name].update(target)
    report.examples = _spread(readable, max_overview)
    for task in report.tasks:
        report.notes += [f"{task.spec.name}: {note}" for note in task.notes()]
    if isinstance(dataset, FolderDataset | PackedDataset):
        for reason, count in dataset.dropped_boxes.items():
            report.notes.append(f"{count} boxes dropped: {reason}")
    if isinstance(dataset, FolderDataset):
        for name, ids in dataset.unused_labels.items():
            if ids:
                report.notes.append(f"{name}: {len(ids)} labels without image, such as {ids[0]!r}")
    return report


def check_sample(sample: Sample, tasks: Sequence[TaskSpec]) -> None:
    """Whether a sample keeps the contracts of ``visionmtl.types``; ``FolderDataset`` sees to it,
    other classes may not.

    Raises:
        ValueError: the first fault found.
    """
    image = sample.image
    specs = {spec.name: spec for spec in tasks}
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(
            f"the image is {image.dtype} of shape {image.shape}, expected uint8 (H, W, 3)"
        )
    for name, target in sample.targets.items():
        if name not in specs:
            raise ValueError(f"a target for task {name!r}; tasks: {', '.join(specs)}")
        kind = specs[name].kind
        if not isinstance(target, kind.target):
            raise ValueError(f"{name}: a {type(target).__name__} for a {kind.name} task")
        fault = kind.report(specs[name]).fault(target, image.shape[:2])
        if fault:
            raise ValueError(f"{name}: {fault}")


def overview(
    dataset: MultiTaskDataset, path: Path | str, indices: Sequence[int] | None = None
) -> None:
    """Writes a picture of a few samples: one row each, the image and then every task, in task
    order.

    Args:
        dataset: any data set.
        path: the file to write; the suffix gives the format.
        indices: the samples, ``Report.examples`` for instance; six by default, spread over the data
            set.

    Raises:
        ValueError: there is no sample, or the picture cannot be written.
    """
    if indices is None:
        indices = _spread(range(len(dataset)), 6)
    rows = []
    for index in indices:
        sample = dataset[index]
        row = [sample.image]
        for spec in dataset.tasks:
            picture = np.full_like(sample.image, 128)
            target = sample.targets.get(spec.name)
            if target is not None:
                picture = spec.kind.draw(target, sample.image)
            row.append(picture)
        rows.append(row)
    save_image(path, grid(rows, ["image", *(spec.name for spec in dataset.tasks)]))


def find_overlap(
    a: FolderDataset | PackedDataset, b: FolderDataset | PackedDataset
) -> list[tuple[str, str]]:
    """What two splits share: pairs of an id of ``a`` and the reason.

    Ids, but of packings that number each split from 0, and, in the folder format, image files with
    the same bytes.
    """
    of_b = {b.sample_id(i) for i in range(len(b))}
    if isinstance(a, PackedDataset) and a.image_file(0) is None:
        return []
    ids = map(a.sample_id, range(len(a)))
    shared = [(name, f"the id is in {b.split} too") for name in ids if name in of_b]
    if not isinstance(a, FolderDataset) or not isinstance(b, FolderDataset):
        return shared
    sizes_a = _image_sizes(a)
    sizes_b = _image_sizes(b)
    common = set(sizes_a.values()) & set(sizes_b.values())  # most files need not be read
    twins = {}
    for i, size in sizes_b.items():
        if size in common:
            twins[_digest(b.image_path(i))] = b.image_path(i)
    for i, size in sizes_a.items():
        twin = twins.get(_digest(a.image_path(i))) if size in common else None
        if twin:
            shared.append((a.sample_id(i), f"the image is the same as {twin}"))
    return shared


def _image_sizes(dataset: FolderDataset) -> dict[int, int]:
    """Index -> bytes; a broken link is left to ``check_dataset``."""
    sizes = {}
    for i in range(len(dataset)):
        path = dataset.image_path(i)
        if path.is_file():
            sizes[i] = path.stat().st_size
    return sizes


def _digest(path: Path) -> str:
    return hashlib.sha256(read_bytes(path)).hexdigest()


def _spread(indices: Sequence[int], number: int) -> list[int]:
    """At most ``number`` of the indices, at even distances."""
    number = min(number, len(indices))
    return [indices[i * len(indices) // number] for i in range(number)]
