"""What the readers of the standard data sets share.

A packing is one way in which a data set lies on people's disks. Copies of one set differ in files,
classes, units and sentinels; a reader knows exactly one packing and refuses every other, in one
sentence that says what the folder is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from tokenize import TokenError
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from visionmtl._files import read_json
from visionmtl.data.coco import positions
from visionmtl._images import read_bytes, read_image
from visionmtl.types import Camera, DenseTarget, Sample, Target, TaskSpec


class PackedDataset:
    """One split of a data set in one packing; a ``MultiTaskDataset``.

    A subclass names itself, tells its packing from others by the names of files, and reads the
    parts of a sample. Its options come after ``*`` in its constructor, each with a default.

    Args:
        root: the folder of the data set.
        split: one of ``splits``.
        tasks: names of the wanted tasks, in the wanted order; by default all whose labels are
            there, see ``needs``.

    Attributes:
        packing: name in ``PACKINGS`` and in a config.
        title: what messages call it.
        layout: what the folder must hold, in one line.
        splits: names of its splits.
        tasks: the selected tasks, in order.
        dropped_boxes: reason -> number of annotations that do not become boxes.

    Raises:
        ValueError: the folder is another packing or none, unknown split or task, a wanted task
            whose labels are not there, no samples.
    """

    packing: ClassVar[str]
    title: ClassVar[str]
    layout: ClassVar[str]
    splits: ClassVar[tuple[str, ...]] = ("train", "val")
    dropped_boxes: Mapping[str, int] = MappingProxyType({})

    def __init__(self, root: Path | str, split: str, tasks: Sequence[str] | None = None) -> None:
        self.root, self.split = Path(root), split
        self._refuse_others()
        if split not in self.splits:
            raise ValueError(
                f"{self.root}: no split {split!r}; {self.title} has {', '.join(self.splits)}"
            )
        known = {spec.name: spec for spec in self.specs()}
        absent = {name: path for name, path in self.needs().items() if not path.exists()}
        if lost := [path for path in absent.values() if path.is_symlink()]:
            raise ValueError(f"{lost[0]}: a link to {lost[0].readlink()}, which is not there")
        names = [name for name in known if name not in absent] if tasks is None else list(tasks)
        for name in names or [*absent, ""]:  # without any label, say what the first task needs
            if name in absent:
                raise ValueError(
                    f"{self.root}: task {name!r} needs {absent[name]}, which is not there"
                )
            if name not in known:
                raise ValueError(
                    f"{self.root}: no task {name!r}; {self.title} has {', '.join(known)}"
                )
        positions(names, self.root, "task")
        self.tasks = [known[name] for name in names]
        self._ids = self.list_ids()
        if not self._ids:
            raise ValueError(f"{self.root}: split {split!r} has no samples")
        positions(self._ids, self.root, "sample")

    @classmethod
    def matches(cls, root: Path) -> bool:
        """Whether ``root`` looks like this packing and no other; looks at names, reads no file."""
        raise NotImplementedError

    def specs(self) -> list[TaskSpec]:
        """Every task of the packing, in order."""
        raise NotImplementedError

    def needs(self) -> dict[str, Path]:
        """Task -> the file or folder without which no sample of the split is annotated for it."""
        return {}

    def list_ids(self) -> list[str]:
        """The ids of the split, sorted; they may hold ``/`` and stay the same on every disk."""
        raise NotImplementedError

    def image_file(self, sample_id: str) -> Path | None:
        """The image's file, where each has one of its own; None in arrays and containers, which
        override the next.
        """
        return None

    def read_image(self, sample_id: str) -> np.ndarray:
        """uint8 (H, W, 3) RGB."""
        path = self.image_file(sample_id)
        assert path is not None
        return read_image(path)

    def read_target(self, task: str, sample_id: str) -> Target | None:
        """The truth of one selected task; None where the sample is not annotated."""
        raise NotImplementedError

    def read_boxes(self, task: str, sample_id: str, size: tuple[int, int]) -> Target | None:
        """``read_target`` for detection; labels that know their image's size must be of ``size``,
        (width, height).
        """
        return self.read_target(task, sample_id)

    def camera(self, sample_id: str, height: int, width: int) -> Camera | None:
        """The camera of an image of this size, where the set has one."""
        return None

    def __len__(self) -> int:
        return len(self._ids)

    def sample_id(self, index: int) -> str:
        return self._ids[index]

    def __getitem__(self, index: int) -> Sample:
        sample_id = self._ids[index]
        image = self.read_image(sample_id)
        height, width = image.shape[:2]
        targets: dict[str, Target] = {}
        for spec in self.tasks:
            if spec.kind.has_boxes:
                target = self.read_boxes(spec.name, sample_id, (width, height))
            else:
                target = self.read_target(spec.name, sample_id)
            if isinstance(target, DenseTarget) and target.valid.shape != (height, width):
                size = f"{target.valid.shape[1]}x{target.valid.shape[0]}"
                raise ValueError(
                    f"{self.root}: {sample_id}: {spec.name} is {size}, the image is {width}x{height}"
                )
            if target is not None:
                targets[spec.name] = target
        return Sample(image, targets, sample_id, self.camera(sample_id, height, width))

    def _refuse_others(self) -> None:
        from visionmtl.data.sets import identify, title_of  # they know all packings, this one too

        if not self.root.is_dir():
            raise ValueError(f"{self.root}: no such folder")
        if self.matches(self.root):
            return
        found = identify(self.root)
        what = (
            f"it looks like {title_of(found)}: use type {found}"
            if found
            else "it looks like no known packing"
        )
        raise ValueError(f"{self.root}: not {self.title}, which has {self.layout}; {what}")


@cache
def facts(name: str) -> Any:
    """The content of ``facts/<name>.json``: class lists, maps and splits, with their source under
    ``source``.
    """
    return read_json(Path(str(files("visionmtl.data.sets") / "facts" / f"{name}.json")))


def read_id_list(path: Path, images: Path, suffixes: Sequence[str]) -> list[str]:
    """The ids in a text file, one a line, each with an image ``<images>/<id><suffix>``.

    Raises:
        ValueError: missing file, no text, an id without image.
    """
    try:
        listed = read_bytes(path).decode("utf-8-sig").split()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a list of image ids, one a line") from error
    there = {image.stem for image in images.iterdir() if image.suffix in suffixes}
    if missing := [sample_id for sample_id in listed if sample_id not in there]:
        image = f"{images.name}/{missing[0]}{suffixes[0]}"
        raise ValueError(f"{path}: no image {image}; missing: {len(missing)} of {len(listed)}")
    return listed


def list_numbered(folder: Path) -> list[str]:
    """The ids of files ``0.npy``, ``1.npy``, ... ordered by value: 9 comes before 10.

    Raises:
        ValueError: a file name that is no number.
    """
    ids = sorted(path.stem for path in folder.glob("[!.]*.npy"))
    if wrong := [name for name in ids if not (name.isascii() and name.isdigit())]:
        raise ValueError(f"{folder / wrong[0]}.npy: expected files 0.npy, 1.npy, ...")
    return sorted(ids, key=int)


def read_npy(path: Path, shapes: str, ndim: int | tuple[int, ...]) -> np.ndarray:
    """A numeric array from a ``.npy`` file; nothing pickled is loaded.

    Args:
        path: the file.
        shapes: what is expected, for the message.
        ndim: number of dimensions, or the numbers that are fine.

    Raises:
        ValueError: missing or broken file, pickled or other contents.
    """
    try:
        with path.open("rb") as file:
            array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    except (
        ValueError,
        EOFError,
        MemoryError,
        OverflowError,
        TokenError,
    ) as error:  # headers are text, and parsed
        raise ValueError(f"{path}: broken .npy file: {' '.join(str(error).split())}") from error
    dimensions = ndim if isinstance(ndim, tuple) else (ndim,)
    if array.ndim not in dimensions or array.dtype.kind not in "buif":
        raise ValueError(f"{path}: expected {shapes}, got {array.dtype} {array.shape}")
    return array


def read_unit_image(path: Path) -> np.ndarray:
    """uint8 (H, W, 3) RGB from a ``.npy`` file of numbers in 0..1.

    Raises:
        ValueError: missing or broken file, another shape, numbers outside 0..1, also nan.
    """
    image = read_npy(path, "an image (H, W, 3) in 0..1", ndim=3)
    low, high = float(image.min(initial=0)), float(image.max(initial=0))
    if image.shape[2] != 3 or not 0 <= low <= high <= 1:  # nan is refused too
        found = f"{image.dtype} {image.shape} in {low:g}..{high:g}"
        raise ValueError(f"{path}: expected an image (H, W, 3) in 0..1, got {found}")
    return (image * 255).round().astype(np.uint8)


def read_npy_labels(path: Path, num_classes: int) -> DenseTarget:
    """Class ids from a ``.npy`` file (H, W) of whole numbers, also as floats; -1 is void.

    Raises:
        ValueError: missing or broken file, another shape, other numbers.
    """
    ids = read_npy(path, "class ids (H, W)", ndim=2)
    known = np.isin(ids, np.arange(-1, num_classes))  # fractions and nan are not
    if not known.all():
        wrong = np.unique(ids[~known])[:10].tolist()
        lower = f"; a copy that counts from 0 (void) to {num_classes} must be lowered by 1"
        listed = ", ".join(f"{number:g}" for number in wrong)
        hint = lower if wrong == [num_classes] else ""
        raise ValueError(
            f"{path}: labels {listed}, expected -1 (void) and 0..{num_classes - 1}{hint}"
        )
    return DenseTarget(np.where(ids < 0, 0, ids).astype(np.uint8), ids >= 0)


def labels_from(ids: np.ndarray, table: np.ndarray, path: Path | str) -> DenseTarget:
    """Class ids from the numbers that a file holds.

    Args:
        ids: integers (H, W).
        table: stored number -> class id, -1 where it means "no label", -2 where the number must not
            occur.
        path: of the file, for the message.

    Raises:
        ValueError: a number outside the table.
    """
    inside = (ids >= 0) & (ids < len(table))
    found = np.where(inside, table[np.where(inside, ids, 0)], -2)
    if (found == -2).any():
        wrong = ", ".join(map(str, np.unique(ids[found == -2])[:10]))
        raise ValueError(f"{path}: labels {wrong} are none of this packing's")
    valid = found >= 0
    return DenseTarget(np.where(valid, found, 0).astype(np.uint8), valid)


def unit_normals(vectors: np.ndarray, frame: str) -> DenseTarget:
    """Normals float32 (H, W, 3) in the camera frame (x right, y down, z forward) from those of a
    file.

    Vectors shorter than 0.5 or longer than 1.5, and those that are not finite, are invalid.

    Args:
        vectors: (H, W, 3), each component in -1..1.
        frame: ``y_down`` (x right, y down, z forward), or with z towards the viewer: ``y_up`` (x
            right, y up), ``y_down_z_back`` (x right, y down), ``x_left`` (x left, y up); or
            ``z_up`` (x right, y forward, z up).

    Raises:
        ValueError: an unknown frame.
    """
    check_frame(frame)
    order, signs = FRAMES[frame]
    value = vectors[..., order].astype(np.float32) * np.array(signs, np.float32)
    length = np.sqrt(np.square(value).sum(axis=2))
    valid = (length >= 0.5) & (length <= 1.5)  # False for nan
    value = np.where(valid[..., None], value / np.where(valid, length, 1)[..., None], np.float32(0))
    return DenseTarget(value, valid)


FRAMES = {
    "y_down": ([0, 1, 2], (1, 1, 1)),
    "y_up": ([0, 1, 2], (1, -1, -1)),
    "y_down_z_back": ([0, 1, 2], (1, 1, -1)),
    "x_left": ([0, 1, 2], (-1, -1, -1)),
    "z_up": ([0, 2, 1], (1, -1, 1)),
}
"""Name of a frame -> which of its components are x, y and z of the camera frame, and their
signs.
"""


def check_frame(frame: str) -> None:
    """Raises ``ValueError`` for a name that is not in ``FRAMES``."""
    if frame not in list(FRAMES):  # a config may hold anything, also what cannot be hashed
        raise ValueError(f"normals_frame: must be {' or '.join(FRAMES)}, got {frame!r}")


def depth_target(metres: np.ndarray, max_value: float) -> DenseTarget:
    """Depth or disparity float32 (H, W): valid where finite, above 0 and at most ``max_value``."""
    valid = np.isfinite(metres) & (metres > 0) & (metres <= max_value)
    return DenseTarget(np.where(valid, metres, 0).astype(np.float32), valid)
