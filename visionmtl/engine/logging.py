"""What a run writes down: metrics.jsonl, metrics.csv and TensorBoard events; and how it is read
again.
"""

from __future__ import annotations

import csv
import json
import math
import os
import warnings
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from visionmtl._errors import RunError

CSV_HEADER = ["step", "epoch", "split", "name", "value"]


class RunLogger:
    """Line-buffered files that are readable after a crash, and TensorBoard, whose failure never
    stops a run.

    Args:
        folder: the run folder.
        tensorboard: whether to write events.
        resume_step: the step that the run continues from; None for a new run.
        sizes: what ``sizes`` gave at that step: what a killed run wrote after it is dropped.
    """

    def __init__(
        self,
        folder: Path,
        tensorboard: bool,
        resume_step: int | None = None,
        sizes: Mapping[str, int] | None = None,
    ) -> None:
        self._paths = folder / "metrics.jsonl", folder / "metrics.csv"
        for path in self._paths:
            if sizes and path.exists() and path.stat().st_size > sizes[path.name]:
                os.truncate(path, sizes[path.name])
        self._jsonl, self._csv_file = (
            path.open("a", buffering=1, newline="\n") for path in self._paths
        )
        self._csv = csv.writer(self._csv_file, lineterminator="\n")
        if not self.sizes()["metrics.csv"]:
            self._csv.writerow(CSV_HEADER)
        self._writer = self._open_tensorboard(folder, resume_step) if tensorboard else None

    def log(self, split: str, step: int, epoch: int, values: Mapping[str, Any]) -> None:
        """Write one line of values; nested mappings become ``a/b`` names in the table and
        TensorBoard.

        Raises:
            RunError: the files cannot be written.
        """
        flat = _flat(values)
        try:
            self._jsonl.write(
                json.dumps({"step": step, "epoch": epoch, "split": split, **json_safe(values)})
                + "\n"
            )
            self._csv.writerows([step, epoch, split, name, value] for name, value in flat)
        except OSError as error:
            raise RunError(f"{self._paths[0]}: cannot be written ({error.strerror})") from error
        for name, value in flat:
            self._to_tensorboard("add_scalar", f"{split}/{name}", value, step)

    def picture(self, name: str, array: Any, step: int) -> None:
        """A picture (H, W, 3) uint8 for TensorBoard."""
        self._to_tensorboard("add_image", name, array, step, dataformats="HWC")

    def sizes(self) -> dict[str, int]:
        """Bytes written so far, by file name."""
        return {path.name: path.stat().st_size for path in self._paths}

    def close(self) -> None:
        for file in (self._jsonl, self._csv_file):
            with suppress(
                OSError
            ):  # complete lines are on the disk already; a full disk was reported by ``log``
                file.close()
        self._to_tensorboard("close")

    def _open_tensorboard(self, folder: Path, resume_step: int | None) -> Any:
        purge_step = (
            None if resume_step is None else resume_step + 1
        )  # events of this step and later are hidden
        try:
            from torch.utils.tensorboard import SummaryWriter

            return SummaryWriter(str(folder / "tensorboard"), purge_step=purge_step)
        except (ImportError, OSError) as error:
            warnings.warn(f"TensorBoard is off: {error}", stacklevel=2)
            return None

    def _to_tensorboard(self, method: str, *args: Any, **options: Any) -> None:
        if self._writer is None:
            return
        try:
            getattr(self._writer, method)(*args, **options)
        except Exception as error:  # a tracker must never stop training
            warnings.warn(f"TensorBoard is off from here on: {error}", stacklevel=2)
            self._writer = None


class SilentLogger(RunLogger):
    """That of the processes that write nothing."""

    def __init__(self) -> None:
        pass

    def log(self, split: str, step: int, epoch: int, values: Mapping[str, Any]) -> None:
        pass

    def picture(self, name: str, array: Any, step: int) -> None:
        pass

    def sizes(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        pass


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, float]]:
    flat: list[tuple[str, float]] = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat += _flat(value, f"{prefix}{key}/")
        else:
            flat.append((prefix + key, value))
    return flat


def json_safe(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same values with None in the place of NaN and infinity, which JSON does not have."""
    return {
        key: json_safe(value)
        if isinstance(value, Mapping)
        else (None if isinstance(value, float) and not math.isfinite(value) else value)
        for key, value in values.items()
    }


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a metrics.jsonl, oldest first, without a last line that a crash has cut.

    Raises:
        ValueError: names the file: it cannot be read, or has a line that no ``RunLogger`` wrote.
    """
    try:
        *lines, _ = path.read_text(encoding="utf-8").split(
            "\n"
        )  # what follows the last line end is empty or cut
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read ({getattr(error, 'strerror', error)})") from error
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path}: line {number} is not valid JSON") from error
        if not isinstance(record, dict) or not {"step", "epoch", "split"} <= set(record):
            raise ValueError(f"{path}: line {number} is no record with step, epoch and split")
        records.append(record)
    return records
