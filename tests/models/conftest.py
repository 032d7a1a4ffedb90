from __future__ import annotations

import socket
from typing import NoReturn

import pytest

from visionmtl.tasks import TaskSpec


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> NoReturn:
        pytest.fail("a test opened a network connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def specs() -> list[TaskSpec]:
    return [
        TaskSpec.semseg(["wall", "floor", "door"]),
        TaskSpec.depth(8.0),
        TaskSpec.normals(),
        TaskSpec.detection(["chair", "table"]),
    ]
