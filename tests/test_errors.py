from __future__ import annotations

import pytest

from visionmtl._errors import Interrupted, last_line

FROM_WORKER = """Caught ValueError in DataLoader worker process 0.
Original Traceback (most recent call last):
  File "worker.py", line 1, in _worker_loop
ValueError: train/rgb/a.jpg: truncated file
"""


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("a.b: must be 3"), "a.b: must be 3"),
        (ValueError(FROM_WORKER), "train/rgb/a.jpg: truncated file"),
        (RuntimeError("first\nsecond"), "first"),
        (RuntimeError(), "RuntimeError"),
        (
            OSError(28, "No space left on device", "x/y"),
            "[Errno 28] No space left on device: 'x/y'",
        ),
    ],
)
def test_one_line(error: Exception, line: str) -> None:
    assert last_line(error) == line


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ("CUDA out of memory. Tried to allocate 2.00 GiB.", "trainer.batch_size"),
        ("DataLoader worker (pid 7) is killed by signal: Killed. ", "data.workers"),
        ("DataLoader timed out after 300 seconds", "data.workers=0"),
    ],
)
def test_faults_of_memory_and_workers_come_with_advice(message: str, advice: str) -> None:
    line = last_line(RuntimeError(message))
    assert line.startswith(message.rstrip(". "))
    assert advice in line
    assert "\n" not in line


def test_exit_code_is_that_of_a_shell() -> None:
    assert Interrupted(15, "stopped").exit_code == 143
    assert Interrupted(2, "stopped").exit_code == 130


def test_what_else_is_said_of_an_interruption() -> None:
    interruption = Interrupted(15, "stopped")
    interruption.add("saved")
    assert str(interruption) == "stopped, saved"
