from __future__ import annotations

import io

from rich.console import Console

from visionmtl._console import ProgressBar, say


def test_a_log_file_gets_lines_and_no_bar() -> None:
    file = io.StringIO()
    console = Console(file=file)
    with ProgressBar(console, "epoch 1/2", total=3) as advance:
        advance(1, "semseg 1.0")
        advance(2)
    assert file.getvalue() == ""
    say(console, "run folder a/[b]/" + "c" * 200, "yellow")
    assert file.getvalue() == "run folder a/[b]/" + "c" * 200 + "\n"


def test_a_terminal_gets_the_bar() -> None:
    file = io.StringIO()
    with ProgressBar(
        Console(file=file, force_terminal=True, width=100), "epoch 1/2", total=3, done=1
    ) as advance:
        advance(1, "semseg 1.0")
    assert "epoch 1/2" in file.getvalue()
    assert "2/3" in file.getvalue()
    assert "semseg 1.0" in file.getvalue()
