"""The truth server's one thread: it reads requests, and sends each packet of each answer when it is due.

It sleeps until shortly before the next send is due and, while few answers are under way, spins the rest of the time,
because a sleeping process wakes up late: by 50 to 150 µs on an idle machine. With many answers there is always one due
soon, and the processor is better left to the client under test.

The first request of a scenario encodes all of it, which takes some 10 µs a token; nothing is sent meanwhile.
"""

from __future__ import annotations

import contextlib
import gc
import selectors
import socket
import sys
from collections import Counter
from heapq import heappop, heappush
from itertools import count
from select import select
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import msgspec

from pytest_modellens.measure.clock import enable_kernel_stamps, now_ns
from pytest_modellens.truth.asked import HttpRequest, RefusedError, read_asked
from pytest_modellens.truth.connection import Connection
from pytest_modellens.truth.dialects import ENCODERS
from pytest_modellens.truth.kernel import wake_up_precisely
from pytest_modellens.truth.ledger import Answer, Ledger
from pytest_modellens.truth.pages import page
from pytest_modellens.truth.script import Cue, fixed_response, write_script

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytest_modellens.truth.scenario import Scenario

__all__ = ["SPIN_NS", "SPIN_STREAMS", "Server"]

SPIN_NS = 250_000
"""How long before a send is due the server stops sleeping and spins."""
LONGEST_WAIT_S = 0.5
"""A signal that comes just before the wait begins is handled only after it, so that no wait is endless."""
SPIN_STREAMS = 4
"""With more answers under way than this it does not spin. Four of 100 events/s spin for a tenth of a core at most."""

_SENDS_A_TURN = 64
"""After so many sends the sockets are looked at, whatever else is due."""
_BACKLOG = 1024

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE


class Server:
    """Serves on 127.0.0.1 from `run` until `stop` is called, which only callbacks of its own thread may do."""

    def __init__(self, port: int = 0) -> None:
        self._listener = socket.create_server(("127.0.0.1", port), backlog=_BACKLOG)
        self._listener.setblocking(False)
        # Sockets inherit it from the one that listens, so that not even the first request goes without a stamp.
        enable_kernel_stamps(self._listener)
        self.root = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.ledger = Ledger()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, READ, self._accept)
        # Only epoll needs help to wait for less than a millisecond.
        self._selector_fd: int | None = self._selector.fileno() if sys.platform == "linux" else None
        self._due: list[tuple[int, int, Connection]] = []
        """A heap of (instant, tie-breaker, connection whose answer has a packet to send then)."""
        self._tie = count()
        self._connections = count(1)
        self._asked: Counter[Scenario] = Counter()
        self._is_stopping = False

    def watch(self, fd: int, callback: Callable[[int], None]) -> None:
        """Call `callback` when `fd` has something to read or has ended."""
        self._selector.register(fd, READ, callback)

    def stop(self) -> None:
        """Make `run` return."""
        self._is_stopping = True

    def run(self) -> None:
        """Serve until stopped."""
        wake_up_precisely()
        # Collections would come in the middle of sends; what is served makes no cycles.
        gc.collect()
        gc.freeze()
        gc.disable()
        while not self._is_stopping:
            for key, events in self._wait():
                key.data(events)
            self._send_what_is_due()

    def close(self) -> None:
        """Close all sockets."""
        for key in tuple(self._selector.get_map().values()):
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self._selector.close()

    def _wait(self) -> list[tuple[selectors.SelectorKey, int]]:
        """Return the sockets that are ready, at the latest when the next send is nearly due."""
        left_ns: int | None = None
        if self._due:
            left_ns = self._due[0][0] - now_ns() - (SPIN_NS if len(self._due) <= SPIN_STREAMS else 0)
            if left_ns <= 0:
                return self._selector.select(0)
        left_s = LONGEST_WAIT_S if left_ns is None else min(LONGEST_WAIT_S, left_ns / 1e9)
        if self._selector_fd is None:
            return self._selector.select(left_s)
        # epoll counts whole milliseconds; select, which can wait for the epoll set, microseconds.
        select((self._selector_fd,), (), (), left_s)
        return self._selector.select(0)

    def _send_what_is_due(self) -> None:
        due = self._due
        for _ in range(_SENDS_A_TURN):
            if not due:
                return
            at_ns, _, connection = due[0]
            left_ns = at_ns - now_ns()
            if left_ns > 0:
                if left_ns > SPIN_NS or len(due) > SPIN_STREAMS:
                    return
                while now_ns() < at_ns:
                    pass
            # Taken out first: the end of an answer may begin another one, which goes onto the heap.
            heappop(due)
            following = connection.send_packet(at_ns)
            if following is not None:
                heappush(due, (following, next(self._tie), connection))

    def _accept(self, _: int) -> None:
        with contextlib.suppress(OSError):  # the client may be gone already
            while True:
                sock, _address = self._listener.accept()
                connection = Connection(sock, next(self._connections), self._take, self._want)
                self._selector.register(sock, READ, connection.ready)

    def _want(self, connection: Connection, events: int) -> None:
        """Look at the connection for `events` from now on; for 0 it is closed, and no longer looked at."""
        if events:
            self._selector.modify(connection.sock, events, connection.ready)
        else:
            self._selector.unregister(connection.sock)

    def schedule(self, at_ns: int, connection: Connection) -> None:
        """Send the connection's next packet at `at_ns`."""
        heappush(self._due, (at_ns, next(self._tie), connection))

    def _take(self, connection: Connection, request: HttpRequest) -> None:
        """Begin to answer a request."""
        if request.method == "POST" and request.path in ENCODERS:
            self._answer(connection, request)
        else:
            connection.send_whole(self._page(request))

    def _answer(self, connection: Connection, request: HttpRequest) -> None:
        asked = read_asked(request)
        scenario = asked.scenario
        self._asked[scenario] += 1
        number = self._asked[scenario]
        cue = Cue(request.path, asked.model, asked.stream, scenario.factor(number), scenario.refuses(number))
        script = write_script(scenario, cue)
        answer = Answer(
            asked,
            script,
            connection=connection.number,
            accepted_ns=connection.accepted_ns,
            arrived_ns=connection.arrived_ns,
            read_ns=connection.read_ns,
        )
        self.ledger.open(answer)
        connection.begin(answer, script, self.ledger.lateness(scenario.name), self.schedule)

    def _page(self, request: HttpRequest) -> bytes:
        body = self._control(request) if request.path.startswith("/truth/") else None
        return self.page(request) if body is None else fixed_response(200, body)

    def page(self, request: HttpRequest) -> bytes:
        """Return the response to a request for anything but an answer.

        Raises:
            RefusedError: there is no such page.
        """
        body = page(request.path) if request.method == "GET" else None
        if body is None:
            raise RefusedError(404, f"no page {request.method} {request.path}")
        return fixed_response(200, body)

    def _control(self, request: HttpRequest) -> bytes | None:
        called = f"{request.method} {request.path}"
        if called == "GET /truth/log":
            query = parse_qs(request.query)
            since = query.get("since", ["0"])[-1]
            if not (since.isascii() and since.isdigit()):
                raise RefusedError(400, f"'since' must be the number of a request (got {since!r})", "since")
            return msgspec.json.encode(self.ledger.page(int(since), query.get("id", [None])[-1]))
        if called == "DELETE /truth/log":
            self.ledger.clear()
            self._asked.clear()
            gc.collect()
            return b"{}"
        if called == "GET /truth/punctuality":
            return msgspec.json.encode(self.ledger.punctuality())
        return None
