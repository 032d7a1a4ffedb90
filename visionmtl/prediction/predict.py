"""Predict on images, folders and videos of one's own."""

from __future__ import annotations

import glob
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch

from visionmtl._images import read_image
from visionmtl.prediction.infer import Size, evaluation_mode, infer, network_size
from visionmtl.prediction.result import Result
from visionmtl.tasks.coco import write_coco
from visionmtl.tasks.detection import DetectionResult

if TYPE_CHECKING:
    from visionmtl.models.multitask import MultiTaskModel

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm"})


def predict(
    model: MultiTaskModel,
    image: str | Path | np.ndarray,
    size: Size = None,
    score_threshold: float = 0.5,
    device: torch.device | str | None = None,
) -> Result:
    """Predict every task on one image, in evaluation mode; the mode of the model is restored.

    Args:
        model: the network.
        image: a file, or uint8 (H, W, 3) RGB.
        size: short side that the network sees, ``"native"`` for the image as it is; None for that
            of its training.
        score_threshold: detections below it are left out.
        device: where the model is moved to first; None leaves it where it is.

    Raises:
        ValueError: a file that is no image, an array of another shape or type, an invalid size or
            threshold.
    """
    _check_options(size, score_threshold)
    name = Path(image).name if isinstance(image, str | Path) else ""
    pixels = read_image(Path(image)) if isinstance(image, str | Path) else image
    if not (
        isinstance(pixels, np.ndarray)
        and pixels.dtype == np.uint8
        and pixels.ndim == 3
        and pixels.shape[2] == 3
    ):
        what = (
            f"{pixels.dtype} of shape {pixels.shape}"
            if isinstance(pixels, np.ndarray)
            else type(pixels).__name__
        )
        raise ValueError(f"image must be a file name or a uint8 array (H, W, 3) in RGB, got {what}")
    if device is not None:
        model.to(device)
    where = next((p.device for p in model.parameters()), torch.device("cpu"))
    images = torch.from_numpy(np.array(pixels, order="C")).to(where).permute(2, 0, 1).unsqueeze(0)
    with evaluation_mode(model):
        outputs = infer(model, images, size, score_threshold=score_threshold)
    results = {spec.name: spec.kind.result_of(outputs.pop(spec.name)[0]) for spec in model.tasks}
    return Result(pixels, results, name)


def predict_paths(
    model: MultiTaskModel,
    inputs: Sequence[str],
    output_dir: Path | str,
    size: Size = None,
    score_threshold: float = 0.5,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> list[tuple[str, str]]:
    """Predict on many files and write each result as ``Result.save`` does; of a video, its panels
    and its boxes.

    Args:
        model: as the other options, see ``predict``.
        inputs: images, videos, folders (their images and videos, sorted, not recursive), patterns
            such as ``*.jpg``.
        output_dir: made where it does not exist. Files of one stem get ``_2``, ``_3`` ... after it.
        size: see ``predict``.
        score_threshold: see ``predict``.
        device: see ``predict``.
        progress: show a progress bar.

    Returns:
        (input, reason) of what could not be read or written; the rest is done all the same.

    Raises:
        ValueError: no file at all, an invalid option, an ``output_dir`` that is a file or holds one
            of the inputs.
    """
    from rich.console import Console
    from rich.progress import track

    _check_options(size, score_threshold)
    files, failures = _expand(inputs)
    output_dir = Path(output_dir)
    if output_dir.exists() and not output_dir.is_dir():
        raise ValueError(f"{output_dir}: the output must be a folder, this is a file")
    if not files:
        raise ValueError(
            "nothing to predict on: " + "; ".join(f"{item}: {reason}" for item, reason in failures)
        )
    if output_dir.resolve() in {file.resolve().parent for file in files}:
        raise ValueError(
            f"{output_dir}: the output must be another folder than that of the inputs, to overwrite none"
        )
    output_dir.mkdir(parents=True, exist_ok=True)
    run = partial(predict, model, size=size, score_threshold=score_threshold, device=device)
    jobs = list(zip(files, _distinct_stems(files), strict=True))
    for file, stem in track(jobs, "predicting", console=Console(stderr=True), disable=not progress):
        try:
            if file.suffix.lower() in VIDEO_SUFFIXES:
                _predict_video(run, file, output_dir, stem)
            else:
                run(file).save(output_dir, stem)
        except (RuntimeError, MemoryError) as error:
            if not isinstance(
                error, torch.OutOfMemoryError | MemoryError
            ) and "allocate memory" not in str(error):
                raise  # on the CPU, torch tells an exhausted memory by its message only
            failures.append((str(file), "out of memory; try a smaller size, or the CPU"))
        except (ValueError, OSError) as error:
            failures.append((str(file), str(error).removeprefix(f"{file}: ")))
    return failures


def _check_options(size: Size, score_threshold: float) -> None:
    network_size(1, 1, size, None)
    if not 0 <= score_threshold <= 1:
        raise ValueError(f"score_threshold must lie in 0..1, got {score_threshold}")


def _expand(inputs: Sequence[str]) -> tuple[list[Path], list[tuple[str, str]]]:
    """Files, each once, in the order of the inputs; and the inputs that gave none."""
    files: dict[Path, None] = {}
    failures = []
    for item in inputs:
        path = Path(item)
        if path.is_file():
            found = [path]
        else:
            candidates = sorted(
                path.iterdir() if path.is_dir() else map(Path, glob.glob(str(item), recursive=True))
            )
            found = [
                p
                for p in candidates
                if p.suffix.lower() in IMAGE_SUFFIXES | VIDEO_SUFFIXES and p.is_file()
            ]
        if not found:
            what = (
                "no image or video in this folder"
                if path.is_dir()
                else "no such file, no image or video matches"
            )
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
    run: Callable[[np.ndarray], Result], path: Path, folder: Path, stem: str
) -> None:
    """Write ``<stem>_panel.mp4`` and, per detection task, one COCO file whose images are the
    frames.
    """
    target = folder / f"{stem}_panel.mp4"
    for name in (path, target):
        if not str(name).isprintable():  # OpenCV may crash on a name that is not UTF-8
            raise ValueError(
                f"{path}: videos with unprintable characters in their path are not read"
            )
    capture = cv2.VideoCapture(str(path))
    rate = capture.get(cv2.CAP_PROP_FPS) or 25.0
    frames: list[dict[str, Any]] = []
    found: dict[str, list[DetectionResult]] = defaultdict(list)
    writer = None
    try:
        while (frame := capture.read())[0]:
            result = run(cv2.cvtColor(frame[1], cv2.COLOR_BGR2RGB))
            panel = cv2.cvtColor(result.panel(max_side=640), cv2.COLOR_RGB2BGR)
            height, width = (
                side - side % 2 for side in panel.shape[:2]
            )  # the codec takes even sizes only
            writer = writer or cv2.VideoWriter(
                str(target), cv2.VideoWriter.fourcc(*"mp4v"), rate, (width, height)
            )
            if not writer.isOpened():
                raise ValueError(
                    f"{path}: cannot write {target}, OpenCV has no MPEG-4 encoder here"
                )
            writer.write(panel[:height, :width])
            for task, value in result.items():
                if isinstance(value, DetectionResult):
                    found[task].append(value)
            shape = result.image.shape
            frames.append(
                {"id": len(frames), "file_name": path.name, "width": shape[1], "height": shape[0]}
            )
    finally:
        capture.release()
        if writer is not None:
            writer.release()
    if not frames:
        raise ValueError(f"{path}: not a video that OpenCV reads")
    for task, boxes in found.items():
        annotations = [box for i, frame_boxes in enumerate(boxes) for box in frame_boxes.to_coco(i)]
        write_coco(folder / f"{stem}_{task}.json", frames, annotations, boxes[0].classes)
