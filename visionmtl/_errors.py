"""How a run ends when it does not end well, and what is said about it."""

from __future__ import annotations

_ADVICE = {
    "out of memory": (
        "lower trainer.batch_size (and raise trainer.accumulate), or crop smaller in "
        "data.transforms"
    ),
    "DataLoader worker": (
        "a loader process died; lower data.workers, or give it more memory (or /dev/shm)"
    ),
    "DataLoader timed out": "a loader process hangs; try data.workers=0 to see where",
}
"""Part of a message of torch -> what a user can do about it."""


class RunError(RuntimeError):
    """A run that failed after it had started."""


class NonFiniteLossError(RuntimeError):
    """A NaN or infinite loss or gradient; names step, task and samples."""


class Interrupted(Exception):  # noqa: N818 - not an error of the program
    """The run was asked to stop.

    Attributes:
        exit_code: 128 + signal number, as shells have it (130 for Ctrl-C, 143 for SIGTERM, 138 for
            SIGUSR1).
    """

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + signum

    def add(self, text: str) -> None:
        """Say more in the message."""
        self.args = (f"{self}, {text}",)


def last_line(error: BaseException) -> str:
    """The message of an error in one line.

    Of an error in a loader process it is the line that says what happened there. Faults of memory
    and of loader processes get a word of advice.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    if lines[0].startswith("Caught "):
        return lines[-1].removeprefix("ValueError: ")
    for part, advice in _ADVICE.items():
        if part in lines[0]:
            return f"{lines[0].rstrip('. ')}: {advice}"
    return lines[0]
