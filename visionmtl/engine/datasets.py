"""Config -> data sets and their transforms."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from visionmtl.config.data import FolderSource, MixtureData, RoomsSource, Source, TransformsConfig
from visionmtl.config.load import load_config
from visionmtl.config.schema import Config
from visionmtl.data.base import DATASETS, identify, title_of
from visionmtl.data.cache import CachedDataset
from visionmtl.data.folder import FolderDataset, list_splits
from visionmtl.data.matched import match_model
from visionmtl.data.mixture import MixtureDataset, MixtureTransform
from visionmtl.data.rooms.dataset import RoomsDataset
from visionmtl.data.sets import PackedDataset
from visionmtl.data.subset import cut_split, keep_labels, parse_split
from visionmtl.data.transforms.joint import JointTransform, Transform, build_transform
from visionmtl.types import MultiTaskDataset, TaskSpec

SplitRole = Literal["train", "val"]


def build_dataset(config: Config, split: SplitRole) -> MultiTaskDataset:
    """The ``train`` or ``val`` data set of a config, with its selected tasks in order."""
    data = config.data
    if not isinstance(data, MixtureData):
        return _open(data, split, config.tasks, config.seed, "data")
    sets = {}
    for i, part in enumerate(data.sets):
        prefix = f"{part.name}_" if data.heads == "per_set" else ""
        used = config.tasks and [
            name.removeprefix(prefix) for name in config.tasks if name.startswith(prefix)
        ]
        sets[part.name] = _open(part, split, part.tasks, config.seed, f"data.sets.{i}", used)
    temperature = {"size": 1.0, "even": math.inf, "temperature": data.temperature}[data.sampling]
    return MixtureDataset(sets, data.heads, config.tasks, temperature)


def build_splits(config: Config) -> tuple[MultiTaskDataset, MultiTaskDataset]:
    """The ``train`` and the ``val`` data set of a config, the second with the tasks and class ids
    of the first.

    By themselves the two may differ: a packing offers the tasks that a split has labels for.

    Raises:
        ValueError: also where a loss would spread to classes that a set of a mixture does not have.
    """
    train, val = build_dataset(config, "train"), build_dataset(config, "val")
    for name, own in train.own_tasks() if isinstance(train, MixtureDataset) else []:
        if own.classes and config.losses.get(own.name, {}).get("label_smoothing"):
            lacking = f"set {name!r} lacks classes of the task, to which it would spread"
            raise ValueError(f"losses.{own.name}.label_smoothing: must be 0, {lacking}")
    return train, val if val.tasks == train.tasks else match_model(val, train.tasks)


def repeated_samples(config: Config, train: MultiTaskDataset, val: MultiTaskDataset) -> int:
    """How many samples of ``val`` are trained on too, because both are parts of one split, and the
    parts overlap.
    """
    data = config.data
    parts = (
        {f"{part.name}/": part for part in data.sets}
        if isinstance(data, MixtureData)
        else {"": data}
    )
    shared = tuple(  # the set is the first part of an id
        name
        for name, part in parts.items()
        if not isinstance(part, RoomsSource)
        and parse_split(part.train)[0] == parse_split(part.val)[0]
    )
    trained = {train.sample_id(i) for i in range(len(train))} if shared else set()
    names = (val.sample_id(i) for i in range(len(val)))
    return sum(name.startswith(shared) and name in trained for name in names)


def data_notes(config: Config, train: MultiTaskDataset, val: MultiTaskDataset) -> list[str]:
    """What deserves a look before training: what an epoch of a mixture draws, samples that both
    splits have.
    """
    notes = [train.shares()] if isinstance(train, MixtureDataset) else []
    if repeated := repeated_samples(config, train, val):
        overlap = f"{repeated} of {len(val)} validation samples are trained on too"
        notes.append(f"data.train and data.val overlap: {overlap}")
    return notes


def build_transforms(config: Config, tasks: Sequence[TaskSpec]) -> dict[str, Transform]:
    """The joint transforms of both splits."""
    data = config.data
    splits: tuple[SplitRole, ...] = ("train", "val")
    if not isinstance(data, MixtureData):
        return {split: _transform(data.transforms, split, tasks) for split in splits}
    return {
        split: MixtureTransform(
            {part.name: _transform(part.transforms, split, tasks) for part in data.sets}
        )
        for split in splits
    }


def open_folder(root: Path | str, split: str) -> MultiTaskDataset:
    """A split of a data set on disk, whose packing is told from its files.

    Raises:
        ValueError: the folder looks like no packing, or it cannot be opened.
    """
    found = identify(root)
    if found is None:
        packings = [name for name, cls in DATASETS.items() if issubclass(cls, PackedDataset)]
        raise ValueError(
            f"{root}: no data set: no dataset.yaml, and none of the packings {', '.join(packings)}"
        )
    try:
        name = parse_split(split)[0]
    except ValueError as error:
        raise ValueError(f"split {split!r}: {error}") from error
    dataset = DATASETS.make(found, {"root": root, "split": name, "tasks": None}, {})
    return cut_split(dataset, split)


def open_source(source: str) -> dict[str, MultiTaskDataset]:
    """Every split of a data set on disk, or the two splits of a config, by name.

    Raises:
        ValueError: a folder that is no data set, or one of the splits cannot be opened.
    """
    if not Path(source).is_dir():
        config = load_config(source)
        return {"train": build_dataset(config, "train"), "val": build_dataset(config, "val")}
    found = identify(source)
    splits = getattr(DATASETS.get(found or ""), "splits", None) or list_splits(source)
    if not splits:
        raise ValueError(
            f"{source}: no data set, no folder in it has a folder rgb, and it looks like no known packing"
        )
    return {split: open_folder(source, split) for split in splits}


def fingerprint(dataset: MultiTaskDataset) -> str:
    """A digest of sample ids and tasks, also those of a mixture's sets, by which a resumed run
    knows its data.
    """
    content: list[Any] = [
        [spec.to_dict() for spec in dataset.tasks],
        [dataset.sample_id(i) for i in range(len(dataset))],
    ]
    if isinstance(dataset, MixtureDataset):
        content += [[name, spec.to_dict()] for name, spec in dataset.own_tasks()]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def _open(
    source: Source,
    split: SplitRole,
    tasks: Sequence[str] | None,
    seed: int,
    key: str,
    used: Sequence[str] | None = None,
) -> MultiTaskDataset:
    """One set, or a part of it, with the labels that the config leaves it; ``used`` as in
    ``keep_labels``.
    """
    if isinstance(source, RoomsSource):
        part = source.train if split == "train" else source.val
        return RoomsDataset(part.samples, source.size, part.seed, tasks, part.drop_labels)
    text = source.train if split == "train" else source.val
    name = parse_split(text)[0]
    dataset: MultiTaskDataset
    if isinstance(source, FolderSource):
        if (found := identify(source.root)) not in (None, "folder"):
            what = f"no dataset.yaml; it looks like {title_of(found)}: use type {found}"
            raise ValueError(f"{key}: {source.root}: {what}")
        dataset = FolderDataset(source.root, name, tasks, derive_normals=source.derive_normals)
        if source.cache is not None:
            dataset = CachedDataset(dataset, Path(source.cache))
    else:
        given = {"root": source.root, "split": name, "tasks": tasks}
        dataset = DATASETS.make(source.type, given, source.options)
    try:
        dataset = cut_split(dataset, text)
        return keep_labels(dataset, source.labels, seed, used) if split == "train" else dataset
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error


def _transform(
    steps: TransformsConfig, split: SplitRole, tasks: Sequence[TaskSpec]
) -> JointTransform:
    return build_transform(
        tasks, getattr(steps, split), steps.zoom if split == "train" else "focal"
    )
