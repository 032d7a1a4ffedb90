"""Stopping in order: a first SIGINT, SIGTERM or SIGUSR1 asks, a second one ends at once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]


class StopRequest:
    """Context manager whose handler sets a flag that the loops poll.

    Outside the main thread, where Python handles no signals, the flag is never set.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._previous = {signum: signal.signal(signum, self._handle) for signum in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for signum, handler in self._previous.items():
            signal.signal(signum, signal.SIG_DFL if handler is None else handler)  # None: set by a C library

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None:
            for worker in multiprocessing.active_children():
                worker.kill()
            os._exit(128 + signum)
        self.signum = signum
        os.write(2, b"\nstopping after this step; a second signal ends at once\n")  # print is not safe in a handler

    def __bool__(self) -> bool:
        return self.signum is not None
