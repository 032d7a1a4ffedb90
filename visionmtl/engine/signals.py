"""Stopping in order: a first SIGINT, SIGTERM or SIGUSR1 asks, a second one ends at once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Any, Self

NAMES = ("SIGINT", "SIGTERM", "SIGUSR1")
SIGNALS = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]


class StopRequest:
    """Context manager whose handler sets a flag that the loops poll.

    Outside the main thread, where Python handles no signals, the flag is never set.

    Args:
        alone: whether this is the only process of the run; otherwise the flag is what all agree on.
    """

    def __init__(self, alone: bool = True) -> None:
        self.received: int | None = None
        self._alone = alone
        self._agreed: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for signum in SIGNALS:
                self._previous[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for signum, handler in self._previous.items():
            if handler is None:  # set by a C library
                handler = signal.SIG_DFL
            signal.signal(signum, handler)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.received is not None:
            for worker in multiprocessing.active_children():
                worker.kill()
            os._exit(128 + signum)
        self.received = signum
        message = b"\nstopping after this step; a second signal ends at once\n"
        os.write(2, message)  # print is not safe in a handler

    @property
    def signum(self) -> int | None:
        """The signal that ends the run."""
        if self._alone:
            return self.received
        return self._agreed

    def votes(self) -> list[int]:
        """Per signal, whether this process has received it."""
        return [int(self.received == signum) for signum in SIGNALS]

    def agree(self, votes: Sequence[int]) -> None:
        """Take the sums of all processes' votes."""
        received = [signum for signum, count in zip(SIGNALS, votes, strict=True) if count]
        self._agreed = min(received, key=SIGNALS.index, default=None)

    def __bool__(self) -> bool:
        return self.signum is not None
