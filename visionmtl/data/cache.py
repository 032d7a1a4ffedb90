"""Decoded samples in memory-mapped files: no JPEG and PNG to decode again in every epoch.

One file per part (the image, each task) holds the codes of all samples one after another, as the
codec of the task packs them, and ``index.npz`` where each begins. Processes share the pages through
the system's file cache.

Images and targets come back as they were, bit for bit. Normals are kept in 16 bits per component
and come back within 0.003 degrees, of unit length to 3e-5.
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
from visionmtl.tasks.codec import Codec
from visionmtl.types import Camera, Sample, Target

VERSION = 3
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
        self.dataset = dataset
        self.tasks = dataset.tasks
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
        self._maps = {name: self._open(name) for name in [_IMAGE, *dataset.codecs]}

    def __len__(self) -> int:
        return len(self.dataset)

    def sample_id(self, index: int) -> str:
        return self.dataset.sample_id(index)

    def __getitem__(self, index: int) -> Sample:
        size = self._index["sizes"][index].tolist()
        height, width = size
        image = self._part(_IMAGE, index).reshape(height, width, 3).copy()
        targets: dict[str, Target] = {}
        for name, codec in self.dataset.codecs.items():
            if self._index[f"{name}.annotated"][index]:
                targets[name] = codec.unpack(self._part(name, index), size)
        fx, fy, cx, cy = self._index["cameras"][index].tolist()
        camera = None
        if not math.isnan(fx):
            camera = Camera(fx, fy, cx, cy, width, height)
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
        path = self.path / f"{name}.bin"
        total = int(self._index[f"{name}.offsets"][-1])
        dtype = np.dtype(str(self._index[f"{name}.dtype"]))
        if not path.is_file() or path.stat().st_size != total * dtype.itemsize:
            raise self._damaged(path)
        if not total:
            return np.empty(0, dtype)
        return np.memmap(path, dtype, "r")

    def _damaged(self, path: Path) -> ValueError:
        return ValueError(f"{path}: damaged; delete {self.path}, it is made again")


def _write(dataset: FolderDataset, path: Path) -> None:
    """Make the cache beside its place and move it there when it is complete; the caller holds the
    lock.
    """
    scratch = path.with_name(".making")
    shutil.rmtree(scratch, ignore_errors=True)  # of a process that was killed
    scratch.mkdir()
    index: dict[str, Any] = {"sizes": [], "cameras": []}
    files: dict[str, BinaryIO] = {}
    try:
        with ExitStack() as stack:
            for name in [_IMAGE, *dataset.codecs]:
                index[f"{name}.offsets"] = [0]
                index[f"{name}.annotated"] = []
                index[f"{name}.dtype"] = "uint8"
                files[name] = stack.enter_context((scratch / f"{name}.bin").open("wb"))
            title = f"caching {dataset.name} {dataset.split}"
            silent = not get_console().is_terminal
            for i in track(range(len(dataset)), title, transient=True, disable=silent):
                _add(dataset[i], dataset.codecs, index, files)
        np.savez(scratch / "index.npz", **index)
        scratch.rename(path)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def _add(
    sample: Sample,
    codecs: Mapping[str, Codec],
    index: dict[str, Any],
    files: Mapping[str, BinaryIO],
) -> None:
    """Append a sample to the files, and where it lies to the index."""
    index["sizes"].append(sample.image.shape[:2])
    camera = [np.nan] * len(_CAMERA)
    if sample.camera is not None:
        camera = [getattr(sample.camera, name) for name in _CAMERA]
    index["cameras"].append(camera)
    parts = {_IMAGE: sample.image}
    for name, target in sample.targets.items():
        parts[name] = codecs[name].pack(target)
    for name, file in files.items():
        codes = parts.get(name)
        index[f"{name}.annotated"].append(codes is not None)
        start = index[f"{name}.offsets"][-1]
        if codes is None:
            index[f"{name}.offsets"].append(start)
            continue
        index[f"{name}.dtype"] = str(codes.dtype)
        index[f"{name}.offsets"].append(start + codes.size)
        file.write(codes.tobytes())


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Held by one process at a time; freed when its holder ends, however it ends."""
    import fcntl  # not on Windows

    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
