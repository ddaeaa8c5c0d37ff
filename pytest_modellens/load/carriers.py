"""Two ways to have many requests under way: our client's sockets, or a thread for each call of a foreign adapter."""

from __future__ import annotations

import queue
import threading
from bisect import bisect_left
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from pytest_modellens.errors import CancelledError
from pytest_modellens.load.reply import LoadReply
from pytest_modellens.measure.client import Client
from pytest_modellens.measure.clock import now_ns
from pytest_modellens.measure.reply import Reply
from pytest_modellens.providers.http import HTTPProvider
from pytest_modellens.providers.measuring import measure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_modellens.load.pace import Turn
    from pytest_modellens.measure.exchange import Exchange
    from pytest_modellens.measure.wire import WireRequest
    from pytest_modellens.models import RunRequest
    from pytest_modellens.providers.base import ProviderAdapter

__all__ = ["Carrier", "carrier_of"]

_PREPARED = 8
"""Requests encoded ahead, so that at their instant they only have to be sent."""


class Carrier(Protocol):
    """Carries requests; what it returns as ended is handed back to `reply` when there is time to decode it."""

    def prepare(self) -> bool:
        """Do some of the work of the next requests ahead; return whether there was any."""

    def has_next(self) -> bool:
        """Return whether there is a request to begin next, and have it at hand."""

    def begin(self, turn: Turn) -> None:
        """Begin the next request, which `has_next` said that there is."""

    def poll(self, timeout_s: float) -> list[tuple[int, Any]]:
        """Wait until a request ends or the time has passed; return (ended ns, what ended) of each."""

    def glance(self) -> None:
        """Read what has arrived, and wait for nothing; what ends meanwhile is for the next `poll`."""

    def cancel_all(self, reason: str) -> list[tuple[int, Any]]:
        """Give up every request under way and return them like `poll`."""

    def reply(self, ended: Any) -> LoadReply:
        """Return what an ended request means."""

    @property
    def in_flight(self) -> int:
        """How many requests are under way."""

    def close(self) -> None:
        """Free what it holds."""


def carrier_of(
    provider: ProviderAdapter,
    requests: Iterator[RunRequest],
    *,
    threads: int,
    stall_timeout_s: float | None,
    worker: int,
) -> Carrier:
    """Return what carries requests to `provider`: sockets where it is one of ours, else `threads`."""
    if isinstance(provider, HTTPProvider):
        return _Sockets(provider, requests, stall_timeout_s, worker)
    return _Threads(provider, requests, threads, stall_timeout_s)


class _Tag(NamedTuple):
    turn: Turn
    request: RunRequest


class _Finished(NamedTuple):
    exchange: Exchange
    at_ns: int
    pause_ns: int


class _Sockets:
    """One client, one thread, many connections."""

    def __init__(
        self, provider: HTTPProvider, requests: Iterator[RunRequest], stall_timeout_s: float | None, worker: int
    ) -> None:
        self._provider = provider
        self._requests = requests
        self._stall_timeout_s = stall_timeout_s
        self._worker = worker
        self._client = Client()
        self._prepared: deque[tuple[RunRequest, WireRequest]] = deque()
        self._last_look_ns: int | None = None
        self._pauses: list[tuple[int, int]] = []
        """(end, length) of times without a look at the sockets, ever later and ever shorter."""

    @property
    def in_flight(self) -> int:
        return self._client.in_flight

    def prepare(self) -> bool:
        if len(self._prepared) >= _PREPARED:
            return False
        for request in self._requests:
            wire = self._provider.prepare(request, stall_timeout_s=self._stall_timeout_s)
            self._prepared.append((request, wire))
            return True
        return False

    def has_next(self) -> bool:
        return bool(self._prepared) or self.prepare()

    def begin(self, turn: Turn) -> None:
        request, wire = self._prepared.popleft()
        self._provider.submit(self._client, request, wire, scheduled_ns=turn.scheduled_ns, tag=turn)
        if self._last_look_ns is None:
            self._last_look_ns = now_ns()

    def poll(self, timeout_s: float) -> list[tuple[int, Any]]:
        self._note_pause()
        ended = self._client.poll(timeout_s)
        self._last_look_ns = now_ns() if self._client.in_flight else None
        return list(map(self._finished, ended))

    def glance(self) -> None:
        self._note_pause()
        self._client.glance()
        self._last_look_ns = now_ns() if self._client.in_flight else None

    def cancel_all(self, reason: str) -> list[tuple[int, Any]]:
        return list(map(self._finished, self._client.cancel_all(reason)))

    def reply(self, ended: _Finished) -> LoadReply:
        exchange, _, pause_ns = ended
        turn: Turn = exchange.tag.tag
        return LoadReply.of_exchange(
            exchange,
            self._provider.settle(exchange),
            exchange.tag.request,
            index=turn.index,
            phase=turn.phase,
            late_ms=max(0, exchange.submitted_ns - turn.eligible_ns) / 1e6,
            pause_ms=pause_ns / 1e6,
            worker=self._worker,
        )

    def close(self) -> None:
        self._client.close()

    def _finished(self, exchange: Exchange) -> tuple[int, _Finished]:
        finished = exchange.finished_ns
        assert finished is not None
        exchange.glance = self.glance
        # The first pause since then is the longest of them.
        at = bisect_left(self._pauses, (exchange.submitted_ns, 0))
        pause_ns = self._pauses[at][1] if at < len(self._pauses) else 0
        return finished, _Finished(exchange, finished, pause_ns)

    def _note_pause(self) -> None:
        if self._last_look_ns is None:
            return
        at = now_ns()
        length = at - self._last_look_ns
        while self._pauses and self._pauses[-1][1] <= length:
            self._pauses.pop()
        self._pauses.append((at, length))


class _Threads:
    """A thread for each call. Threads cannot be stopped: given-up calls end by themselves, unread."""

    def __init__(
        self, provider: ProviderAdapter, requests: Iterator[RunRequest], threads: int, stall_timeout_s: float | None
    ) -> None:
        self._provider = provider
        self._requests = requests
        self._threads = threads
        self._next: RunRequest | None = None
        self._stall_timeout_s = stall_timeout_s
        self._running = 0
        self._waiting: queue.SimpleQueue[_Tag | None] = queue.SimpleQueue()
        self._ended: queue.SimpleQueue[LoadReply] = queue.SimpleQueue()
        self._under_way: dict[int, tuple[_Tag, int]] = {}

    @property
    def in_flight(self) -> int:
        return len(self._under_way)

    def prepare(self) -> bool:
        return False

    def has_next(self) -> bool:
        if self._next is None:
            self._next = next(self._requests, None)
        return self._next is not None

    def begin(self, turn: Turn) -> None:
        request, self._next = self._next, None
        assert request is not None
        if self._running < self._threads and self._running <= len(self._under_way):
            threading.Thread(target=self._work, name="modellens-adapter", daemon=True).start()
            self._running += 1
        tag = _Tag(turn, request)
        self._under_way[turn.index] = (tag, now_ns())
        self._waiting.put(tag)

    def poll(self, timeout_s: float) -> list[tuple[int, Any]]:
        found = []
        try:
            found.append(self._ended.get(timeout=timeout_s) if timeout_s > 0 else self._ended.get_nowait())
            while True:
                found.append(self._ended.get_nowait())
        except queue.Empty:
            pass
        for reply in found:
            self._under_way.pop(reply.index, None)
        return [(reply.ended_ns, reply) for reply in found]

    def glance(self) -> None:
        """Threads read by themselves."""

    def cancel_all(self, reason: str) -> list[tuple[int, Any]]:
        finished = self.poll(0)
        now = now_ns()
        given_up = []
        for tag, begun in self._under_way.values():
            reply = Reply(started_at=datetime.now(UTC), error=CancelledError(reason))
            given_up.append((now, _of_call(tag, reply, begun, now)))
        self._under_way.clear()
        return finished + given_up

    def reply(self, ended: LoadReply) -> LoadReply:
        return ended

    def close(self) -> None:
        for _ in range(self._running):
            self._waiting.put(None)

    def _work(self) -> None:
        while (tag := self._waiting.get()) is not None:
            begun = now_ns()
            reply = measure(self._provider, tag.request, stall_timeout_s=self._stall_timeout_s)
            self._ended.put(_of_call(tag, reply, begun, now_ns()))


def _of_call(tag: _Tag, reply: Reply, begun: int, ended: int) -> LoadReply:
    turn = tag.turn
    return LoadReply(
        reply=reply,
        request=tag.request,
        index=turn.index,
        phase=turn.phase,
        scheduled_ns=begun if turn.scheduled_ns is None else turn.scheduled_ns,
        begun_ns=begun,
        sent_ns=begun,
        ended_ns=ended,
        late_ms=max(0, begun - turn.eligible_ns) / 1e6,
    )
