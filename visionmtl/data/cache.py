"""Decoded samples in memory-mapped files: no JPEG and PNG to decode again in every epoch.

One file per part (the image, each task) holds the values of all samples one after another, in 8 or
16 bits, and ``index.npz`` where each begins. Processes share the pages through the system's file
cache.

Images, class ids, masks, boxes and depth come back as they were, bit for bit. Normals are kept in
16 bits per component and come back within 0.003 degrees, of unit length to 3e-5.
"""

from __future__ import annotations

import hashlib
import math
import shutil
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from rich import get_console
from rich.progress import track

from visionmtl.data.folder import FolderDataset
from visionmtl.types import BoxTarget, Camera, DenseTarget, Sample, Target, TaskSpec

VERSION = 2
"""Part of the digest that names a cache; to be raised when its files change, or what is read from a
picture.
"""

_IMAGE = "rgb.image"
"""The part that holds the images; no task has a dot in its name."""

_CAMERA = ("fx", "fy", "cx", "cy")


class CachedDataset:
    """A ``FolderDataset`` whose samples are read from a cache, which is made at the first use.

    The cache lies in a folder of its own, whose name changes with the split, the tasks, the options
    and the size and time of every file: changed files make a new cache, and the old one may be
    deleted. Several processes may start at
    once: one makes it, the others wait.

    Args:
        dataset: what is cached.
        folder: for caches; made if missing.

    Raises:
        ValueError: a sample cannot be read, the folder cannot be written, or a cache in it is
            damaged.
    """

    def __init__(self, dataset: FolderDataset, folder: Path) -> None:
        self.dataset, self.tasks = dataset, dataset.tasks
        digest = hashlib.sha256(f"{VERSION} {dataset.stamp()}".encode()).hexdigest()[:16]
        self.path = folder / f"{dataset.root.resolve().name}-{dataset.split}-{digest}"
        try:
            if not self.path.is_dir():  # what is there is complete
                folder.mkdir(parents=True, exist_ok=True)
                with _lock(folder / ".lock"):
                    if not self.path.is_dir():
                        _write(dataset, self.path)
        except OSError as error:
            raise ValueError(f"cache {folder}: cannot be written ({error.strerror})") from error
        self._index = self._read_index()
        self._maps = {
            name: self._open(name) for name in [_IMAGE, *(spec.name for spec in self.tasks)]
        }

    def __len__(self) -> int:
        return len(self.dataset)

    def sample_id(self, index: int) -> str:
        return self.dataset.sample_id(index)

    def __getitem__(self, index: int) -> Sample:
        height, width = self._index["sizes"][index].tolist()
        image = self._part(_IMAGE, index).reshape(height, width, 3).copy()
        targets: dict[str, Target] = {}
        for spec in self.tasks:
            if self._index[f"{spec.name}.annotated"][index]:
                values = self._part(spec.name, index)
                if spec.kind.name == "detection":
                    rows = values.view(np.float32).reshape(-1, 5)
                    targets[spec.name] = BoxTarget(rows[:, :4].copy(), rows[:, 4].astype(np.int64))
                else:
                    targets[spec.name] = _decoded(spec, values, (height, width), self.dataset.steps)
        fx, fy, cx, cy = self._index["cameras"][index].tolist()
        camera = None if math.isnan(fx) else Camera(fx, fy, cx, cy, width, height)
        return Sample(image, targets, self.sample_id(index), camera)

    def __getstate__(self) -> dict[str, Any]:
        """Without the maps: a process that is not forked opens its own."""
        return {**self.__dict__, "_maps": {}}

    def _part(self, name: str, index: int) -> np.ndarray:
        if name not in self._maps:
            self._maps[name] = self._open(name)
        offsets = self._index[f"{name}.offsets"]
        return np.asarray(self._maps[name][offsets[index] : offsets[index + 1]])

    def _read_index(self) -> dict[str, np.ndarray]:
        path = self.path / "index.npz"
        try:
            with np.load(path) as index:
                return dict(index)
        except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
            raise self._damaged(path) from error

    def _open(self, name: str) -> np.ndarray:
        path, total = self.path / f"{name}.bin", int(self._index[f"{name}.offsets"][-1])
        dtype = np.dtype(str(self._index[f"{name}.dtype"]))
        if not path.is_file() or path.stat().st_size != total * dtype.itemsize:
            raise self._damaged(path)
        return np.memmap(path, dtype, "r") if total else np.empty(0, dtype)

    def _damaged(self, path: Path) -> ValueError:
        return ValueError(f"{path}: damaged; delete {self.path}, it is made again")


def _write(dataset: FolderDataset, path: Path) -> None:
    """Make the cache beside its place and move it there when it is complete; the caller holds the
    lock.
    """
    scratch = path.with_name(".making")
    shutil.rmtree(scratch, ignore_errors=True)  # of a process that was killed
    scratch.mkdir()
    names = [_IMAGE, *(spec.name for spec in dataset.tasks)]
    index: dict[str, Any] = {f"{name}.offsets": [0] for name in names}
    index |= {f"{spec.name}.annotated": [] for spec in dataset.tasks} | {"sizes": [], "cameras": []}
    try:
        with ExitStack() as stack:
            files = {
                name: stack.enter_context((scratch / f"{name}.bin").open("wb")) for name in names
            }
            title, silent = f"caching {dataset.name} {dataset.split}", not get_console().is_terminal
            for i in track(range(len(dataset)), title, transient=True, disable=silent):
                _add(dataset[i], dataset, index, files)
        np.savez(scratch / "index.npz", **index)
        scratch.rename(path)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def _add(
    sample: Sample, dataset: FolderDataset, index: dict[str, Any], files: Mapping[str, BinaryIO]
) -> None:
    """Append a sample to the files, and where it lies to the index."""
    camera = sample.camera
    index["sizes"].append(sample.image.shape[:2])
    index["cameras"].append(
        [np.nan if camera is None else getattr(camera, name) for name in _CAMERA]
    )
    parts = {_IMAGE: sample.image}
    for spec in dataset.tasks:
        target = sample.targets.get(spec.name)
        index[f"{spec.name}.annotated"].append(target is not None)
        parts[spec.name] = _encoded(spec, target, dataset.steps)
    for name, values in parts.items():
        index[f"{name}.dtype"] = str(values.dtype)
        index[f"{name}.offsets"].append(index[f"{name}.offsets"][-1] + values.size)
        files[name].write(values.tobytes())


def _code_type(spec: TaskSpec) -> type[np.uint8 | np.uint16 | np.int16]:
    if spec.kind.name == "normals":
        return np.int16
    if spec.kind.name in ("depth", "disparity") or spec.num_classes > 255:
        return np.uint16
    return np.uint8


def _encoded(spec: TaskSpec, target: Target | None, steps: Mapping[str, float]) -> np.ndarray:
    """A target as flat numbers, empty where there is none; the highest number, or 0 of a range, is
    "invalid".
    """
    if isinstance(target, BoxTarget):
        rows = np.concatenate([target.boxes, target.labels[:, None].astype(np.float32)], axis=1)
        return rows.view(np.uint8).ravel()
    dtype = np.uint8 if spec.kind.name == "detection" else _code_type(spec)
    if target is None:
        return np.empty(0, dtype)
    if spec.kind.name == "normals":
        return (
            np.rint(target.value * 32767.0).astype(np.int16).ravel()
        )  # no unit vector becomes (0, 0, 0)
    if spec.name in steps:
        return (
            np.where(target.valid, np.rint(target.value / steps[spec.name]), 0)
            .astype(np.uint16)
            .ravel()
        )
    codes = target.value.astype(dtype)
    codes[~target.valid] = np.iinfo(dtype).max
    return codes.ravel()


def _decoded(
    spec: TaskSpec, codes: np.ndarray, size: tuple[int, int], steps: Mapping[str, float]
) -> DenseTarget:
    if spec.kind.name == "normals":
        x, y, z = np.moveaxis(codes.reshape(*size, 3), 2, 0)
        value = codes.reshape(*size, 3) * np.float32(1 / 32767)
        return DenseTarget(value, (x | y | z) != 0)
    codes = codes.reshape(size)
    valid = codes != (0 if spec.name in steps else np.iinfo(codes.dtype).max)
    if spec.name in steps:
        return DenseTarget((codes * np.float64(steps[spec.name])).astype(np.float32), valid)
    return DenseTarget(np.where(valid, codes, 0).astype(np.uint8), valid)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Held by one process at a time; freed when its holder ends, however it ends."""
    import fcntl  # not on Windows

    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
