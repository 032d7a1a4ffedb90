"""How a run ends when it does not end well, and what is said about it."""

from __future__ import annotations


class RunError(RuntimeError):
    """A run that failed after it had started."""


class NonFiniteLossError(RuntimeError):
    """Names task, step and samples of a NaN or infinite loss."""


class Interrupted(Exception):  # noqa: N818 - not an error of the program
    """The run was asked to stop and has saved its state.

    Attributes:
        exit_code: 128 + signal number, as shells have it (130 for Ctrl-C, 143 for SIGTERM, 138 for SIGUSR1).
    """

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + signum


def last_line(error: BaseException) -> str:
    """The message of an error in one line; of one from a loader worker, the line that says what happened there."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return lines[-1].removeprefix("ValueError: ") if lines[0].startswith("Caught ") else lines[0]
