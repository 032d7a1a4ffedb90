"""Reads every sample of a data set once and says what is in it: ranges, classes, invalid shares, and what is broken.

Copies of a data set differ in units, sentinels and sign conventions; the numbers here show it before a training does.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Group, RenderableType
from rich.progress import track
from rich.table import Table
from rich.text import Text

from visionmtl.data.folder import FolderDataset
from visionmtl.data.images import read_bytes
from visionmtl.types import BoxTarget, DenseTarget, MultiTaskDataset, Sample, Target, TaskSpec

DEPTH_BINS = 1000


class TaskReport:
    """What all samples of one task hold together.

    Attributes:
        spec: the task.
        annotated: number of samples with this task.
        valid, total: pixels; a detection task has none.
        counts: pixels per class (semseg), boxes per class (detection), pixels per bin of ``max_depth / DEPTH_BINS``
            (depth), pixels facing towards and away from the camera, by the sign of z (normals).
        low, high: metres (depth), longer side of a box in pixels (detection).
        empty: images without a box.
    """

    def __init__(self, spec: TaskSpec) -> None:
        self.spec = spec
        self.annotated = self.valid = self.total = self.empty = 0
        self.counts = np.zeros(spec.num_classes or {"depth": DEPTH_BINS, "normals": 2}[spec.kind], np.int64)
        self.low, self.high = np.inf, -np.inf

    def update(self, target: Target) -> None:
        """Adds one sample."""
        self.annotated += 1
        if isinstance(target, BoxTarget):
            self._update_boxes(target)
        else:
            self._update_pixels(target)

    def _update_boxes(self, target: BoxTarget) -> None:
        self.empty += len(target.boxes) == 0
        self.counts += np.bincount(target.labels, minlength=len(self.counts))
        self._update_range((target.boxes[:, 2:] - target.boxes[:, :2]).max(axis=1))

    def _update_pixels(self, target: DenseTarget) -> None:
        self.total += target.valid.size
        values = target.value[target.valid]
        self.valid += len(values)
        if self.spec.kind == "depth":
            self._update_range(values)
            values = np.minimum(values * (DEPTH_BINS / self.spec.max_depth), DEPTH_BINS - 1).astype(np.int64)
        elif self.spec.kind == "normals":
            values = values[:, 2] > 0
        self.counts += np.bincount(values, minlength=len(self.counts))

    def _update_range(self, values: np.ndarray) -> None:
        self.low = min(self.low, float(values.min(initial=np.inf)))
        self.high = max(self.high, float(values.max(initial=-np.inf)))

    @property
    def invalid_share(self) -> float:
        """Share of the pixels of annotated samples without a value; nan for detection."""
        return 1 - self.valid / self.total if self.total else float("nan")

    def median_depth(self) -> float:
        """Metres, exact to ``max_depth / DEPTH_BINS``."""
        middle = int(np.searchsorted(self.counts.cumsum(), self.counts.sum() / 2))
        return (middle + 0.5) * self.spec.max_depth / DEPTH_BINS

    def contents(self) -> str:
        """The value range in one line."""
        number = int(self.counts.sum())
        if not number:
            return f"no boxes, {self.empty} images without" if self.spec.kind == "detection" else "no value"
        if self.spec.kind == "semseg":
            return f"{np.count_nonzero(self.counts)} of {len(self.counts)} classes"
        if self.spec.kind == "depth":
            return f"{self.low:.2f} .. {self.median_depth():.2f} .. {self.high:.2f} m (min, median, max)"
        if self.spec.kind == "normals":
            return f"{self.counts[0] / number:.1%} towards the camera (z <= 0)"
        return f"{number} boxes of {self.low:.0f} .. {self.high:.0f} px, {self.empty} images without"

    def notes(self) -> list[str]:
        """What is allowed and deserves a look."""
        name, number = self.spec.name, int(self.counts.sum())
        if not self.annotated:
            return [f"{name}: annotated on no sample"]
        if not number:
            return [f"{name}: annotated on {self.annotated} samples, and no value on any"]
        found = []
        absent = [c for c, count in zip(self.spec.classes, self.counts, strict=False) if not count]
        if absent:
            found.append(f"{name}: classes without an example: {', '.join(absent)}")
        if self.spec.kind == "normals" and self.counts[1] > number / 2:
            found.append(f"{name}: most point away from the camera; expected x right, y down, z forward")
        if self.invalid_share > 0.5:
            found.append(f"{name}: {self.invalid_share:.0%} of the pixels are invalid; are scale and max_depth right?")
        return found


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
        sizes = ", ".join(f"{w}x{h} ({n})" for (w, h), n in self.sizes.most_common(5))
        more = f" and {len(self.sizes) - 5} more sizes" if len(self.sizes) > 5 else ""
        parts: list[RenderableType] = [Text(f"{self.samples} samples, images {sizes or 'none'}{more}"), self._overall()]
        parts += [_class_table(task) for task in self.tasks if task.spec.classes and task.counts.any()]
        parts += [Text(f"note: {note}", "yellow") for note in self.notes]
        parts += [Text(f"{sample_id}: {reason}", "red") for sample_id, reason in self.problems]
        usable = self.samples - len(self.problems)
        return Group(*parts, Text(f"{usable} of {self.samples} samples can be used", "green" if self.ok else "red"))

    def _overall(self) -> Table:
        table = Table("task", "annotated", "invalid", "contents")
        for task in self.tasks:
            invalid = f"{task.invalid_share:.1%}" if task.total else "-"
            table.add_row(task.spec.name, f"{task.annotated}/{self.samples}", invalid, task.contents())
        return table


def check_dataset(dataset: MultiTaskDataset, progress: bool = True, max_overview: int = 6) -> Report:
    """Reads and checks every sample; ``ValueError`` and ``OSError`` become problems, and the check goes on.

    Args:
        dataset: any data set; a ``FolderDataset`` is also asked about dropped boxes and labels without image.
        progress: show a bar.
        max_overview: length of ``Report.examples``.
    """
    reports = {spec.name: TaskReport(spec) for spec in dataset.tasks}
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
    report.notes = [note for task in report.tasks for note in task.notes()]
    if isinstance(dataset, FolderDataset):
        report.notes += _folder_notes(dataset)
    return report


def check_sample(sample: Sample, tasks: Sequence[TaskSpec]) -> None:
    """Whether a sample keeps the contracts of ``visionmtl.types``; ``FolderDataset`` sees to it, other classes may not.

    Raises:
        ValueError: the first fault found.
    """
    image, specs = sample.image, {spec.name: spec for spec in tasks}
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"the image is {image.dtype} of shape {image.shape}, expected uint8 (H, W, 3)")
    for name, target in sample.targets.items():
        if name not in specs:
            raise ValueError(f"a target for task {name!r}; tasks: {', '.join(specs)}")
        spec, size = specs[name], (image.shape[0], image.shape[1])
        if isinstance(target, BoxTarget) != (spec.kind == "detection"):
            raise ValueError(f"{name}: a {type(target).__name__} for a {spec.kind} task")
        reason = _box_fault(spec, target, size) if isinstance(target, BoxTarget) else _dense_fault(spec, target, size)
        if reason:
            raise ValueError(f"{name}: {reason}")


def overview(dataset: MultiTaskDataset, path: Path | str, indices: Sequence[int] | None = None) -> None:
    """Writes a picture of a few samples: one row each, the image and then every task, in task order.

    Args:
        dataset: any data set.
        path: the file to write; the suffix gives the format.
        indices: the samples, ``Report.examples`` for instance; six by default, spread over the data set.

    Raises:
        ValueError: there is no sample, or the picture cannot be written.
    """
    from visionmtl import visualize

    rows = []
    for index in _spread(range(len(dataset)), 6) if indices is None else indices:
        sample = dataset[index]
        row = [sample.image]
        for spec in dataset.tasks:
            target = sample.targets.get(spec.name)
            blank = np.full_like(sample.image, 128)
            row.append(blank if target is None else visualize.draw_target(spec, target, sample.image))
        rows.append(row)
    visualize.save_image(path, visualize.grid(rows, ["image", *(spec.name for spec in dataset.tasks)]))


def find_overlap(a: FolderDataset, b: FolderDataset) -> list[tuple[str, str]]:
    """What two splits share: ids, and image files with the same bytes; pairs of an id of ``a`` and the reason."""
    of_b = {b.sample_id(i) for i in range(len(b))}
    shared = [(name, f"the id is in {b.split} too") for name in map(a.sample_id, range(len(a))) if name in of_b]
    sizes_a, sizes_b = _image_sizes(a), _image_sizes(b)
    common = set(sizes_a.values()) & set(sizes_b.values())  # most files need not be read
    twins = {_digest(b.image_path(i)): b.image_path(i) for i, size in sizes_b.items() if size in common}
    for i, size in sizes_a.items():
        if size in common and (twin := twins.get(_digest(a.image_path(i)))):
            shared.append((a.sample_id(i), f"the image is the same as {twin}"))
    return shared


def _box_fault(spec: TaskSpec, target: BoxTarget, size: tuple[int, int]) -> str:
    boxes, labels = target.boxes, target.labels
    if boxes.dtype != np.float32 or boxes.shape != (labels.size, 4) or labels.dtype != np.int64 or labels.ndim != 1:
        return f"boxes {boxes.dtype} {boxes.shape} and labels {labels.dtype} {labels.shape}"
    if len(labels) and not 0 <= labels.min() <= labels.max() < spec.num_classes:
        return f"labels {labels.min()}..{labels.max()} are not in 0..{spec.num_classes - 1}"
    corners, limit = boxes.reshape(-1, 2, 2), (size[1], size[0])
    inside = (corners >= 0) & (corners <= limit)
    if not (inside.all() and (corners[:, 0] < corners[:, 1]).all()):
        return f"boxes without area or not in 0..{limit}"
    return ""


def _dense_fault(spec: TaskSpec, target: DenseTarget, size: tuple[int, int]) -> str:
    value, valid = target.value, target.valid
    shape, dtype = (*size, 3) if spec.kind == "normals" else size, np.uint8 if spec.kind == "semseg" else np.float32
    if value.dtype != dtype or value.shape != shape or valid.dtype != bool or valid.shape != size:
        return f"value {value.dtype} {value.shape} and valid {valid.dtype} {valid.shape}, the image is {size}"
    held = value[valid]
    if value[~valid].any():
        return "invalid pixels do not hold 0"
    if spec.kind == "semseg" and held.max(initial=0) >= spec.num_classes:
        return f"class id {held.max()} is not in 0..{spec.num_classes - 1}"
    if spec.kind == "depth" and not ((held > 0) & (held <= spec.max_depth)).all():
        return f"depth is not in 0..{spec.max_depth} metres everywhere"
    if spec.kind == "normals" and not (np.abs(np.linalg.norm(held, axis=1) - 1) < 1e-3).all():
        return "normals are not of unit length everywhere"
    return ""


def _image_sizes(dataset: FolderDataset) -> dict[int, int]:
    """Index -> bytes; a broken link is left to ``check_dataset``."""
    paths = ((i, dataset.image_path(i)) for i in range(len(dataset)))
    return {i: path.stat().st_size for i, path in paths if path.is_file()}


def _digest(path: Path) -> str:
    return hashlib.sha256(read_bytes(path)).hexdigest()


def _spread(indices: Sequence[int], number: int) -> list[int]:
    """At most ``number`` of the indices, at even distances."""
    number = min(number, len(indices))
    return [indices[i * len(indices) // number] for i in range(number)]


def _folder_notes(dataset: FolderDataset) -> list[str]:
    notes = [f"{count} boxes dropped: {reason}" for reason, count in dataset.dropped_boxes.items()]
    for name, unused in dataset.unused_labels.items():
        if unused:
            notes.append(f"{name}: {len(unused)} labels without image, such as {unused[0]!r}")
    return notes


def _class_table(task: TaskReport) -> Table:
    unit = "boxes" if task.spec.kind == "detection" else "pixels"
    table = Table(f"{task.spec.name} class", unit, "share")
    for name, count in zip(task.spec.classes, task.counts.tolist(), strict=True):
        table.add_row(name, str(count), f"{count / task.counts.sum():.2%}")
    return table
