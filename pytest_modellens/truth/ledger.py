"""The log of the truth server: what was asked, what was sent when, how late that was. Bounded."""

from __future__ import annotations

from array import array
from collections import Counter, deque
from typing import TYPE_CHECKING

from pytest_modellens.truth.records import Lateness, LogPage, Punctuality, SentEvent, SentRequest

if TYPE_CHECKING:
    from pytest_modellens.truth.asked import Asked
    from pytest_modellens.truth.script import Script

__all__ = ["MAX_REQUESTS", "MAX_SENDS", "Answer", "Ledger"]

MAX_REQUESTS = 20_000
MAX_SENDS = 2_000_000
"""The log holds so many requests, and about so many sends; older ones are dropped and counted."""

_PAGE_EVENTS = 20_000
"""A page of the log ends after so many events."""


class Answer:
    """One request and what has been sent for it."""

    __slots__ = (
        "accepted_ns",
        "arrived_ns",
        "base_ns",
        "blocked_ns",
        "blocked_sends",
        "connection",
        "end",
        "ended_ns",
        "id",
        "model",
        "number",
        "plan",
        "read_ns",
        "returned",
        "script",
        "sent",
        "status",
        "streamed",
    )

    def __init__(
        self, asked: Asked, script: Script, *, connection: int, accepted_ns: int, arrived_ns: int | None, read_ns: int
    ) -> None:
        self.id = asked.id
        self.model = asked.model
        self.script: Script | None = script
        """None once all is sent, because the bytes are no longer needed."""
        self.plan = [(packet.at_ns, packet.marks) for packet in script.packets]
        self.status = (script.scenario, script.path, script.status)
        self.streamed = script.streamed
        self.number = 0
        self.connection = connection
        self.accepted_ns = accepted_ns
        self.arrived_ns = arrived_ns
        self.read_ns = read_ns
        self.base_ns = read_ns if arrived_ns is None else arrived_ns
        """What the plan counts from."""
        self.sent = array("q")
        """Instant before each send, in the order of the plan."""
        self.returned = array("q")
        """Instant after each send."""
        self.end = "open"
        self.ended_ns: int | None = None
        self.blocked_sends = 0
        self.blocked_ns = 0

    def record(self) -> SentRequest:
        """Return this request as the log shows it."""
        events = [
            SentEvent(self.base_ns + at_ns, sent_ns, returned_ns, mark.kind, mark.tokens, mark.size)
            for (at_ns, marks), sent_ns, returned_ns in zip(self.plan, self.sent, self.returned, strict=False)
            for mark in marks
            if mark.kind != "close"
        ]
        scenario, path, status = self.status
        return SentRequest(
            number=self.number,
            id=self.id,
            connection=self.connection,
            scenario=scenario,
            path=path,
            model=self.model,
            status=status,
            streamed=self.streamed,
            accepted_ns=self.accepted_ns,
            arrived_ns=self.arrived_ns,
            read_ns=self.read_ns,
            ended_ns=self.ended_ns,
            end=self.end,
            blocked_sends=self.blocked_sends,
            blocked_ns=self.blocked_ns,
            events=tuple(events),
        )


class Ledger:
    """Keeps answers and lateness until cleared."""

    def __init__(self, *, max_requests: int = MAX_REQUESTS, max_sends: int = MAX_SENDS) -> None:
        self._max_requests = max_requests
        self._max_sends = max_sends
        self._answers: deque[Answer] = deque()
        self._sends = 0
        self._last_number = 0
        self._dropped = 0
        self._late: dict[str, Counter[int]] = {}

    def open(self, answer: Answer) -> None:
        """Take in an answer that begins."""
        self._last_number += 1
        answer.number = self._last_number
        self._answers.append(answer)
        self._sends += len(answer.plan)
        while len(self._answers) > self._max_requests or (self._sends > self._max_sends and len(self._answers) > 1):
            self._sends -= len(self._answers.popleft().plan)
            self._dropped += 1

    def lateness(self, scenario: str) -> Counter[int]:
        """Return the counts by microseconds of lateness, which the sender adds to."""
        return self._late.setdefault(scenario, Counter())

    def page(self, since: int = 0, wanted: str | None = None) -> LogPage:
        """Return requests with a number above `since`, oldest first, or only those with the id `wanted`."""
        found: list[SentRequest] = []
        events = 0
        for answer in self._answers:
            if answer.number <= since or (wanted is not None and answer.id != wanted):
                continue
            if found and events + len(answer.sent) > _PAGE_EVENTS:
                return LogPage(found, self._dropped, more=True)
            found.append(answer.record())
            events += len(answer.sent)
        return LogPage(found, self._dropped, more=False)

    def clear(self) -> None:
        """Forget everything but the numbers of requests, which go on counting."""
        self._answers.clear()
        self._sends = self._dropped = 0
        self._late.clear()

    def punctuality(self) -> Punctuality:
        """Return how late sends were."""
        overall: Counter[int] = Counter()
        for counts in self._late.values():
            overall.update(counts)
        return Punctuality(_lateness(overall), {name: _lateness(counts) for name, counts in self._late.items()})


def _lateness(counts: Counter[int]) -> Lateness:
    n = counts.total()
    if not n:
        return Lateness(0, None, None, None)
    ranked = sorted(counts)
    return Lateness(
        n, _ranked(counts, ranked, -(-n // 2)), _ranked(counts, ranked, -(-n * 99 // 100)), ranked[-1] / 1000
    )


def _ranked(counts: Counter[int], ranked: list[int], rank: int) -> float:
    seen = 0
    for late_us in ranked:
        seen += counts[late_us]
        if seen >= rank:
            return late_us / 1000
    raise AssertionError
