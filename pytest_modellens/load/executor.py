"""A load, carried out: requests begun at their instants, replies decoded while nothing is due."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any

from pytest_modellens.load.carriers import carrier_of
from pytest_modellens.load.descriptors import room_in_flight
from pytest_modellens.load.failing import Failing
from pytest_modellens.load.interrupt import deferred_interrupt
from pytest_modellens.load.pace import pace_of
from pytest_modellens.load.plan import Share
from pytest_modellens.load.reply import LoadProgress, LoadReply
from pytest_modellens.measure.clock import now_ns
from pytest_modellens.measure.garbage import short_collections
from pytest_modellens.providers.http import HTTPProvider

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from pytest_modellens.load.carriers import Carrier
    from pytest_modellens.load.interrupt import Interrupt
    from pytest_modellens.load.pace import Pace, Turn
    from pytest_modellens.load.plan import LoadPlan
    from pytest_modellens.models import RunRequest
    from pytest_modellens.providers.base import ProviderAdapter

__all__ = ["LoadProgress", "LoadReply", "execute"]

MAX_BACKLOG = 64
"""Most ended requests that may wait to be decoded; for each so many that wait, one is decoded on every turn, so that
memory stays flat."""
BEGUN_AT_ONCE = 8
"""Requests begun between two looks at the sockets: what waits there for longer than a gap between tokens shares its
time stamp with the next."""
MAX_THREADS = 64
"""Calls at once of an adapter without our client, in an open loop that sets no bound."""
_LOOK_NS = 50_000_000
"""Longest time without a look at Ctrl-C."""
_EARLY_NS = 1_200_000
"""How much before an instant the wait ends and the spin begins: selectors round time-outs up to a millisecond, and
waking up takes a tenth of one."""


def execute(
    provider: ProviderAdapter,
    plan: LoadPlan,
    requests: Iterator[RunRequest],
    *,
    stall_timeout_s: float | None = None,
    on_progress: Callable[[LoadProgress], None] | None = None,
    share: Share | None = None,
    begin_ns: int | None = None,
    on_begin: Callable[[Turn], None] | None = None,
) -> Generator[LoadReply]:
    """Put the load of `plan` on `provider` and yield each request as it is decoded, warm-up too.

    Requests begin at their instants, over one client for our own providers and over threads for other adapters. A
    request that begins late does begin, and its lateness is in the reply. What the consumer does between two replies
    happens in this thread too, so it should be quick. Ctrl-C cancels what is under way, yields it, and is then raised
    again.

    Args:
        provider: who is asked.
        plan: the whole load.
        requests: what to send, in order; the load ends early when they do.
        stall_timeout_s: longest silence of the server within one request; None sets no bound.
        on_progress: called after each reply, and once more at the end.
        share: the part of the load that is this worker's; None: all of it. `requests` are then the worker's own.
        begin_ns: when the load begins, on the scale of `now_ns`; None: now.
        on_begin: called with each request that is about to begin.

    Raises:
        ConfigError: more connections than this process may open.
    """
    share = share or Share()
    is_ours = isinstance(provider, HTTPProvider)
    part = plan.part(share)
    room = room_in_flight(part) if is_ours or part.concurrency or part.max_in_flight else MAX_THREADS
    carrier = carrier_of(provider, requests, threads=room, stall_timeout_s=stall_timeout_s, worker=share.worker)
    begin_ns = now_ns() if begin_ns is None else begin_ns
    pace = pace_of(plan, begin_ns, share=share, room=room)
    # In a closed loop one answer of each stream may wait, so that the next requests begin first.
    patience = MAX_BACKLOG if part.concurrency is None else min(MAX_BACKLOG, part.concurrency + 1)
    load = _Load(carrier, pace, plan.max_error_rate, begin_ns, patience, on_progress=on_progress, on_begin=on_begin)
    with deferred_interrupt() as interrupt, short_collections():
        try:
            yield from load.run(interrupt)
        except KeyboardInterrupt:
            yield from load.give_up("interrupted")
            raise
        finally:
            carrier.close()


class _Load:
    """One load under way."""

    def __init__(
        self,
        carrier: Carrier,
        pace: Pace,
        max_error_rate: float,
        begin_ns: int,
        patience: int,
        *,
        on_progress: Callable[[LoadProgress], None] | None,
        on_begin: Callable[[Turn], None] | None,
    ) -> None:
        self._carrier = carrier
        self._pace = pace
        self._failing = Failing(max_error_rate)
        self._begin_ns = begin_ns
        self._patience = patience
        self._on_progress = on_progress
        self._on_begin = on_begin
        self._backlog: deque[Any] = deque()
        self._begun = self._ended = self._failed = 0
        self._stopped: str | None = None
        self._reply_ns = 0
        """How long a reply takes to be decoded and consumed: the longest of late, slowly forgotten."""
        self._cpu_ns = time.process_time_ns()
        self._spun_ns = 0
        self._clock_ns = now_ns()

    def run(self, interrupt: Interrupt) -> Iterator[LoadReply]:
        """Yield replies until the plan is fulfilled and nothing is under way."""
        while True:
            interrupt.check()
            self._begin_due()
            if self._pace.is_over and not self._carrier.in_flight and not self._backlog:
                break
            ended = self._poll()
            # A few at a time, however many wait, and a look at the sockets after each: decoding all would keep arrivals
            # waiting until they share a stamp.
            for _ in range(len(self._backlog) // self._patience):
                yield from self._decode_one()
                self._carrier.glance()
            if self._backlog and not ended and self._has_time():
                yield from self._decode_one()
        self._report()

    def give_up(self, reason: str) -> Iterator[LoadReply]:
        """Cancel what is under way and yield all that had not been yielded."""
        self._pace.stop()
        self._stopped = reason
        self._backlog.extend(ended for _, ended in self._carrier.cancel_all(reason))
        while self._backlog:
            yield from self._decode_one()
        self._report()

    def _begin_due(self) -> None:
        # What becomes due meanwhile has to wait for a look at the sockets, else a client that is behind only sends.
        now = now_ns()
        for _ in range(BEGUN_AT_ONCE):
            turn = self._pace.due(now)
            if turn is None:
                return
            if not self._carrier.has_next():
                self._pace.stop()
                return
            # First, so that whoever dies in between has told of every request that the server may have got.
            if self._on_begin is not None:
                self._on_begin(turn)
            self._carrier.begin(turn)
            self._begun += 1
            self._failing.begun(turn.index)

    def _poll(self) -> bool:
        """Look for ended requests, waiting where there is nothing else to do; return whether there were any."""
        # Only what has an instant of its own is prepared for it; else a load could not be ended between two requests.
        prepared = self._pace.next_ns is not None and self._ns_left() > _EARLY_NS and self._carrier.prepare()
        if prepared or (self._backlog and self._has_time()):
            wait_s = 0.0
        else:
            wait_s = max(0, min(_LOOK_NS, self._ns_left() - _EARLY_NS)) / 1e9
        began = now_ns()
        ended = self._carrier.poll(wait_s)
        if wait_s and not self._carrier.in_flight and not ended:
            # Nobody to wait for: without requests under way the carrier comes back at once.
            time.sleep(max(0.0, wait_s - (now_ns() - began) / 1e9))
        elif not wait_s and not ended and not self._backlog:
            self._spun_ns += now_ns() - began
        for at, what in ended:
            self._pace.ended(at)
            self._backlog.append(what)
        return bool(ended)

    def _ns_left(self) -> int:
        """Return how long it is until a request is due."""
        next_ns = self._pace.next_ns
        return _LOOK_NS + _EARLY_NS if next_ns is None else next_ns - now_ns()

    def _has_time(self) -> bool:
        """Return whether a reply can be decoded before the next request is due."""
        return self._pace.next_ns is None or self._ns_left() > self._reply_ns + _EARLY_NS

    def _decode_one(self) -> Iterator[LoadReply]:
        began = now_ns()
        reply = self._carrier.reply(self._backlog.popleft())
        self._ended += 1
        self._failed += reply.reply.error is not None
        too_many = self._failing.ended(reply.index, has_failed=reply.reply.error is not None)
        if too_many is not None and self._stopped is None:
            self._stopped = too_many
            self._pace.stop()
        if self._on_progress is not None:
            self._report()
        yield reply
        self._reply_ns = max(now_ns() - began, self._reply_ns * 15 // 16)

    def _report(self) -> None:
        if self._on_progress is None:
            return
        wall_ns = max(1, now_ns() - self._clock_ns)
        busy_ns = time.process_time_ns() - self._cpu_ns - self._spun_ns
        self._on_progress(
            LoadProgress(
                begun=self._begun,
                ended=self._ended,
                failed=self._failed,
                in_flight=self._carrier.in_flight,
                elapsed_s=(now_ns() - self._begin_ns) / 1e9,
                client_cpu_share=max(0.0, busy_ns / wall_ns),
                stopped=self._stopped,
            )
        )
