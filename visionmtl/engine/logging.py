"""The records of a run in its metrics.jsonl."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def json_safe(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same values with None in the place of NaN and infinity, which JSON does not have."""
    safe: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            safe[key] = json_safe(value)
        elif isinstance(value, float) and not math.isfinite(value):
            safe[key] = None
        else:
            safe[key] = value
    return safe


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The records of a metrics.jsonl, oldest first, without a last line that a crash has cut.

    Raises:
        ValueError: names the file: it cannot be read, or has a line that no run wrote.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read ({getattr(error, 'strerror', error)})") from error
    *lines, _ = text.split("\n")  # what follows the last line end is empty or cut
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
