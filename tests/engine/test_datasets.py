from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from visionmtl._yaml import ConfigError
from visionmtl.config.data import sources
from visionmtl.config.schema import Config
from visionmtl.data.base import DATASETS
from visionmtl.data.cache import CachedDataset
from visionmtl.data.folder import FolderDataset
from visionmtl.data.matched import match_model
from visionmtl.data.mixture import MixtureDataset
from visionmtl.data.rooms.dataset import RoomsDataset
from visionmtl.data.subset import Subset
from visionmtl.engine.datasets import (
    build_dataset,
    build_splits,
    build_transforms,
    fingerprint,
    open_folder,
    open_source,
    repeated_samples,
)
from visionmtl.types import DenseTarget, MultiTaskDataset, Sample, TaskSpec

MakeConfig = Callable[..., Config]
YAML = """\
name: tiny
tasks:
  - {name: depth, kind: depth, scale: 0.001, max_depth: 10.0}
  - {name: edge, kind: edge}
camera: {fx: 8.0, fy: 8.0, cx: 4.0, cy: 3.0, width: 8, height: 6}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Ten training samples, three for validation, all with depth and edges."""
    folder = tmp_path / "tiny"
    for split, count in (("train", 10), ("val", 3)):
        for i in range(count):
            arrays = {
                "rgb": np.full((6, 8, 3), i, np.uint8),
                "depth": np.full((6, 8), 1000, np.uint16),
                "edge": np.zeros((6, 8), np.uint8),
            }
            for name, array in arrays.items():
                (folder / split / name).mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(folder / split / name / f"{i}.png")
    (folder / "dataset.yaml").write_text(YAML)
    return folder


@pytest.fixture
def folder_config(make_config: MakeConfig, root: Path) -> MakeConfig:
    """A config of the folder; give further keys of ``data`` and overrides."""
    return lambda keys="", *overrides: make_config(
        f"data={{type: folder, root: {root}{keys}}}", "tasks=null", "model.heads={}", *overrides
    )


def ids(dataset: MultiTaskDataset) -> list[str]:
    return [dataset.sample_id(i) for i in range(len(dataset))]


def names(dataset: MultiTaskDataset) -> list[str]:
    return [spec.name for spec in dataset.tasks]


def labelled(dataset: MultiTaskDataset, task: str) -> list[str]:
    return [dataset.sample_id(i) for i in range(len(dataset)) if task in dataset[i].targets]


# One set


def test_a_folder(folder_config: MakeConfig) -> None:
    config = folder_config()
    train, val = build_dataset(config, "train"), build_dataset(config, "val")
    assert isinstance(train, FolderDataset)
    assert (len(train), len(val), names(train)) == (10, 3, ["depth", "edge"])
    assert names(build_dataset(folder_config("", "tasks=[edge]"), "train")) == ["edge"]


def test_one_split_for_both(folder_config: MakeConfig) -> None:
    config = folder_config(", train: 'train[:80%]', val: 'train[80%:]'")
    assert ids(build_dataset(config, "train")) == list("01234567")
    assert ids(build_dataset(config, "val")) == ["8", "9"]


def test_labels_of_the_training_split_only(folder_config: MakeConfig) -> None:
    config = folder_config(", labels: {depth: 0.2}, val: 'train[:5]'")
    train, val = build_dataset(config, "train"), build_dataset(config, "val")
    assert (len(labelled(train, "depth")), len(labelled(train, "edge"))) == (2, 10)
    assert len(labelled(val, "depth")) == 5
    single = build_dataset(folder_config(", labels: {depth: 0.2}", "tasks=[depth]"), "train")
    assert ids(single) == labelled(train, "depth")
    other = build_dataset(folder_config(", labels: {depth: 0.5}", "seed=1"), "train")
    again = build_dataset(folder_config(", labels: {depth: 0.5}"), "train")
    assert labelled(other, "depth") != labelled(again, "depth")
    assert set(labelled(train, "depth")) < set(labelled(again, "depth"))


def test_labels_of_a_part(folder_config: MakeConfig) -> None:
    config = folder_config(", train: 'train[50%:]', labels: {depth: 0.2, edge: 0.4}, cache: null")
    train = build_dataset(config, "train")
    assert isinstance(train, Subset)
    assert (len(labelled(train, "depth")), len(labelled(train, "edge"))) == (1, 2)
    assert set(ids(train)) <= set("56789")


def test_a_cache(folder_config: MakeConfig, tmp_path: Path) -> None:
    config = folder_config(f", cache: {tmp_path / 'caches'}, train: 'train[:4]'")
    train, val = build_dataset(config, "train"), build_dataset(config, "val")
    assert isinstance(val, CachedDataset)
    assert (
        len(os.listdir(tmp_path / "caches")) == 3
    )  # the whole split, for all parts of it, and the lock
    plain = build_dataset(folder_config(", train: 'train[:4]'"), "train")
    assert ids(train) == ids(plain)
    assert fingerprint(train) == fingerprint(plain)
    assert np.array_equal(train[3].image, plain[3].image)


def test_derived_normals(folder_config: MakeConfig) -> None:
    config = folder_config(", derive_normals: true", "tasks=[normals, edge]")
    train = build_dataset(config, "train")
    assert names(train) == list(train[0].targets) == ["normals", "edge"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (", train: 'train[5:5]'", r"^data: split 'train\[5:5\]': no sample of 10 lies in it$"),
        (
            ", labels: {semseg: 0.5}",
            r"^data: labels: unknown task 'semseg'; tasks of this data set: depth, edge$",
        ),
        (", labels: {depth: 0, edge: 0}", r"^data: labels: no label is left of depth, edge$"),
        (", train: 'test[:5]'", r"/tiny: no split 'test'; splits with a folder rgb: train, val$"),
    ],
)
def test_what_gives_no_training_data(keys: str, message: str, folder_config: MakeConfig) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        build_dataset(folder_config(keys), "train")
    assert "\n" not in str(caught.value)


class Packing:
    """A standard set with an option."""

    def __init__(
        self, root: str, split: str, tasks: Sequence[str] | None = None, *, variant: int = 13
    ) -> None:
        self.arguments = (root, split, tasks, variant)
        self.tasks = [TaskSpec.depth()]

    def __len__(self) -> int:
        return 4

    def sample_id(self, index: int) -> str:
        return str(index)

    def __getitem__(self, index: int) -> Sample:
        target = DenseTarget(np.zeros((1, 1), np.float32), np.ones((1, 1), bool))
        return Sample(np.zeros((1, 1, 3), np.uint8), {"depth": target}, str(index))


def test_a_standard_set_and_its_options(
    make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DATASETS._classes, "packing", Packing)

    def build(keys: str, split: Any = "train") -> Any:
        return build_dataset(make_config(f"data={{type: packing, root: here{keys}}}"), split)

    assert build(", variant: 40").arguments == ("here", "train", ["semseg", "depth"], 40)
    part = build(", val: 'val[:50%]'", "val")
    assert (len(part), part.dataset.arguments) == (2, ("here", "val", ["semseg", "depth"], 13))
    assert len(build(", labels: {depth: 0.5}")) == 2
    with pytest.raises(ConfigError, match=r"data\.varaint: unknown key; did you mean 'variant'\?$"):
        build(", varaint: 40")
    with pytest.raises(ConfigError, match=r"data\.variant: must be an integer, got 'x'$"):
        build(", variant: x")


# Mixtures


def test_a_mixture(make_config: MakeConfig, mixture: tuple[str, ...]) -> None:
    config = make_config(*mixture)
    train, val = build_dataset(config, "train"), build_dataset(config, "val")
    assert isinstance(train, MixtureDataset)
    assert isinstance(val, MixtureDataset)
    assert (train.names, train.sizes, train.quotas) == (["streets", "halls"], [10, 6], [10, 6])
    assert val.sizes == [3, 2]
    assert (names(train), names(val)) == (["semseg", "depth"], ["semseg", "depth"])
    assert (train.sample_id(0), train.sample_id(10)) == ("streets/0", "halls/0")
    assert [part.name for part in sources(config.data)] == ["streets", "halls"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("keys", "quotas"),
    [
        ("sampling=size", [10, 6]),
        ("sampling=even", [8, 8]),
        ("sampling=temperature", [9, 7]),  # T = 2: 9.02 and 6.98
        ("temperature=9", [10, 6]),  # of another sampling
    ],
)
def test_sampling(
    keys: str, quotas: list[int], make_config: MakeConfig, mixture: tuple[str, ...]
) -> None:
    train = build_dataset(make_config(*mixture, f"data.{keys}"), "train")
    assert isinstance(train, MixtureDataset)
    assert train.quotas == quotas


def test_heads_per_set_and_tasks(make_config: MakeConfig, mixture: tuple[str, ...]) -> None:
    config = make_config(
        *mixture, "data.heads=per_set", "tasks=[halls_depth, streets_semseg]", "model.heads={}"
    )
    assert names(build_dataset(config, "train")) == ["halls_depth", "streets_semseg"]
    with pytest.raises(
        ValueError,
        match=r"^tasks: unknown tasks \['semseg', 'depth'\]; the mixture has streets_sem",
    ):
        build_dataset(make_config(*mixture, "data.heads=per_set"), "train")
    with pytest.raises(ValueError, match=r"^tasks: set 'halls' has none of semseg; leave it out$"):
        build_dataset(make_config(*mixture, "tasks=[semseg]", "model.heads={}"), "train")


def test_parts_and_labels_of_a_set(make_config: MakeConfig, root: Path) -> None:
    rooms = "{type: rooms, name: rooms, size: [32, 32], tasks: [depth], train: {samples: 3}, val: {samples: 2}}"
    tiny = f"{{type: folder, name: tiny, root: {root}, train: 'train[:4]', labels: {{depth: 0.5}}, tasks: [depth, edge]}}"
    config = make_config(
        f"data={{type: mixture, sets: [{rooms}, {tiny}]}}", "tasks=null", "model.heads={}"
    )
    train = build_dataset(config, "train")
    assert isinstance(train, MixtureDataset)
    assert (train.sizes, names(train)) == ([3, 4], ["depth", "edge"])
    assert [len(labelled(train, task)) for task in ("depth", "edge")] == [5, 4]


def test_mistakes_in_a_set_name_it(make_config: MakeConfig, root: Path) -> None:
    rooms = "{type: rooms, name: rooms, size: [32, 32]}"

    def build(keys: str) -> None:
        sets = f"[{rooms}, {{type: folder, name: tiny, root: {root}, {keys}}}]"
        config = make_config(
            f"data={{type: mixture, sets: {sets}}}", "tasks=null", "model.heads={}"
        )
        build_dataset(config, "train")

    with pytest.raises(
        ValueError, match=r"^data\.sets\.1: split 'train\[:0\]': no sample of 10 lies in it$"
    ):
        build("train: 'train[:0]'")
    with pytest.raises(
        ValueError,
        match=r"^data\.sets\.1: labels: unknown task 'semseg'; tasks of this data set: de",
    ):
        build("labels: {semseg: 0.5}")


def test_every_set_has_its_transforms_for_both_splits(make_config: MakeConfig, root: Path) -> None:
    """A zoom of fixed intrinsics is for training alone."""
    crop = "{type: random_scale_crop, size: [6, 8], scale: [2.0, 2.0]}"
    steps = f"{{train: [{crop}], val: [{crop}], zoom: fixed_intrinsics}}"
    sets = [
        f"{{type: folder, name: near, root: {root}, transforms: {steps}}}",
        f"{{type: folder, name: far, root: {root}, transforms: {{train: [{{type: resize, size: [3, 4]}}]}}}}",
    ]
    config = make_config(
        f"data={{type: mixture, sets: [{', '.join(sets)}]}}", "tasks=[depth]", "model.heads={}"
    )
    train = build_dataset(config, "train")
    transforms = build_transforms(config, train.tasks)
    assert sorted(transforms) == ["train", "val"]
    near: Any = transforms["train"](train[0], 0).targets["depth"]
    assert set(near.value[near.valid].tolist()) == {0.5}
    near = transforms["val"](train[0], 0).targets["depth"]
    assert set(near.value[near.valid].tolist()) == {1.0}
    assert transforms["train"](train[10], 0).image.shape == (3, 4, 3)
    assert transforms["val"](train[10], 0).image.shape == (6, 8, 3)


def test_fingerprints(make_config: MakeConfig, mixture: tuple[str, ...]) -> None:
    def of(*overrides: str) -> str:
        return fingerprint(build_dataset(make_config(*mixture, *overrides), "train"))

    assert of() == of("data.sampling=even")
    assert (
        len(
            {
                of(),
                of("tasks=[depth, semseg]"),
                of("data.sets.0.train='train[:5]'"),
                of("data.sets.1.name=b"),
            }
        )
        == 4
    )


def test_the_fingerprint_of_a_mixture_knows_the_classes_and_ranges_of_its_sets(
    make_config: MakeConfig, root: Path, tmp_path: Path
) -> None:
    """Also where those of all sets together are the same."""
    shutil.copytree(root, tmp_path / "b")
    sets = ", ".join(
        f"{{type: folder, name: {path.name}, root: {path}}}" for path in (root, tmp_path / "b")
    )
    config = make_config(f"data={{type: mixture, sets: [{sets}]}}", "tasks=null", "model.heads={}")
    before = build_dataset(config, "train")
    (tmp_path / "b" / "dataset.yaml").write_text(YAML.replace("max_depth: 10.0", "max_depth: 5.0"))
    after = build_dataset(config, "train")
    assert before.tasks == after.tasks
    assert fingerprint(before) != fingerprint(after)


def test_a_mixture_as_the_eval_command_sees_it(
    make_config: MakeConfig, mixture: tuple[str, ...]
) -> None:
    val = build_dataset(make_config(*mixture), "val")
    matched = match_model(val, [TaskSpec.depth(5), TaskSpec.semseg(["tree", "road", "car", "sky"])])
    assert names(matched) == ["depth", "semseg"]
    target: Any = matched[0].targets["semseg"]
    own: Any = val[0].targets["semseg"]
    assert np.array_equal(np.array([1, 2, 0])[own.value], target.value)
    assert target.known.tolist() == [True, True, True, False]


# Both splits


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """NYUv2 in the MTAN packing, depth for validation only, classes for training only."""
    arrays = {
        "image": np.zeros((6, 8, 3)),
        "label": np.full((6, 8), 11),
        "depth": np.ones((6, 8)),
        "normal": np.full((6, 8, 3), (0.0, -1.0, 0.0)),
    }
    for split, absent in (("train", "depth"), ("val", "label")):
        for name in arrays.keys() - {absent}:
            (tmp_path / "nyu" / split / name).mkdir(parents=True)
            np.save(tmp_path / "nyu" / split / name / "0.npy", arrays[name])
    return tmp_path / "nyu"


def test_validation_has_the_tasks_of_training(make_config: MakeConfig, packed: Path) -> None:
    config = make_config(
        f"data={{type: nyuv2_mtan, root: {packed}}}", "tasks=null", "model.heads={}"
    )
    train, val = build_splits(config)
    assert (names(train), names(build_dataset(config, "val"))) == (
        ["semseg", "normals"],
        ["depth", "normals"],
    )
    assert names(val) == ["normals"]
    assert list(val[0].targets) == ["normals"]
    transform = build_transforms(config, train.tasks)["val"]
    assert list(transform(val[0], 0).targets) == ["normals"]


def test_validation_has_the_class_ids_of_training(
    make_config: MakeConfig, packed: Path, root: Path
) -> None:
    """A mixture whose first set has no classes in validation: the second's must not become the
    first ids.
    """
    for split in ("train", "val"):
        (root / split / "edge").rename(root / split / "semseg")
    (root / "dataset.yaml").write_text(
        "name: x\ntasks: [{name: semseg, kind: semseg, classes: [wall, bed]}]\n"
    )
    sets = (
        f"[{{type: nyuv2_mtan, name: a, root: {packed}}}, {{type: folder, name: b, root: {root}}}]"
    )
    config = make_config(f"data={{type: mixture, sets: {sets}}}", "tasks=null", "model.heads={}")
    train, val = build_splits(config)
    assert build_dataset(config, "val").tasks != train.tasks
    classes = next(spec.classes for spec in train.tasks if spec.name == "semseg")
    target: Any = val[1].targets["semseg"]
    assert {classes[i] for i in np.unique(target.value)} == {"wall"}
    assert [name for name, known in zip(classes, target.known, strict=True) if known] == [
        "bed",
        "wall",
    ]


def test_splits_of_equal_tasks_are_those_of_the_config(folder_config: MakeConfig) -> None:
    assert all(isinstance(dataset, FolderDataset) for dataset in build_splits(folder_config()))


# Data sets by folder or config


def test_a_folder_by_its_path(root: Path, tmp_path: Path) -> None:
    assert ids(open_folder(root, "val")) == ["0", "1", "2"]
    assert ids(open_folder(str(root), "train[9:]")) == ["9"]
    with pytest.raises(
        ValueError,
        match=r"nowhere: no such folder$",
    ):
        open_folder(tmp_path / "nowhere", "val")
    with pytest.raises(ValueError, match=r"must be a split such as train"):
        open_folder(root, "val[")


def test_every_split_of_a_source(root: Path, tmp_path: Path) -> None:
    splits = open_source(str(root))
    assert {name: len(dataset) for name, dataset in splits.items()} == {"train": 10, "val": 3}
    (tmp_path / "run.yaml").write_text(
        "data: {type: rooms, train: {samples: 3}, val: {samples: 2}}\nmodel: {backbone: {name: test_resnet}}\n"
    )
    splits = open_source(str(tmp_path / "run.yaml"))
    assert {name: len(dataset) for name, dataset in splits.items()} == {"train": 3, "val": 2}
    assert isinstance(splits["val"], RoomsDataset)
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        ValueError,
        match=r"empty: no data set, no folder in it has a folder rgb, and it looks like no ",
    ):
        open_source(str(tmp_path / "empty"))


@pytest.mark.parametrize(("heads", "task"), [("shared", "depth"), ("per_set", "a_depth")])
def test_samples_of_a_mixture_without_a_label_of_its_tasks_are_left_out(
    heads: str, task: str, make_config: MakeConfig, root: Path
) -> None:
    part = f"{{name: a, type: folder, root: {root}, labels: {{depth: 0.2}}}}"
    data = f"data={{type: mixture, heads: {heads}, sets: [{part}]}}"
    assert len(build_dataset(make_config(data, f"tasks=[{task}]", "model.heads={}"), "train")) == 2
    assert len(build_dataset(make_config(data, "tasks=null", "model.heads={}"), "train")) == 10


def test_a_standard_set_that_is_called_a_folder(make_config: MakeConfig, tmp_path: Path) -> None:
    for name in ("image", "label", "normal"):
        (tmp_path / "nyu" / "train" / name).mkdir(parents=True)
    config = make_config(f"data={{type: folder, root: {tmp_path / 'nyu'}}}")
    with pytest.raises(
        ValueError,
        match=r"^data: .*nyu: not a data set in .*; it looks like NYUv2 .*: use type nyuv2_mtan$",
    ):
        build_dataset(config, "train")


def test_validation_samples_that_are_trained_on(
    folder_config: MakeConfig, make_config: MakeConfig, root: Path
) -> None:
    def repeated(config: Config) -> int:
        return repeated_samples(
            config, build_dataset(config, "train"), build_dataset(config, "val")
        )

    assert repeated(folder_config()) == 0  # the ids are the same, the splits are not
    assert repeated(folder_config(", train: 'train[:80%]', val: 'train[80%:]'")) == 0
    assert repeated(folder_config(", train: 'train[:80%]', val: 'train[60%:]'")) == 2
    parts = [
        f"{{name: {name}, type: folder, root: {root}, train: 'train[:8]', val: '{val}'}}"
        for name, val in (("a", "val"), ("b", "train[5:]"))
    ]
    mixture = f"data={{type: mixture, sets: [{', '.join(parts)}]}}"
    assert repeated(make_config(mixture, "tasks=null", "model.heads={}")) == 3


def test_label_smoothing_must_not_spread_to_classes_that_a_set_lacks(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    sets = []
    for name, classes in (("a", "[road, sky]"), ("b", "[road, shop]")):
        for split in ("train", "val"):
            (tmp_path / name / split / "rgb").mkdir(parents=True)
            Image.fromarray(np.zeros((6, 8, 3), np.uint8)).save(
                tmp_path / name / split / "rgb" / "1.png"
            )
        task = f"{{name: semseg, kind: semseg, classes: {classes}}}"
        (tmp_path / name / "dataset.yaml").write_text(f"name: {name}\ntasks: [{task}]\n")
        sets.append(f"{{type: folder, name: {name}, root: {tmp_path / name}}}")
    mixture = (f"data={{type: mixture, sets: [{', '.join(sets)}]}}", "tasks=null", "model.heads={}")
    build_splits(make_config(*mixture, "losses={semseg: {label_smoothing: 0.0}}"))
    with pytest.raises(
        ValueError, match=r"^losses\.semseg\.label_smoothing: must be 0, set 'a' lacks classes"
    ):
        build_splits(make_config(*mixture, "losses={semseg: {label_smoothing: 0.1}}"))
