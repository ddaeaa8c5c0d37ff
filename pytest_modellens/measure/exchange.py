"""One request on its way, and afterwards: what came back, and when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pytest_modellens.errors import ConnectError, ProtocolError, RequestError, TimedOutError
from pytest_modellens.measure.clock import STEP_NS, now_ns, realtime_offset_ns, stamp_ns
from pytest_modellens.measure.http1 import ResponseParser

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_modellens.measure.connection import Connection, Read
    from pytest_modellens.measure.route import Route
    from pytest_modellens.measure.wire import WireRequest

__all__ = ["Arrivals", "Exchange"]

_PIECES_PER_GLANCE = 64


@dataclass(frozen=True, slots=True)
class Arrivals:
    """When each read of one response arrived, in ns on the `perf_counter_ns` scale."""

    stamps: list[int]
    clock: str
    """Either "kernel" or "perf_counter"."""
    note: str | None
    """Why the clock is not the kernel's, or not for every read; None when it is."""
    read_delays_ns: list[int]
    """Per read, how long the data had waited in the kernel; empty without kernel stamps."""


class Exchange:
    """State of one request, written by `Client`, read by whoever decodes it."""

    __slots__ = (
        "_planned_ns",
        "bytes_received",
        "closed_ns",
        "connection",
        "done",
        "ended_offset_ns",
        "enough",
        "error",
        "fed",
        "finished_ns",
        "glance",
        "lost",
        "on_read",
        "opened_ns",
        "outgoing",
        "parser",
        "reads",
        "receiving",
        "request",
        "resolve_ns",
        "reused",
        "route",
        "scheduled_ns",
        "sent_ns",
        "started_at",
        "submitted_ns",
        "tag",
        "wall_offset_ns",
    )

    def __init__(
        self,
        request: WireRequest,
        route: Route,
        *,
        scheduled_ns: int | None,
        tag: Any,
        on_read: Callable[[Exchange], None] | None,
    ) -> None:
        self.request = request
        self.route = route
        self.tag = tag
        self.on_read = on_read
        self.started_at = datetime.now(UTC)
        """Wall time of the submission; for people, never subtracted."""
        self.submitted_ns = now_ns()
        self._planned_ns = scheduled_ns
        self.scheduled_ns = scheduled_ns
        """When the plan wanted it sent; without a plan, when it was."""
        self.opened_ns: int | None = None
        """When the connection was ready; None before."""
        self.sent_ns: int | None = None
        """Just before the first byte was handed to the kernel; None when it never came to that."""
        self.finished_ns: int | None = None
        """When this side knew that it was over."""
        self.closed_ns: int | None = None
        """When the server closed the connection; None when it did not have to end the response that way."""
        self.resolve_ns = 0
        self.reused = False
        self.wall_offset_ns = 0
        self.ended_offset_ns = 0
        self.connection: Connection | None = None
        self.outgoing = b""
        self.lost: RequestError | None = None
        """Why the request could not be sent to its end; None when it could."""
        self.receiving = False
        self.reads: list[Read] = []
        """In order."""
        self.bytes_received = 0
        self.enough = 0
        """From so many bytes on, any read may be the last; before, only one that a chunked body can end with."""
        self.parser = ResponseParser()
        self.fed = 0
        """How many reads the parser has been given."""
        self.glance: Callable[[], None] | None = None
        """Looks at the sockets of other requests; None when they can wait until this one is decoded."""
        self.error: RequestError | None = None
        """Why the response is not complete; None when it is."""
        self.done = False

    def mark_sent(self, now: int) -> None:
        """Take note of the instant before the first byte is sent."""
        self.sent_ns = now
        self.scheduled_ns = now if self._planned_ns is None else self._planned_ns

    def restart(self, outgoing: bytes) -> None:
        """Begin anew on another connection, timed from there."""
        self.connection = self.closed_ns = self.lost = None
        self.outgoing = outgoing
        self.receiving = self.reused = False
        self.opened_ns = self.sent_ns = None

    def is_complete(self) -> bool:
        """Return whether the reads so far make a whole response."""
        self.catch_up()
        if self.on_read is None and self.parser.status is not None:
            most, length = self.request.max_response_bytes + 1, self.parser.content_length
            self.enough = most if length is None else min(most, self.parser.head_bytes + length)
        return self.parser.complete

    def catch_up(self) -> None:
        """Feed the parser the reads that it has not seen; those behind the end, or behind damage, are no part of it.

        Raises:
            ProtocolError: one of them is not how an HTTP/1.1 response goes on.
        """
        parser, reads = self.parser, self.reads
        self.fed += parser.feed_chunks(self.fed, [data for _, _, data in reads[self.fed :]])
        try:
            while self.fed < len(reads) and not parser.complete:
                self.fed += 1
                parser.feed(self.fed - 1, reads[self.fed - 1][2])
        except ProtocolError:
            self._drop_rest()
            raise
        if self.fed < len(reads):
            parser.surplus = True
            self._drop_rest()

    def _drop_rest(self) -> None:
        """Drop the reads that the parser has not been given."""
        self.bytes_received -= sum(len(data) for _, _, data in self.reads[self.fed :])
        del self.reads[self.fed :]

    def body(self) -> Iterator[tuple[int, bytes]]:
        """Yield the pieces of the body, (number of the read, bytes), with a glance at other requests now and then.

        Decoding a long answer takes longer than the gap between two tokens: what waits in the kernel for so long shares
        its time stamp with the next.
        """
        for number, piece in enumerate(self.parser.pieces, 1):
            yield piece
            if self.glance is not None and not number % _PIECES_PER_GLANCE:
                self.glance()

    def overdue(self, now: int) -> RequestError | None:
        """Return the error of a request that has taken too long by `now`; None while it may go on."""
        request = self.request
        if now - self.submitted_ns > request.total_timeout_s * 1e9:
            state = f"{self.bytes_received} bytes had arrived" if self.reads else "nothing had arrived"
            if self.opened_ns is None:
                return ConnectError(f"no connection within {request.total_timeout_s:g} s")
            return TimedOutError(f"not complete after {request.total_timeout_s:g} s ({state})")
        if self.opened_ns is None and now - self.submitted_ns > request.connect_timeout_s * 1e9:
            return ConnectError(f"no connection within {request.connect_timeout_s:g} s")
        if request.stall_timeout_s is not None and self.sent_ns is not None:
            heard = self.reads[-1][0] if self.reads else self.sent_ns
            if now - heard > request.stall_timeout_s * 1e9:
                return TimedOutError(
                    f"silent for {request.stall_timeout_s:g} s after {self.bytes_received} bytes (stall time-out)"
                )
        return None

    def end(self, error: RequestError | None) -> None:
        """Close the books; `error` is None for a complete response."""
        self.finished_ns = now_ns()
        self.ended_offset_ns = realtime_offset_ns()
        self.done = True
        self.receiving = False
        self.error = error
        try:
            self.catch_up()
        except RequestError as damaged:
            self.error = error or damaged

    def stamps(self) -> list[int | None]:
        """Return of each read the kernel's time stamp in CLOCK_REALTIME ns; None where it has none."""
        return [stamp_ns(stamp) for _, stamp, _ in self.reads]

    def arrivals(self) -> Arrivals:
        """Return when each read arrived, by the best clock that held for the whole request."""
        read_times = [read for read, _, _ in self.reads]
        kernel_stamps = self.stamps()
        missing = kernel_stamps.count(None)
        if missing == len(read_times):
            return Arrivals(read_times, "perf_counter", "no kernel time stamps on this platform or socket", [])
        step = self.ended_offset_ns - self.wall_offset_ns
        if abs(step) > STEP_NS:
            note = f"the wall clock was set by {step / 1e6:+.1f} ms during the request"
            return Arrivals(read_times, "perf_counter", note, [])
        offset = self.wall_offset_ns
        stamps: list[int] = []
        delays: list[int] = []
        latest = self.sent_ns or 0
        for read, stamp in zip(read_times, kernel_stamps, strict=True):
            # Never before the previous arrival nor after the read: the offset is known to about a microsecond.
            arrived = read if stamp is None else stamp - offset
            if not latest <= arrived <= read:
                arrived = min(read, max(latest, arrived))
            stamps.append(arrived)
            delays.append(read - arrived)
            latest = arrived
        return Arrivals(stamps, "kernel", f"{missing} reads without a kernel stamp" if missing else None, delays)
