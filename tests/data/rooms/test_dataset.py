from __future__ import annotations

import numpy as np
import pytest

from visionmtl.data.base import DATASETS
from visionmtl.data.rooms.dataset import MAX_DEPTH, MIN_PIXELS, RoomsDataset, TrainSplit, ValSplit
from visionmtl.data.rooms.layout import sample_scene
from visionmtl.data.rooms.patterns import PATTERNS
from visionmtl.data.rooms.raycast import cast
from visionmtl.data.rooms.scene import CLASSES, OBJECTS, SIDES, Scene, Solid, Texture
from visionmtl.data.rooms.shading import photograph
from visionmtl.data.rooms.solids import entry
from visionmtl.types import BoxTarget, Camera, DenseTarget, MultiTaskDataset, Sample

GOLDEN_INDEX = 45
GOLDEN_COUNTS = [646, 236, 1487, 111, 28, 37, 33, 205, 54, 235]
GOLDEN_DEPTHS = [3.146113, 3.159192, 2.178685]
GOLDEN_NORMAL = [0.024906, -0.963424, -0.266822]
GOLDEN_BOXES = [[6, 27, 12, 33], [32, 41, 39, 48], [27, 24, 41, 42], [1, 32, 16, 48]]
GOLDEN_COLOR = [156.845, 139.901, 133.041]

SIZE = (120, 160)
PLAIN = Texture("solid", ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)))


def scenes(count: int) -> list[Scene]:
    return [sample_scene(np.random.default_rng(seed)) for seed in range(count)]


def unproject(depth: np.ndarray, camera: Camera) -> np.ndarray:
    """Points (H, W, 3) in the camera frame, from planar depth alone."""
    x = (np.arange(camera.width) + 0.5 - camera.cx) / camera.fx
    y = (np.arange(camera.height) + 0.5 - camera.cy) / camera.fy
    grid = np.stack([*np.meshgrid(x, y), np.ones(depth.shape)], axis=-1)
    return grid * depth[..., None].astype(np.float64)


def degrees(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.degrees(np.arccos(np.clip((a * b).sum(-1), -1, 1)))


def values(sample: Sample, task: str) -> np.ndarray:
    target = sample.targets[task]
    assert isinstance(target, DenseTarget)
    return target.value


def boxes(sample: Sample) -> BoxTarget:
    target = sample.targets["detection"]
    assert isinstance(target, BoxTarget)
    return target


def test_sample_contract() -> None:
    dataset = RoomsDataset(3, SIZE, seed=5)
    sample = dataset[2]
    assert isinstance(dataset, MultiTaskDataset)
    assert len(dataset) == 3
    assert [task.kind.name for task in dataset.tasks] == ["semseg", "depth", "normals", "detection"]
    assert sample.sample_id == dataset.sample_id(2) == "rooms-5-000002"
    assert (sample.image.dtype, sample.image.shape) == (np.uint8, (*SIZE, 3))
    assert sample.image.flags.c_contiguous
    assert (values(sample, "semseg").dtype, values(sample, "semseg").shape) == (np.uint8, SIZE)
    assert (values(sample, "depth").dtype, values(sample, "depth").shape) == (np.float32, SIZE)
    assert (values(sample, "normals").dtype, values(sample, "normals").shape) == (
        np.float32,
        (*SIZE, 3),
    )
    assert (boxes(sample).boxes.dtype, boxes(sample).labels.dtype) == (np.float32, np.int64)
    assert sample.camera is not None
    assert (sample.camera.width, sample.camera.height) == (160, 120)
    for target in sample.targets.values():
        assert isinstance(target, BoxTarget) or (
            target.valid.dtype == bool and target.valid.shape == SIZE
        )


def test_golden_values() -> None:
    """The same numbers on every machine: a change here makes published results incomparable."""
    sample = RoomsDataset(100, (48, 64), seed=7)[GOLDEN_INDEX]
    counts = np.bincount(values(sample, "semseg").ravel(), minlength=len(CLASSES))
    np.testing.assert_array_equal(counts, GOLDEN_COUNTS)
    np.testing.assert_allclose(
        values(sample, "depth")[[0, 24, 47], [0, 32, 63]], GOLDEN_DEPTHS, atol=1e-5
    )
    np.testing.assert_allclose(values(sample, "normals")[24, 32], GOLDEN_NORMAL, atol=1e-5)
    np.testing.assert_array_equal(boxes(sample).boxes, GOLDEN_BOXES)
    np.testing.assert_allclose(sample.image.mean((0, 1)), GOLDEN_COLOR, atol=0.01)


def test_same_sample_in_any_instance_and_order() -> None:
    first = RoomsDataset(4, (32, 40), seed=1)
    second = RoomsDataset(400, (32, 40), seed=1, tasks=["detection", "depth"])
    for index in (3, 0, 3):
        a, b = first[index], second[index]
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(values(a, "depth"), values(b, "depth"))
        np.testing.assert_array_equal(boxes(a).boxes, boxes(b).boxes)


def test_different_index_or_seed_gives_another_room() -> None:
    images = [
        RoomsDataset(8, (24, 32), seed)[i].image.astype(float) for seed in (0, 1) for i in range(8)
    ]
    differences = [abs(a - b).mean() for i, a in enumerate(images) for b in images[:i]]
    assert min(differences) > 8


def test_size_only_changes_the_sampling() -> None:
    coarse, fine = (RoomsDataset(1, size, seed=3)[0] for size in ((40, 50), (120, 150)))
    centre = (slice(1, None, 3), slice(1, None, 3))  # the pixel centres of the coarse image
    same = values(coarse, "semseg") == values(fine, "semseg")[centre]
    assert same.mean() > 0.999
    np.testing.assert_allclose(
        values(coarse, "depth")[same], values(fine, "depth")[centre][same], rtol=1e-5
    )
    np.testing.assert_allclose(
        values(coarse, "normals")[same], values(fine, "normals")[centre][same], atol=1e-5
    )
    assert abs(coarse.image.mean((0, 1)) - fine.image.mean((0, 1))).max() < 3


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (77, 31)])
def test_any_size(size: tuple[int, int]) -> None:
    sample = RoomsDataset(1, size)[0]
    assert sample.image.shape == (*size, 3)
    assert np.isfinite(values(sample, "depth")).all()


def test_depth_is_in_range_and_normals_are_unit_and_face_the_camera() -> None:
    dataset = RoomsDataset(40, (48, 64), seed=2)
    for index in range(len(dataset)):
        sample = dataset[index]
        assert sample.camera is not None
        depth, normals = values(sample, "depth"), values(sample, "normals")
        assert 0.05 < depth.min() <= depth.max() <= MAX_DEPTH
        np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1, atol=1e-5)
        assert ((normals * unproject(depth, sample.camera)).sum(-1) < 0).all()
        assert values(sample, "semseg").max() < len(CLASSES)


def test_sides_of_the_room_are_planes() -> None:
    for scene in scenes(8):
        view = cast(scene, SIZE)
        points = unproject(view.depth, view.camera)
        for side in range(SIDES):
            here = view.surface == side
            if here.sum() < 100:
                continue
            centred = points[here] - points[here].mean(0)
            normal = np.linalg.svd(centred, full_matrices=False)[2][2]
            assert abs(centred @ normal).max() < 1e-5
            np.testing.assert_allclose(abs(view.normals[here] @ normal), 1, atol=1e-5)


def test_floor_lies_at_the_height_of_the_camera() -> None:
    for scene in scenes(4):
        view = cast(scene, SIZE)
        floor = unproject(view.depth, view.camera)[view.surface == 0]
        down = np.array([axis[1] for axis in scene.axes])  # world down in the camera frame
        np.testing.assert_allclose(floor @ down, -scene.eye[1], atol=1e-5)


def test_spheres_have_their_centre_radius_and_normals() -> None:
    seen = 0
    for scene in scenes(12):
        view = cast(scene, SIZE)
        points = unproject(view.depth, view.camera)
        for index, solid in enumerate(scene.solids, len(scene.panels)):
            here = view.surface == index
            if solid.label != "sphere" or here.sum() < 200:
                continue
            p = points[here]  # |p|^2 = 2 p . c + (r^2 - |c|^2) is linear in c and the constant
            solution = np.linalg.lstsq(
                np.column_stack([2 * p, np.ones(len(p))]), (p * p).sum(1), rcond=None
            )[0]
            radius = np.sqrt(solution[3] + (solution[:3] ** 2).sum())
            centre = np.array(scene.axes) @ (np.array(solid.center) - scene.eye)
            np.testing.assert_allclose(solution[:3], centre, atol=1e-3)
            assert radius == pytest.approx(solid.half[0], abs=1e-3)
            np.testing.assert_allclose(view.normals[here], (p - centre) / solid.half[0], atol=1e-4)
            seen += 1
    assert seen >= 5


def test_boxes_and_cylinders_have_upright_sides() -> None:
    for scene in scenes(12):
        view = cast(scene, SIZE)
        upright = abs(view.normals @ np.array([axis[1] for axis in scene.axes]))
        for index, solid in enumerate(scene.solids, len(scene.panels)):
            here = view.surface == index
            if solid.label == "sphere":
                continue
            assert (np.minimum(upright[here], 1 - upright[here]) < 1e-5).all()
            if solid.label == "box":
                assert len(np.unique(view.normals[here].round(4), axis=0)) <= 3


def test_normals_agree_with_the_slope_of_the_depth() -> None:
    """Cross products of central differences, wherever the neighbours lie on the same smooth
    surface.
    """
    for scene in scenes(6):
        view = cast(scene, (240, 320))
        points = unproject(view.depth, view.camera)
        across, along = points[1:-1, 2:] - points[1:-1, :-2], points[2:, 1:-1] - points[:-2, 1:-1]
        slope = np.cross(along, across)
        slope /= np.linalg.norm(slope, axis=-1, keepdims=True)
        middle = view.normals[1:-1, 1:-1]
        smooth = np.ones(middle.shape[:2], bool)
        for rows, columns in ((1, 0), (1, 2), (0, 1), (2, 1)):
            window = (slice(rows, rows + 238), slice(columns, columns + 318))
            smooth &= view.surface[window] == view.surface[1:-1, 1:-1]
            smooth &= (view.normals[window] * middle).sum(-1) > 0.98
        angle = degrees(slope, middle)[smooth]
        assert smooth.mean() > 0.8
        assert np.percentile(angle, 99) < 1
        assert np.median(angle) < 0.05


def test_boxes_are_the_extent_of_visible_pixels() -> None:
    checked = 0
    for index in range(40):
        sample = RoomsDataset(40, SIZE, seed=4)[index]
        semseg, target = values(sample, "semseg"), boxes(sample)
        for label, name in enumerate(OBJECTS):
            rows, columns = np.nonzero(semseg == CLASSES.index(name))
            if (target.labels == label).sum() != 1:
                continue
            box = target.boxes[target.labels == label][0]
            extent = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            alone = (box == extent).all()
            inside = (box[:2] >= extent[:2]).all() and (box[2:] <= extent[2:]).all()
            assert (
                alone or inside
            )  # a second solid of the class may show fewer pixels than a box needs
            checked += alone
    assert checked > 20


def test_every_solid_with_enough_pixels_has_one_tight_box() -> None:
    dataset = RoomsDataset(10, SIZE, seed=6)
    for index in range(10):
        scene = sample_scene(
            np.random.Generator(np.random.PCG64(np.random.SeedSequence([6, index])))
        )
        surface = cast(scene, SIZE).surface
        masks = {
            i: surface == i for i in range(len(scene.panels), len(scene.panels) + len(scene.solids))
        }
        shown = [i for i, mask in masks.items() if mask.sum() >= MIN_PIXELS]
        target = boxes(dataset[index])
        assert [OBJECTS[label] for label in target.labels] == [
            scene.solids[i - len(scene.panels)].label for i in shown
        ]
        for box, i in zip(target.boxes.astype(int), shown, strict=True):
            x1, y1, x2, y2 = box
            mask = masks[i]
            assert mask[y1:y2, x1:x2].sum() == mask.sum()
            assert all(
                edge.any() for edge in (mask[y1], mask[y2 - 1], mask[:, x1], mask[:, x2 - 1])
            )


def test_scenes_hold_three_to_eight_solids_that_fit_and_do_not_touch() -> None:
    numbers = set()
    for scene in scenes(200):
        numbers.add(len(scene.solids))
        for i, a in enumerate(scene.solids):
            radius = a.half[0] if a.label != "box" else np.hypot(a.half[0], a.half[2])
            assert all(radius < a.center[i] < scene.room[i] - radius for i in (0, 2))
            assert a.center[1] + a.half[1] < 1e-9
            assert a.center[1] - a.half[1] > scene.light[1]  # the lamp hangs above everything
            for b in scene.solids[:i]:
                apart = abs(a.center[1] - b.center[1]) - a.half[1] - b.half[1]
                gap = (
                    np.hypot(a.center[0] - b.center[0], a.center[2] - b.center[2])
                    - a.half[0]
                    - b.half[0]
                )
                assert apart > -1e-9 or gap > 0
    assert numbers == {3, 4, 5, 6, 7, 8}


@pytest.mark.parametrize("label", OBJECTS)
def test_rays_enter_solids_at_their_surface(label: str) -> None:
    half = {"box": (0.3, 0.5, 0.2), "sphere": (0.4, 0.4, 0.4), "cylinder": (0.3, 0.5, 0.3)}[label]
    solid = Solid(label, (0.1, -0.2, 2.0), half, (0.8, 0.6), PLAIN)
    rng = np.random.default_rng(0)
    rays = rng.normal((0.05, -0.1, 1.0), 0.25, (2000, 3))
    t = entry(solid, (0.0, 0.0, 0.0), (rays[:, 0], rays[:, 1], rays[:, 2]))

    def inside(points: np.ndarray) -> np.ndarray:
        x, y, z = np.moveaxis(points - solid.center, -1, 0)
        x, z = 0.8 * x - 0.6 * z, 0.6 * x + 0.8 * z
        if label == "box":
            return (abs(x) < half[0]) & (abs(y) < half[1]) & (abs(z) < half[2])
        if label == "cylinder":
            return (x * x + z * z < half[0] ** 2) & (abs(y) < half[1])
        return x * x + y * y + z * z < half[0] ** 2

    hit = np.isfinite(t)
    assert 400 < hit.sum() < 1900
    assert inside((t[hit] + 1e-6)[:, None] * rays[hit]).mean() > 0.999
    assert not inside((t[hit] - 1e-6)[:, None] * rays[hit]).any()
    steps = np.linspace(0, 4, 400)[None, :, None]
    assert not inside(steps * rays[~hit][:, None]).any()


def test_shadow_is_darker_than_the_lit_floor() -> None:
    scene = scenes(1)[0]
    ball = Solid(
        "sphere", (scene.light[0], -0.8, scene.light[2]), (0.3, 0.3, 0.3), (1.0, 0.0), PLAIN
    )
    with_ball, empty = (
        photograph(s, cast(s, SIZE), np.random.default_rng(0)).astype(int).sum(-1)
        for s in (Scene(**{**vars(scene), "solids": solids}) for solids in ((ball,), ()))
    )
    surface = cast(Scene(**{**vars(scene), "solids": (ball,)}), SIZE).surface
    darker = (with_ball < empty - 60) & (surface < len(scene.panels))
    assert darker.sum() > 50


@pytest.mark.parametrize("kind", PATTERNS)
def test_patterns_stay_between_the_two_colours(kind: str) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.uniform(-50, 50, (2, 5000)).astype(np.float32)
    for width in (1e-3, 0.3, 5.0):
        mix = PATTERNS[kind](
            a, b, np.full(5000, width, np.float32), rng.random((32, 32)).astype(np.float32)
        )
        assert mix.dtype == np.float32
        assert -1e-6 <= mix.min() <= mix.max() <= 1 + 1e-6


def test_tasks_come_in_the_order_asked_for() -> None:
    dataset = RoomsDataset(1, (16, 16), tasks=("normals", "semseg"))
    assert (
        [task.name for task in dataset.tasks] == list(dataset[0].targets) == ["normals", "semseg"]
    )


def test_drop_labels_drops_its_share_and_nothing_else() -> None:
    def dropped(share: float) -> set[int]:
        dataset = RoomsDataset(200, (2, 2), seed=9, drop_labels={"depth": share, "detection": 0.5})
        missing = {i for i in range(len(dataset)) if "depth" not in dataset[i].targets}
        assert all({"semseg", "normals"} <= set(dataset[i].targets) for i in (0, 1, 2))
        return missing

    half, most = dropped(0.5), dropped(0.8)
    assert dropped(0.0) == set()
    assert len(half) == pytest.approx(100, abs=25)
    assert len(most) == pytest.approx(160, abs=20)
    assert half < most
    assert half == dropped(0.5)
    dataset = RoomsDataset(200, (2, 2), seed=9, drop_labels={"detection": 0.5})
    other = {i for i in range(len(dataset)) if "detection" not in dataset[i].targets}
    assert len(half & other) == pytest.approx(50, abs=20)  # the tasks are dropped independently


def test_drop_labels_keeps_the_rest_of_the_sample() -> None:
    whole, partial = (
        RoomsDataset(1, (16, 20)),
        RoomsDataset(1, (16, 20), drop_labels={"depth": 1.0}),
    )
    assert list(partial[0].targets) == ["semseg", "normals", "detection"]
    np.testing.assert_array_equal(whole[0].image, partial[0].image)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_samples": 0}, "num_samples: expected at least 1, got 0"),
        ({"size": (0, 10)}, r"size: expected \(height, width\) of at least 1 pixel, got \(0, 10\)"),
        ({"size": (10, 10, 3)}, "size: expected"),
        ({"seed": -1}, "seed: expected 0 or more, got -1"),
        ({"tasks": ["edge"]}, "unknown task 'edge'; known: semseg, depth, normals, detection"),
        ({"tasks": []}, "tasks: expected different names, at least one"),
        ({"tasks": ["depth", "depth"]}, "tasks: expected different names"),
        (
            {"drop_labels": {"dept": 0.5}},
            "drop_labels: unknown task 'dept'; tasks of this data set: semseg, depth",
        ),
        (
            {"tasks": ["depth"], "drop_labels": {"semseg": 0.5}},
            "unknown task 'semseg'; tasks of this data set: depth",
        ),
        ({"drop_labels": {"depth": 1.5}}, "fraction of 'depth' must be in 0..1, got 1.5"),
        ({"drop_labels": {"depth": float("nan")}}, "fraction of 'depth' must be in 0..1, got nan"),
    ],
)
def test_bad_arguments(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RoomsDataset(**{"num_samples": 2, **arguments})


@pytest.mark.parametrize("index", [2, -1])
def test_index_outside(index: int) -> None:
    with pytest.raises(IndexError, match=f"sample {index} of a rooms data set of 2"):
        RoomsDataset(2, (8, 8))[index]


def test_splits_of_a_config() -> None:
    assert DATASETS["rooms"] is RoomsDataset
    assert RoomsDataset.split_types == {"train": TrainSplit, "val": ValSplit}
    assert TrainSplit() == TrainSplit(samples=512, seed=0, drop_labels={})
    assert ValSplit(samples=3) == ValSplit(samples=3, seed=1, drop_labels={})
    split = ValSplit(samples=3, drop_labels={"depth": 1.0})
    options = {"size": [32, 40]}
    made = DATASETS.make("rooms", {"split": split, "tasks": ["depth", "normals"]}, options)
    assert len(made) == 3
    assert made.sample_id(2) == "rooms-1-000002"
    assert list(made[0].targets) == ["normals"]
    assert made[0].image.shape == (32, 40, 3)


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (TrainSplit, {"samples": 0}, r"^TrainSplit: samples: must be >= 1, got 0$"),
        (ValSplit, {"seed": -1}, r"^ValSplit: seed: must be >= 0, got -1$"),
        (
            TrainSplit,
            {"drop_labels": {"depth": 1.5}},
            r"^TrainSplit: drop_labels\.depth: must be <= 1, got 1\.5$",
        ),
        (
            TrainSplit,
            {"sample": 3},
            r"^TrainSplit: sample: unknown option; known: .*; did you mean 'samples'\?$",
        ),
    ],
)
def test_bad_splits(cls: type, options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cls(**options)


def test_bad_size_in_a_config() -> None:
    given = {"split": TrainSplit(), "tasks": None}
    message = r"^size: must be two integers \[height, width\] in 32..2048, got \[16, 64\]$"
    with pytest.raises(ValueError, match=message):
        DATASETS.make("rooms", given, {"size": [16, 64]})
