"""Data sets on disk: a folder of images, a folder or file of labels per task, and ``dataset.yaml``.

    <root>/dataset.yaml              name, ordered list of tasks, optional camera, licence
    <root>/<split>/rgb/<id>.jpg|png  the sample ids are the file stems, sorted
    <root>/<split>/<task>/<id>.png   semseg, depth and normals, as ``visionmtl.data.images`` reads them
    <root>/<split>/<task>.json       detection, as COCO instances

A task whose folder or file is missing in a split is not annotated there, and a single missing label file means that
this sample is not annotated for that task. An image listed in the json file without annotations is annotated and empty;
one that is not listed is not annotated.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Hashable, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal, Self

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from visionmtl.data.images import read_bytes, read_depth, read_image, read_labels, read_normals
from visionmtl.types import BoxTarget, Camera, DenseTarget, Sample, Target, TaskSpec

_IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
_OTHER_SUFFIXES = (".bmp", ".gif", ".webp", ".tif", ".tiff", ".npy", ".npz", ".mat", ".exr", ".pfm")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class _Task(_Strict):
    name: str = Field(pattern=r"^[A-Za-z0-9_]+$")
    kind: str

    def spec(self) -> TaskSpec:
        return TaskSpec.from_dict(self.model_dump())

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
            raise ValueError(f"task {self.name!r}: ignore_value {self.ignore_value} is also the id of class {name!r}")
        return super().spec()

    def read(self, path: Path) -> DenseTarget:
        return read_labels(path, len(self.classes), self.ignore_value)


class _Depth(_Task):
    kind: Literal["depth"]
    unit: Literal["metre"] = "metre"
    scale: float = Field(gt=0, strict=False)  # YAML 1.1 reads 1e-3 as text
    invalid_value: float = 0.0
    max_depth: float = Field(gt=0, strict=False)

    def read(self, path: Path) -> DenseTarget:
        return read_depth(path, self.scale, self.invalid_value, self.max_depth)


class _Normals(_Task):
    kind: Literal["normals"]

    def read(self, path: Path) -> DenseTarget:
        return read_normals(path)


class _Detection(_Task):
    kind: Literal["detection"]
    classes: list[str] = Field(min_length=1)


_Entry = Annotated[_Semseg | _Depth | _Normals | _Detection, Field(discriminator="kind")]


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


class _CocoImage(BaseModel):
    id: int | str
    file_name: str
    width: int = Field(gt=0)
    height: int = Field(gt=0)


class _CocoAnnotation(BaseModel):
    image_id: int | str
    category_id: int
    bbox: list[float] = Field(min_length=4, max_length=4)
    iscrowd: int = 0


class _CocoCategory(BaseModel):
    id: int
    name: str


class _Coco(BaseModel):
    """The parts of a COCO instances file that are used; others are allowed."""

    images: list[_CocoImage]
    annotations: list[_CocoAnnotation]
    categories: list[_CocoCategory]


class FolderDataset:
    """One split of a data set in the folder format.

    Only the listing and the json files are read at construction; images and masks are read, and checked, per sample.

    Args:
        root: the folder that holds ``dataset.yaml``.
        split: a folder of ``root`` with a folder ``rgb`` in it.
        tasks: names of the wanted tasks, in the wanted order; all in the order of ``dataset.yaml`` by default.
        allow_outside_root: follow symbolic links that lead out of ``root``.

    Attributes:
        tasks: the selected tasks, in order.
        name: the data set's name.
        licence: the data set's licence, empty where not stated.
        dropped_boxes: reason -> number of annotations that do not become boxes: ``crowd`` (iscrowd = 1, a region and
            not one object), ``not finite``, ``no area``, ``outside`` the image. Boxes partly outside are clipped.
        unused_labels: task -> ids that have a label and no image.

    Raises:
        ValueError: missing or malformed ``dataset.yaml``, unknown split or task, no images, ids that repeat or differ
            in case only, links that lead out of ``root``, a task whose labels belong to none of the images, a json file
            that is malformed or has categories that are no class of the task. Reading a sample: an unreadable file, a
            label whose size is not the image's.
    """

    def __init__(
        self, root: Path | str, split: str, tasks: Sequence[str] | None = None, allow_outside_root: bool = False
    ) -> None:
        self.root, self.split = Path(root), split
        description = _read_description(self.root / "dataset.yaml")
        self.name, self.licence, self._camera = description.name, description.licence, description.camera
        entries = _select(description.tasks, tasks, self.root)
        self.tasks = [entry.spec() for entry in entries]
        splits = list_splits(self.root)
        known = f"splits with a folder rgb: {', '.join(splits) or 'none'}"
        if split not in splits:
            raise ValueError(f"{self.root}: no split {split!r}; {known}")
        folder, boundary = self.root / split, None if allow_outside_root else self.root
        if not (images := _list_files(folder / "rgb", _IMAGE_SUFFIXES, boundary)):
            raise ValueError(f"{folder / 'rgb'}: no images; {known}")
        self._images, self._ids = images, sorted(images)
        self._labels: dict[str, _Masks | _Boxes] = {
            e.name: _Boxes(e, folder, boundary) if isinstance(e, _Detection) else _Masks(e, folder, boundary)
            for e in entries
        }
        self.dropped_boxes = dict(sum((labels.dropped for labels in self._labels.values()), Counter[str]()))
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
        found = {name: labels.read(sample_id, (width, height)) for name, labels in self._labels.items()}
        targets = {name: target for name, target in found.items() if target is not None}
        return Sample(image, targets, sample_id, self._camera_of(path, width, height))

    def _camera_of(self, path: Path, width: int, height: int) -> Camera | None:
        """The camera of ``dataset.yaml``, scaled to an image that is a resized copy."""
        camera = self._camera
        if camera is None:
            return None
        if abs(width * camera.height - height * camera.width) > max(camera.width, camera.height):
            expected = f"the {camera.width}x{camera.height} of the camera in dataset.yaml"
            raise ValueError(f"{path}: the aspect ratio of {width}x{height} is not that of {expected}")
        sx, sy = width / camera.width, height / camera.height
        return Camera(camera.fx * sx, camera.fy * sy, camera.cx * sx, camera.cy * sy, width, height)

    def _unused(self, labels: _Masks | _Boxes) -> list[str]:
        """Ids with a label and no image; all of them is an error, because nothing would be learnt without a word."""
        unused = sorted(labels.ids - self._images.keys())
        if unused and len(unused) == len(labels.ids):
            raise ValueError(f"{labels.path}: belongs to no image; it has {unused[0]!r}, not {self._ids[0]!r}")
        return unused


class _Masks:
    """The label images of one dense task."""

    def __init__(self, entry: _Semseg | _Depth | _Normals, folder: Path, boundary: Path | None) -> None:
        self.path, self._entry, self.dropped = folder / entry.name, entry, Counter[str]()
        self._files = _list_files(self.path, (".png",), boundary) if self.path.exists() else {}
        self.ids = set(self._files)

    def read(self, sample_id: str, size: tuple[int, int]) -> Target | None:
        path = self._files.get(sample_id)
        if path is None:
            return None
        target = self._entry.read(path)
        height, width = target.valid.shape
        _check_size(path, (width, height), size)
        return target


class _Boxes:
    """The boxes of one detection task, as flat arrays that worker processes share."""

    def __init__(self, entry: _Detection, folder: Path, boundary: Path | None) -> None:
        self.path, self.dropped = folder / f"{entry.name}.json", Counter[str]()
        self._spans: dict[str, tuple[slice, tuple[int, int]]] = {}
        if self.path.exists():
            _check_inside(self.path, boundary)
            self._load(_validate(_Coco, read_bytes(self.path), self.path), entry)
        self.ids = set(self._spans)

    def read(self, sample_id: str, size: tuple[int, int]) -> Target | None:
        if sample_id not in self._spans:
            return None
        span, listed = self._spans[sample_id]
        _check_size(self.path, listed, size, f" of {sample_id!r}")
        return BoxTarget(self._boxes[span].copy(), self._labels[span].copy())

    def _load(self, coco: _Coco, entry: _Detection) -> None:
        position = _positions([image.id for image in coco.images], self.path, "image id")
        stems = [PurePosixPath(image.file_name).stem for image in coco.images]
        _positions(stems, self.path, "image")
        label = self._class_ids(coco, entry)
        for note in coco.annotations:
            if note.image_id not in position or note.category_id not in label:
                ids = f"image_id {note.image_id!r} and category_id {note.category_id}"
                raise ValueError(f"{self.path}: an annotation has {ids}, of which one is not listed")
        owner = np.array([position[note.image_id] for note in coco.annotations], np.int64)
        labels = np.array([label[note.category_id] for note in coco.annotations], np.int64)
        sizes = np.array([(image.width, image.height) for image in coco.images], np.int64).reshape(-1, 2)
        boxes, fault = _clip_boxes(np.array([note.bbox for note in coco.annotations]).reshape(-1, 4), sizes[owner])
        fault[[note.iscrowd != 0 for note in coco.annotations]] = "crowd"
        kept = np.flatnonzero(fault == "")
        kept = kept[np.argsort(owner[kept], kind="stable")]
        self._boxes, self._labels = boxes[kept], labels[kept]
        self.dropped.update(fault[fault != ""].tolist())
        bounds = np.searchsorted(owner[kept], np.arange(len(stems) + 1)).tolist()
        for i, (stem, image) in enumerate(zip(stems, coco.images, strict=True)):
            self._spans[stem] = slice(*bounds[i : i + 2]), (image.width, image.height)

    def _class_ids(self, coco: _Coco, entry: _Detection) -> dict[int, int]:
        """Category id -> class id; they are matched by name."""
        _positions([category.id for category in coco.categories], self.path, "category id")
        _positions([category.name for category in coco.categories], self.path, "category")
        for category in coco.categories:
            if category.name not in entry.classes:
                known = f"classes of {entry.name!r}: {', '.join(entry.classes)}"
                raise ValueError(f"{self.path}: unknown category {category.name!r}; {known}")
        return {category.id: entry.classes.index(category.name) for category in coco.categories}


def list_splits(root: Path | str) -> list[str]:
    """Names of the folders of ``root`` that hold a folder ``rgb``, sorted."""
    return sorted(path.parent.name for path in Path(root).glob("*/rgb") if path.is_dir())


def _clip_boxes(xywh: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners clipped to the images, float32 (N, 4), and why a box cannot be used, str (N,), empty where it can."""
    corners = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
    clipped = np.clip(corners, 0, np.tile(sizes, 2)).astype(np.float32)
    faults = {
        "not finite": ~np.isfinite(corners).all(axis=1),
        "no area": ~(xywh[:, 2:] > 0).all(axis=1),
        "outside": ~(clipped[:, 2:] > clipped[:, :2]).all(axis=1),
    }
    return clipped, np.select(list(faults.values()), list(faults), "").astype(object)


def _positions(names: Sequence[Hashable], path: Path, what: str) -> dict[Any, int]:
    """Name -> position, for names that must not repeat."""
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise ValueError(f"{path}: {what} {repeated[0]!r} is listed more than once")
    return {name: position for position, name in enumerate(names)}


def _check_size(path: Path, size: tuple[int, int], image: tuple[int, int], of: str = "") -> None:
    if size != image:
        raise ValueError(f"{path}: size{of} is {size[0]}x{size[1]}, the image is {image[0]}x{image[1]}")


def _check_inside(path: Path, boundary: Path | None) -> None:
    if boundary is not None and not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(boundary)):
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
        if name.startswith(".") or path.suffix.lower() not in suffixes + _IMAGE_SUFFIXES + _OTHER_SUFFIXES:
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
    _positions(names, root, "task")
    return [known[name] for name in names]


class _Loader(yaml.SafeLoader):
    """YAML without aliases, which can grow without bounds, and without repeated keys, which hide one another."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(problem="aliases are not allowed")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value]
        for position, (key, _) in enumerate(node.value):
            if key.value in keys[:position]:
                raise yaml.MarkedYAMLError(problem=f"repeated key {key.value!r}", problem_mark=key.start_mark)
        return super().construct_mapping(node, deep)


def _read_description(path: Path) -> _Description:
    data = read_bytes(path, max_bytes=1_000_000)
    try:
        values = yaml.load(data, _Loader)
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}:" if error.problem_mark else ""
        raise ValueError(f"{path}:{line} {error.problem}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from error
    description: _Description = _validate(_Description, values, path)
    _positions([entry.name for entry in description.tasks], path, "task")
    return description


def _validate(model: type[BaseModel], values: Any, path: Path) -> Any:
    """Parsed values, or the bytes of a json file, as ``model``; the first fault becomes the message."""
    try:
        return model.model_validate_json(values) if isinstance(values, bytes) else model.model_validate(values)
    except ValidationError as error:
        # Unknown keys first: a misspelt key is also reported as a missing one.
        first = min(error.errors(include_url=False), key=lambda fault: fault["type"] != "extra_forbidden")
        key = ".".join(map(str, first["loc"]))
        reason = "unknown key" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{path}: {key + ': ' if key else ''}{reason}") from error
