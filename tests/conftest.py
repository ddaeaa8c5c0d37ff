"""Fixtures for tests of every part."""

from __future__ import annotations

import signal
import socket
import threading
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


def pytest_configure() -> None:
    # In the background of a shell Ctrl-C is ignored, by children too; tests send it to themselves and to theirs.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of this machine that refuses connections, and that no other program gets: bound, but nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


@pytest.fixture
def machine_may_be_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the client pass for healthy whatever the machine does; how it is judged is for tests of its own."""
    from pytest_modellens.measure import health

    monkeypatch.setattr(health, "MIN_ACHIEVED", 0.0)
    for name in ("LATE_FLOOR_MS", "STAMPED_FLOOR_MS"):
        monkeypatch.setattr(health, name, 1e9)
