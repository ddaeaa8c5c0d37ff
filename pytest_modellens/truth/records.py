"""What the truth server says about what it did.

Instants are `perf_counter_ns`, one scale for all processes of a machine.

An event's `sent_ns` is taken immediately before the `send()` that completed the event, its `returned_ns` immediately
after it. A client on the same machine compares with them the instant at which that data arrived: it lies between the
two, or microseconds behind. They are far apart where the server had to wait for a processor in between.

Time to first token is counted here from `requested_ns`: when the last byte of the request arrived at the server's
socket by the kernel's time stamp, or, where there is none, when the server had read it. The client counts from just
before it hands the first byte to the kernel, so its value is longer by the way of the request and the way of the event.
"""

from __future__ import annotations

from itertools import pairwise

import msgspec

from pytest_modellens.truth.plan import TEXT_KINDS

__all__ = ["Lateness", "LogPage", "Punctuality", "SentEvent", "SentRequest"]

_NS_PER_MS = 1_000_000


class SentEvent(msgspec.Struct, frozen=True):
    """One event that was handed to the kernel."""

    planned_ns: int
    sent_ns: int
    returned_ns: int
    kind: str
    """One of headers, role, null, empty, comment, content, reasoning, finish, usage, done, error; `end` of the body;
    `whole` for an answer in one piece; `part` of an event whose rest came later or never."""
    tokens: int
    size: int
    """Bytes of the event, without HTTP's framing."""


class SentRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request to the truth server, and what it sent."""

    number: int
    """Counts requests, from 1."""
    id: str
    """What the request gave as `truth_id`; empty without one."""
    connection: int
    """Counts connections, from 1."""
    scenario: str
    path: str
    model: str
    status: int
    streamed: bool
    accepted_ns: int
    """When the connection was accepted."""
    arrived_ns: int | None
    """When the last byte of the request reached the socket; None without kernel time stamps."""
    read_ns: int
    """When the whole request had been read."""
    ended_ns: int | None
    """After the last send; None while the answer is under way."""
    end: str
    """One of complete, closed, reset (as scripted), client_gone, open (under way)."""
    blocked_sends: int
    """How often the kernel's buffer was full because the client did not read."""
    blocked_ns: int
    """For how long, in all. Later sends of this request are not held against the server's punctuality."""
    events: tuple[SentEvent, ...]

    @property
    def requested_ns(self) -> int:
        """The instant that times count from."""
        return self.read_ns if self.arrived_ns is None else self.arrived_ns

    @property
    def headers_ns(self) -> int | None:
        """When the headers were sent; None when they were not."""
        return next((event.sent_ns for event in self.events if event.kind == "headers"), None)

    @property
    def text_events(self) -> tuple[SentEvent, ...]:
        """The events with text."""
        return tuple(event for event in self.events if event.kind in TEXT_KINDS)

    @property
    def token_times(self) -> list[int]:
        """When each event with text was sent."""
        return [event.sent_ns for event in self.text_events]

    @property
    def tokens(self) -> int:
        """Tokens sent."""
        return sum(event.tokens for event in self.events)

    @property
    def first_token_ns(self) -> int | None:
        """When the first event with text was sent; None without one."""
        return next(iter(self.token_times), None)

    @property
    def ttft_ms(self) -> float | None:
        """First event with text minus `requested_ns`; None without one."""
        first = self.first_token_ns
        return None if first is None else (first - self.requested_ns) / _NS_PER_MS

    @property
    def gaps_ms(self) -> list[float]:
        """Between consecutive events with text."""
        return [(later - earlier) / _NS_PER_MS for earlier, later in pairwise(self.token_times)]


class LogPage(msgspec.Struct, frozen=True):
    """A part of the log."""

    requests: list[SentRequest]
    dropped: int
    """Requests that the log no longer holds."""
    more: bool
    """Whether there are requests after these."""


class Lateness(msgspec.Struct, frozen=True):
    """How late sends were against the plan; nearest-rank percentiles, to the microsecond."""

    n: int
    p50_ms: float | None
    p99_ms: float | None
    max_ms: float | None


class Punctuality(msgspec.Struct, frozen=True):
    """The server's lateness since it started, or since the log was cleared.

    What is planned for the instant of the request's arrival cannot be on time, and is not counted; nor are sends after
    the client let the kernel's buffer fill up.
    """

    overall: Lateness
    scenarios: dict[str, Lateness]
