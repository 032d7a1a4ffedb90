"""The registry of data sets, and a user's own class in it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

import visionmtl.data.sets
from visionmtl._options import given_names, options_model
from visionmtl.data.base import DATASETS, identify, image_file_of, title_of
from visionmtl.data.rooms.dataset import RoomsDataset
from visionmtl.data.sets.base import PackedDataset
from visionmtl.data.subset import Subset
from visionmtl.types import DenseTarget, MultiTaskDataset

PLUGIN = """
from pathlib import Path

import numpy as np

from visionmtl._options import Positive
from visionmtl.data.base import DATASETS
from visionmtl.types import DenseTarget, Sample, TaskSpec


@DATASETS.register("ramp")
class Ramp:
    title = "ramps of depth"
    splits = ("train", "val")

    def __init__(self, root, split, tasks=None, *, scale: Positive = 1.0):
        self.root = Path(root)
        self.split = split
        self.tasks = [TaskSpec.depth(max_depth=100.0)]
        self.scale = scale

    @classmethod
    def matches(cls, root):
        return (root / "ramp.txt").is_file()

    def __len__(self):
        return 3

    def sample_id(self, index):
        return f"{self.split}-{index}"

    def image_file(self, index):
        return self.root / f"{index}.png"

    def __getitem__(self, index):
        depth = self.scale * np.arange(1, 5, dtype=np.float32).reshape(2, 2)
        target = DenseTarget(depth, np.ones((2, 2), bool))
        return Sample(np.zeros((2, 2, 3), np.uint8), {"depth": target}, self.sample_id(index))
"""


@pytest.fixture
def ramp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the data set of a plug-in file reads."""
    monkeypatch.setattr(DATASETS, "_classes", dict(DATASETS))
    path = tmp_path / "ramp_plugin.py"
    path.write_text(PLUGIN)
    spec = importlib.util.spec_from_file_location("ramp_plugin", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "ramp_plugin", module)
    spec.loader.exec_module(module)
    (tmp_path / "ramp.txt").touch()
    return tmp_path


def test_a_data_set_of_the_user(ramp: Path) -> None:
    given = {"root": ramp, "split": "train", "tasks": None, "something": 1}
    dataset = DATASETS.make("ramp", given, {"scale": 2})
    assert isinstance(dataset, MultiTaskDataset)
    target = dataset[0].targets["depth"]
    assert isinstance(target, DenseTarget)
    np.testing.assert_array_equal(target.value, [[2, 4], [6, 8]])
    assert given_names(DATASETS["ramp"]) == ["root", "split", "tasks"]
    assert list(options_model(DATASETS["ramp"]).model_fields) == ["scale"]
    with pytest.raises(ValueError, match=r"^scale: must be > 0, got 0$"):
        DATASETS.make("ramp", given, {"scale": 0})
    with pytest.raises(
        ValueError, match=r"^scal: unknown option; known: scale; did you mean 'scale'\?$"
    ):
        DATASETS.make("ramp", given, {"scal": 1})
    with pytest.raises(ValueError, match=r"^Ramp: scale: must be a number, got 'x'$"):
        DATASETS["ramp"](ramp, "train", scale="x")  # type: ignore[call-arg]


def test_a_data_set_of_the_user_is_told_from_its_files(ramp: Path) -> None:
    assert identify(ramp) == "ramp"
    assert title_of("ramp") == "ramps of depth"
    with pytest.raises(ValueError, match=r"it looks like ramps of depth: use type ramp$"):
        visionmtl.data.sets.Coco(ramp, "train")


def test_files_of_images(ramp: Path) -> None:
    dataset = DATASETS.make("ramp", {"root": ramp, "split": "train", "tasks": None}, {})
    assert image_file_of(dataset, 1) == ramp / "1.png"
    assert image_file_of(Subset(dataset, np.array([2, 0])), 0) == ramp / "2.png"
    rooms = RoomsDataset(2, (8, 8))
    assert image_file_of(rooms, 0) is None
    assert image_file_of(Subset(rooms, np.array([1])), 0) is None


def test_what_a_folder_is(tmp_path: Path) -> None:
    assert identify(tmp_path) is None
    (tmp_path / "dataset.yaml").touch()
    (tmp_path / "leftImg8bit").mkdir()
    (tmp_path / "gtFine").mkdir()
    assert identify(tmp_path) == "folder"
    assert title_of("folder") == "a data set in the folder format"
    assert title_of("rooms") == "rooms"


def test_every_data_set_says_what_it_is_given_and_what_it_takes() -> None:
    assert set(DATASETS) >= {"folder", "rooms", "coco", "taskonomy"}
    for name, cls in DATASETS.items():
        assert set(given_names(cls)) <= {"root", "split", "tasks"} or name == "folder"
        for option, field in options_model(cls).model_fields.items():
            assert not field.is_required(), (name, option)
        if issubclass(cls, PackedDataset):
            assert given_names(cls) == ["root", "split", "tasks"]
    assert given_names(RoomsDataset) == ["split", "tasks"]
