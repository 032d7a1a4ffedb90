"""Data sets on disk: a folder of images, a folder or file of labels per task, and ``dataset.yaml``.

    <root>/dataset.yaml              name, ordered list of tasks, optional camera, licence
    <root>/<split>/rgb/<id>.jpg|png  the sample ids are the file stems, sorted
    <root>/<split>/<task>/<id>.png   what has a value per pixel, as the codec of its kind reads it
    <root>/<split>/<task>.json       boxes, as COCO instances

A task whose folder or file is missing in a split is not annotated there, and a single missing label
file means that this sample is not annotated for that task. An image listed in the json file without
annotations is annotated and empty; one that is not listed is not annotated.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from visionmtl._images import read_image
from visionmtl.data.base import DATASETS
from visionmtl.data.coco import positions
from visionmtl.data.derive import normals_from_depth
from visionmtl.data.description import NAME, Description, StoredTask, read_description
from visionmtl.data.labels import IMAGE_SUFFIXES, Labels, list_files, open_labels
from visionmtl.tasks.depth import Depth
from visionmtl.tasks.normals import Normals
from visionmtl.types import Camera, DenseTarget, Sample, Target, TaskSpec

_DERIVED = "normals"
"""Name of the task that ``derive_normals`` adds."""


@DATASETS.register("folder")
class FolderDataset:
    """One split of a data set in the folder format.

    Only the listing and the json files are read at construction; images and masks are read, and
    checked, per sample. With ``derive_normals`` it has one more task, ``normals``, computed from
    depth and camera by ``visionmtl.data.derive.normals_from_depth``.

    Args:
        root: the folder that holds ``dataset.yaml``.
        split: a folder of ``root`` with a folder ``rgb`` in it.
        tasks: names of the wanted tasks, in the wanted order; all in the order of ``dataset.yaml``
            by default.
        allow_outside_root: follow symbolic links that lead out of ``root``; no option of a config,
            which may come from others.
        derive_normals: add the task ``normals``.

    Attributes:
        tasks: the selected tasks, in order.
        name: the data set's name.
        licence: the data set's licence, empty where not stated.
        codecs: task -> how its labels are stored.
        dropped_boxes: reason -> number of annotations that do not become boxes, see
            ``visionmtl.data.coco.CocoBoxes``.
        unused_labels: task -> ids that have a label and no image.

    Raises:
        ValueError: missing or malformed ``dataset.yaml``, unknown split or task, no images, ids
            that repeat or differ in case only, links that lead out of ``root``, a task whose labels
            belong to none of the images, a json file that is malformed or has categories that are
            no class of the task; normals to derive without one depth task and a camera, or beside
            stored ones. Reading a sample: an unreadable file, a label whose size is not the
            image's.
    """

    title: ClassVar[str] = "a data set in the folder format"

    @classmethod
    def matches(cls, root: Path) -> bool:
        """Whether ``root`` has the description of this format."""
        return (root / "dataset.yaml").is_file()

    def __init__(
        self,
        root: Path | str,
        split: str,
        tasks: Sequence[str] | None = None,
        allow_outside_root: bool = False,
        *,
        derive_normals: bool = False,
    ) -> None:
        self.root = Path(root)
        self.split = split
        description = read_description(self.root / NAME)
        self.name = description.name
        self.licence = description.licence
        self._camera = description.camera
        known = description.stored_tasks()
        source = None  # what normals are derived from
        if derive_normals:
            source = _depth_task(description, self.root / NAME)
            spec = TaskSpec(_DERIVED, Normals())
            known.append(StoredTask(spec, Normals.codec(spec.kind)))
        selected = _select(known, tasks, self.root)
        self.tasks = [task.spec for task in selected]
        self.codecs = {task.name: task.codec for task in selected}
        splits = list_splits(self.root)
        listed = f"splits with a folder rgb: {', '.join(splits) or 'none'}"
        if split not in splits:
            raise ValueError(f"{self.root}: no split {split!r}; {listed}")
        folder = self.root / split
        boundary = None if allow_outside_root else self.root
        self._images = list_files(folder / "rgb", IMAGE_SUFFIXES, boundary)
        if not self._images:
            raise ValueError(f"{folder / 'rgb'}: no images; {listed}")
        self._ids = sorted(self._images)
        self._labels: dict[str, Labels] = {}
        self._depth: tuple[str, Labels] | None = None
        for task in selected:
            if source is not None and task.name == _DERIVED:
                depth = open_labels(source, folder, boundary)
                if depth is not None:
                    self._depth = (source.name, depth)
                    self._unused(depth)
                continue
            labels = open_labels(task, folder, boundary)
            if labels is not None:
                self._labels[task.name] = labels
        self.unused_labels = {name: self._unused(labels) for name, labels in self._labels.items()}
        dropped: Counter[str] = Counter()
        for labels in self._labels.values():
            dropped += labels.dropped
        self.dropped_boxes = dict(dropped)

    def __len__(self) -> int:
        return len(self._ids)

    def sample_id(self, index: int) -> str:
        return self._ids[index]

    def image_path(self, index: int) -> Path:
        """The image file of a sample."""
        return self._images[self._ids[index]]

    def __getitem__(self, index: int) -> Sample:
        sample_id = self._ids[index]
        path = self.image_path(index)
        image = read_image(path)
        height, width = image.shape[:2]
        size = (width, height)
        camera = self._camera_of(path, width, height)
        found = {name: labels.read(sample_id, size) for name, labels in self._labels.items()}
        if self._depth is not None:
            name, files = self._depth
            depth = found.get(name)
            if name not in found:
                depth = files.read(sample_id, size)
            if isinstance(depth, DenseTarget) and camera is not None:
                found[_DERIVED] = normals_from_depth(depth.value, depth.valid, camera)
        targets: dict[str, Target] = {}
        for spec in self.tasks:
            target = found.get(spec.name)
            if target is not None:
                targets[spec.name] = target
        return Sample(image, targets, sample_id, camera)

    def stamp(self) -> str:
        """A text that changes with the samples: with split, tasks, options and the size and time of
        every file.
        """
        paths = [self.root / NAME, *self._images.values()]
        for labels in self._labels.values():
            paths += labels.paths()
        if self._depth is not None:
            paths += self._depth[1].paths()
        lines = [str(self.root.resolve()), str(self.tasks), str(self._depth is not None)]
        for path in paths:
            if path.exists():
                state = path.stat()
                lines.append(f"{path.relative_to(self.root)} {state.st_size} {state.st_mtime_ns}")
        return "\n".join(lines)

    def _camera_of(self, path: Path, width: int, height: int) -> Camera | None:
        """The camera of ``dataset.yaml``, scaled to an image that is a resized copy."""
        camera = self._camera
        if camera is None:
            return None
        if abs(width * camera.height - height * camera.width) > max(camera.width, camera.height):
            expected = f"the {camera.width}x{camera.height} of the camera in dataset.yaml"
            raise ValueError(
                f"{path}: the aspect ratio of {width}x{height} is not that of {expected}"
            )
        sx = width / camera.width
        sy = height / camera.height
        return Camera(camera.fx * sx, camera.fy * sy, camera.cx * sx, camera.cy * sy, width, height)

    def _unused(self, labels: Labels) -> list[str]:
        """Ids with a label and no image; all of them is an error, because nothing would be learnt
        without a word.
        """
        unused = sorted(labels.ids - self._images.keys())
        if unused and len(unused) == len(labels.ids):
            raise ValueError(
                f"{labels.path}: belongs to no image; it has {unused[0]!r}, not {self._ids[0]!r}"
            )
        return unused


def list_splits(root: Path | str) -> list[str]:
    """Names of the folders of ``root`` that hold a folder ``rgb``, sorted."""
    return sorted(path.parent.name for path in Path(root).glob("*/rgb") if path.is_dir())


def _select(known: list[StoredTask], names: Sequence[str] | None, root: Path) -> list[StoredTask]:
    by_name = {task.name: task for task in known}
    names = list(by_name) if names is None else list(names)
    for name in names or [""]:
        if name not in by_name:
            raise ValueError(f"{root}: no task {name!r}; known: {', '.join(by_name)}")
    positions(names, root, "task")
    return [by_name[name] for name in names]


def _depth_task(description: Description, path: Path) -> StoredTask:
    """The one that normals can be derived from."""
    stored = description.stored_tasks()
    depths = [task for task in stored if isinstance(task.spec.kind, Depth)]
    if len(depths) != 1 or description.camera is None:
        found = f"{len(depths)} depth tasks and {'a' if description.camera else 'no'} camera"
        raise ValueError(
            f"{path}: derive_normals needs one depth task and the camera, it has {found}"
        )
    if _DERIVED in [task.name for task in stored]:
        raise ValueError(f"{path}: derive_normals: it has a task 'normals' already")
    return depths[0]
