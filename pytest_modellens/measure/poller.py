"""Which sockets are ready: asked of epoll itself where there is one, else of what `selectors` finds best.

`selectors` makes a key of each socket that is ready and looks at its events. A client that keeps what to do next with
each request needs neither, and asks a hundred thousand times a second.
"""

from __future__ import annotations

import select
import selectors
from typing import TYPE_CHECKING, Protocol, TypeVar

from pytest_modellens.errors import ConfigError

if TYPE_CHECKING:
    import socket

__all__ = ["READ", "WRITE", "EpollPoller", "Poller", "SelectorPoller", "new_poller"]

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE

T = TypeVar("T")


class Poller(Protocol[T]):
    """Sockets, each with what it belongs to. A socket has to be forgotten before it is closed: its number is reused."""

    def watch(self, sock: socket.socket, events: int, owner: T) -> None:
        """Wait for `events`, which is READ or WRITE, from now on; a hang-up or an error counts as either.

        Raises:
            ConfigError: there are more sockets than this platform can wait for.
        """

    def forget(self, sock: socket.socket) -> None:
        """Wait for it no longer; harmless when nobody did."""

    def ready(self, timeout_s: float) -> list[T]:
        """Wait until some are ready, `timeout_s` at most, and return their owners."""

    def close(self) -> None:
        """Wait for nothing any more."""


class EpollPoller(Poller[T]):
    """On Linux."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._owners: dict[int, T] = {}
        """By file descriptor."""

    def watch(self, sock: socket.socket, events: int, owner: T) -> None:
        fd = sock.fileno()
        mask = select.EPOLLIN if events == READ else select.EPOLLOUT
        if fd in self._owners:
            self._epoll.modify(fd, mask)
        else:
            self._epoll.register(fd, mask)
        self._owners[fd] = owner

    def forget(self, sock: socket.socket) -> None:
        fd = sock.fileno()
        if self._owners.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def ready(self, timeout_s: float) -> list[T]:
        owners = self._owners
        # All of them now: what is done for the first may close the socket of the last, and open another of that number.
        return [owners[fd] for fd, _ in self._epoll.poll(timeout_s)]

    def close(self) -> None:
        self._owners.clear()
        self._epoll.close()


class SelectorPoller(Poller[T]):
    """Everywhere else."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()

    def watch(self, sock: socket.socket, events: int, owner: T) -> None:
        if sock in self._selector.get_map():
            self._selector.modify(sock, events, owner)
            return
        try:
            self._selector.register(sock, events, owner)
        except ValueError as exc:  # select() on Windows has room for 512 sockets
            raise ConfigError("too many connections for this platform (lower the concurrency)") from exc

    def forget(self, sock: socket.socket) -> None:
        if sock in self._selector.get_map():
            self._selector.unregister(sock)

    def ready(self, timeout_s: float) -> list[T]:
        return [key.data for key, _ in self._selector.select(timeout_s)]

    def close(self) -> None:
        self._selector.close()


def new_poller() -> Poller[T]:
    """Return the best one that this platform has."""
    return EpollPoller() if hasattr(select, "epoll") else SelectorPoller()
