"""Waiting for sockets: every way of it does the same."""

from __future__ import annotations

import select
import selectors
import socket
import struct
from typing import TYPE_CHECKING

import pytest

from pytest_modellens.errors import ConfigError
from pytest_modellens.measure.poller import READ, WRITE, EpollPoller, Poller, SelectorPoller, new_poller
from tests.measure.conftest import POLLERS

if TYPE_CHECKING:
    from collections.abc import Iterator

SOON_S = 30.0
"""Far longer than anything here takes; what is waited for comes at once."""


@pytest.fixture(params=POLLERS)
def poller(request: pytest.FixtureRequest) -> Iterator[Poller[str]]:
    poller: Poller[str] = request.param()
    yield poller
    poller.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a TCP connection, the second not blocking."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as there:
        here, _ = listener.accept()
        with here:
            here.setblocking(False)
            yield there, here


Pair = tuple[socket.socket, socket.socket]


def test_platform_has_the_best_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    best: Poller[str] = new_poller()
    assert type(best) is POLLERS[0]
    best.close()
    monkeypatch.delattr(select, "epoll", raising=False)
    other: Poller[str] = new_poller()
    assert type(other) is SelectorPoller
    other.close()


def test_socket_is_ready_when_there_is_something_to_read(poller: Poller[str], pair: Pair) -> None:
    there, here = pair
    poller.watch(here, READ, "mine")
    assert poller.ready(0) == []
    there.sendall(b"x")
    assert poller.ready(SOON_S) == ["mine"]
    here.recv(1)
    assert poller.ready(0) == []


def test_socket_is_ready_when_there_is_room_to_write(poller: Poller[str], pair: Pair) -> None:
    poller.watch(pair[1], WRITE, "mine")
    assert poller.ready(SOON_S) == ["mine"]


def test_last_wish_counts(poller: Poller[str], pair: Pair) -> None:
    there, here = pair
    there.sendall(b"x")
    poller.watch(here, WRITE, "sender")
    poller.watch(here, READ, "reader")
    assert poller.ready(SOON_S) == ["reader"]
    here.recv(1)
    assert poller.ready(0) == []


@pytest.mark.parametrize("events", [READ, WRITE])
@pytest.mark.parametrize("end", ["closed", "reset"])
def test_end_of_a_connection_counts_as_either(events: int, end: str, poller: Poller[str], pair: Pair) -> None:
    there, here = pair
    if end == "reset":
        there.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    poller.watch(here, events, "mine")
    there.close()
    assert poller.ready(SOON_S) == ["mine"]


def test_both_ends_shut_down_is_a_hang_up_that_a_reader_hears(poller: Poller[str], pair: Pair) -> None:
    there, here = pair
    poller.watch(here, READ, "mine")
    here.shutdown(socket.SHUT_WR)
    there.shutdown(socket.SHUT_RDWR)
    assert poller.ready(SOON_S) == ["mine"]
    assert here.recv(1) == b""


def test_refused_connection_counts_as_ready_to_write(poller: Poller[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and not listening
        with socket.socket() as sock:
            sock.setblocking(False)
            sock.connect_ex(taken.getsockname())
            poller.watch(sock, WRITE, "mine")
            assert poller.ready(SOON_S) == ["mine"]
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0
            poller.forget(sock)


def test_forgotten_socket_is_not_heard(poller: Poller[str], pair: Pair) -> None:
    there, here = pair
    poller.watch(here, READ, "mine")
    there.sendall(b"x")
    poller.forget(here)
    poller.forget(here)
    assert poller.ready(0) == []
    poller.watch(here, READ, "again")
    assert poller.ready(SOON_S) == ["again"]


def test_number_of_a_closed_socket_belongs_to_the_next_that_has_it(poller: Poller[str], pair: Pair) -> None:
    _, here = pair
    poller.watch(here, READ, "before")
    poller.forget(here)
    number = here.fileno()
    here.close()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert listener.fileno() == number
        poller.watch(listener, READ, "after")
        assert poller.ready(0) == []
        with socket.create_connection(listener.getsockname()):
            assert poller.ready(SOON_S) == ["after"]


def test_crowd_is_heard_at_once(poller: Poller[int]) -> None:
    pairs = [socket.socketpair() for _ in range(200)]
    for number, (there, here) in enumerate(pairs):
        poller.watch(here, READ, number)
        there.sendall(b"x")
    assert sorted(poller.ready(SOON_S)) == list(range(200))
    for there, here in pairs:
        poller.forget(here)
        there.close()
        here.close()


def test_full_platform_says_what_to_do(monkeypatch: pytest.MonkeyPatch, pair: Pair) -> None:
    def full(*_: object) -> None:
        raise ValueError("too many file descriptors in select()")

    poller: Poller[str] = SelectorPoller()
    monkeypatch.setattr(selectors.DefaultSelector, "register", full)
    with pytest.raises(ConfigError, match="lower the concurrency"):
        poller.watch(pair[1], READ, "mine")
    poller.close()


@pytest.mark.skipif(not hasattr(select, "epoll"), reason="epoll is Linux's")
def test_closing_twice_is_harmless() -> None:
    poller: Poller[str] = EpollPoller()
    poller.close()
    poller.close()
