"""The results as a table for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table


def table(record: Mapping[str, Any]) -> Table:
    """One row per number of ``visionmtl benchmark``'s record."""
    environment = record["environment"]
    caption = f"{environment['device']}, torch {environment['packages']['torch']}"
    made = Table("", "median", "quartiles", title=record["config"] or "balancing", caption=caption)
    for section, values in record["sections"].items():
        made.add_section()
        made.add_row(f"[bold]{section}[/bold]")
        for name, value, spread in _rows(values):
            made.add_row(f"  {name}", _number(value), " to ".join(map(_number, spread)))
    return made


def _rows(
    values: Mapping[str, Any], spread: Any = None, prefix: str = ""
) -> Iterator[tuple[str, Any, list[float]]]:
    spread = values.get("quartiles", spread or {})
    for key, value in values.items():
        if key == "quartiles":
            continue
        if isinstance(value, Mapping):
            yield from _rows(value, spread.get(key), f"{prefix}{key} ")
        else:
            yield prefix + key, value, spread.get(key, [])


def _number(value: Any) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    if not isinstance(value, float):
        return str(value)
    if abs(value) < 10:
        return f"{value:.3g}"
    if abs(value) < 1000:
        return f"{value:,.1f}"
    return f"{value:,.0f}"
