"""What a run writes down: metrics.jsonl, metrics.csv and TensorBoard events."""

from __future__ import annotations

import csv
import json
import math
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visionmtl.models.folder import write_atomic

CSV_HEADER = ["step", "epoch", "split", "name", "value"]


class RunLogger:
    """Line-buffered files that are readable after a crash, and TensorBoard, whose failure never stops a run.

    Args:
        folder: the run folder.
        tensorboard: whether to write events.
        resume_step: drop lines of later steps, which a killed run wrote after its last checkpoint.
    """

    def __init__(self, folder: Path, tensorboard: bool, resume_step: int | None = None) -> None:
        jsonl, table = folder / "metrics.jsonl", folder / "metrics.csv"
        if resume_step is not None:
            _keep_until(jsonl, table, resume_step)
        fresh = not table.exists()
        self._jsonl = jsonl.open("a", buffering=1)
        self._csv_file = table.open("a", buffering=1, newline="")
        self._csv = csv.writer(self._csv_file)
        if fresh:
            self._csv.writerow(CSV_HEADER)
        self._writer = self._open_tensorboard(folder, resume_step) if tensorboard else None

    def log(self, split: str, step: int, epoch: int, values: Mapping[str, Any]) -> None:
        """Write one line of values; nested mappings become ``a/b`` names in the table and TensorBoard."""
        self._jsonl.write(json.dumps({"step": step, "epoch": epoch, "split": split, **json_safe(values)}) + "\n")
        for name, value in _flat(values):
            self._csv.writerow([step, epoch, split, name, value])
            if self._writer is not None:
                self._to_tensorboard("add_scalar", f"{split}/{name}", value, step)

    def picture(self, name: str, array: Any, step: int) -> None:
        """A picture (H, W, 3) uint8 for TensorBoard."""
        if self._writer is not None:
            self._to_tensorboard("add_image", name, array, step, dataformats="HWC")

    def close(self) -> None:
        self._jsonl.close()
        self._csv_file.close()
        if self._writer is not None:
            self._writer.close()

    def _open_tensorboard(self, folder: Path, resume_step: int | None) -> Any:
        from torch.utils.tensorboard import SummaryWriter

        try:
            return SummaryWriter(str(folder / "tensorboard"), purge_step=resume_step)  # type: ignore[no-untyped-call]
        except OSError as error:
            warnings.warn(f"TensorBoard is off: {error}", stacklevel=2)
            return None

    def _to_tensorboard(self, method: str, *args: Any, **options: Any) -> None:
        try:
            getattr(self._writer, method)(*args, **options)
        except Exception as error:  # a tracker must never stop training
            warnings.warn(f"TensorBoard is off from here on: {error}", stacklevel=2)
            self._writer = None


def _keep_until(jsonl: Path, table: Path, step: int) -> None:
    if jsonl.exists():
        lines = [line for line in jsonl.read_text().splitlines(keepends=True) if line.endswith("\n")]
        write_atomic(jsonl, "".join(line for line in lines if json.loads(line)["step"] <= step).encode())
    if table.exists():
        header, *rows = [line for line in table.read_text().splitlines(keepends=True) if line.endswith("\n")]
        write_atomic(table, "".join([header, *(row for row in rows if int(row.split(",")[0]) <= step)]).encode())


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
