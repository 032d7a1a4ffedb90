"""Any data set as one in the folder format: readable everywhere, quick to cache, easy to look at.

Images that are files of their own are copied byte by byte, others become PNG. Labels keep their
values, but for the rounding of the files, which the codec of the kind makes: depth and disparity to
``scale``, normals to 8 bits per component.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path

from rich.progress import track

from visionmtl.data.cache import CachedDataset
from visionmtl.data.description import NAME, StoredTask, write_description
from visionmtl.data.folder import FolderDataset
from visionmtl.data.mixture import MixtureDataset
from visionmtl.data.sets.base import PackedDataset
from visionmtl.data.subset import Subset
from visionmtl.data.writer import SplitWriter
from visionmtl.types import Camera, MultiTaskDataset, TaskSpec


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
    if any(isinstance(dataset, MixtureDataset) for dataset in splits.values()):
        raise ValueError("a mixture cannot be one folder; convert its sets, each on its own")
    specs = _wanted([spec for dataset in splits.values() for spec in dataset.tasks], tasks)
    kept = [StoredTask(spec, spec.kind.codec.for_labels(spec.kind)) for spec in specs]
    if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
        raise ValueError(f"{destination}: exists and is not an empty folder")
    faults: list[tuple[str, str]] = []
    cameras: set[Camera | None] = set()
    stems = _stems(splits)
    for split, dataset in splits.items():
        writer = SplitWriter(destination / split, kept)
        indices = track(range(len(dataset)), f"converting {split}", transient=True)
        for index, stem in zip(indices, stems[split], strict=True):
            try:
                sample = dataset[index]
                writer.add(sample, stem, _image_file(dataset, index))
            except ValueError as error:
                faults.append((dataset.sample_id(index), str(error)))
                continue
            if len(cameras) < 2:  # two are too many already
                cameras.add(sample.camera)
        writer.close()
    camera = cameras.pop() if len(cameras) == 1 else None  # the format has one for all
    write_description(destination / NAME, name, kept, camera)
    return faults


def _image_file(dataset: MultiTaskDataset, index: int) -> Path | None:
    """The file of a sample's image, if it has one of its own."""
    if isinstance(dataset, Subset):
        return _image_file(dataset.dataset, dataset.position(index))
    if isinstance(dataset, CachedDataset):
        return _image_file(dataset.dataset, index)
    if isinstance(dataset, FolderDataset):
        return dataset.image_path(index)
    if isinstance(dataset, PackedDataset):
        return dataset.image_file(index)
    return None


def _stems(splits: Mapping[str, MultiTaskDataset]) -> dict[str, list[str]]:
    """The names, without suffix, of the files of each sample."""
    stems: dict[str, list[str]] = {}
    for split, dataset in splits.items():
        stems[split] = [dataset.sample_id(i).replace("/", "_") for i in range(len(dataset))]
    every = list(chain.from_iterable(stems.values()))
    if all(name.isdigit() for name in every):
        width = max(map(len, every), default=0)
        for split, names in stems.items():
            stems[split] = [name.zfill(width) for name in names]
    distinct = [{name.casefold() for name in names} for names in stems.values()]
    if len(set().union(*distinct)) < sum(map(len, distinct)):
        for split, names in stems.items():
            stems[split] = [f"{split}_{name}" for name in names]
    return stems


def _wanted(specs: Sequence[TaskSpec], names: Sequence[str] | None) -> list[TaskSpec]:
    known = {spec.name: spec for spec in specs}
    if names is None:
        return list(known.values())
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"--tasks: unknown tasks {unknown}; the data set has {list(known)}")
    return [known[name] for name in dict.fromkeys(names)]
