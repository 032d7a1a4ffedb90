"""The progress bar of training and evaluation."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class ProgressBar:
    """A context manager that is called with the number of finished items and, at times, a text."""

    def __init__(self, console: Console, title: str, total: int, done: int = 0) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task(title, total=total, completed=done, text="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def __call__(self, count: int, text: str | None = None) -> None:
        self._progress.update(self._task, advance=count)
        if text is not None:
            self._progress.update(self._task, text=text)
