"""Writers of small data sets in the exact formats of the standard ones: one fixture
``make_<packing>`` each, here or in a file ``make_<packing>.py`` beside.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

for path in Path(__file__).parent.glob("make_*.py"):  # a packing may bring a file of its own
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    globals()[path.stem] = getattr(module, path.stem)

# PASCAL-Context, archive PASCAL_MT

PASCAL_SIZE = (32, 40)
PASCAL_IDS = {"train": ["2008_000003", "2008_000008"], "val": ["2008_000002", "2010_000001"]}

PASCAL_XML = """\
<annotation>
  <folder>VOC2010</folder>
  <filename>{name}.jpg</filename>
  <size><width>40</width><height>32</height><depth>3</depth></size>
  <segmented>1</segmented>
  <object>
    <name>person</name><pose>Frontal</pose><truncated>0</truncated><occluded>0</occluded>
    <bndbox><xmax>20</xmax><xmin>5</xmin><ymax>30</ymax><ymin>3</ymin></bndbox>
    <difficult>0</difficult>
    <part><name>head</name><bndbox><xmin>6</xmin><ymin>3</ymin><xmax>12</xmax><ymax>9</ymax></bndbox></part>
  </object>
  <object>
    <name>boat</name><pose>Unspecified</pose><truncated>1</truncated><occluded>0</occluded>
    <bndbox><xmin>31</xmin><ymin>1</ymin><xmax>40</xmax><ymax>8</ymax></bndbox>
    <difficult>1</difficult>
  </object>
</annotation>
"""


def pascal_struct(*structs: dict[str, Any]) -> np.ndarray:
    """A MATLAB array (1, N) of structs, or [], for ``scipy.io.savemat``."""
    if not structs:
        return np.zeros((0, 0))
    array = np.empty((1, len(structs)), [(name, object) for name in structs[0]])
    for column, values in enumerate(structs):
        for name, value in values.items():
            array[name][0, column] = value
    return array


def pascal_objects(**parts: tuple[slice, slice]) -> np.ndarray:
    """``anno`` of PASCAL-Part: a boat without parts, and a person with the given ones where there
    are any.
    """
    person = np.zeros(PASCAL_SIZE, np.uint8)
    entries = []
    for name, window in parts.items():
        mask = np.zeros(PASCAL_SIZE, np.uint8)
        mask[window] = person[window] = 1
        entries.append({"part_name": name, "mask": mask})
    boat = {
        "class": "boat",
        "class_ind": 4,
        "mask": np.ones(PASCAL_SIZE, np.uint8),
        "parts": pascal_struct(),
    }
    owner = {"class": "person", "class_ind": 15, "mask": person, "parts": pascal_struct(*entries)}
    return pascal_struct(
        {"imname": "2008_000003", "objects": pascal_struct(boat, *([owner] if parts else []))}
    )


def pascal_mat(path: Path, name: str, value: np.ndarray) -> None:
    from scipy.io import savemat

    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {name: value}, do_compression=True)


def pascal_png(path: Path, array: np.ndarray, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(array)
    if palette:
        image.putpalette([value for i in range(256) for value in (i, 255 - i, 7)])
    image.save(path)


@pytest.fixture(scope="session")
def save_pascal_mat() -> Callable[[Path, str, np.ndarray], None]:
    return pascal_mat


@pytest.fixture(scope="session")
def pascal_parts() -> Callable[..., np.ndarray]:
    return pascal_objects


@pytest.fixture(scope="session")
def make_pascal_context() -> Callable[[Path], None]:
    """Writes ``PASCAL_IDS`` with every task, also VOC2010's boxes; the first of each split has
    labels of VOC12 too.
    """

    def make(root: Path) -> None:
        rng = np.random.default_rng(0)
        for split, names in PASCAL_IDS.items():
            lists = root / "ImageSets" / "Context"
            lists.mkdir(parents=True, exist_ok=True)
            (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
            for name in names:
                write_pascal_sample(root, name, rng, voc12=name == names[0])

    return make


def write_pascal_sample(root: Path, name: str, rng: np.random.Generator, voc12: bool) -> None:
    """The left half is a person (context 284), the right half a boat (31) above sky (360); NYUv2
    has persons only.
    """
    height, width = PASCAL_SIZE
    (root / "JPEGImages").mkdir(exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(
        root / "JPEGImages" / f"{name}.jpg"
    )
    context = np.full(PASCAL_SIZE, 284, np.uint16)
    context[:, 20:], context[16:, 20:] = 31, 360
    pascal_mat(root / "pascal-context/trainval" / f"{name}.mat", "LabelMap", context)
    labels = np.zeros(PASCAL_SIZE, np.uint8)
    labels[:, :20], labels[:16, 20:] = 15, 4
    pascal_png(root / "semseg/pascal-context" / f"{name}.png", labels)
    if voc12:
        labels[:, 19:21] = 255  # VOC's border between objects
        pascal_png(root / "semseg/VOC12" / f"{name}.png", labels, palette=True)
    parts = pascal_objects(
        torso=np.s_[8:20, 4:16],
        head=np.s_[2:10, 6:12],
        neck=np.s_[9:11, 8:10],
        lfoot=np.s_[28:30, 4:8],
    )
    pascal_mat(root / "human_parts" / f"{name}.mat", "anno", parts)
    pascal_png(
        root / "sal_distill" / f"{name}.png",
        np.repeat(np.uint8([[0, 127, 128, 255]]), 10, 1).repeat(height, 0),
    )
    pascal_png(
        root / "normals_distill" / f"{name}.png",
        np.full((height, width, 3), (128, 51, 229), np.uint8),
    )
    (root / "Annotations").mkdir(exist_ok=True)
    (root / "Annotations" / f"{name}.xml").write_text(PASCAL_XML.format(name=name))


# Cityscapes, official

CITYSCAPES_SIZE = (32, 64)
CITYSCAPES_IDS = {
    "train": [
        "aachen/aachen_000000_000019",
        "aachen/aachen_000001_000019",
        "zurich/zurich_000000_000019",
    ],
    "val": ["frankfurt/frankfurt_000000_000294", "lindau/lindau_000000_000019"],
    "test": ["berlin/berlin_000000_000019"],
}
CITYSCAPES_CAMERA = {
    "extrinsic": {
        "baseline": 0.209313,
        "pitch": 0.038,
        "roll": 0.0,
        "x": 1.7,
        "y": 0.1,
        "yaw": -0.0195,
        "z": 1.22,
    },
    "intrinsic": {"fx": 2262.52, "fy": 2265.3017905988554, "u0": 1096.98, "v0": 513.137},
}


def cityscapes_file(
    root: Path, kind: str, split: str, sample_id: str, ending: str = ".png"
) -> Path:
    """The path of a file, with its folder made."""
    path = root / kind / split / f"{sample_id}_{kind}{ending}"
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def write_cityscapes_labels(root: Path, split: str, sample_id: str) -> None:
    """Classes, instances and disparity of one image."""
    labels = np.full(CITYSCAPES_SIZE, 7, np.uint8)  # road
    labels[:4], labels[4:6], labels[6:8] = 0, 4, 29  # unlabeled, static, caravan
    instances = labels.astype(np.uint16)
    instances[6:8] = 29000
    for top, left, bottom, right, label, number in (
        (10, 5, 20, 30, 26, 26000),  # a car
        (12, 8, 18, 12, 24, 24002),  # a person before it
        (20, 40, 22, 64, 26, 26),  # a group of cars
        (31, 63, 32, 64, 33, 33000),  # a bicycle of one pixel
    ):
        labels[top:bottom, left:right] = label
        instances[top:bottom, left:right] = number
    disparity = np.full(CITYSCAPES_SIZE, 10 * 256 + 1, np.uint16)
    disparity[0, :4] = 0, 1, 129, 32257
    Image.fromarray(labels).save(cityscapes_file(root, "gtFine", split, sample_id, "_labelIds.png"))
    Image.fromarray(instances).save(
        cityscapes_file(root, "gtFine", split, sample_id, "_instanceIds.png")
    )
    Image.fromarray(disparity).save(cityscapes_file(root, "disparity", split, sample_id))


@pytest.fixture(scope="session")
def make_cityscapes() -> Callable[[Path], None]:
    def make(root: Path) -> None:
        rng = np.random.default_rng(0)
        for split, ids in CITYSCAPES_IDS.items():
            for sample_id in ids:
                image = rng.integers(0, 256, (*CITYSCAPES_SIZE, 3), np.uint8)
                Image.fromarray(image).save(cityscapes_file(root, "leftImg8bit", split, sample_id))
                cityscapes_file(root, "camera", split, sample_id, ".json").write_text(
                    json.dumps(CITYSCAPES_CAMERA)
                )
                write_cityscapes_labels(root, split, sample_id)

    return make


# Cityscapes, MTAN


@pytest.fixture(scope="session")
def make_cityscapes_mtan() -> Callable[[Path], None]:
    def make(root: Path) -> None:
        rng = np.random.default_rng(0)
        for split, numbers in {"train": (0, 2, 10), "val": (0, 1)}.items():
            for number in numbers:
                labels = np.arange(8 * 16).reshape(8, 16)
                disparity = np.full((8, 16, 1), 10 * 256 + 1) / 65535
                disparity[0, :4, 0] = 0, 1 / 65535, 129 / 65535, 32257 / 65535
                arrays = {
                    "image": rng.integers(0, 256, (8, 16, 3)) / 255,
                    "label_2": labels % 3 - 1,
                    "label_7": labels % 8 - 1,
                    "label_19": labels % 20 - 1,
                    "depth": disparity,
                }
                for folder, array in arrays.items():
                    (root / split / folder).mkdir(parents=True, exist_ok=True)
                    np.save(root / split / folder / f"{number}.npy", array.astype(np.float32))

    return make


# COCO 2017

COCO_SIZE = (12, 20)
COCO_NAMES = {
    "train": ["000000000009", "000000000025"],
    "val": ["000000000139", "000000000285", "000000000632"],
}
COCO_CATEGORIES = [
    (1, "person", 1),
    (3, "car", 1),
    (90, "toothbrush", 1),
    (92, "banner", 0),
    (200, "rug-merged", 0),
]
COCO_SEGMENTS = [(3226956, 1, 0), (7, 3, 1), (16777215, 200, 0)]
"""Segment id, category and whether it is a crowd; the first is 0x313D4C, so R 76, G 61, B 49."""


def write_coco_split(root: Path, split: str) -> None:
    """Images, instances and panoptic labels; the last image has no annotations."""
    height, width = COCO_SIZE
    labels = root / "annotations" / f"panoptic_{split}2017"
    for folder in (root / f"{split}2017", labels):
        folder.mkdir(parents=True, exist_ok=True)
    names = COCO_NAMES[split]
    images, boxes, panoptic = [], [], []
    for name in names:
        Image.new("RGB", (width, height), (90, 120, 30)).save(root / f"{split}2017" / f"{name}.jpg")
        images.append(
            {
                "id": int(name),
                "file_name": f"{name}.jpg",
                "width": width,
                "height": height,
                "license": 3,
            }
        )
        segments = np.zeros((height, width), np.int64)
        segments[:, 5:], segments[6:], segments[:, 15:] = (number for number, _, _ in COCO_SEGMENTS)
        colours = np.stack(
            [segments % 256, segments // 256 % 256, segments // 65536], axis=2
        ).astype(np.uint8)
        Image.fromarray(colours).save(labels / f"{name}.png")
        entries = [
            {"id": n, "category_id": c, "iscrowd": k, "area": 9} for n, c, k in COCO_SEGMENTS
        ]
        panoptic.append(
            {"image_id": int(name), "file_name": f"{name}.png", "segments_info": entries}
        )
        boxes += (
            []
            if name == names[-1]
            else [(int(name), 1, [5, 0, 10, 6], 0), (int(name), 3, [0, 6, 15, 6], 1)]
        )
    instances = [
        {
            "id": i,
            "image_id": image,
            "category_id": category,
            "bbox": box,
            "iscrowd": crowd,
            "segmentation": [],
        }
        for i, (image, category, box, crowd) in enumerate(boxes)
    ]
    categories = [
        {"id": i, "name": name, "supercategory": "x", "isthing": thing}
        for i, name, thing in COCO_CATEGORIES
    ]
    things = [category for category in categories if category["isthing"]]
    for kind, notes, known in (
        ("instances", instances, things),
        ("panoptic", panoptic, categories),
    ):
        values = {
            "info": {},
            "licenses": [],
            "images": images,
            "annotations": notes,
            "categories": known,
        }
        (root / "annotations" / f"{kind}_{split}2017.json").write_text(json.dumps(values))


@pytest.fixture(scope="session")
def make_coco() -> Callable[[Path], None]:
    def make(root: Path) -> None:
        for split in COCO_NAMES:
            write_coco_split(root, split)

    return make


# Taskonomy

TASKONOMY_BUILDINGS = {
    "train": ["allensville", "hanson"],
    "val": ["corozal", "darden"],
    "test": ["ihlen", "mcdade"],
}


def write_taskonomy_view(root: Path, building: str, name: str) -> None:
    """Photograph and labels of one view."""
    depth = np.full((16, 16), 1024, np.uint16)
    depth[0, :4] = 0, 1, 8193, 65535
    normals = np.full((16, 16, 3), (128, 128, 0), np.uint8)  # faces the camera
    normals[0, :4] = (
        (128, 128, 128),
        (255, 128, 128),
        (128, 0, 128),
        (128, 255, 128),
    )  # none, right, up, down
    arrays = {
        ("rgb", "rgb"): np.full((16, 16, 3), 200, np.uint8),
        ("segment_semantic", "segmentsemantic"): (np.arange(256).reshape(16, 16) % 18).astype(
            np.uint8
        ),
        ("depth_zbuffer", "depth_zbuffer"): depth,
        ("normal", "normal"): normals,
        ("edge_texture", "edge_texture"): depth,
    }
    for (folder, domain), array in arrays.items():
        path = root / folder / building / f"{name}_domain_{domain}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array).save(path)
    info = root / "point_info" / building / f"{name}_domain_point_info.json"
    info.parent.mkdir(parents=True, exist_ok=True)
    info.write_text(
        json.dumps({"field_of_view_rads": 1.0489180166567196, "resolution": 512, "view_id": 0})
    )


@pytest.fixture(scope="session")
def make_taskonomy() -> Callable[[Path], None]:
    def make(root: Path) -> None:
        rows = ["id,train,val,test", "merom,1,0,0"]  # the last one is not there
        for split, buildings in TASKONOMY_BUILDINGS.items():
            for building in buildings:
                rows.append(
                    ",".join([building, *(str(int(split == name)) for name in TASKONOMY_BUILDINGS)])
                )
                for name in ("point_0_view_1", "point_12_view_0"):
                    write_taskonomy_view(root, building, name)
        (root / "splits_taskonomy").mkdir()
        (root / "splits_taskonomy" / "train_val_test_fullplus.csv").write_bytes(
            "\r".join(rows).encode()
        )

    return make


# NYUv2

NYU_SIZE = (24, 32)
NYU_IDS = {"train": ["train_9", "train_10"], "val": ["val_1", "val_2"]}


def nyu_scene() -> dict[str, np.ndarray]:
    """A floor 1.2 m below the camera before a wall 3 m away, seen by NYUv2's camera, scaled to
    ``NYU_SIZE``.

    Depth in metres, normals in the camera frame, floor as bool, an image of colours that change
    slowly.
    """
    height, width = NYU_SIZE
    rows = (np.arange(height) + 0.5 - (253.73616633400465 - 0.5) / 20) / (519.46961112127485 / 20)
    depth = np.minimum(3, 1.2 / np.maximum(rows, 1e-3))[:, None].repeat(width, axis=1)
    floor = depth < 3
    normals = np.where(floor[..., None], (0.0, -1.0, 0.0), (0.0, 0.0, -1.0))
    y, x = np.mgrid[:height, :width]
    image = np.stack([8 * x, 10 * y, 255 - 8 * x], axis=2).astype(np.uint8)
    return {"depth": depth, "normals": normals, "floor": floor, "image": image}


@pytest.fixture(name="nyu_scene")
def nyu_scene_fixture() -> dict[str, np.ndarray]:
    return nyu_scene()


@pytest.fixture(scope="session")
def make_nyuv2_mtan() -> Callable[[Path], None]:
    """Writes 9 and 10 in train, 0 and 1 in val; the first row is void, without depth and
    normals.
    """

    def make(root: Path) -> None:
        scene = nyu_scene()
        label = np.where(scene["floor"], 4.0, 11.0)
        depth = scene["depth"][..., None].astype(np.float32)
        normal = (scene["normals"][..., [0, 2, 1]] * (1, 1, -1)).astype(
            np.float32
        )  # x right, y forward, z up
        label[0], depth[0], normal[0] = -1, 0, 0
        arrays = {
            "image": (scene["image"] / 255).astype(np.float32),
            "label": label,
            "depth": depth,
            "normal": normal,
        }
        for split, names in {"train": ["9", "10"], "val": ["0", "1"]}.items():
            for folder, array in arrays.items():
                (root / split / folder).mkdir(parents=True)
                for name in names:
                    np.save(root / split / folder / f"{name}.npy", array)

    return make


@pytest.fixture(scope="session")
def make_nyuv2_atrc() -> Callable[[Path], None]:
    """Writes ``NYU_IDS``; the first row is void, without depth and normals. Edges are in column
    7.
    """

    def make(root: Path) -> None:
        scene = nyu_scene()
        labels = np.where(scene["floor"], 2, 1).astype(np.uint8)
        normals = np.rint((1 - scene["normals"]) * 127.5).astype(
            np.uint8
        )  # x left, y up, z towards the viewer
        depth, edge = scene["depth"].astype(np.float32), np.zeros(NYU_SIZE, np.uint8)
        labels[0], depth[0], normals[0], edge[:, 7] = 0, 0, 127, 255
        images = {
            "images": scene["image"],
            "segmentation": labels,
            "normals": normals,
            "edge": edge,
        }
        for folder in ("depth", "gt_sets", *images):
            (root / folder).mkdir(parents=True)
        for split, names in NYU_IDS.items():
            (root / "gt_sets" / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
            for name in names:
                np.save(root / "depth" / f"{name}.npy", depth)
                for folder, array in images.items():
                    Image.fromarray(array).save(root / folder / f"{name}.png")

    return make


@pytest.fixture(scope="session")
def make_nyuv2_official() -> Callable[[Path], None]:
    """Writes a MATLAB 7.3 file with all 1449 images: HDF5 after a block of 512 bytes, the order of
    axes reversed.

    The red of row 5, column 3 is the position of the image modulo 251. Row 0 is void; the raw depth
    has a hole in its first 4 columns and is clipped, at 10 m, in the last one.
    """

    def make(root: Path) -> None:
        h5py = pytest.importorskip("h5py")
        scene = nyu_scene()
        labels = np.where(scene["floor"], 11, 21).astype(np.uint16)
        raw = scene["depth"].astype(np.float32)
        labels[0], raw[:, :4], raw[:, -1] = 0, 0, 10
        arrays = {
            "images": scene["image"],
            "labels": labels,
            "depths": scene["depth"].astype(np.float32),
        }
        root.mkdir(parents=True, exist_ok=True)
        with h5py.File(root / "nyu_depth_v2_labeled.mat", "w", userblock_size=512) as file:
            for name, array in {**arrays, "rawDepths": raw}.items():
                stacked = np.repeat(array.T[None], 1449, axis=0)
                if name == "images":
                    stacked[:, 0, 3, 5] = np.arange(1, 1450) % 251
                file.create_dataset(
                    name, data=stacked, chunks=(16, *stacked.shape[1:]), compression="gzip"
                )

    return make
