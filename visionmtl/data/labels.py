"""Label files of a folder, and the listing of files."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from visionmtl._images import is_there
from visionmtl.data.coco import CocoBoxes
from visionmtl.data.description import StoredTask
from visionmtl.tasks.codec import Codec
from visionmtl.types import DenseTarget

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
_OTHER_SUFFIXES = (".bmp", ".gif", ".webp", ".tif", ".tiff", ".npy", ".npz", ".mat", ".exr", ".pfm")


class LabelFiles:
    """The labels of one dense task in a split: a file per sample.

    Args:
        codec: of the task.
        path: the folder.
        boundary: as in ``list_files``.

    Attributes:
        ids: samples that have a label.
        dropped: as in ``CocoBoxes``; nothing is.
    """

    def __init__(self, codec: Codec, path: Path, boundary: Path | None) -> None:
        self.path = path
        self._codec = codec
        self._files = list_files(path, codec.suffixes, boundary)
        self.ids = set(self._files)
        self.dropped: Counter[str] = Counter()

    def paths(self) -> list[Path]:
        """The files."""
        return list(self._files.values())

    def read(self, sample_id: str, size: tuple[int, int]) -> DenseTarget | None:
        """The label of an image of ``size`` (width, height); None where it has none.

        Raises:
            ValueError: an unreadable file, or a label of another size.
        """
        path = self._files.get(sample_id)
        if path is None:
            return None
        target: DenseTarget = self._codec.read(path)
        height, width = target.valid.shape
        if (width, height) != size:
            raise ValueError(f"{path}: size is {width}x{height}, the image is {size[0]}x{size[1]}")
        return target


Labels = LabelFiles | CocoBoxes


def open_labels(task: StoredTask, folder: Path, boundary: Path | None) -> Labels | None:
    """The labels of a task in the folder of a split; None where the split has none."""
    has_boxes = task.spec.kind.has_boxes
    path = folder / (f"{task.name}.json" if has_boxes else task.name)
    if not is_there(path):
        return None
    if not has_boxes:
        return LabelFiles(task.codec, path, boundary)
    check_inside(path, boundary)
    return CocoBoxes(path, task.spec.classes)


def check_inside(path: Path, boundary: Path | None) -> None:
    """Raise ``ValueError`` if a path leads, by links, out of ``boundary``; None permits it."""
    if boundary is None:
        return
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(boundary)):
        raise ValueError(f"{path}: leads out of {boundary}; allow_outside_root=True permits it")


def list_files(folder: Path, suffixes: Sequence[str], boundary: Path | None) -> dict[str, Path]:
    """File stem -> path. Hidden files and files that are neither images nor arrays are left out.

    Args:
        folder: what is listed.
        suffixes: of the wanted files, in lower case.
        boundary: what links must not lead out of; None for no such limit.

    Raises:
        ValueError: no folder, files of another format, names that are not text, or that differ in
            case or suffix only.
    """
    check_inside(folder, boundary)
    noticed = {*suffixes, *IMAGE_SUFFIXES, *_OTHER_SUFFIXES}
    files: dict[str, Path] = {}
    seen: dict[str, str] = {}  # the id in one case -> file name
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise ValueError(f"{folder}: {error.strerror}") from error
    for name in names:
        path = folder / name
        suffix = path.suffix.lower()
        if not name.isprintable():
            raise ValueError(f"{folder}: file name {name!a} is not printable UTF-8")
        if name.startswith(".") or suffix not in noticed:
            continue
        if suffix not in suffixes:
            raise ValueError(f"{path}: expected {' or '.join(suffixes)} files")
        if path.is_symlink():
            check_inside(path, boundary)
        other = seen.setdefault(path.stem.casefold(), name)
        if other != name:
            raise ValueError(f"{folder}: {other} and {name} have the same id, up to case")
        files[path.stem] = path
    return files
