from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from visionmtl.analysis.check import find_overlap
from visionmtl.data.cache import CachedDataset
from visionmtl.data.convert import convert
from visionmtl.data.folder import FolderDataset
from visionmtl.data.subset import cut_split
from visionmtl.types import Camera, DenseTarget, MultiTaskDataset, Sample, Target, TaskSpec


class Samples:
    """A data set in memory, with a camera per sample."""

    def __init__(self, spec: TaskSpec, targets: dict[str, Target], *cameras: Camera | None) -> None:
        self.tasks, self.names, self.targets = [spec], list(targets), targets
        self.cameras = cameras or (None,) * len(targets)

    def __len__(self) -> int:
        return len(self.names)

    def sample_id(self, index: int) -> str:
        return self.names[index]

    def __getitem__(self, index: int) -> Sample:
        name = self.names[index]
        target = {self.tasks[0].name: self.targets[name]}
        return Sample(np.zeros((1, 4, 3), np.uint8), target, name, self.cameras[index])


def dense(*values: float) -> DenseTarget:
    value = np.array([values], np.float32)
    return DenseTarget(value, value > 0)


@pytest.mark.parametrize("highest", [9.7, 10.0, 80.0, 99.9, 7.3])
def test_the_largest_depths_stay_valid(highest: float, tmp_path: Path) -> None:
    """Whatever the rounding makes of them."""
    spec, step = TaskSpec.depth(highest), max(0.001, highest / 65535)
    target = dense(0.0, 1e-5, highest - step / 4, np.nextafter(np.float32(highest), np.float32(0)))
    assert convert({"train": Samples(spec, {"a": target})}, tmp_path / "out", "x") == []
    found = FolderDataset(tmp_path / "out", "train")[0].targets["depth"]
    assert isinstance(found, DenseTarget)
    assert found.valid.tolist() == [[False, True, True, True]]
    np.testing.assert_allclose(found.value, target.value, atol=1.01 * step)


def test_image_files_are_copied_from_parts_and_caches_too(tmp_path: Path) -> None:
    for name, array in (
        ("rgb", np.full((8, 8, 3), 90, np.uint8)),
        ("semseg", np.zeros((8, 8), np.uint8)),
    ):
        for i in range(3):
            path = tmp_path / "train" / name / f"{i}.{'jpg' if name == 'rgb' else 'png'}"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array + i).save(path)
    (tmp_path / "dataset.yaml").write_text(
        "name: x\ntasks: [{name: semseg, kind: semseg, classes: [a, b, c]}]\n", encoding="utf-8"
    )
    whole = FolderDataset(tmp_path, "train")
    for i, dataset in enumerate((whole, CachedDataset(whole, tmp_path / "cache"))):
        part = cut_split(dataset, "train[1:]")
        assert convert({"train": part}, tmp_path / f"out{i}", "x") == []
        copies = sorted((tmp_path / f"out{i}" / "train" / "rgb").iterdir())
        assert [path.name for path in copies] == ["1.jpg", "2.jpg"]
        assert [path.read_bytes() for path in copies] == [
            whole.image_path(j).read_bytes() for j in (1, 2)
        ]


def test_a_camera_is_kept_where_all_samples_have_it(tmp_path: Path) -> None:
    one, other = Camera(4.0, 4.0, 2.0, 0.5, 4, 1), Camera(5.0, 4.0, 2.0, 0.5, 4, 1)
    targets: dict[str, Target] = {"a": dense(1, 1, 1, 1), "b": dense(1, 1, 1, 1)}
    for i, (cameras, kept) in enumerate(
        (((one, one), one), ((one, other), None), ((one, None), None))
    ):
        dataset: MultiTaskDataset = Samples(TaskSpec.depth(), targets, *cameras)
        convert({"train": dataset}, tmp_path / str(i), "x")
        assert FolderDataset(tmp_path / str(i), "train")[0].camera == kept


def test_ids_that_would_be_one_file(tmp_path: Path) -> None:
    targets: dict[str, Target] = {name: dense(1, 1, 1, 1) for name in ("a/b_c", "a_b/c", "A_b_C")}
    faults = convert({"train": Samples(TaskSpec.depth(), targets)}, tmp_path / "out", "x")
    assert faults == [(name, "its file would be that of 'a/b_c'") for name in ("a_b/c", "A_b_C")]
    assert len(FolderDataset(tmp_path / "out", "train")) == 1


def test_numbers_keep_their_order_and_splits_get_names_of_their_own(tmp_path: Path) -> None:
    def samples(*names: str) -> Samples:
        return Samples(TaskSpec.depth(), {name: dense(1, 1, 1, 1) for name in names})

    assert (
        convert({"train": samples("0", "9", "10"), "val": samples("0")}, tmp_path / "a", "x") == []
    )
    train, val = FolderDataset(tmp_path / "a", "train"), FolderDataset(tmp_path / "a", "val")
    assert [train.sample_id(i) for i in range(3)] == ["train_00", "train_09", "train_10"]
    assert find_overlap(train, val) == [
        (f"train_{i}", f"the image is the same as {val.image_path(0)}") for i in ("00", "09", "10")
    ]
    assert convert({"train": samples("9", "10"), "val": samples("0")}, tmp_path / "b", "x") == []
    assert FolderDataset(tmp_path / "b", "train").sample_id(0) == "09"


def test_a_task_that_one_split_lacks(tmp_path: Path) -> None:
    splits: dict[str, MultiTaskDataset] = {
        "train": Samples(TaskSpec.depth(), {"a": dense(1, 1, 1, 1)}),
        "val": Samples(TaskSpec.disparity(9.0), {"b": dense(1, 1, 1, 1)}),
    }
    assert convert(splits, tmp_path / "out", "x", ["disparity", "disparity"]) == []
    assert [spec.name for spec in FolderDataset(tmp_path / "out", "val").tasks] == ["disparity"]
    assert set(FolderDataset(tmp_path / "out", "val")[0].targets) == {"disparity"}
    assert not FolderDataset(tmp_path / "out", "train")[0].targets
