"""Any data set as one in the folder format: readable everywhere, quick to cache, easy to look at.

Images that are files of their own are copied byte by byte, others become PNG. Labels keep their
values, but for the rounding of the files: depth and disparity to ``scale``, normals to 8 bits per
component.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from visionmtl.types import BoxTarget, Camera, DenseTarget, MultiTaskDataset, TaskSpec

_STEPS = {"depth": 0.001, "disparity": 1 / 256}
"""Kind -> unit of the stored numbers, where the range allows it."""


def convert(
    splits: dict[str, MultiTaskDataset],
    destination: Path,
    name: str,
    tasks: Sequence[str] | None = None,
) -> list[tuple[str, str]]:
    """Write data sets as the splits of one in the folder format. The camera is kept where all
    samples have the same.

    ``dataset.yaml`` comes last: without it a folder is no data set, so an interrupted conversion is
    not taken for one.

    Files have the ids of the samples, with ``_`` for ``/``. Ids that are numbers get leading zeros,
    so that they keep their order, and where two splits share an id, all get the name of their split
    before them.

    Args:
        splits: name -> data set; one may lack tasks of another.
        destination: the folder, made here.
        name: of the new data set.
        tasks: names of the tasks to keep; None for all.

    Returns:
        Sample id and reason, for each sample that could not be read and was left out.

    Raises:
        ValueError: a destination that is not empty, an unknown task, or a mixture: its samples
            speak of different classes.
    """
    from rich.progress import track

    from visionmtl._yaml import dump_yaml
    from visionmtl.data.mixture import MixtureDataset

    if any(isinstance(dataset, MixtureDataset) for dataset in splits.values()):
        raise ValueError("a mixture cannot be one folder; convert its sets, each on its own")
    specs = _wanted([spec for dataset in splits.values() for spec in dataset.tasks], tasks)
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise ValueError(f"{destination}: exists and is not an empty folder")
    faults: list[tuple[str, str]] = []
    cameras: set[Camera | None] = set()
    stems = _stems(splits)
    for split, dataset in splits.items():
        writer = _Writer(destination / split, specs, stems[split])
        for index in track(range(len(dataset)), f"converting {split}", transient=True):
            try:
                camera = writer.add(dataset, index)
                if len(cameras) < 2:  # two are too many already
                    cameras.add(camera)
            except ValueError as error:
                faults.append((dataset.sample_id(index), str(error)))
        writer.close()
    description: dict[str, Any] = {"name": name, "tasks": [_entry(spec) for spec in specs]}
    if (
        len(cameras) == 1 and (shared := cameras.pop()) is not None
    ):  # the format has one camera for all
        description["camera"] = dict(vars(shared))
    (destination / "dataset.yaml").write_text(dump_yaml(description), encoding="utf-8")
    return faults


class _Writer:
    """One split in the making."""

    def __init__(self, folder: Path, specs: Sequence[TaskSpec], stems: Sequence[str]) -> None:
        self.folder, self.specs, self._stems = folder, specs, stems
        self._ids: dict[str, str] = {}
        self._boxes: dict[str, tuple[list[dict[str, Any]], list[dict[str, Any]]]] = {}
        for name in ["rgb", *(spec.name for spec in specs if spec.kind.name != "detection")]:
            (folder / name).mkdir(parents=True, exist_ok=True)

    def add(self, dataset: MultiTaskDataset, index: int) -> Camera | None:
        """Write a sample; its camera."""
        from visionmtl.tasks.drawing import save_image

        sample, stem = dataset[index], self._stems[index]
        if (other := self._ids.setdefault(stem.casefold(), sample.sample_id)) != sample.sample_id:
            raise ValueError(f"its file would be that of {other!r}")
        source = _image_file(dataset, index)
        if source is not None and source.suffix.lower() in (".jpg", ".jpeg", ".png"):
            image = self.folder / "rgb" / (stem + source.suffix.lower())
            shutil.copyfile(source, image)
        else:
            image = self.folder / "rgb" / f"{stem}.png"
            save_image(image, sample.image)
        for spec in self.specs:
            target = sample.targets.get(spec.name)
            if isinstance(target, BoxTarget):
                self._add_boxes(spec, target, image.name, sample.image.shape[:2])
            elif target is not None:
                save_image(
                    self.folder / spec.name / f"{stem}.png", _CODES[spec.kind.name](spec, target)
                )
        return sample.camera

    def close(self) -> None:
        """Write what all samples share."""
        from visionmtl.tasks.results import write_coco

        for spec in self.specs:
            if spec.name in self._boxes:
                write_coco(self.folder / f"{spec.name}.json", *self._boxes[spec.name], spec.classes)
            elif spec.kind.name != "detection" and not any((self.folder / spec.name).iterdir()):
                (self.folder / spec.name).rmdir()  # not annotated in this split

    def _add_boxes(
        self, spec: TaskSpec, target: BoxTarget, name: str, size: tuple[int, ...]
    ) -> None:
        images, annotations = self._boxes.setdefault(spec.name, ([], []))
        image_id, (height, width) = len(images), size
        images.append({"id": image_id, "file_name": name, "width": width, "height": height})
        for (x1, y1, x2, y2), label in zip(
            target.boxes.tolist(), target.labels.tolist(), strict=True
        ):
            annotations.append(
                {"image_id": image_id, "category_id": label, "bbox": [x1, y1, x2 - x1, y2 - y1]}
            )


def _image_file(dataset: MultiTaskDataset, index: int) -> Path | None:
    """The file of a sample's image, if it has one of its own."""
    from visionmtl.data.cache import CachedDataset
    from visionmtl.data.folder import FolderDataset
    from visionmtl.data.sets.base import PackedDataset
    from visionmtl.data.subset import Subset

    if isinstance(dataset, Subset):
        return _image_file(dataset.dataset, dataset.position(index))
    if isinstance(dataset, CachedDataset):
        return _image_file(dataset.dataset, index)
    if isinstance(dataset, FolderDataset):
        return dataset.image_path(index)
    return (
        dataset.image_file(dataset.sample_id(index)) if isinstance(dataset, PackedDataset) else None
    )


def _stems(splits: Mapping[str, MultiTaskDataset]) -> dict[str, list[str]]:
    """The names, without suffix, of the files of each sample."""
    found = {
        split: [dataset.sample_id(i).replace("/", "_") for i in range(len(dataset))]
        for split, dataset in splits.items()
    }
    every = [name for names in found.values() for name in names]
    if all(name.isdigit() for name in every):
        width = max(map(len, every), default=0)
        found = {split: [name.zfill(width) for name in names] for split, names in found.items()}
    distinct = [{name.casefold() for name in names} for names in found.values()]
    if len(set().union(*distinct)) < sum(map(len, distinct)):
        return {split: [f"{split}_{name}" for name in names] for split, names in found.items()}
    return found


def _wanted(specs: Sequence[TaskSpec], names: Sequence[str] | None) -> list[TaskSpec]:
    known = {spec.name: spec for spec in specs}
    if unknown := [name for name in names or () if name not in known]:
        raise ValueError(f"--tasks: unknown tasks {unknown}; the data set has {list(known)}")
    return [known[name] for name in (known if names is None else dict.fromkeys(names))]


def _step(spec: TaskSpec) -> float:
    """What one unit of the 16-bit numbers stands for."""
    step, highest = _STEPS[spec.kind.name], spec.kind.max_value
    return step if highest / step <= 65535 else highest / 65535


def _entry(spec: TaskSpec) -> dict[str, Any]:
    """The task in ``dataset.yaml``."""
    entry = spec.to_dict()
    if spec.kind.name in _STEPS:
        entry |= {"scale": _step(spec), "invalid_value": 0.0}
    if spec.kind.name == "semseg":
        entry["ignore_value"] = _ignore_value(spec)
    return entry


def _ignore_value(spec: TaskSpec) -> int:
    return 255 if spec.num_classes <= 255 else 65535


def _labels(spec: TaskSpec, target: DenseTarget) -> np.ndarray:
    ignore = 255 if spec.kind.name != "semseg" else _ignore_value(spec)
    return np.where(target.valid, target.value, ignore).astype(
        np.uint8 if ignore == 255 else np.uint16
    )


def _range(spec: TaskSpec, target: DenseTarget) -> np.ndarray:
    step, highest = _step(spec), spec.kind.max_value
    last = round(highest / step)
    last -= last * step > highest  # what is rounded up beyond the range would come back as invalid
    codes = np.clip(np.rint(target.value / step), 1, last)
    return np.where(target.valid, codes, 0).astype(np.uint16)


def _vectors(spec: TaskSpec, target: DenseTarget) -> np.ndarray:
    codes = np.rint(target.value * 127) + 128
    return np.where(target.valid[..., None], codes, 0).astype(np.uint8)


_CODES: dict[str, Callable[[TaskSpec, DenseTarget], np.ndarray]] = {
    "semseg": _labels,
    "saliency": _labels,
    "edge": _labels,
    "depth": _range,
    "disparity": _range,
    "normals": _vectors,
}
"""Kind -> the stored picture."""
