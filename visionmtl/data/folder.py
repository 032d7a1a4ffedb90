"""Data sets on disk: a folder of images, a folder or file of labels per task, and ``dataset.yaml``.

    <root>/dataset.yaml              name, ordered list of tasks, optional camera, licence
    <root>/<split>/rgb/<id>.jpg|png  the sample ids are the file stems, sorted
    <root>/<split>/<task>/<id>.png   what has a value per pixel, as ``visionmtl.data.images`` reads
    them <root>/<split>/<task>.json       detection, as COCO instances

A task whose folder or file is missing in a split is not annotated there, and a single missing label
file means that this sample is not annotated for that task. An image listed in the json file without
annotations is annotated and empty; one that is not listed is not annotated.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from visionmtl._files import validated
from visionmtl._options import options_model
from visionmtl._yaml import load_yaml
from visionmtl.data.base import DATASETS
from visionmtl.data.coco import CocoBoxes, positions
from visionmtl.data.derive import normals_from_depth
from visionmtl.data.images import (
    is_there,
    read_depth,
    read_image,
    read_labels,
    read_mask,
    read_normals,
)
from visionmtl.tasks import KINDS
from visionmtl.types import Camera, DenseTarget, Sample, Target, TaskSpec

_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
_OTHER_SUFFIXES = (".bmp", ".gif", ".webp", ".tif", ".tiff", ".npy", ".npz", ".mat", ".exr", ".pfm")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class _Task(_Strict):
    name: str = Field(pattern=r"^[A-Za-z0-9_]+$")
    kind: str

    def spec(self) -> TaskSpec:
        kind: type = KINDS[self.kind]
        known = options_model(kind).model_fields
        return TaskSpec.from_dict(self.model_dump(include={"name", "kind", *known}))

    @model_validator(mode="after")
    def _check(self) -> Self:
        self.spec()
        return self


class _Semseg(_Task):
    kind: Literal["semseg"]
    classes: list[str] = Field(min_length=1, max_length=256)
    ignore_value: int = 255

    def spec(self) -> TaskSpec:
        if 0 <= self.ignore_value < len(self.classes):
            name = self.classes[self.ignore_value]
            raise ValueError(
                f"task {self.name!r}: ignore_value {self.ignore_value} is also the id of class {name!r}"
            )
        return super().spec()

    def read(self, path: Path) -> DenseTarget:
        return read_labels(path, len(self.classes), self.ignore_value)


class _Depth(_Task):
    kind: Literal["depth"]
    unit: Literal["metre"] = "metre"
    scale: float = Field(gt=0)
    invalid_value: float = 0.0
    max_depth: float = Field(gt=0)

    def read(self, path: Path) -> DenseTarget:
        return read_depth(path, self.scale, self.invalid_value, self.max_depth)


class _Disparity(_Task):
    kind: Literal["disparity"]
    scale: float = Field(gt=0)
    invalid_value: float = 0.0
    max_disparity: float = Field(gt=0)

    def read(self, path: Path) -> DenseTarget:
        return read_depth(path, self.scale, self.invalid_value, self.max_disparity)


class _Mask(_Task):
    positive_value: int = Field(default=1, ge=1)
    ignore_value: int | None = 255

    def spec(self) -> TaskSpec:
        if self.ignore_value in (0, self.positive_value):
            raise ValueError(
                f"task {self.name!r}: ignore_value {self.ignore_value} means yes or no too; null is none"
            )
        return super().spec()

    def read(self, path: Path) -> DenseTarget:
        return read_mask(path, self.positive_value, self.ignore_value)


class _Saliency(_Mask):
    kind: Literal["saliency"]


class _Edge(_Mask):
    kind: Literal["edge"]
    tolerance: float = 0.0075


class _Normals(_Task):
    kind: Literal["normals"]

    def read(self, path: Path) -> DenseTarget:
        return read_normals(path)


class _Derived(_Normals):
    """Normals that are not stored but computed from ``depth``."""

    depth: _Depth


class _Detection(_Task):
    kind: Literal["detection"]
    classes: list[str] = Field(min_length=1)


_Dense = _Semseg | _Depth | _Disparity | _Normals | _Saliency | _Edge
_Entry = Annotated[_Dense | _Detection, Field(discriminator="kind")]


class _Camera(_Strict):
    fx: float = Field(gt=0)
    fy: float = Field(gt=0)
    cx: float
    cy: float
    width: int = Field(gt=0)
    height: int = Field(gt=0)


class _Description(_Strict):
    """What ``dataset.yaml`` holds."""

    name: str
    tasks: list[_Entry] = Field(min_length=1)
    camera: _Camera | None = None
    licence: str = ""


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
        allow_outside_root: follow symbolic links that lead out of ``root``.
        derive_normals: add the task ``normals``.

    Attributes:
        tasks: the selected tasks, in order.
        name: the data set's name.
        licence: the data set's licence, empty where not stated.
        steps: task -> what one unit of its stored numbers stands for (depth and disparity).
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
        self.root, self.split = Path(root), split
        description = _read_description(self.root / "dataset.yaml")
        self.name, self.licence, self._camera = (
            description.name,
            description.licence,
            description.camera,
        )
        known: list[_Entry] = list(description.tasks)
        if derive_normals:
            known.append(_derived(description, self.root / "dataset.yaml"))
        entries = _select(known, tasks, self.root)
        self.tasks = [entry.spec() for entry in entries]
        self.steps = {
            entry.name: entry.scale for entry in entries if isinstance(entry, _Depth | _Disparity)
        }
        splits = list_splits(self.root)
        listed = f"splits with a folder rgb: {', '.join(splits) or 'none'}"
        if split not in splits:
            raise ValueError(f"{self.root}: no split {split!r}; {listed}")
        folder, boundary = self.root / split, None if allow_outside_root else self.root
        if not (images := _list_files(folder / "rgb", _IMAGE_SUFFIXES, boundary)):
            raise ValueError(f"{folder / 'rgb'}: no images; {listed}")
        self._images, self._ids = images, sorted(images)
        stored = [entry for entry in entries if not isinstance(entry, _Derived)]
        self._labels = {
            entry.name: labels
            for entry in stored
            if (labels := _open_labels(entry, folder, boundary)) is not None
        }
        self._depth: tuple[str, _Masks] | None = None  # what normals are derived from
        for entry in entries:
            if isinstance(entry, _Derived) and isinstance(
                depth := _open_labels(entry.depth, folder, boundary), _Masks
            ):
                self._depth = entry.depth.name, depth
                self._unused(depth)
        dropped = (
            labels.dropped for labels in self._labels.values() if isinstance(labels, CocoBoxes)
        )
        self.dropped_boxes = dict(sum(dropped, Counter[str]()))
        self.unused_labels = {name: self._unused(labels) for name, labels in self._labels.items()}

    def __len__(self) -> int:
        return len(self._ids)

    def sample_id(self, index: int) -> str:
        return self._ids[index]

    def image_path(self, index: int) -> Path:
        """The image file of a sample."""
        return self._images[self._ids[index]]

    def __getitem__(self, index: int) -> Sample:
        sample_id, path = self._ids[index], self.image_path(index)
        image = read_image(path)
        height, width = image.shape[:2]
        camera = self._camera_of(path, width, height)
        found = {
            name: labels.read(sample_id, (width, height)) for name, labels in self._labels.items()
        }
        if self._depth is not None:
            name, masks = self._depth
            depth = found[name] if name in found else masks.read(sample_id, (width, height))
            if isinstance(depth, DenseTarget) and camera is not None:
                found["normals"] = normals_from_depth(depth.value, depth.valid, camera)
        targets = {
            spec.name: target for spec in self.tasks if (target := found.get(spec.name)) is not None
        }
        return Sample(image, targets, sample_id, camera)

    def stamp(self) -> str:
        """A text that changes with the samples: with split, tasks, options and the size and time of
        every file.
        """
        masks = [
            labels
            for labels in (*self._labels.values(), *(self._depth or ())[1:])
            if isinstance(labels, _Masks)
        ]
        boxes = [labels.path for labels in self._labels.values() if isinstance(labels, CocoBoxes)]
        paths = [self.root / "dataset.yaml", *self._images.values(), *boxes]
        paths += [path for labels in masks for path in labels.paths()]
        states = [
            f"{path.relative_to(self.root)} {(state := path.stat()).st_size} {state.st_mtime_ns}"
            for path in paths
            if path.exists()
        ]
        return "\n".join(
            [str(self.root.resolve()), str(self.tasks), str(self._depth is not None), *states]
        )

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
        sx, sy = width / camera.width, height / camera.height
        return Camera(camera.fx * sx, camera.fy * sy, camera.cx * sx, camera.cy * sy, width, height)

    def _unused(self, labels: _Masks | CocoBoxes) -> list[str]:
        """Ids with a label and no image; all of them is an error, because nothing would be learnt
        without a word.
        """
        unused = sorted(labels.ids - self._images.keys())
        if unused and len(unused) == len(labels.ids):
            raise ValueError(
                f"{labels.path}: belongs to no image; it has {unused[0]!r}, not {self._ids[0]!r}"
            )
        return unused


class _Masks:
    """The label images of one dense task."""

    def __init__(self, entry: _Dense, path: Path, boundary: Path | None) -> None:
        self.path, self._entry = path, entry
        self._files = _list_files(path, (".png",), boundary)
        self.ids = set(self._files)

    def paths(self) -> list[Path]:
        return list(self._files.values())

    def read(self, sample_id: str, size: tuple[int, int]) -> Target | None:
        path = self._files.get(sample_id)
        if path is None:
            return None
        target = self._entry.read(path)
        height, width = target.valid.shape
        if (width, height) != size:
            raise ValueError(f"{path}: size is {width}x{height}, the image is {size[0]}x{size[1]}")
        return target


def _open_labels(entry: _Entry, folder: Path, boundary: Path | None) -> _Masks | CocoBoxes | None:
    """The labels of a task in a split; None where the split has none."""
    path = folder / (f"{entry.name}.json" if isinstance(entry, _Detection) else entry.name)
    if not is_there(path):
        return None
    if not isinstance(entry, _Detection):
        return _Masks(entry, path, boundary)
    _check_inside(path, boundary)
    return CocoBoxes(path, entry.classes)


def list_splits(root: Path | str) -> list[str]:
    """Names of the folders of ``root`` that hold a folder ``rgb``, sorted."""
    return sorted(path.parent.name for path in Path(root).glob("*/rgb") if path.is_dir())


def _check_inside(path: Path, boundary: Path | None) -> None:
    if boundary is not None and not Path(os.path.realpath(path)).is_relative_to(
        os.path.realpath(boundary)
    ):
        raise ValueError(f"{path}: leads out of {boundary}; allow_outside_root=True permits it")


def _list_files(folder: Path, suffixes: tuple[str, ...], boundary: Path | None) -> dict[str, Path]:
    """File stem -> path. Hidden files and files that are neither images nor arrays are left out."""
    _check_inside(folder, boundary)
    files: dict[str, Path] = {}
    seen: dict[str, str] = {}  # the id in one case -> file name
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise ValueError(f"{folder}: {error.strerror}") from error
    for name in names:
        path = folder / name
        if not name.isprintable():
            raise ValueError(f"{folder}: file name {name!a} is not printable UTF-8")
        if (
            name.startswith(".")
            or path.suffix.lower() not in suffixes + _IMAGE_SUFFIXES + _OTHER_SUFFIXES
        ):
            continue
        if path.suffix.lower() not in suffixes:
            raise ValueError(f"{path}: expected {' or '.join(suffixes)} files")
        if path.is_symlink():
            _check_inside(path, boundary)
        if (other := seen.setdefault(path.stem.casefold(), name)) != name:
            raise ValueError(f"{folder}: {other} and {name} have the same id, up to case")
        files[path.stem] = path
    return files


def _select(entries: list[_Entry], names: Sequence[str] | None, root: Path) -> list[_Entry]:
    known = {entry.name: entry for entry in entries}
    names = list(known) if names is None else list(names)
    for name in names or [""]:
        if name not in known:
            raise ValueError(f"{root}: no task {name!r}; known: {', '.join(known)}")
    positions(names, root, "task")
    return [known[name] for name in names]


def _derived(description: _Description, path: Path) -> _Derived:
    depths = [entry for entry in description.tasks if isinstance(entry, _Depth)]
    if len(depths) != 1 or description.camera is None:
        found = f"{len(depths)} depth tasks and {'a' if description.camera else 'no'} camera"
        raise ValueError(
            f"{path}: derive_normals needs one depth task and the camera, it has {found}"
        )
    if "normals" in [entry.name for entry in description.tasks]:
        raise ValueError(f"{path}: derive_normals: it has a task 'normals' already")
    return _Derived(name="normals", kind="normals", depth=depths[0])


def _read_description(path: Path) -> _Description:
    description = validated(_Description, load_yaml(path), path)
    positions([entry.name for entry in description.tasks], path, "task")
    return description
