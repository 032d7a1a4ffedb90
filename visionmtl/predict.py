"""Predict on images, folders and videos of one's own, and write what comes out in formats that others read."""

from __future__ import annotations

import glob
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from visionmtl.data.images import read_image
from visionmtl.inference import Size, evaluation_mode, infer, network_size
from visionmtl.types import Detections, TaskSpec
from visionmtl.visualize import draw_boxes, draw_depth, draw_prediction, grid, palette, save_image

if TYPE_CHECKING:
    from visionmtl.models.multitask import MultiTaskModel

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm"})


@dataclass(eq=False)
class SemSegResult:
    """Class ids uint8 (H, W), positions in ``classes``. Written as an indexed PNG: ids as indices, with a palette."""

    class_ids: np.ndarray
    classes: tuple[str, ...]

    def scaled(self, scale: float) -> SemSegResult:
        return SemSegResult(_shrunk(self.class_ids, scale), self.classes)

    def save(self, folder: Path, stem: str, source: Result) -> None:
        indexed = Image.fromarray(self.class_ids)
        indexed.putpalette(palette(len(self.classes)).tobytes())
        indexed.save(folder / f"{stem}.png")


@dataclass(eq=False)
class DepthResult:
    """Depth float32 (H, W) in metres. Written as 16-bit PNG in millimetres (0 beyond 65.535 m), and in colours."""

    metres: np.ndarray

    def scaled(self, scale: float) -> DepthResult:
        return DepthResult(_shrunk(self.metres, scale))

    def save(self, folder: Path, stem: str, source: Result) -> None:
        millimetres = (self.metres * np.float32(1000)).round()
        millimetres[~(millimetres <= np.iinfo(np.uint16).max)] = 0  # "unknown" to every reader; a clipped value lies
        save_image(folder / f"{stem}.png", millimetres.astype(np.uint16))
        save_image(folder / f"{stem}_color.png", draw_depth(self.metres))


@dataclass(eq=False)
class NormalsResult:
    """Unit vectors float32 (H, W, 3), camera frame: x right, y down, z forward. Written as PNG, round(127 n) + 128."""

    vectors: np.ndarray

    def scaled(self, scale: float) -> NormalsResult:
        return NormalsResult(_shrunk(self.vectors, scale))

    def save(self, folder: Path, stem: str, source: Result) -> None:
        save_image(folder / f"{stem}.png", ((self.vectors * np.float32(127)).round() + 128).astype(np.uint8))


@dataclass(eq=False)
class DetectionResult:
    """Boxes float32 (N, 4) x1 y1 x2 y2 in pixels, best first; scores (N,) in 0..1; labels int64 (N,) in ``classes``.

    Written as COCO JSON and as a picture.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """The boxes in COCO's results format (bbox is x, y, width, height), with the names of the classes."""
        return [
            {
                "image_id": image_id,
                "category_id": label,
                "category_name": self.classes[label],
                "bbox": [round(v, 2) for v in (x1, y1, x2 - x1, y2 - y1)],
                "score": round(score, 4),
            }
            for (x1, y1, x2, y2), score, label in zip(
                self.boxes.tolist(), self.scores.tolist(), self.labels.tolist(), strict=True
            )
        ]

    def scaled(self, scale: float) -> DetectionResult:
        return DetectionResult(self.boxes * np.float32(scale), self.scores, self.labels, self.classes)

    def save(self, folder: Path, stem: str, source: Result) -> None:
        height, width = source.image.shape[:2]
        images = [{"id": 0, "file_name": source.name, "width": width, "height": height}]
        _write_coco(folder / f"{stem}.json", images, self.to_coco(0), self.classes)
        picture = draw_boxes(source.image, self.boxes, self.labels, self.scores, self.classes)
        save_image(folder / f"{stem}_boxes.png", picture)


TaskResult = SemSegResult | DepthResult | NormalsResult | DetectionResult


@dataclass(eq=False)
class Result(Mapping[str, TaskResult]):
    """Every task's result for one image, at the size of the image: a mapping in task order.

    Attributes:
        image: uint8 (H, W, 3) RGB.
        tasks: what was predicted.
        results: by task name.
        name: file name of the image; empty for an array.
    """

    image: np.ndarray
    tasks: list[TaskSpec]
    results: dict[str, TaskResult]
    name: str = ""

    def __getitem__(self, task: str) -> TaskResult:
        return self.results[task]

    def __iter__(self) -> Iterator[str]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)

    def panel(self, max_side: int = 1024) -> np.ndarray:
        """The image and each task side by side, uint8 RGB; larger images are first reduced to ``max_side``."""
        scale = min(1.0, max_side / max(self.image.shape[:2]))
        image = _shrunk(self.image, scale, cv2.INTER_AREA)
        pictures = [draw_prediction(spec, self[spec.name].scaled(scale), image) for spec in self.tasks]
        return grid([[image, *pictures]], titles=["image", *self])

    def save(self, folder: Path | str, stem: str) -> None:
        """Write ``<stem>_panel.jpg`` and each task's files, ``<stem>_<task>*``, over those that are there.

        Raises:
            ValueError: the folder does not exist.
        """
        folder = Path(folder)
        save_image(folder / f"{stem}_panel.jpg", self.panel())
        for task, result in self.items():
            result.save(folder, f"{stem}_{task}", self)


def predict(
    model: MultiTaskModel,
    image: str | Path | np.ndarray,
    size: Size = None,
    score_threshold: float = 0.3,
    device: torch.device | str | None = None,
) -> Result:
    """Predict every task on one image, in evaluation mode; the mode of the model is restored.

    Args:
        model: the network.
        image: a file, or uint8 (H, W, 3) RGB.
        size: short side that the network sees, ``"native"`` for the image as it is; None for that of its training.
        score_threshold: detections below it are left out.
        device: where the model is moved to first; None leaves it where it is.

    Raises:
        ValueError: a file that is no image, an array of another shape or type, an invalid size or threshold.
    """
    _check_options(size, score_threshold)
    name = Path(image).name if isinstance(image, str | Path) else ""
    pixels = read_image(Path(image)) if isinstance(image, str | Path) else image
    if not (isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3):
        what = f"{pixels.dtype} of shape {pixels.shape}" if isinstance(pixels, np.ndarray) else type(pixels).__name__
        raise ValueError(f"image must be a file name or a uint8 array (H, W, 3) in RGB, got {what}")
    if device is not None:
        model.to(device)
    where = next((p.device for p in model.parameters()), torch.device("cpu"))
    images = torch.from_numpy(np.array(pixels, order="C")).to(where).permute(2, 0, 1).unsqueeze(0)
    with evaluation_mode(model):
        outputs = infer(model, images, size, score_threshold=score_threshold)
    results = {spec.name: task_result(spec, outputs.pop(spec.name)) for spec in model.tasks}
    return Result(pixels, list(model.tasks), results, name)


def predict_paths(
    model: MultiTaskModel,
    inputs: Sequence[str],
    output_dir: Path | str,
    size: Size = None,
    score_threshold: float = 0.3,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> list[tuple[str, str]]:
    """Predict on many files and write each result as ``Result.save`` does; of a video, its panels and its boxes.

    Args:
        model: as the other options, see ``predict``.
        inputs: images, videos, folders (their images and videos, sorted, not recursive), patterns such as ``*.jpg``.
        output_dir: made where it does not exist. Files of one stem get ``_2``, ``_3`` ... after it.
        size: see ``predict``.
        score_threshold: see ``predict``.
        device: see ``predict``.
        progress: show a progress bar.

    Returns:
        (input, reason) of what could not be read or written; the rest is done all the same.

    Raises:
        ValueError: no file at all, an invalid option, an ``output_dir`` that is a file or holds one of the inputs.
    """
    from rich.console import Console
    from rich.progress import track

    _check_options(size, score_threshold)
    files, failures = _expand(inputs)
    output_dir = Path(output_dir)
    if output_dir.exists() and not output_dir.is_dir():
        raise ValueError(f"{output_dir}: the output must be a folder, this is a file")
    if not files:
        raise ValueError("nothing to predict on: " + "; ".join(f"{item}: {reason}" for item, reason in failures))
    if output_dir.resolve() in {file.resolve().parent for file in files}:
        raise ValueError(f"{output_dir}: the output must be another folder than that of the inputs, to overwrite none")
    output_dir.mkdir(parents=True, exist_ok=True)
    run = partial(predict, model, size=size, score_threshold=score_threshold, device=device)
    jobs = list(zip(files, _distinct_stems(files), strict=True))
    for file, stem in track(jobs, "predicting", console=Console(stderr=True), disable=not progress):
        try:
            if file.suffix.lower() in VIDEO_SUFFIXES:
                _predict_video(run, model.tasks, file, output_dir, stem)
            else:
                run(file).save(output_dir, stem)
        except (ValueError, OSError) as error:
            failures.append((str(file), str(error).removeprefix(f"{file}: ")))
    return failures


def _check_options(size: Size, score_threshold: float) -> None:
    network_size(1, 1, size, None)
    if not 0 <= score_threshold <= 1:
        raise ValueError(f"score_threshold must lie in 0..1, got {score_threshold}")


def task_result(spec: TaskSpec, value: Tensor | list[Detections], index: int = 0) -> TaskResult:
    """The result of one image of a batch, from what ``infer`` gives for the task."""
    if not isinstance(value, Tensor):
        found = value[index]
        return DetectionResult(
            found.boxes.cpu().numpy(), found.scores.cpu().numpy(), found.labels.cpu().numpy(), spec.classes
        )
    if spec.kind == "semseg":
        return SemSegResult(value[index].cpu().numpy(), spec.classes)
    if spec.kind == "depth":
        return DepthResult(value[index, 0].cpu().numpy())
    return NormalsResult(value[index].permute(1, 2, 0).contiguous().cpu().numpy())


def _shrunk(array: np.ndarray, scale: float, method: int = cv2.INTER_NEAREST) -> np.ndarray:
    height, width = (max(1, round(side * scale)) for side in array.shape[:2])
    return array if scale == 1 else cv2.resize(array, (width, height), interpolation=method)


def _expand(inputs: Sequence[str]) -> tuple[list[Path], list[tuple[str, str]]]:
    """Files, each once, in the order of the inputs; and the inputs that gave none."""
    files: dict[Path, None] = {}
    failures = []
    for item in inputs:
        path = Path(item)
        if path.is_file():
            found = [path]
        else:
            candidates = sorted(path.iterdir() if path.is_dir() else map(Path, glob.glob(str(item), recursive=True)))
            found = [p for p in candidates if p.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES and p.is_file()]
        if not found:
            what = "no image or video in this folder" if path.is_dir() else "no such file, no image or video matches"
            failures.append((str(item), what))
        files.update(dict.fromkeys(found))
    return list(files), failures


def _distinct_stems(files: Sequence[Path]) -> list[str]:
    """Names for the outputs; they differ on file systems that ignore case, too."""
    taken: set[str] = set()
    stems = []
    for file in files:
        stem, count = file.stem, 1
        while stem.casefold() in taken:
            count += 1
            stem = f"{file.stem}_{count}"
        taken.add(stem.casefold())
        stems.append(stem)
    return stems


def _predict_video(
    run: Callable[[np.ndarray], Result], tasks: Sequence[TaskSpec], path: Path, folder: Path, stem: str
) -> None:
    """Write ``<stem>_panel.mp4`` and, per detection task, one COCO file whose images are the frames."""
    target = folder / f"{stem}_panel.mp4"
    for name in (path, target):
        if not str(name).isprintable():  # OpenCV may crash on a name that is not UTF-8
            raise ValueError(f"{path}: videos with unprintable characters in their path are not read")
    capture = cv2.VideoCapture(str(path))
    rate = capture.get(cv2.CAP_PROP_FPS) or 25.0
    frames: list[dict[str, Any]] = []
    found: dict[str, list[dict[str, Any]]] = {spec.name: [] for spec in tasks if spec.kind == "detection"}
    writer = None
    try:
        while (frame := capture.read())[0]:
            result = run(cv2.cvtColor(frame[1], cv2.COLOR_BGR2RGB))
            panel = cv2.cvtColor(result.panel(max_side=640), cv2.COLOR_RGB2BGR)
            height, width = (side - side % 2 for side in panel.shape[:2])  # the codec takes even sizes only
            writer = writer or cv2.VideoWriter(str(target), cv2.VideoWriter.fourcc(*"mp4v"), rate, (width, height))
            if not writer.isOpened():
                raise ValueError(f"{path}: cannot write {target}, OpenCV has no MPEG-4 encoder here")
            writer.write(panel[:height, :width])
            for task, annotations in found.items():
                annotations += cast(DetectionResult, result[task]).to_coco(len(frames))
            shape = result.image.shape
            frames.append({"id": len(frames), "file_name": path.name, "width": shape[1], "height": shape[0]})
    finally:
        capture.release()
        if writer is not None:
            writer.release()
    if not frames:
        raise ValueError(f"{path}: not a video that OpenCV reads")
    for spec in tasks:
        if spec.name in found:
            _write_coco(folder / f"{stem}_{spec.name}.json", frames, found[spec.name], spec.classes)


def _write_coco(
    path: Path, images: list[dict[str, Any]], annotations: list[dict[str, Any]], classes: Sequence[str]
) -> None:
    """COCO instances: what the results format lacks is added."""
    full = [
        {"id": i, **a, "area": round(a["bbox"][2] * a["bbox"][3], 2), "iscrowd": 0}
        for i, a in enumerate(annotations, start=1)
    ]
    categories = [{"id": i, "name": name} for i, name in enumerate(classes)]
    content = {"images": images, "annotations": full, "categories": categories}
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
