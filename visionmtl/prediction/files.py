"""Predict on many files: images, folders, patterns and videos."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track

from visionmtl.models.multitask import MultiTaskModel
from visionmtl.prediction.infer import Size
from visionmtl.prediction.predict import check_options, predict
from visionmtl.prediction.video import predict_video

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
VIDEO_SUFFIXES = frozenset({".mp4", ".avi", ".mov", ".mkv", ".webm"})
Failures = list[tuple[str, str]]
"""Input and reason, for each that could not be read or written."""


def predict_paths(
    model: MultiTaskModel,
    inputs: Sequence[str],
    output_dir: Path | str,
    size: Size = None,
    score_threshold: float = 0.5,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> Failures:
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
    check_options(size, score_threshold)
    files, failures = _expand(inputs)
    output_dir = Path(output_dir)
    _check_output(output_dir, files, failures)
    output_dir.mkdir(parents=True, exist_ok=True)
    run = partial(predict, model, size=size, score_threshold=score_threshold, device=device)
    jobs = list(zip(files, _distinct_stems(files), strict=True))
    for file, stem in track(jobs, "predicting", console=Console(stderr=True), disable=not progress):
        try:
            if file.suffix.lower() in VIDEO_SUFFIXES:
                predict_video(run, file, output_dir, stem)
            else:
                run(file).save(output_dir, stem)
        except (RuntimeError, MemoryError) as error:
            if not _is_out_of_memory(error):
                raise
            failures.append((str(file), "out of memory; try a smaller size, or the CPU"))
        except (ValueError, OSError) as error:
            failures.append((str(file), str(error).removeprefix(f"{file}: ")))
    return failures


def _is_out_of_memory(error: Exception) -> bool:
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return "allocate memory" in str(error)  # on the CPU, torch tells it by the message only


def _check_output(output_dir: Path, files: Sequence[Path], failures: Failures) -> None:
    if output_dir.exists() and not output_dir.is_dir():
        raise ValueError(f"{output_dir}: the output must be a folder, this is a file")
    if not files:
        reasons = "; ".join(f"{item}: {reason}" for item, reason in failures)
        raise ValueError(f"nothing to predict on: {reasons}")
    if output_dir.resolve() in {file.resolve().parent for file in files}:
        raise ValueError(
            f"{output_dir}: the output must be another folder than that of the inputs, "
            "to overwrite none"
        )


def _expand(inputs: Sequence[str]) -> tuple[list[Path], Failures]:
    """Files, each once, in the order of the inputs; and the inputs that gave none."""
    files: dict[Path, None] = {}
    failures: Failures = []
    for item in inputs:
        path = Path(item)
        reason = ""
        if path.is_file():
            found = [path]
        elif path.is_dir():
            found = _readable(path.iterdir())
            reason = "no image or video in this folder"
        else:
            found = _readable(map(Path, glob.glob(str(item), recursive=True)))
            reason = "no such file, no image or video matches"
        if not found:
            failures.append((str(item), reason))
        files.update(dict.fromkeys(found))
    return list(files), failures


def _readable(paths: Iterable[Path]) -> list[Path]:
    """The images and videos among paths, sorted."""
    known = IMAGE_SUFFIXES | VIDEO_SUFFIXES
    return sorted(path for path in paths if path.suffix.lower() in known and path.is_file())


def _distinct_stems(files: Sequence[Path]) -> list[str]:
    """Names for the outputs; they differ on file systems that ignore case, too."""
    taken: set[str] = set()
    stems = []
    for file in files:
        stem = file.stem
        count = 1
        while stem.casefold() in taken:
            count += 1
            stem = f"{file.stem}_{count}"
        taken.add(stem.casefold())
        stems.append(stem)
    return stems
