"""The measuring client: many requests at once over non-blocking sockets, in one thread.

On the hot path it does `recvmsg`, reads one clock, appends once. Nothing is parsed there but the header block and,
where a read could be the last of its response, the chunk framing; events, JSON and tokens are decoded after the
response.
"""

from __future__ import annotations

import socket
import time
from typing import TYPE_CHECKING, Any, Self

from pytest_modellens.errors import (
    CancelledError,
    ConnectError,
    ProtocolError,
    RequestError,
    TruncatedError,
)
from pytest_modellens.measure.clock import enable_kernel_stamps, now_ns, realtime_offset_ns
from pytest_modellens.measure.connection import Connection
from pytest_modellens.measure.exchange import Exchange
from pytest_modellens.measure.http1 import idle_limit_s
from pytest_modellens.measure.names import look_up
from pytest_modellens.measure.poller import READ, WRITE, new_poller

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_modellens.measure.names import Addresses
    from pytest_modellens.measure.poller import Poller
    from pytest_modellens.measure.route import Route
    from pytest_modellens.measure.wire import WireRequest

__all__ = ["Client"]

_TICK_S = 0.05
"""How often deadlines are looked at while responses are awaited."""
_NAP_S = 0.000_5
"""How long arrivals may gather in the kernel: far less than the gap between two tokens of a stream in a crowd."""
_CR = 13
_CROWD = 16
"""Streams in flight from which on, and the part of them that has to arrive at once, to go without a nap."""


class Client:
    """Sends requests and keeps what comes back, with arrival times. Not thread-safe: one client a thread.

    >>> with Client() as client:
    ...     exchange = client.exchange(WireRequest("http://127.0.0.1:8000/health", method="GET"))
    """

    def __init__(self) -> None:
        self._poller: Poller[Exchange] = new_poller()
        self._in_flight: set[Exchange] = set()
        self._finished: list[Exchange] = []
        self._idle: dict[Route, list[Connection]] = {}
        self._routes: dict[tuple[str, bool], Route] = {}
        self._addresses: dict[tuple[str, int], Addresses] = {}
        self._next_tick_ns = 0
        # The kernel begins to stamp some time after the first socket asks for it, so one asks before any request.
        self._stamp_keeper = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._is_stamped = enable_kernel_stamps(self._stamp_keeper)
        self._arrived = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def in_flight(self) -> int:
        """How many requests are under way, or have ended and are for the next `poll` to return."""
        return len(self._in_flight) + len(self._finished)

    def exchange(self, request: WireRequest, *, on_read: Callable[[Exchange], None] | None = None) -> Exchange:
        """Send one request, while no other is under way, and wait for its end, good or bad: see `Exchange.error`."""
        return self.wait(self.submit(request, on_read=on_read))

    def wait(self, exchange: Exchange) -> Exchange:
        """Wait for the end of the only request under way and return it."""
        try:
            while not exchange.done:
                self.poll()
        except BaseException:
            self._fail(exchange, CancelledError("given up before the response was complete"))
            raise
        finally:
            if exchange in self._finished:
                self._finished.remove(exchange)
        return exchange

    def submit(
        self,
        request: WireRequest,
        *,
        scheduled_ns: int | None = None,
        tag: Any = None,
        on_read: Callable[[Exchange], None] | None = None,
    ) -> Exchange:
        """Begin a request and return at once; `poll` returns it when it has ended.

        Args:
            request: what to send.
            scheduled_ns: when the plan wanted it sent, on `now_ns`'s scale; None: when it is sent.
            tag: the caller's own, found again on the exchange.
            on_read: called after every read, for live decoding; it runs inside the measured path.

        Raises:
            ConfigError: the request or the environment's proxy cannot be used at all.
        """
        key = request.url, request.use_proxies
        route = self._routes.get(key) or self._routes.setdefault(key, request.route())
        exchange = Exchange(request, route, scheduled_ns=scheduled_ns, tag=tag, on_read=on_read)
        exchange.outgoing = request.encode(route)
        self._in_flight.add(exchange)
        try:
            self._begin(exchange)
        except RequestError as error:
            self._fail(exchange, error)
        return exchange

    def poll(self, timeout_s: float | None = None) -> list[Exchange]:
        """Wait until a request ends, or `timeout_s` has passed, and return those that ended."""
        until = None if timeout_s is None else now_ns() + int(timeout_s * 1e9)
        while not self._finished and self._in_flight:
            self._turn(until)
            if until is not None and now_ns() >= until:
                break
        finished, self._finished = self._finished, []
        return finished

    def glance(self) -> None:
        """Read what has arrived, and wait for nothing; what ends meanwhile is for the next `poll`."""
        if self._in_flight:
            self._turn(now_ns())

    def cancel_all(self, reason: str) -> list[Exchange]:
        """Give up every request under way and return them, each with a CancelledError and what it had received."""
        for exchange in tuple(self._in_flight):
            self._fail(exchange, CancelledError(reason))
        finished, self._finished = self._finished, []
        return finished

    def close(self) -> None:
        """Close every connection; requests under way are given up."""
        self.cancel_all("the client was closed")
        for connections in self._idle.values():
            for connection in connections:
                connection.close()
        self._idle.clear()
        self._stamp_keeper.close()
        self._poller.close()

    def _turn(self, until: int | None) -> None:
        wait = _TICK_S if until is None else min(_TICK_S, max(0.0, (until - now_ns()) / 1e9))
        if self._is_stamped and wait > 2 * _NAP_S and self._arrived * _CROWD < len(self._in_flight) > _CROWD:
            # Waking up for each token of a crowd costs more than reading it. The kernel notes when it came.
            time.sleep(_NAP_S)
        ready = self._poller.ready(wait)
        self._arrived = len(ready)
        for exchange in ready:
            try:
                if exchange.receiving:
                    self._receive(exchange)
                elif not exchange.done:  # by what was done for one before it
                    self._advance(exchange)
            except RequestError as error:
                self._fail(exchange, error)
        now = now_ns()
        if now >= self._next_tick_ns:
            self._next_tick_ns = now + int(_TICK_S * 1e9)
            for exchange in tuple(self._in_flight):
                self._look(exchange, now)

    def _advance(self, exchange: Exchange) -> None:
        if exchange.opened_ns is not None:
            self._send(exchange)
        else:
            self._open(exchange)

    def _begin(self, exchange: Exchange) -> None:
        waiting = self._idle.get(exchange.route, [])
        while waiting:
            connection = waiting.pop()
            if connection.is_fresh():
                exchange.connection = connection
                exchange.reused = True
                self._ready(exchange)
                return
            connection.close()
        began = now_ns()
        addresses = self._resolve(exchange.route, exchange.request.connect_timeout_s)
        exchange.resolve_ns = now_ns() - began
        exchange.connection = Connection(exchange.route, addresses)
        self._open(exchange)

    def _open(self, exchange: Exchange) -> None:
        """Take the opening of the connection as far as it goes without waiting."""
        assert exchange.connection is not None
        # The next step may close this socket and try another address.
        self._forget(exchange)
        events = next(exchange.connection.opening, None)
        if events is None:
            self._ready(exchange)
        else:
            self._watch(exchange, events)

    def _ready(self, exchange: Exchange) -> None:
        """Send over a connection that has just become usable."""
        assert exchange.connection is not None
        exchange.opened_ns = now_ns()
        exchange.outgoing = exchange.connection.seal(exchange.outgoing)
        exchange.wall_offset_ns = realtime_offset_ns()
        exchange.mark_sent(now_ns())
        self._send(exchange)

    def _send(self, exchange: Exchange) -> None:
        assert exchange.connection is not None
        try:
            exchange.outgoing = exchange.connection.send(exchange.outgoing)
        except ConnectError as lost:
            # A server that refuses a request may answer and close before it has read all of it. A kept-alive connection
            # may just have been closed. Reading tells which; without an answer the loss stands.
            exchange.lost = lost
            exchange.outgoing = b""
        exchange.receiving = not exchange.outgoing
        self._watch(exchange, READ if exchange.receiving else WRITE)

    def _receive(self, exchange: Exchange) -> None:
        connection = exchange.connection
        assert connection is not None
        try:
            read = connection.receive()
        except OSError as exc:
            self._lost(exchange, exc)
            return
        if read is None:
            return
        data = read[2]
        size = len(data)
        if not size:
            self._closed_by_server(exchange, read[0])
            return
        exchange.reads.append(read)
        exchange.bytes_received += size
        # A chunked body ends with an empty line, after the last chunk or its trailers: CR, LF, CR, LF.
        if exchange.bytes_received >= exchange.enough or size < 4 or data[-4] == _CR:
            self._take(exchange)

    def _take(self, exchange: Exchange) -> None:
        """Look at a read that may be the last of its response."""
        if exchange.on_read is not None:
            exchange.on_read(exchange)
            if exchange.done:  # the listener gave it up
                return
        self._check(exchange)

    def _check(self, exchange: Exchange) -> None:
        """Finish a request whose response is whole."""
        if exchange.bytes_received > exchange.request.max_response_bytes:
            raise ProtocolError(
                f"response larger than {exchange.request.max_response_bytes / 2**20:.0f} MiB; the rest was not read"
            )
        if exchange.is_complete():
            self._finish(exchange)

    def _look(self, exchange: Exchange, now: int) -> None:
        """Find out whether a request has ended without a read that looked like it, or should have by `now`."""
        try:
            # Framing is looked at in bits, as a whole response at its end would keep every other stream waiting.
            self._check(exchange)
            if not exchange.done and (late := exchange.overdue(now)) is not None:
                raise late
        except RequestError as error:
            self._fail(exchange, error)

    def _lost(self, exchange: Exchange, loss: OSError) -> None:
        if self._begin_again(exchange):
            return
        if exchange.lost is not None and not exchange.reads:
            raise exchange.lost from loss
        self._check(exchange)
        if not exchange.done:
            raise TruncatedError(f"connection lost while receiving ({loss.strerror or loss})") from loss

    def _closed_by_server(self, exchange: Exchange, now: int) -> None:
        if self._begin_again(exchange):
            return
        if exchange.lost is not None and not exchange.reads:
            raise exchange.lost
        self._check(exchange)
        if exchange.done:
            return
        exchange.closed_ns = now
        exchange.parser.end_of_connection()
        if exchange.parser.complete:
            self._finish(exchange)
        elif not exchange.reads:
            raise TruncatedError("the server closed the connection without an answer")
        else:
            raise TruncatedError(
                f"the server closed the connection before the response was complete ({exchange.bytes_received} bytes)"
            )

    def _begin_again(self, exchange: Exchange) -> bool:
        """Send a request anew that a server closed its kept-alive connection under: it never saw it."""
        if exchange.reads or not exchange.reused:
            return False
        self._drop(exchange)
        exchange.restart(exchange.request.encode(exchange.route))
        self._begin(exchange)
        return True

    def _finish(self, exchange: Exchange) -> None:
        connection = exchange.connection
        assert connection is not None
        exchange.end(None)
        self._forget(exchange)
        if exchange.parser.keep_alive:
            limit = idle_limit_s(exchange.parser.headers)
            connection.idle_limit_s = limit if limit is not None else connection.idle_limit_s
            connection.rest()
            self._idle.setdefault(exchange.route, []).append(connection)
        else:
            connection.close()
        self._settle(exchange)

    def _fail(self, exchange: Exchange, error: RequestError) -> None:
        if exchange.done:
            return
        exchange.end(error)
        self._drop(exchange)
        self._settle(exchange)

    def _settle(self, exchange: Exchange) -> None:
        self._in_flight.discard(exchange)
        self._finished.append(exchange)

    def _drop(self, exchange: Exchange) -> None:
        if exchange.connection is not None:
            self._forget(exchange)
            exchange.connection.close()

    def _resolve(self, route: Route, timeout_s: float) -> Addresses:
        key = route.dial
        if key not in self._addresses:
            self._addresses[key] = look_up(*key, timeout_s=timeout_s)
        return self._addresses[key]

    def _watch(self, exchange: Exchange, events: int) -> None:
        assert exchange.connection is not None
        assert exchange.connection.sock is not None
        self._poller.watch(exchange.connection.sock, events, exchange)

    def _forget(self, exchange: Exchange) -> None:
        assert exchange.connection is not None
        if exchange.connection.sock is not None:
            self._poller.forget(exchange.connection.sock)
