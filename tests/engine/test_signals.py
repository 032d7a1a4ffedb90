from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time

import pytest

from visionmtl.engine.signals import SIGNALS, StopRequest


@pytest.mark.parametrize("signum", SIGNALS)
def test_first_signal_sets_the_flag(signum: int, capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signum)
    with StopRequest() as stop:
        assert not stop
        os.kill(os.getpid(), signum)
        assert stop
        assert stop.signum == signum
    assert signal.getsignal(signum) == before
    assert "a second signal ends at once" in capfd.readouterr().err


def test_several_processes_stop_when_they_agree() -> None:
    with StopRequest(alone=False) as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.received == signal.SIGTERM
        assert not stop
        votes = stop.votes()
        assert sum(votes) == 1
    other = StopRequest(alone=False)
    other.agree([0] * len(SIGNALS))
    assert not other
    other.agree(votes)
    assert other.signum == signal.SIGTERM


def _stubborn() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)


def _signalled_twice(pids: multiprocessing.Queue[int]) -> None:
    with StopRequest():
        child = multiprocessing.get_context("fork").Process(target=_stubborn)
        child.start()
        pids.put(child.pid)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)


def test_second_signal_ends_at_once_and_takes_the_workers_along() -> None:
    context = multiprocessing.get_context("fork")
    pids: multiprocessing.Queue[int] = context.Queue()
    process = context.Process(target=_signalled_twice, args=(pids,))
    process.start()
    worker = pids.get(timeout=20)
    process.join(20)
    assert process.exitcode == 128 + signal.SIGINT
    for _ in range(100):
        if not os.path.exists(f"/proc/{worker}") or f"{worker} (" in _zombies(worker):
            break
        time.sleep(0.05)
    else:
        pytest.fail("the worker is still alive")


def _zombies(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as file:
        text = file.read()
    return text if text.rpartition(")")[2].split()[0] == "Z" else ""


def test_other_threads_train_without_handlers() -> None:
    entered = []

    def work() -> None:
        with StopRequest() as stop:
            entered.append(bool(stop))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert entered == [False]
