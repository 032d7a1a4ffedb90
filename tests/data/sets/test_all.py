"""What holds for every packing: it is told from the others, checked, and converted to the folder
format.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from visionmtl.analysis.check import check_dataset
from visionmtl.cli.main import main
from visionmtl.data.base import DATASETS, identify
from visionmtl.data.convert import convert
from visionmtl.data.folder import FolderDataset
from visionmtl.data.mixture import MixtureDataset
from visionmtl.data.sets import PackedDataset
from visionmtl.engine.datasets import open_folder, open_source
from visionmtl.types import BoxTarget, MultiTaskDataset, TaskSpec

PACKINGS = {name: cls for name, cls in DATASETS.items() if issubclass(cls, PackedDataset)}


@pytest.fixture(scope="module")
def roots(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """A small data set in every packing."""
    made = {}
    for packing in PACKINGS:
        made[packing] = tmp_path_factory.mktemp(packing)
        make: Callable[[Path], None] = request.getfixturevalue(f"make_{packing}")
        make(made[packing])
    return made


def test_every_packing_is_told_from_the_others(roots: dict[str, Path], tmp_path: Path) -> None:
    assert [identify(root) for root in roots.values()] == list(PACKINGS)
    assert identify(tmp_path) is None
    for name, root in roots.items():
        assert [other for other, reader in PACKINGS.items() if reader.matches(root)] == [name]


@pytest.mark.parametrize("packing", PACKINGS)
def test_another_packing_is_refused_in_a_sentence_that_says_which(
    packing: str, roots: dict[str, Path]
) -> None:
    for name, root in roots.items():
        if name == packing:
            continue
        with pytest.raises(ValueError, match=rf"it looks like .*: use type {name}$") as caught:
            PACKINGS[packing](root, "train")
        assert str(caught.value).startswith(f"{root}: not {PACKINGS[packing].title}, which has ")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("packing", PACKINGS)
def test_every_sample_keeps_the_contracts(packing: str, roots: dict[str, Path]) -> None:
    for name, dataset in open_source(str(roots[packing])).items():
        if len(dataset) > 100:
            continue  # the official file has all its 1449 samples
        assert dataset.tasks, name
        report = check_dataset(dataset, progress=False)
        assert report.ok, report.problems
        assert all(task.annotated for task in report.tasks)


@pytest.mark.parametrize("packing", PACKINGS)
def test_conversion_gives_the_same_samples(
    packing: str, roots: dict[str, Path], tmp_path: Path
) -> None:
    splits: dict[str, MultiTaskDataset] = {
        name: open_folder(roots[packing], f"{name}[:3]") for name in PACKINGS[packing].splits
    }
    assert convert(splits, tmp_path / "out", packing) == []
    for name, dataset in splits.items():
        converted = FolderDataset(tmp_path / "out", name)
        assert converted.tasks == dataset.tasks
        by_id = {plain(converted.sample_id(i), name): converted[i] for i in range(len(converted))}
        assert set(by_id) == {plain(dataset.sample_id(i), name) for i in range(len(dataset))}
        for i in range(len(dataset)):
            sample = dataset[i]
            same = by_id[plain(sample.sample_id, name)]
            np.testing.assert_array_equal(same.image, sample.image)
            assert same.targets.keys() == sample.targets.keys()
            for spec in dataset.tasks:
                if spec.name in sample.targets:
                    assert_close(spec, same.targets[spec.name], sample.targets[spec.name])


def plain(sample_id: str, split: str) -> str:
    """An id without what the conversion adds: the name of the split, and zeros."""
    return sample_id.replace("/", "_").removeprefix(f"{split}_").lstrip("0")


def assert_close(spec: TaskSpec, found: Any, expected: Any) -> None:
    """Equal but for what the files round."""
    if isinstance(expected, BoxTarget):
        order = np.lexsort(expected.boxes.T), np.lexsort(found.boxes.T)
        np.testing.assert_allclose(found.boxes[order[1]], expected.boxes[order[0]], atol=1e-3)
        np.testing.assert_array_equal(found.labels[order[1]], expected.labels[order[0]])
        return
    np.testing.assert_array_equal(found.valid, expected.valid)
    if spec.name == "normals":
        cosine = (found.value * expected.value).sum(axis=2)[expected.valid]
        assert np.degrees(np.arccos(cosine.clip(-1, 1))).max(initial=0) < 0.5
    else:
        step = getattr(spec.kind.codec.for_labels(spec.kind), "scale", 0)
        np.testing.assert_allclose(found.value, expected.value, atol=0.51 * step)


def test_the_command_converts_and_the_result_can_be_checked(
    roots: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*words: str) -> int:
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in words])
        return int(stop.value.code or 0)

    source, out = str(roots["cityscapes"]), str(tmp_path / "out")
    assert (
        run("convert-data", source, out, "--splits", "val", "--tasks", "disparity", "semseg") == 0
    )
    assert run("check-data", out) == 0
    dataset = FolderDataset(out, "val")
    assert [spec.name for spec in dataset.tasks] == ["disparity", "semseg"]
    assert run("convert-data", source, out) == 2
    assert "exists and is not an empty folder" in capsys.readouterr().err
    assert run("convert-data", source, str(tmp_path / "b"), "--splits", "test") == 2
    assert (
        "--splits: unknown splits ['test']; the data set has ['train', 'val']"
        in capsys.readouterr().err
    )
    assert run("convert-data", source, str(tmp_path / "b"), "--tasks", "flow") == 2
    assert "--tasks: unknown tasks ['flow']" in capsys.readouterr().err


def test_an_unreadable_sample_is_named_and_left_out(roots: dict[str, Path], tmp_path: Path) -> None:
    reader = PACKINGS["nyuv2_mtan"](roots["nyuv2_mtan"], "train")
    read = reader.read_image

    def broken(sample_id: str) -> np.ndarray:
        if sample_id == reader.sample_id(0):
            raise ValueError("image/0.npy: broken")
        return read(sample_id)

    reader.read_image = broken  # type: ignore[method-assign]
    assert convert({"train": reader}, tmp_path / "out", "x") == [
        (reader.sample_id(0), "image/0.npy: broken")
    ]
    assert len(FolderDataset(tmp_path / "out", "train")) == len(reader) - 1


def test_a_mixture_is_no_folder(roots: dict[str, Path], tmp_path: Path) -> None:
    mixture = MixtureDataset({"a": open_folder(roots["nyuv2_mtan"], "train")})
    with pytest.raises(
        ValueError, match=r"^a mixture cannot be one folder; convert its sets, each on its own$"
    ):
        convert({"train": mixture}, tmp_path / "out", "x")


def test_a_folder_that_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"no data set: no dataset.yaml, and none of the packings .*cityscapes, "
    ):
        open_folder(tmp_path, "train")
    with pytest.raises(ValueError, match="no data set, no folder in it has a folder rgb"):
        open_source(str(tmp_path))


def test_a_folder_of_labels_that_is_a_link_to_nothing(
    roots: dict[str, Path], tmp_path: Path
) -> None:
    """A task must not go missing because a disk is not mounted."""
    root = tmp_path / "copy"
    shutil.copytree(roots["nyuv2_mtan"], root)
    shutil.rmtree(root / "train" / "depth")
    assert [spec.name for spec in open_folder(root, "train").tasks] == ["semseg", "normals"]
    (root / "train" / "depth").symlink_to("/nowhere/depth")
    with pytest.raises(
        ValueError, match=r"train/depth: a link to /nowhere/depth, which is not there$"
    ):
        open_folder(root, "train")


def test_links_that_lead_elsewhere_are_followed(roots: dict[str, Path], tmp_path: Path) -> None:
    for part in roots["nyuv2_mtan"].iterdir():
        (tmp_path / part.name).symlink_to(part)
    assert set(open_folder(tmp_path, "val")[0].targets) == {"semseg", "depth", "normals"}
