from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from visionmtl.data import cache
from visionmtl.data.cache import CachedDataset
from visionmtl.data.folder import FolderDataset
from visionmtl.data.loader import close_loader, make_loader
from visionmtl.data.transforms.joint import build_transform
from visionmtl.types import BoxTarget, Camera, DenseTarget, MultiTaskDataset, Sample

SIZE = (20, 24)
YAML = f"""\
name: tiny
tasks:
  - {{name: image, kind: semseg, classes: [floor, wall]}}
  - {{name: fine, kind: semseg, classes: [{", ".join(f"c{i}" for i in range(256))}], ignore_value: 300}}
  - {{name: depth, kind: depth, scale: 1e-3, max_depth: 60.0}}
  - {{name: disparity, kind: disparity, scale: 0.00390625, max_disparity: 300.0}}
  - {{name: normals, kind: normals}}
  - {{name: saliency, kind: saliency}}
  - {{name: edge, kind: edge, positive_value: 255, ignore_value: 128}}
  - {{name: detection, kind: detection, classes: [cup, chair]}}
camera: {{fx: 21.5, fy: 20.25, cx: 12.125, cy: 9.1, width: 24, height: 20}}
"""
MakeRoot = Callable[..., Path]


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def random_masks(rng: np.random.Generator, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Every value that a file may hold, by task."""
    fine = np.concatenate(
        [np.arange(256), [300] * 20, rng.integers(0, 256, size[0] * size[1] - 276)]
    )
    depth = rng.integers(0, 65536, size, dtype=np.uint16)
    depth[0, :5] = [0, 1, 2, 59_999, 65_535]
    return {
        "image": rng.choice(np.array([0, 1, 255], np.uint8), size),
        "fine": rng.permutation(fine).reshape(size).astype(np.uint16),
        "depth": depth,
        "disparity": rng.permutation(depth.ravel()).reshape(size),
        "normals": rng.integers(0, 256, (*size, 3), dtype=np.uint8),
        "saliency": rng.choice(np.array([0, 1, 255], np.uint8), size),
        "edge": rng.choice(np.array([0, 255, 128], np.uint8), size),
    }


def make_root(root: Path) -> Path:
    """Sample a has every label, b is twice as large and has no boxes, c has nothing and is not
    listed for boxes.
    """
    (root / "dataset.yaml").write_text(YAML)
    rng = np.random.default_rng(0)
    sizes = {"a": SIZE, "b": (40, 48), "c": SIZE}
    for name, size in sizes.items():
        save(root / f"train/rgb/{name}.png", rng.integers(0, 256, (*size, 3), dtype=np.uint8))
        for task, mask in {} if name == "c" else random_masks(rng, size).items():
            save(root / f"train/{task}/{name}.png", mask)
    coco: dict[str, Any] = {
        "images": [
            {"id": i, "file_name": n, "width": sizes[n][1], "height": sizes[n][0]}
            for i, n in enumerate("ab")
        ],
        "annotations": [
            {"image_id": 0, "category_id": 1, "bbox": [1.3, 2.7, 5.1, 3.9]},
            {"image_id": 0, "category_id": 0, "bbox": [4, 4, 20, 16]},
        ],
        "categories": [{"id": 0, "name": "cup"}, {"id": 1, "name": "chair"}],
    }
    (root / "train/detection.json").write_text(json.dumps(coco))
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "tiny").mkdir()
    return make_root(tmp_path / "tiny")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "caches"


def assert_same(cached: Sample, plain: Sample) -> None:
    """Equal bit for bit, but for normals."""
    assert (cached.sample_id, cached.camera) == (plain.sample_id, plain.camera)
    assert (cached.image.dtype, cached.image.tobytes()) == (np.uint8, plain.image.tobytes())
    assert cached.image.shape == plain.image.shape
    assert cached.image.flags.writeable
    assert list(cached.targets) == list(plain.targets)
    for task, target in plain.targets.items():
        ours = cached.targets[task]
        assert type(ours) is type(target)
        for name, value in vars(target).items():
            mine = getattr(ours, name)
            if value is None:
                assert mine is None
                continue
            assert (mine.dtype, mine.shape, mine.flags.writeable) == (
                value.dtype,
                value.shape,
                True,
            ), (task, name)
            if task == "normals" and name == "value":
                assert_same_directions(mine, value)
            else:
                assert mine.tobytes() == value.tobytes(), (task, name)


def assert_same_directions(a: np.ndarray, b: np.ndarray) -> None:
    invalid = ~b.any(axis=2)
    assert not a[invalid].any()
    a, b = a[~invalid].astype(np.float64), b[~invalid].astype(np.float64)
    assert len(a) > 100
    np.testing.assert_allclose(np.linalg.norm(a, axis=1), 1, atol=3e-5)
    chord = np.linalg.norm(a - b, axis=1)  # an arccosine would lose the digits
    assert np.degrees(2 * np.arcsin(chord / 2)).max() < 0.003


def entries(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_samples_come_back_as_they_were(
    root: Path, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    plain = FolderDataset(root, "train")
    cached = CachedDataset(plain, folder)
    assert capfd.readouterr() == ("", "")  # no bar outside a terminal
    assert isinstance(cached, MultiTaskDataset)
    assert (len(cached), cached.tasks) == (3, plain.tasks)
    assert [cached.sample_id(i) for i in range(3)] == ["a", "b", "c"]
    for i in range(3):
        assert_same(cached[i], plain[i])
    boxes = [cached[i].targets.get("detection") for i in range(3)]
    assert [None if box is None else len(vars(box)["boxes"]) for box in boxes] == [2, 0, None]
    fine = cached[0].targets["fine"]
    assert isinstance(fine, DenseTarget)
    assert set(fine.value[fine.valid].tolist()) == set(range(256))
    assert (~fine.valid).sum() == 20
    assert cached[1].camera == Camera(43, 40.5, 24.25, 18.2, 48, 40)


def test_samples_are_independent_of_each_other_and_of_the_files(root: Path, folder: Path) -> None:
    cached = CachedDataset(FolderDataset(root, "train"), folder)
    before, spoiled = cached[0], cached[0]
    spoiled.image[:] = 0
    for target in spoiled.targets.values():
        for value in vars(target).values():
            if value is not None:
                value[:] = 0
    assert_same(cached[0], before)


def test_the_images_are_not_read_again(root: Path, folder: Path) -> None:
    first = CachedDataset(FolderDataset(root, "train"), folder)
    second = FolderDataset(root, "train")
    second.__class__ = type(
        "Blind", (FolderDataset,), {"__getitem__": None}
    )  # it must not be asked
    assert_same(CachedDataset(second, folder)[1], first[1])


def test_a_selection_and_derived_normals(root: Path, folder: Path) -> None:
    text = YAML.replace("  - {name: normals, kind: normals}\n", "")
    (root / "dataset.yaml").write_text(text)
    plain = FolderDataset(root, "train", ["normals", "edge"], derive_normals=True)
    yy, xx = np.mgrid[: SIZE[0], : SIZE[1]]
    save(root / "train/depth/a.png", (1000 + 20 * xx + 30 * yy).astype(np.uint16))
    cached = CachedDataset(plain, folder)
    assert list(cached[0].targets) == ["normals", "edge"]
    assert_same(cached[0], plain[0])
    without = FolderDataset(root, "train", ["edge"])
    assert CachedDataset(without, folder).path != cached.path


def test_no_camera_and_no_label_at_all(root: Path, folder: Path) -> None:
    (root / "dataset.yaml").write_text(YAML[: YAML.index("camera")])
    save(root / "val/rgb/x.png", np.zeros((*SIZE, 3), np.uint8))
    sample = CachedDataset(FolderDataset(root, "val"), folder)[0]
    assert (sample.camera, sample.targets) == (None, {})


def test_a_pickled_copy_opens_its_own_files(root: Path, folder: Path) -> None:
    """As a spawned worker does it."""
    cached = CachedDataset(FolderDataset(root, "train"), folder)
    data = pickle.dumps(cached)
    largest = max(file.stat().st_size for file in cached.path.glob("*.bin"))
    assert len(data) < largest
    copy = pickle.loads(data)
    for i in range(3):
        assert_same(copy[i], cached[i])


def test_forked_workers(root: Path, folder: Path) -> None:
    cached = CachedDataset(FolderDataset(root, "train"), folder)
    loader, _ = make_loader(
        cached,
        cached.tasks,
        build_transform(cached.tasks, []),
        batch_size=1,
        train=False,
        workers=2,
    )
    batches = list(loader)
    close_loader(loader)
    assert [batch.sample_ids for batch in batches] == [["a"], ["b"], ["c"]]
    for i, batch in enumerate(batches):
        assert batch.images[0].permute(1, 2, 0).numpy().tobytes() == cached[i].image.tobytes()


def change_mask(root: Path) -> None:
    save(root / "train/image/a.png", np.ones(SIZE, np.uint8))


def change_time(root: Path) -> None:
    os.utime(root / "train/rgb/b.png", ns=(1, 1))


def change_boxes(root: Path) -> None:
    path = root / "train/detection.json"
    path.write_text(path.read_text().replace("1.3", "1.25"))


def change_options(root: Path) -> None:
    (root / "dataset.yaml").write_text(YAML.replace("max_depth: 60.0", "max_depth: 50.0"))


def add_label(root: Path) -> None:
    save(root / "train/image/c.png", np.ones(SIZE, np.uint8))


def remove_label(root: Path) -> None:
    (root / "train/depth/b.png").unlink()


@pytest.mark.parametrize(
    "change", [change_mask, change_time, change_boxes, change_options, add_label, remove_label]
)
def test_changed_files_make_a_new_cache(
    change: Callable[[Path], None], root: Path, folder: Path
) -> None:
    old = CachedDataset(FolderDataset(root, "train"), folder)
    assert CachedDataset(FolderDataset(root, "train"), folder).path == old.path
    change(root)
    plain = FolderDataset(root, "train")
    new = CachedDataset(plain, folder)
    assert new.path != old.path
    assert entries(folder) == sorted([".lock", old.path.name, new.path.name])
    for i in range(3):
        assert_same(new[i], plain[i])


def test_selections_and_splits_do_not_meet(root: Path, folder: Path) -> None:
    shutil.copytree(root / "train", root / "val")
    paths = {
        CachedDataset(FolderDataset(root, split, tasks), folder).path
        for split in ("train", "val")
        for tasks in (None, ["depth"], ["depth", "edge"], ["edge", "depth"])
    }
    assert len(paths) == 8


def test_another_way_to_name_the_folder_finds_the_same_cache(
    root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = CachedDataset(FolderDataset(root, "train"), folder).path
    assert path.name.startswith("tiny-train-")
    monkeypatch.chdir(root.parent)
    assert CachedDataset(FolderDataset("tiny", "train"), folder).path == path
    monkeypatch.chdir(root)
    assert CachedDataset(FolderDataset(".", "train"), folder).path == path
    shutil.copytree(root, root.parent / "other" / "tiny", copy_function=shutil.copy2)
    assert CachedDataset(FolderDataset(root.parent / "other/tiny", "train"), folder).path != path


def shorten(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("damage", [shorten, os.unlink, lambda path: os.truncate(path, 0)])
@pytest.mark.parametrize("name", ["depth.bin", "rgb.image.bin", "index.npz"])
def test_a_damaged_cache_is_named_and_can_be_deleted(
    name: str, damage: Callable[[Path], None], root: Path, folder: Path
) -> None:
    plain = FolderDataset(root, "train", ["depth"])
    path = CachedDataset(plain, folder).path
    damage(path / name)
    with pytest.raises(
        ValueError, match=rf"{name}: damaged; delete .*/caches/tiny-train-\w+, it is made again$"
    ) as c:
        CachedDataset(plain, folder)
    assert "\n" not in str(c.value)
    shutil.rmtree(path)
    assert_same(CachedDataset(plain, folder)[0], plain[0])


def test_a_sample_that_cannot_be_read_ends_the_making(root: Path, folder: Path) -> None:
    (root / "train/depth/b.png").write_bytes(b"no png")
    plain = FolderDataset(root, "train")
    with pytest.raises(ValueError, match=r"depth/b\.png: not a JPEG, PNG"):
        CachedDataset(plain, folder)
    assert entries(folder) == [".lock"]
    (root / "train/depth/b.png").unlink()
    assert len(CachedDataset(FolderDataset(root, "train"), folder)) == 3


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_stopped_in_the_middle(
    error: Any, root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = FolderDataset(root, "train")
    real, calls = cache._add, []

    def add(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            assert ".making" in entries(folder)
            raise error
        real(*arguments)

    monkeypatch.setattr(cache, "_add", add)
    if error is KeyboardInterrupt:
        with pytest.raises(KeyboardInterrupt):
            CachedDataset(plain, folder)
    else:
        with pytest.raises(
            ValueError, match=r"^cache .*/caches: cannot be written \(No space left on device\)$"
        ):
            CachedDataset(plain, folder)
    assert entries(folder) == [".lock"]
    assert_same(CachedDataset(plain, folder)[1], plain[1])


def run_forked(*works: Callable[[], None]) -> list[int | None]:
    """Exit codes of processes that do the works at the same time."""
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=work) for work in works]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    return [process.exitcode for process in processes]


def test_killed_in_the_middle(root: Path, folder: Path) -> None:
    plain = FolderDataset(root, "train")

    def die(*_: Any) -> None:
        os._exit(9)

    def make() -> None:
        real, calls = cache._add, []

        def add(*arguments: Any) -> None:
            calls.append(arguments)
            die() if len(calls) == 3 else real(*arguments)

        cache._add = add  # type: ignore[assignment]
        CachedDataset(plain, folder)

    assert run_forked(make) == [9]
    assert entries(folder) == [".lock", ".making"]  # no cache is visible
    cached = CachedDataset(plain, folder)
    assert entries(folder) == [".lock", cached.path.name]  # and nothing is left
    for i in range(3):
        assert_same(cached[i], plain[i])


def test_two_processes_at_once_make_it_once(root: Path, folder: Path, tmp_path: Path) -> None:
    plain, log = FolderDataset(root, "train"), tmp_path / "log"

    def make() -> None:
        real = cache._add

        def add(*arguments: Any) -> None:
            with log.open("a") as file:
                file.write(f"{os.getpid()}\n")
            time.sleep(0.05)
            real(*arguments)

        cache._add = add  # type: ignore[assignment]
        assert_same(CachedDataset(plain, folder)[1], plain[1])

    assert run_forked(make, make, make) == [0, 0, 0]
    made = log.read_text().split()
    assert len(made) == 3
    assert len(set(made)) == 1
    assert len(entries(folder)) == 2


def test_where_nothing_can_be_written(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = FolderDataset(root, "train")
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "caches"):
        message = rf"^cache {place}: cannot be written \((File exists|Not a directory)\)$"
        with pytest.raises(ValueError, match=message):
            CachedDataset(plain, place)
    assert (tmp_path / "file").read_text() == "mine"
    made = CachedDataset(plain, tmp_path / "caches")

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    monkeypatch.setattr(cache, "_lock", refuse)
    assert_same(
        CachedDataset(plain, tmp_path / "caches")[0], made[0]
    )  # one that is there needs no writing
    with pytest.raises(ValueError, match=r"cannot be written \(Permission denied\)$"):
        CachedDataset(plain, tmp_path / "elsewhere")


def test_boxes_of_any_number(root: Path, folder: Path) -> None:
    path = root / "train/detection.json"
    content = json.loads(path.read_text())
    rng = np.random.default_rng(1)
    content["annotations"] = [
        {
            "image_id": 1,
            "category_id": int(rng.integers(2)),
            "bbox": (rng.uniform(1, 20, 4)).tolist(),
        }
        for _ in range(500)
    ]
    path.write_text(json.dumps(content))
    plain = FolderDataset(root, "train", ["detection"])
    cached = CachedDataset(plain, folder)
    target = cached[1].targets["detection"]
    assert isinstance(target, BoxTarget)
    assert len(target.boxes) == 500
    for i in range(3):
        assert_same(cached[i], plain[i])
