"""TensorBoard events."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visionmtl.engine.callbacks.base import Callback, Run
from visionmtl.engine.callbacks.pictures import Pictures


class TensorBoard(Callback):
    """Writes each number as an event, and the pictures; a fault of it never stops a run.

    Args:
        folder: where the events are.
        pictures: a callback before this one, whose pictures are written too.
    """

    def __init__(self, folder: Path, pictures: Pictures | None = None) -> None:
        self.folder = folder
        self.pictures = pictures
        self._writer: Any = None

    def on_start(self, run: Run) -> None:
        purge_step = None
        if run.progress.step > 0:  # what a killed run wrote after its checkpoint is hidden
            purge_step = run.progress.step + 1
        try:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.folder), purge_step=purge_step)
        except (ImportError, OSError) as error:
            warnings.warn(f"TensorBoard is off: {error}", stacklevel=2)

    def on_log(self, run: Run, split: str, values: Mapping[str, Any]) -> None:
        for name, value in flat(values, f"{split}/"):
            self._write("add_scalar", name, value, run.progress.step)

    def on_evaluation(self, run: Run, results: Mapping[str, Any], score: float) -> None:
        if self.pictures is not None and self.pictures.sheet is not None:
            step = run.progress.step
            self._write(
                "add_image", "val/predictions", self.pictures.sheet, step, dataformats="HWC"
            )

    def on_end(self, run: Run) -> None:
        self._write("close")

    def _write(self, method: str, *values: Any, **options: Any) -> None:
        if self._writer is None:
            return
        try:
            getattr(self._writer, method)(*values, **options)
        except Exception as error:  # a tracker must never stop training
            warnings.warn(f"TensorBoard is off from here on: {error}", stacklevel=2)
            self._writer = None


def flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    """The numbers of nested mappings, under names such as ``a/b``."""
    found: list[tuple[str, float]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            found += flat(value, f"{prefix}{key}/")
        else:
            found.append((prefix + key, value))
    return found
