"""Config -> data sets and their transforms."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from visionmtl.config.data import DataConfig, MixtureData, SetConfig, TransformsConfig, sources
from visionmtl.config.load import load_config
from visionmtl.config.schema import Config
from visionmtl.data.base import DATASETS, identify, title_of
from visionmtl.data.cache import CachedDataset
from visionmtl.data.folder import list_splits
from visionmtl.data.matched import match_model
from visionmtl.data.mixture import MixtureDataset, MixtureTransform
from visionmtl.data.sets.base import PackedDataset
from visionmtl.data.subset import cut_split, keep_labels, parse_split
from visionmtl.data.transforms.base import AUGMENTATIONS
from visionmtl.data.transforms.joint import JointTransform, Transform, build_transform
from visionmtl.data.transforms.view import Zoom
from visionmtl.types import MultiTaskDataset, TaskSpec

SplitRole = Literal["train", "val"]
ROLES: tuple[SplitRole, ...] = ("train", "val")


def build_dataset(config: Config, split: SplitRole) -> MultiTaskDataset:
    """The ``train`` or ``val`` data set of a config, with its selected tasks in order."""
    data = config.data
    if not isinstance(data, MixtureData):
        return _open(data, split, config.tasks, config.seed, "data")
    sets: dict[str, MultiTaskDataset] = {}
    for i, part in enumerate(data.sets):
        prefix = ""
        if data.heads == "per_set":
            prefix = f"{part.name}_"
        used = _own_names(config.tasks, prefix)
        sets[part.name] = _open(part, split, part.tasks, config.seed, f"data.sets.{i}", used)
    temperatures = {"size": 1.0, "even": math.inf, "temperature": data.temperature}
    return MixtureDataset(sets, data.heads, config.tasks, temperatures[data.sampling])


def build_splits(config: Config) -> tuple[MultiTaskDataset, MultiTaskDataset]:
    """The ``train`` and the ``val`` data set of a config, the second with the tasks and class ids
    of the first.

    By themselves the two may differ: a packing offers the tasks that a split has labels for.

    Raises:
        ValueError: also where a loss would spread to classes that a set of a mixture does not have.
    """
    train = build_dataset(config, "train")
    val = build_dataset(config, "val")
    if isinstance(train, MixtureDataset):
        _check_smoothing(config, train)
    if val.tasks != train.tasks:
        val = match_model(val, train.tasks)
    return train, val


def repeated_samples(config: Config, train: MultiTaskDataset, val: MultiTaskDataset) -> int:
    """How many samples of ``val`` are trained on too, because both are parts of one split, and the
    parts overlap.
    """
    shared: list[str] = []  # the set is the first part of an id
    for part in sources(config.data):
        prefix = ""
        if isinstance(part, SetConfig):
            prefix = f"{part.name}/"
        if isinstance(part.train, str) and parse_split(part.train)[0] == parse_split(part.val)[0]:
            shared.append(prefix)
    if not shared:
        return 0
    trained = {train.sample_id(i) for i in range(len(train))}
    names = (val.sample_id(i) for i in range(len(val)))
    return sum(name.startswith(tuple(shared)) and name in trained for name in names)


def data_notes(config: Config, train: MultiTaskDataset, val: MultiTaskDataset) -> list[str]:
    """What deserves a look before training: what an epoch of a mixture draws, samples that both
    splits have.
    """
    notes: list[str] = []
    if isinstance(train, MixtureDataset):
        notes.append(train.shares())
    repeated = repeated_samples(config, train, val)
    if repeated:
        overlap = f"{repeated} of {len(val)} validation samples are trained on too"
        notes.append(f"data.train and data.val overlap: {overlap}")
    return notes


def build_transforms(config: Config, tasks: Sequence[TaskSpec]) -> dict[str, Transform]:
    """The joint transforms of both splits."""
    data = config.data
    transforms: dict[str, Transform] = {}
    for split in ROLES:
        if isinstance(data, MixtureData):
            of_sets = {part.name: _transform(part.transforms, split, tasks) for part in data.sets}
            transforms[split] = MixtureTransform(of_sets)
        else:
            transforms[split] = _transform(data.transforms, split, tasks)
    return transforms


def open_folder(root: Path | str, split: str) -> MultiTaskDataset:
    """A split of a data set on disk, whose packing is told from its files.

    Raises:
        ValueError: the folder looks like no packing, or it cannot be opened.
    """
    if not Path(root).is_dir():
        raise ValueError(f"{root}: no such folder")
    found = identify(root)
    if found is None:
        packings = [name for name, cls in DATASETS.items() if issubclass(cls, PackedDataset)]
        listed = ", ".join(packings)
        raise ValueError(f"{root}: no data set: no dataset.yaml, and none of the packings {listed}")
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
        return {split: build_dataset(config, split) for split in ROLES}
    found = identify(source)
    splits: Sequence[str] = getattr(DATASETS.get(found or ""), "splits", ())
    if not splits:
        splits = list_splits(source)
    if not splits:
        raise ValueError(
            f"{source}: no data set, no folder in it has a folder rgb, and it looks like no known "
            "packing"
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
    source: DataConfig,
    split: SplitRole,
    tasks: Sequence[str] | None,
    seed: int,
    key: str,
    used: Sequence[str] | None = None,
) -> MultiTaskDataset:
    """One set, or a part of it, with the labels that the config leaves it; ``used`` as in
    ``keep_labels``.
    """
    part = getattr(source, split)
    by_name = isinstance(part, str)
    name = part
    if by_name:
        name = parse_split(part)[0]
    try:
        _check_packing(source)
        given = {"root": source.root, "split": name, "tasks": tasks}
        dataset = DATASETS.make(source.type, given, source.options)
        if source.cache is not None:
            stamped: Any = dataset  # it has ``stamp``, or a config could not ask for the cache
            dataset = CachedDataset(stamped, Path(source.cache))
        if by_name:
            dataset = cut_split(dataset, part)
        if by_name and split == "train":
            dataset = keep_labels(dataset, source.labels, seed, used)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error
    return dataset


def _check_packing(source: DataConfig) -> None:
    """Say so where the folder is a data set of another type."""
    matches = getattr(DATASETS[source.type], "matches", None)
    if matches is None or source.root is None or matches(Path(source.root)):
        return
    found = identify(source.root)
    if found is not None:
        looks = f"it looks like {title_of(found)}: use type {found}"
        raise ValueError(f"{source.root}: not {title_of(source.type)}; {looks}")


def _check_smoothing(config: Config, train: MixtureDataset) -> None:
    """Label smoothing would spread to classes that a set of a mixture does not have."""
    for name, own in train.own_tasks():
        loss = config.losses.get(own.name)
        if own.classes and loss is not None and loss.options.get("label_smoothing"):
            lacking = f"set {name!r} lacks classes of the task, to which it would spread"
            raise ValueError(f"losses.{own.name}.label_smoothing: must be 0, {lacking}")


def _own_names(tasks: Sequence[str] | None, prefix: str) -> list[str] | None:
    """The tasks of a run that are of a set, by the set's own names."""
    if tasks is None:
        return None
    return [name.removeprefix(prefix) for name in tasks if name.startswith(prefix)]


def _transform(
    section: TransformsConfig, split: SplitRole, tasks: Sequence[TaskSpec]
) -> JointTransform:
    chosen = section.train
    zoom: Zoom = section.zoom
    if split == "val":
        chosen = section.val
        zoom = "focal"
    augmentations = [AUGMENTATIONS.make(step.type, {}, step.options) for step in chosen]
    return build_transform(tasks, augmentations, zoom)
