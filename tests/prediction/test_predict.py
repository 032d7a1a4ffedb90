from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from visionmtl.prediction.files import predict_paths
from visionmtl.prediction.predict import predict
from visionmtl.prediction.result import Result
from visionmtl.tasks import TaskSpec
from visionmtl.tasks.depth import DepthResult
from visionmtl.tasks.detection import DetectionResult
from visionmtl.tasks.drawing import palette
from visionmtl.tasks.normals import NormalsResult
from visionmtl.tasks.semseg import SemSegResult
from visionmtl.types import DetectionOutput

CLASSES = ("red", "green", "blue")


class ColourModel(nn.Module):
    """Class = strongest colour, depth grows to the right, normals face the camera, one box: the
    left half.
    """

    input_size = None

    def __init__(self, with_boxes: bool = True) -> None:
        super().__init__()
        self.frozen = nn.BatchNorm2d(3).eval()
        self.tasks = [TaskSpec.semseg(CLASSES), TaskSpec.depth(), TaskSpec.normals()]
        if with_boxes:
            self.tasks.append(TaskSpec.detection(("dog", "cat")))
        self.modes: list[bool] = []

    def forward(self, images: Tensor) -> dict[str, Tensor | DetectionOutput]:
        self.modes.append(self.training)
        batch, _, height, width = images.shape
        x = torch.arange(width).expand(batch, 1, height, width) / 100 + 1
        towards = torch.tensor([0.6, 0.0, -0.8]).view(1, 3, 1, 1).expand(batch, 3, height, width)
        out: dict[str, Tensor | DetectionOutput] = {
            "semseg": images.float(),
            "depth": x,
            "normals": F.normalize(towards),
        }
        if len(self.tasks) == 4:
            point = torch.tensor([[0.5, 0.5]])
            sides = torch.tensor([[[0.5, 0.5, width / 2 - 0.5, height - 0.5]]]).expand(batch, 1, 4)
            logits = torch.tensor([[[-9.0, 1.0]]]).expand(batch, 1, 2)
            centre, strides = torch.full((batch, 1), 20.0), torch.ones(1)
            out["detection"] = DetectionOutput(
                logits, sides, centre, point, strides, (height, width)
            )
        return out


def picture(height: int, width: int) -> np.ndarray:
    image = np.zeros((height, width, 3), np.uint8)
    for k, columns in enumerate(np.array_split(np.arange(width), 3)):
        image[:, columns, k] = 200
    return image


def write(path: Path, height: int = 24, width: int = 30) -> Path:
    Image.fromarray(picture(height, width)).save(path)
    return path


def class_ids(result: Result) -> np.ndarray:
    semseg = result["semseg"]
    assert isinstance(semseg, SemSegResult)
    return semseg.class_ids


def count_boxes(result: Result) -> int:
    detection = result["detection"]
    assert isinstance(detection, DetectionResult)
    return len(detection.boxes)


def test_result_is_typed_and_ordered() -> None:
    result = predict(ColourModel(), picture(24, 30))
    assert list(result) == ["semseg", "depth", "normals", "detection"]
    semseg, depth, normals, detection = result.values()
    assert isinstance(semseg, SemSegResult)
    assert isinstance(depth, DepthResult)
    assert isinstance(normals, NormalsResult)
    assert isinstance(detection, DetectionResult)
    assert semseg.class_ids.dtype == np.uint8
    assert semseg.class_ids[0, ::10].tolist() == [0, 1, 2]
    assert semseg.classes == CLASSES
    np.testing.assert_allclose(depth.metres[5], np.arange(30, dtype=np.float32) / 100 + 1)
    assert normals.vectors.shape == (24, 30, 3)
    assert detection.boxes.tolist() == [[0, 0, 15, 24]]
    assert detection.labels.tolist() == [1]
    assert result.image.shape == (24, 30, 3)
    with pytest.raises(KeyError):
        result["edges"]


def test_modes_are_restored_module_by_module() -> None:
    model = ColourModel()
    predict(model, picture(8, 8))
    assert model.modes == [False]
    assert model.training
    assert not model.frozen.training

    def broken(images: Tensor) -> None:
        raise RuntimeError("broken")

    model.forward = broken  # type: ignore[method-assign,assignment]
    with pytest.raises(RuntimeError, match="broken"):
        predict(model, picture(8, 8))
    assert model.training


def test_score_threshold_and_device() -> None:
    assert count_boxes(predict(ColourModel(), picture(8, 8), score_threshold=0.9)) == 0
    assert count_boxes(predict(ColourModel(), picture(8, 8), device="cpu")) == 1
    with pytest.raises(ValueError, match=r"score_threshold must lie in 0\.\.1, got 30"):
        predict(ColourModel(), picture(8, 8), score_threshold=30)


def test_arrays_with_any_memory_layout() -> None:
    image = picture(9, 12)
    expected = class_ids(predict(ColourModel(), image))
    turned = class_ids(predict(ColourModel(), image[:, ::-1]))
    assert np.array_equal(turned, expected[:, ::-1])
    frozen = image.copy()
    frozen.flags.writeable = False
    assert np.array_equal(class_ids(predict(ColourModel(), frozen)), expected)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((4, 4, 3), np.float32), r"float32 of shape \(4, 4, 3\)"),
        (np.zeros((4, 4), np.uint8), r"uint8 of shape \(4, 4\)"),
        (np.zeros((4, 4, 4), np.uint8), r"uint8 of shape \(4, 4, 4\)"),
        (torch.zeros(3, 4, 4), "got Tensor"),
    ],
)
def test_wrong_arrays(image: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        predict(ColourModel(), image)


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (400, 1), (37, 53)])
def test_odd_sizes(shape: tuple[int, int], tmp_path: Path) -> None:
    result = predict(ColourModel(), picture(*shape), size=16)
    assert class_ids(result).shape == shape
    assert result.panel().dtype == np.uint8
    result.save(tmp_path, "x")
    assert cv2.imread(str(tmp_path / "x_depth.png"), cv2.IMREAD_UNCHANGED).shape == shape


def test_panel_has_a_cell_per_task_and_is_bounded() -> None:
    large = predict(ColourModel(), picture(600, 900)).panel(max_side=300)
    assert large.shape[0] < 300
    assert 5 * 300 < large.shape[1] < 5 * 320
    assert predict(ColourModel(with_boxes=False), picture(24, 30)).panel().shape[1] < 300


def test_saved_files(tmp_path: Path) -> None:
    result = predict(ColourModel(), write(tmp_path / "in.png"))
    out = tmp_path / "out"
    out.mkdir()
    result.save(out, "s")
    assert sorted(p.name for p in out.iterdir()) == [
        "s_depth.png",
        "s_depth_color.png",
        "s_detection.json",
        "s_detection_boxes.png",
        "s_normals.png",
        "s_panel.jpg",
        "s_semseg.png",
    ]
    with Image.open(out / "s_semseg.png") as indexed:
        assert indexed.mode == "P"
        assert np.array_equal(np.array(indexed), class_ids(result))
        assert np.array_equal(np.array(indexed.convert("RGB")), palette(3)[class_ids(result)])
    millimetres = cv2.imread(str(out / "s_depth.png"), cv2.IMREAD_UNCHANGED)
    assert millimetres.dtype == np.uint16
    assert millimetres[3].tolist() == [1000 + 10 * x for x in range(30)]
    normals = np.array(Image.open(out / "s_normals.png"))
    assert normals[0, 0].tolist() == [round(0.6 * 127) + 128, 128, round(-0.8 * 127) + 128]
    content = json.loads((out / "s_detection.json").read_text("utf-8"))
    assert content["images"] == [{"id": 0, "file_name": "in.png", "width": 30, "height": 24}]
    assert content["categories"] == [{"id": 0, "name": "dog"}, {"id": 1, "name": "cat"}]
    (annotation,) = content["annotations"]
    score = round(float(torch.tensor(1.0).sigmoid().sqrt()), 4)
    assert annotation == {
        "id": 1,
        "image_id": 0,
        "category_id": 1,
        "category_name": "cat",
        "bbox": [0, 0, 15, 24],
        "score": score,
        "area": 360,
        "iscrowd": 0,
    }
    with pytest.raises(ValueError, match="does not exist"):
        result.save(tmp_path / "nowhere", "s")


def test_paths_folders_patterns_and_failures(tmp_path: Path) -> None:
    folder, other = tmp_path / "Fotos für 東京", tmp_path / "b"
    folder.mkdir()
    other.mkdir()
    write(folder / "x.png")
    write(folder / "X.bmp")
    write(folder / "été.jpg")
    write(other / "x.png")
    (other / "broken.jpg").write_bytes(b"no image")
    (folder / "notes.txt").write_text("no image")
    (folder / "sub.png").mkdir()
    inputs = [
        str(folder),
        str(folder / "x.png"),
        str(other / "*.png"),
        str(other / "broken.jpg"),
        str(tmp_path / "gone.png"),
    ]
    out = tmp_path / "deep" / "out"
    failures = predict_paths(ColourModel(), inputs, out, progress=False)
    assert sorted(p.name for p in out.glob("*_panel.jpg")) == [
        "X_panel.jpg",
        "x_2_panel.jpg",
        "x_3_panel.jpg",
        "été_panel.jpg",
    ]
    assert [Path(name).name for name, _ in failures] == ["gone.png", "broken.jpg"]
    assert failures[0][1] == "no such file, no image or video matches"
    assert failures[1][1]
    assert "broken.jpg" not in failures[1][1]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 20.00 GiB."),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 53 bytes."
        ),
        MemoryError(),
    ],
)
def test_out_of_memory_costs_one_file(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise error

    write(tmp_path / "big.png")
    monkeypatch.setattr(sys.modules[predict.__module__], "infer", full)
    failures = predict_paths(
        ColourModel(), [str(tmp_path / "big.png")], tmp_path / "out", progress=False
    )
    assert failures == [
        (str(tmp_path / "big.png"), "out of memory; try a smaller size, or the CPU")
    ]


@pytest.mark.skipif(os.name != "posix", reason="file names are bytes on POSIX only")
def test_file_names_that_are_not_utf8(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe.png"))
    try:
        write(path)
    except OSError:
        pytest.skip("this file system wants UTF-8 names")
    clip = path.with_suffix(".mp4")
    clip.write_bytes(b"x")
    failures = predict_paths(
        ColourModel(), [str(path), str(clip)], tmp_path / "out", progress=False
    )
    assert [reason for _, reason in failures] == [
        "videos with unprintable characters in their path are not read"
    ]
    assert len(list((tmp_path / "out").iterdir())) == 7


def test_paths_user_mistakes(tmp_path: Path) -> None:
    image = write(tmp_path / "a.png")
    model = ColourModel()
    with pytest.raises(ValueError, match=r"nothing to predict on: .*gone\*: no such file"):
        predict_paths(model, [str(tmp_path / "gone*")], tmp_path / "out", progress=False)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no image or video in this folder"):
        predict_paths(model, [str(tmp_path / "empty")], tmp_path / "out", progress=False)
    with pytest.raises(ValueError, match=r"a\.png: the output must be a folder"):
        predict_paths(model, [str(image)], image, progress=False)
    with pytest.raises(ValueError, match="another folder than that of the inputs"):
        predict_paths(model, [str(image)], tmp_path, progress=False)
    with pytest.raises(ValueError, match="size must be"):
        predict_paths(model, [str(image)], tmp_path / "out", size=0, progress=False)
    assert not (tmp_path / "out").exists()


def test_video(tmp_path: Path) -> None:
    clip = tmp_path / "clip.MP4"
    writer = cv2.VideoWriter(
        str(tmp_path / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 5, (64, 48)
    )
    for _ in range(5):
        writer.write(picture(48, 64))
    writer.release()
    (tmp_path / "clip.mp4").rename(clip)
    (tmp_path / "bad.avi").write_bytes(b"no video")
    out = tmp_path / "out"
    failures = predict_paths(
        ColourModel(), [str(clip), str(tmp_path / "bad.avi")], out, progress=True
    )
    assert failures == [(str(tmp_path / "bad.avi"), "not a video that OpenCV reads")]
    assert sorted(p.name for p in out.iterdir()) == ["clip_detection.json", "clip_panel.mp4"]
    capture = cv2.VideoCapture(str(out / "clip_panel.mp4"))
    frames = []
    while (frame := capture.read())[0]:
        frames.append(frame[1])
    assert len(frames) == 5
    assert capture.get(cv2.CAP_PROP_FPS) == 5
    assert frames[0].shape[1] > 5 * 64
    content = json.loads((out / "clip_detection.json").read_text("utf-8"))
    assert [a["image_id"] for a in content["annotations"]] == [0, 1, 2, 3, 4]
    assert [a["id"] for a in content["annotations"]] == [1, 2, 3, 4, 5]
    assert [i["id"] for i in content["images"]] == [0, 1, 2, 3, 4]
