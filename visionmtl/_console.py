"""What training and evaluation print: a progress bar, and lines."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def say(console: Console, text: str, style: str | None = None) -> None:
    """Print text as it is: brackets are no markup, and long lines are not cut."""
    console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


class ProgressBar:
    """A context manager that is called with the number of finished items and, at times, a text.

    A log file gets no bar.

    Args:
        console: where to draw.
        title: stands before the bar.
        total: how many items there are.
        done: how many are finished at the start.
    """

    def __init__(self, console: Console, title: str, total: int, done: int = 0) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
            console=console,
            transient=True,
            disable=not (console.is_terminal or console.is_jupyter),
        )
        self._task = self._progress.add_task(title, total=total, completed=done, text="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def __call__(self, count: int, text: str | None = None) -> None:
        self._progress.update(self._task, advance=count)
        if text is not None:
            self._progress.update(self._task, text=text)
