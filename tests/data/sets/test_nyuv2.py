from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from visionmtl.data.sets.base import facts
from visionmtl.data.sets.ids import in_order
from visionmtl.data.sets.labels import Frame
from visionmtl.data.sets.npy import read_npy_depth, read_npy_normals

META = Path(__file__).parents[4] / "shared/meta/nyuv2"
needs_meta = pytest.mark.skipif(
    not META.is_dir(), reason="no ../shared/meta/nyuv2, where the authors' files lie"
)


def test_order_of_ids() -> None:
    ids = ["val_2", "train_10", "train_9", "9", "10", "010", "b", "9_2", "9_10"]
    assert in_order(ids) == ["9", "9_2", "9_10", "010", "10", "b", "train_9", "train_10", "val_2"]
    assert in_order(ids[::-1]) == in_order(ids)


def test_splits_and_maps_are_complete() -> None:
    stored = facts("nyuv2")
    train, test = stored["train"], stored["test"]
    assert (len(train), len(test)) == (795, 654)
    assert sorted(train + test) == list(range(1, 1450))
    assert (len(stored["map894"]), set(stored["map894"])) == (894, set(range(1, 41)))
    assert (len(stored["map40"]), set(stored["map40"])) == (40, set(range(1, 14)))
    pairs = {
        name: stored["classes13"][c - 1]
        for name, c in zip(stored["classes40"], stored["map40"], strict=True)
    }
    same = {name for name, coarse in pairs.items() if name == coarse}
    assert same == set(stored["classes13"]) - {"furniture", "objects", "tv"}
    assert [pairs[name] for name in ("cabinet", "television", "lamp", "door")] == [
        "furniture",
        "tv",
        "objects",
        "wall",
    ]


@needs_meta
def test_facts_are_those_of_the_authors_files() -> None:
    loadmat = pytest.importorskip("scipy.io").loadmat
    stored = facts("nyuv2")
    splits = loadmat(META / "splits.mat", squeeze_me=True)
    assert (stored["train"], stored["test"]) == (
        splits["trainNdxs"].tolist(),
        splits["testNdxs"].tolist(),
    )
    fine = loadmat(META / "classMapping40.mat", squeeze_me=True)
    assert (stored["classes40"], stored["map894"]) == (
        fine["className"].tolist(),
        fine["mapClass"].tolist(),
    )
    coarse, names = loadmat(META / "class13Mapping.mat", squeeze_me=True)["classMapping13"].item()
    assert (stored["classes13"], stored["map40"]) == (names.tolist(), coarse.tolist())
    numbers = json.loads((META / "nyu_classes.json").read_text())  # name -> label 1..894
    mapped = {
        name: stored["classes40"][stored["map894"][label - 1] - 1]
        for name, label in numbers.items()
    }
    for name in stored["classes40"][:-3]:  # all but otherstructure, otherfurniture, otherprop
        assert mapped[name] == name


def test_arrays_of_depth_and_normals(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.array([[0.0, 1.5, np.nan, 10.5]]))
    depth = read_npy_depth(path, 10.0)
    assert depth.value.tolist() == [[0, 1.5, 0, 0]]
    assert depth.valid.tolist() == [[False, True, False, False]]
    with pytest.raises(
        ValueError, match=r"a\.npy: expected normals \(H, W, 3\), got float64 \(1, 4\)$"
    ):
        read_npy_normals(path, "y_down")
    np.save(path, np.zeros((1, 4, 2)))
    with pytest.raises(
        ValueError, match=r"a\.npy: expected depth \(H, W\) or \(H, W, 1\), got \(1, 4, 2\)$"
    ):
        read_npy_depth(path, 10.0)
    with pytest.raises(ValueError, match=r"a\.npy: expected normals \(H, W, 3\), got \(1, 4, 2\)$"):
        read_npy_normals(path, "y_down")


@pytest.mark.parametrize(
    ("frame", "stored"),
    [
        ("y_down", (0.6, -0.8, -0.1)),
        ("y_up", (0.6, 0.8, 0.1)),
        ("x_left", (-0.6, 0.8, 0.1)),
        ("z_up", (0.6, -0.1, 0.8)),
    ],
)
def test_frames(frame: Frame, stored: tuple[float, ...], tmp_path: Path) -> None:
    """The same normal, of a floor that rises to the right, in each frame."""
    np.save(tmp_path / "a.npy", np.array([[stored]]))
    normals = read_npy_normals(tmp_path / "a.npy", frame)
    np.testing.assert_allclose(
        normals.value[0, 0], np.array([0.6, -0.8, -0.1]) / np.sqrt(1.01), atol=1e-6
    )
