"""What is said about the models of the zoo."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group
from rich.markdown import Markdown
from rich.table import Column, Table
from rich.text import Text

from visionmtl.zoo.fetch import fetch_file
from visionmtl.zoo.folder import CARD
from visionmtl.zoo.load import find_entry, list_models, load_entry
from visionmtl.zoo.registry import ModelEntry, read_registry


def zoo_list() -> Table:
    """One row per model, 80 columns wide: name, main metrics (a line per task), size, licence."""
    table = Table(
        Column("name", overflow="fold"),
        "tasks and validation",
        Column("MB", justify="right"),
        "licence",
    )
    for name, entry in sorted(read_registry().items()):
        size = sum(file.size for file in entry.files.values()) / 1e6
        metrics = "\n".join(_task_line(entry, task) for task in entry.tasks)
        cells = (name, metrics, f"{size:.1f}", entry.licence)
        table.add_row(*map(Text, cells))  # Text, so that brackets in a value are not read as markup
    return table


def zoo_show(name: str) -> Group:
    """Everything that the registry says about a model, and its card.

    Raises:
        ValueError: there is no such model.
    """
    entry = find_entry(name)
    table = Table(show_header=False, box=None)
    metrics = "  ".join(f"{key} {value:.4g}" for key, value in entry.metrics.items())
    rows = {
        "name": entry.name,
        "source": entry.source,
        "tasks": " ".join(entry.tasks),
        "metrics": metrics,
        "licence": entry.licence,
        "data": entry.data,
        "command": entry.command,
    }
    for key, value in rows.items():
        table.add_row(key, Text(value))
    for file, expected in entry.files.items():
        table.add_row("file", Text(f"{file}  {expected.size} bytes  sha256 {expected.sha256}"))
    try:
        card = fetch_file(entry, CARD).read_text("utf-8", "replace")
    except (OSError, ValueError) as error:
        return Group(table, Text(f"\nno card: {error}"))
    return Group(table, Text(), Markdown(card))


def zoo_verify(names: Iterable[str] = ()) -> list[tuple[str, str | None]]:
    """Fetch and load the named models, or all; per model the problem in one line, or None."""
    problems: dict[str, str | None] = dict.fromkeys(list(names) or list_models())
    for name in problems:
        try:
            load_entry(find_entry(name))
        except (ValueError, OSError) as error:
            problems[name] = str(error)
    return list(problems.items())


def _task_line(entry: ModelEntry, task: str) -> str:
    words = [task]
    for key, value in entry.metrics.items():
        if key.startswith(f"{task}/"):
            words.append(f"{key.removeprefix(f'{task}/')} {value:.4g}")
    return "  ".join(words)
