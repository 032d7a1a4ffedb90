"""metrics.jsonl, the log of a run."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from visionmtl._errors import RunError
from visionmtl.engine.callbacks.base import Callback, Run
from visionmtl.engine.logging import json_safe


class MetricsLog(Callback):
    """Writes each record as a line of JSON, at once: the file is readable after a crash.

    A resumed run drops what a killed one wrote after its checkpoint. ``read_metrics`` reads the
    file.

    Args:
        folder: exists; the file is ``metrics.jsonl`` there.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "metrics.jsonl"
        self._file: TextIO | None = None
        self._size: int | None = None

    def on_start(self, run: Run) -> None:
        if self._size is not None and self.path.exists():
            os.truncate(self.path, min(self._size, self.path.stat().st_size))
        self._size = None
        self._file = self.path.open("a", buffering=1, newline="\n")

    def on_log(self, run: Run, split: str, values: Mapping[str, Any]) -> None:
        assert self._file is not None, "the run has not started"
        progress = run.progress
        record = {"step": progress.step, "epoch": progress.epoch, "split": split}
        try:
            self._file.write(json.dumps({**record, **json_safe(values)}) + "\n")
        except OSError as error:
            raise RunError(f"{self.path}: cannot be written ({error.strerror})") from error

    def on_end(self, run: Run) -> None:
        if self._file is not None:
            # Complete lines are on the disk; that the disk is full was said by on_log.
            with suppress(OSError):
                self._file.close()

    def state_dict(self) -> dict[str, Any]:
        if not self.path.exists():
            return {}
        return {"size": self.path.stat().st_size}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._size = state["size"]
